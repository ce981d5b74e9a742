package auth

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

const (
	secret   = "not-a-real-secret-not-a-real-secret"
	previous = "an-older-secret-an-older-secret-an-o"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newVerifier(issuer, audience string) *Verifier {
	return New([]seal.Secret{seal.NewSecret(secret), seal.NewSecret(previous)}, issuer, audience, func() time.Time { return now })
}

func sign(t *testing.T, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	maps.Copy(token.Header, header)
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func in(d time.Duration) int64 { return now.Add(d).Unix() }

func TestVerifyReadsTheIdentity(t *testing.T) {
	for _, c := range []struct {
		name   string
		method jwt.SigningMethod
		key    string
		claims jwt.MapClaims
		want   Identity
	}{
		{"HS256", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": "u_42", "username": "Ada", "email": "ada@example.org", "exp": in(time.Hour)}, Identity{ID: "u_42", Name: "Ada", Email: "ada@example.org"}},
		{"HS384", jwt.SigningMethodHS384, secret, jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}, Identity{ID: "u"}},
		{"HS512", jwt.SigningMethodHS512, secret, jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}, Identity{ID: "u"}},
		{"the previous secret", jwt.SigningMethodHS256, previous, jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}, Identity{ID: "u"}},
		{"sub where uid is absent", jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "s", "exp": in(time.Hour)}, Identity{ID: "s"}},
		{"uid before sub", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": "u", "sub": "s", "exp": in(time.Hour)}, Identity{ID: "u"}},
		{"claims are told apart by case", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": "u", "UID": "v", "exp": in(time.Hour)}, Identity{ID: "u"}},
		{"any script", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": "пользователь-用户-🔑", "username": "Ἀδα\u0301", "exp": in(time.Hour)}, Identity{ID: "пользователь-用户-🔑", Name: "Ἀδα\u0301"}},
		{"three dots", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": "...", "exp": in(time.Hour)}, Identity{ID: "..."}},
		{"256 bytes", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": strings.Repeat("x", 256), "exp": in(time.Hour)}, Identity{ID: strings.Repeat("x", 256)}},
		{"expired within the leeway", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": "u", "exp": in(-29 * time.Second)}, Identity{ID: "u"}},
		{"nbf and iat within the leeway", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": "u", "exp": in(time.Hour), "nbf": in(29 * time.Second), "iat": in(29 * time.Second)}, Identity{ID: "u"}},
	} {
		for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
			got, err := newVerifier("", "").Verify(scheme + sign(t, c.method, []byte(c.key), nil, c.claims))
			if exp := c.claims["exp"]; err == nil && got.Expires.Add(-Leeway).Unix() != exp {
				t.Errorf("%s: accepted until %v, exp is %v", c.name, got.Expires, exp)
			}
			got.Expires = time.Time{}
			if err != nil || got != c.want {
				t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
			}
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	good := jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}
	with := func(changes jwt.MapClaims) jwt.MapClaims {
		claims := maps.Clone(good)
		maps.Copy(claims, changes)
		return claims
	}
	hs := func(claims jwt.MapClaims) string {
		return "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), nil, claims)
	}
	parts := strings.Split(hs(good), ".")
	lone := base64.RawURLEncoding.EncodeToString([]byte(`{"uid":"\ud800","exp":4102444800}`))
	lone = strings.TrimPrefix(parts[0], "Bearer ") + "." + lone
	signature, _ := jwt.SigningMethodHS256.Sign(lone, []byte(secret))

	for _, c := range []struct{ name, authorization, want string }{
		{"nothing", "", problem.MissingToken},
		{"another scheme", "Basic dTpw", problem.MissingToken},
		{"no token", "Bearer", problem.MissingToken},
		{"an empty token", "Bearer   ", problem.MissingToken},
		{"a token alone", parts[2], problem.MissingToken},
		{"no JWT", "Bearer abc", problem.InvalidToken},
		{"two tokens", hs(good) + ", " + hs(good), problem.InvalidToken},
		{"a changed payload", parts[0] + "." + parts[1] + "x." + parts[2], problem.InvalidToken},
		{"no signature", parts[0] + "." + parts[1] + ".", problem.InvalidToken},
		{"another secret", "Bearer " + sign(t, jwt.SigningMethodHS256, []byte("someone-else-someone-else-someone"), nil, good), problem.InvalidToken},
		{"alg none", "Bearer " + sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, good), problem.InvalidToken},
		{"a critical extension", "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), map[string]any{"crit": []string{"b64"}}, good), problem.InvalidToken},
		{"no exp", hs(jwt.MapClaims{"uid": "u"}), problem.InvalidToken},
		{"exp is no number", hs(with(jwt.MapClaims{"exp": "tomorrow"})), problem.InvalidToken},
		{"expired", hs(with(jwt.MapClaims{"exp": in(-31 * time.Second)})), problem.ExpiredToken},
		{"expired and not yet valid", hs(with(jwt.MapClaims{"exp": in(-time.Hour), "nbf": in(time.Hour)})), problem.InvalidToken},
		{"not yet valid", hs(with(jwt.MapClaims{"nbf": in(31 * time.Second)})), problem.InvalidToken},
		{"issued in the future", hs(with(jwt.MapClaims{"iat": in(31 * time.Second)})), problem.InvalidToken},
		{"no user id", hs(jwt.MapClaims{"exp": in(time.Hour)}), problem.InvalidToken},
		{"a session that is pending", hs(with(jwt.MapClaims{"sts": "pending"})), problem.InvalidToken},
		{"an empty uid", hs(with(jwt.MapClaims{"uid": "", "sub": "s"})), problem.InvalidToken},
		{"a uid that is a number", hs(with(jwt.MapClaims{"uid": 42})), problem.InvalidToken},
		{"a name that is an object", hs(with(jwt.MapClaims{"username": map[string]any{}})), problem.InvalidToken},
		{"257 bytes of id", hs(with(jwt.MapClaims{"uid": strings.Repeat("x", 257)})), problem.InvalidToken},
		{"an id that no URL can name", hs(with(jwt.MapClaims{"uid": "."})), problem.InvalidToken},
		{"another one", hs(jwt.MapClaims{"sub": "..", "exp": in(time.Hour)}), problem.InvalidToken},
		{"an id that is half a surrogate pair", "Bearer " + lone + "." + base64.RawURLEncoding.EncodeToString(signature), problem.InvalidToken},
		{"over 8 KiB", "Bearer " + strings.Repeat("x", 8193), problem.TooLarge},
	} {
		got, err := newVerifier("", "").Verify(c.authorization)
		if err == nil || problem.From(err).Code != c.want {
			t.Errorf("%s: %+v, %v; want %s", c.name, got, err, c.want)
		}
	}
}

// signed is a token of the secret that is valid for an hour, with claims changed;
// nil takes one out.
func signed(t *testing.T, changes jwt.MapClaims) string {
	t.Helper()
	claims := jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), nil, claims)
}

// withRules returns a Verifier of the secret's tokens with further rules.
func withRules(rules Rules) *Verifier {
	rules.Secrets = []seal.Secret{seal.NewSecret(secret)}
	if rules.MaxLifetime == 0 {
		rules.MaxLifetime = MaxLifetime
	}
	return NewVerifier(rules, func() time.Time { return now })
}

func TestNamesAndUserIDsAreReadFromTheirClaims(t *testing.T) {
	type claims = jwt.MapClaims
	prefixed := Rules{PrefixUserIDs: true}
	for _, c := range []struct {
		name   string
		rules  Rules
		claims claims
		want   Identity // without an ID: refused
	}{
		{"username first", Rules{}, claims{"username": "a", "name": "b", "preferred_username": "c"}, Identity{ID: "u", Name: "a"}},
		{"then name", Rules{}, claims{"name": "b", "preferred_username": "c"}, Identity{ID: "u", Name: "b"}},
		{"then preferred_username", Rules{}, claims{"preferred_username": "c"}, Identity{ID: "u", Name: "c"}},
		{"a name that is no text", Rules{}, claims{"name": 1}, Identity{}},
		{"another claim", Rules{UserIDClaim: "https://example.org/id"}, claims{"https://example.org/id": "i", "sub": "s"}, Identity{ID: "i"}},
		{"sub alone", Rules{UserIDClaim: "sub"}, claims{"sub": "s"}, Identity{ID: "s"}},
		{"no such claim", Rules{UserIDClaim: "id"}, claims{"sub": "s"}, Identity{}},
		{"that claim is a number", Rules{UserIDClaim: "id"}, claims{"id": 42}, Identity{}},
		{"prefixed", prefixed, claims{"iss": "https://a.example/"}, Identity{ID: "https://a.example/|u"}},
		{"prefixed, another claim", Rules{PrefixUserIDs: true, UserIDClaim: "sub"}, claims{"iss": "i", "sub": "auth0|1"}, Identity{ID: "i|auth0|1"}},
		{"prefixed, no issuer", prefixed, claims{}, Identity{}},
		{"prefixed, an empty issuer", prefixed, claims{"iss": ""}, Identity{}},
		{"prefixed, an issuer that is a list", prefixed, claims{"iss": []string{"i"}}, Identity{}},
		{"prefixed, an issuer that makes ids meet", prefixed, claims{"iss": "a|b"}, Identity{}},
		{"prefixed, no user id", prefixed, claims{"iss": "a", "uid": nil}, Identity{}},
		{"prefixed, 256 bytes", prefixed, claims{"iss": "a", "uid": strings.Repeat("x", 254)}, Identity{ID: "a|" + strings.Repeat("x", 254)}},
		{"prefixed, 257 bytes", prefixed, claims{"iss": "a", "uid": strings.Repeat("x", 255)}, Identity{}},
	} {
		who, err := withRules(c.rules).Verify(signed(t, c.claims))
		who.Expires = time.Time{}
		if refused := c.want.ID == ""; who != c.want || (err != nil) != refused || refused && problem.From(err).Code != problem.InvalidToken {
			t.Errorf("%s: %+v, %v; want %+v", c.name, who, err, c.want)
		}
	}
}

// Each byte that is not Unicode is decoded to three. Such a user is served all the same.
func TestANameOrAnAddressEndsAtTheLongestThatIsKept(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"the longest", strings.Repeat("x", 5900), strings.Repeat("x", 5900)},
		{"the longest, escaped", strings.Repeat(`\uFFFF`, 980), strings.Repeat("\uFFFF", 980)},
		{"bytes that are not Unicode", "Ada\xff", "Ada\uFFFD"},
		{"many of them", strings.Repeat("\xff", 5800), strings.Repeat("\uFFFD", MaxTextBytes/3)},
		{"many of them, and a rune that is cut", "x" + strings.Repeat("\xff", 5800), "x" + strings.Repeat("\uFFFD", MaxTextBytes/3-1)},
	} {
		for _, claim := range []string{"username", "email"} {
			token := "Bearer " + hs256(`{"alg":"HS256"}`, `{"uid":"u","exp":1795352400,"`+claim+`":"`+c.text+`"}`)
			who, err := newVerifier("", "").Verify(token)
			if got := who.Name + who.Email; err != nil || who.ID != "u" || got != c.want {
				t.Errorf("%s in %s: %d bytes, want %d, %v", c.name, claim, len(got), len(c.want), err)
			}
		}
	}
}

func TestIssuersAudiencesAndPartiesAreLists(t *testing.T) {
	rules := Rules{Issuers: []string{"https://a.example", "https://b.example/"}, Audiences: []string{"keys", "more"}, Parties: []string{"https://app.example", "cli"}}
	for _, c := range []struct {
		name   string
		claims jwt.MapClaims
		ok     bool
	}{
		{"the first of each", jwt.MapClaims{}, true},
		{"the last of each", jwt.MapClaims{"iss": "https://b.example/", "aud": "more", "azp": "cli"}, true},
		{"one audience of several", jwt.MapClaims{"aud": []string{"x", "more"}}, true},
		{"no party", jwt.MapClaims{"azp": nil}, true},
		{"a slash less", jwt.MapClaims{"iss": "https://b.example"}, false},
		{"a slash more", jwt.MapClaims{"iss": "https://a.example/"}, false},
		{"the list as one issuer", jwt.MapClaims{"iss": "https://a.example,https://b.example/"}, false},
		{"a list of issuers", jwt.MapClaims{"iss": []string{"https://a.example"}}, false},
		{"no issuer", jwt.MapClaims{"iss": nil}, false},
		{"another audience", jwt.MapClaims{"aud": []string{"x", "Keys"}}, false},
		{"an empty list", jwt.MapClaims{"aud": []string{}}, false},
		{"an audience that is a number", jwt.MapClaims{"aud": []any{1, "keys"}}, false},
		{"no audience", jwt.MapClaims{"aud": nil}, false},
		{"another party", jwt.MapClaims{"azp": "https://evil.example"}, false},
		{"an empty party", jwt.MapClaims{"azp": ""}, false},
		{"a list of parties", jwt.MapClaims{"azp": []string{"cli"}}, false},
	} {
		claims := jwt.MapClaims{"iss": "https://a.example", "aud": "keys", "azp": "https://app.example"}
		maps.Copy(claims, c.claims)
		if _, err := withRules(rules).Verify(signed(t, claims)); (err == nil) != c.ok || err != nil && problem.From(err).Code != problem.InvalidToken {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := withRules(Rules{}).Verify(signed(t, jwt.MapClaims{"iss": "x", "aud": "y", "azp": "z"})); err != nil {
		t.Errorf("without lists: %v", err)
	}
}

func TestDatesThatCannotBeMeantAreRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any
		code  string // empty: accepted
		says  string
	}{
		{"exp", in(366 * 24 * time.Hour), "", ""},
		{"exp", in(366*24*time.Hour + Leeway), "", ""},
		{"exp", in(366*24*time.Hour + Leeway + time.Second), problem.InvalidToken, "further away than the 8784h0m0s that"},
		{"exp", in(time.Hour) * 1000, problem.InvalidToken, "looks like milliseconds"},
		{"exp", in(10*366*24*time.Hour) * 1000, problem.InvalidToken, "looks like milliseconds"},
		{"exp", 1e308, problem.InvalidToken, "further away"},
		{"exp", -1e308, problem.InvalidToken, "no date"},
		{"exp", 0, problem.InvalidToken, ""},
		{"exp", -1, problem.ExpiredToken, ""},
		{"exp", nil, problem.InvalidToken, "has no exp"},
		{"exp", true, problem.InvalidToken, "exp in the token is no number"},
		{"exp", float64(in(time.Hour)) + 0.5, "", ""},
		{"nbf", 1e308, problem.InvalidToken, "no date"},
		{"nbf", -1e308, problem.InvalidToken, "no date"},
		{"nbf", 9.3e18, problem.InvalidToken, "no date"},
		{"nbf", in(0) * 1000, problem.InvalidToken, "not valid yet"},
		{"nbf", 0, "", ""},
		{"nbf", -1, "", ""},
		{"nbf", "now", problem.InvalidToken, "nbf in the token is no number"},
		{"iat", 1e308, problem.InvalidToken, "no date"},
		{"iat", -1e308, problem.InvalidToken, "no date"},
		{"iat", in(0) * 1000, problem.InvalidToken, "in the future"},
		{"iat", 1 << 53, problem.InvalidToken, "in the future"},
	} {
		_, err := withRules(Rules{}).Verify(signed(t, jwt.MapClaims{c.name: c.value}))
		if err == nil {
			if c.code != "" {
				t.Errorf("%s %v is accepted", c.name, c.value)
			}
			continue
		}
		if p := problem.From(err); p.Code != c.code || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s %v: %v; want %s, %q", c.name, c.value, err, c.code, c.says)
		}
	}
	short := withRules(Rules{MaxLifetime: time.Minute})
	if _, err := short.Verify(signed(t, jwt.MapClaims{"exp": in(time.Minute)})); err != nil {
		t.Error(err)
	}
	if _, err := short.Verify(signed(t, jwt.MapClaims{"exp": in(2 * time.Minute)})); err == nil {
		t.Error("it lives longer than it may")
	}
}

func TestARefusalNamesTheClaimThatIsMissingOrWrong(t *testing.T) {
	rules := Rules{Issuers: []string{"https://a.example"}, Audiences: []string{"keys"}, Parties: []string{"cli"}}
	for _, c := range []struct {
		claim string
		value any // nil: it is missing
		says  string
	}{
		{"exp", nil, "has no exp."}, {"iss", nil, "has no iss."}, {"aud", nil, "has no aud."}, {"uid", nil, "has no user id in uid or sub."},
		{"iss", "https://b.example", "see its iss."}, {"aud", "mail", "see its aud."}, {"azp", "app", "see its azp."},
		{"nbf", in(time.Hour), "see its nbf."}, {"iat", in(time.Hour), "see its iat."},
	} {
		claims := jwt.MapClaims{"iss": "https://a.example", "aud": "keys", "azp": "cli"}
		claims[c.claim] = c.value
		_, err := withRules(rules).Verify(signed(t, claims))
		if p := problem.From(err); p.Code != problem.InvalidToken || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s %v: %v, want %q", c.claim, c.value, err, c.says)
		}
	}
}

func TestARefusalNamesTheAlgorithmsThatAreAccepted(t *testing.T) {
	const rsaAlgorithms, hmacAlgorithms = "RS256, RS384, RS512, PS256, PS384, PS512", "HS256, HS384, HS512"
	secrets, public := []seal.Secret{seal.NewSecret(secret)}, func(kinds ...string) (keys []Key) {
		for _, kind := range kinds {
			keys = append(keys, Key{material: publicOf[kind]})
		}
		return keys
	}
	for _, c := range []struct {
		name  string
		rules Rules
		alg   string // of the token
		says  string
	}{
		{"a secret", Rules{Secrets: secrets}, "ES256", "accepted here: " + hmacAlgorithms + "."},
		{"a secret, and no algorithm", Rules{Secrets: secrets}, "none", "accepted here: " + hmacAlgorithms + "."},
		{"a secret, and an algorithm that nobody knows", Rules{Secrets: secrets}, "HS257", "accepted here: " + hmacAlgorithms + "."},
		{"public keys", Rules{PublicKeys: public("RSA", "P-384")}, "HS256", "accepted here: " + rsaAlgorithms + ", ES384."},
		{"both", Rules{Secrets: secrets, PublicKeys: public("Ed25519")}, "RS256", "accepted here: " + hmacAlgorithms + ", EdDSA."},
		{"a key set that was not read", Rules{KeySetURL: "https://issuer.example/keys"}, "HS256", "accepted here: " + rsaAlgorithms + ", ES256, ES384, ES512, EdDSA."},
		{"the right algorithm, and another key", Rules{Secrets: []seal.Secret{seal.NewSecret(previous)}}, "HS256", "signed with another key"},
	} {
		rules := c.rules
		rules.MaxLifetime = MaxLifetime
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"` + c.alg + `"}`))
		_, payload, _ := strings.Cut(signed(t, nil), ".")
		_, err := NewVerifier(rules, func() time.Time { return now }).Verify("Bearer " + header + "." + payload)
		if p := problem.From(err); p.Code != problem.InvalidToken || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

// A token is remembered until it expires and no longer.
func TestAVerifiedTokenIsForgottenWhenItExpires(t *testing.T) {
	clock := now
	v := New([]seal.Secret{seal.NewSecret(secret)}, "", "", func() time.Time { return clock })
	token := signed(t, jwt.MapClaims{"exp": in(time.Minute)})
	for _, at := range []time.Duration{0, time.Minute, time.Minute + Leeway - time.Second} {
		clock = now.Add(at)
		if _, err := v.Verify(token); err != nil {
			t.Errorf("after %v: %v", at, err)
		}
	}
	clock = now.Add(time.Minute + Leeway)
	if _, err := v.Verify(token); err == nil || problem.From(err).Code != problem.ExpiredToken {
		t.Errorf("once it has expired: %v", err)
	}
}

func TestIssuerAndAudienceAreCheckedWhereSet(t *testing.T) {
	for _, c := range []struct {
		name   string
		claims jwt.MapClaims
		ok     bool
	}{
		{"both right", jwt.MapClaims{"iss": "app", "aud": "keys"}, true},
		{"one of several audiences", jwt.MapClaims{"iss": "app", "aud": []string{"mail", "keys"}}, true},
		{"no issuer", jwt.MapClaims{"aud": "keys"}, false},
		{"another issuer", jwt.MapClaims{"iss": "other", "aud": "keys"}, false},
		{"no audience", jwt.MapClaims{"iss": "app"}, false},
		{"another audience", jwt.MapClaims{"iss": "app", "aud": "mail"}, false},
	} {
		c.claims["uid"], c.claims["exp"] = "u", in(time.Hour)
		_, err := newVerifier("app", "keys").Verify("Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), nil, c.claims))
		if (err == nil) != c.ok || err != nil && problem.From(err).Code != problem.InvalidToken {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestChallengesFollowRFC6750(t *testing.T) {
	expired := sign(t, jwt.SigningMethodHS256, []byte(secret), nil, jwt.MapClaims{"uid": "u", "exp": in(-time.Hour)})
	for authorization, want := range map[string]string{
		"":                  `Bearer`,
		"Bearer abc":        `Bearer error="invalid_token"`,
		"Bearer " + expired: `Bearer error="invalid_token", error_description="The token has expired"`,
	} {
		_, err := newVerifier("", "").Verify(authorization)
		if p := problem.From(err); len(p.Header) != 1 || p.Header[0] != [2]string{"WWW-Authenticate", want} {
			t.Errorf("%q: %v, want %s", authorization, p.Header, want)
		}
	}
}

func TestAVerifiedTokenIsRememberedUntilItExpires(t *testing.T) {
	at := now
	v := New([]seal.Secret{seal.NewSecret(secret)}, "", "", func() time.Time { return at })
	token := "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), nil, jwt.MapClaims{"uid": "u", "exp": in(time.Hour)})
	for _, c := range []struct {
		name string
		at   time.Duration
		want string // code; empty: verified
	}{
		{"first", 0, ""}, {"again", time.Minute, ""}, {"within the leeway", time.Hour + Leeway - time.Second, ""},
		{"expired", time.Hour + Leeway, problem.ExpiredToken}, {"expired, again", 2 * time.Hour, problem.ExpiredToken},
	} {
		at = now.Add(c.at)
		who, err := v.Verify(token)
		switch {
		case c.want == "" && (err != nil || who.ID != "u"):
			t.Errorf("%s: %v, %v", c.name, who, err)
		case c.want != "" && (err == nil || problem.From(err).Code != c.want):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if _, err := v.Verify(token + "A"); err == nil {
		t.Error("a token that begins like a verified one passed")
	}
}

func TestVerifiedTokensAreBounded(t *testing.T) {
	v := newVerifier("", "")
	for i := range 2 * maxVerified {
		token := sign(t, jwt.SigningMethodHS256, []byte(secret), nil, jwt.MapClaims{"uid": "u", "jti": i, "exp": in(time.Hour)})
		if _, err := v.Verify("Bearer " + token); err != nil {
			t.Fatal(err)
		}
	}
	long := sign(t, jwt.SigningMethodHS256, []byte(secret), nil, jwt.MapClaims{"uid": strings.Repeat("x", 200), "username": strings.Repeat("y", 2*maxVerifiedBytes), "exp": in(time.Hour)})
	if _, err := v.Verify("Bearer " + long); err != nil {
		t.Fatal(err)
	}
	if _, kept := v.verified[long]; kept || len(v.verified) != maxVerified {
		t.Errorf("%d tokens are remembered, the long one: %t; want %d and not", len(v.verified), kept, maxVerified)
	}
}

// What a token costs that is not remembered, by its algorithm. In the Worker's
// program: GOOS=js GOARCH=wasm go test -exec="$(go env GOROOT)/lib/wasm/go_js_wasm_exec" -run - -bench Verify ./internal/auth
func BenchmarkVerify(b *testing.B) {
	clock := func() time.Time { return now }
	for _, alg := range slices.Sorted(maps.Keys(kindOf)) {
		unsigned := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{"uid": "u_42", "username": "Ada", "email": "ada@example.org", "exp": in(time.Hour)})
		token, err := unsigned.SignedString(privateOf[kindOf[alg]])
		if err != nil {
			b.Fatal(err)
		}
		rules := Rules{Secrets: []seal.Secret{seal.NewSecret(secret)}, MaxLifetime: MaxLifetime}
		if public := publicOf[kindOf[alg]]; public != nil {
			rules.PublicKeys = []Key{{material: public}}
		}
		b.Run(alg, func(b *testing.B) {
			v := NewVerifier(rules, clock)
			for b.Loop() {
				clear(v.verified)
				if _, err := v.Verify("Bearer " + token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
