package auth

import (
	"encoding/base64"
	"maps"
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
		{"HS256", jwt.SigningMethodHS256, secret, jwt.MapClaims{"uid": "u_42", "username": "Ada", "email": "ada@example.org", "exp": in(time.Hour)}, Identity{"u_42", "Ada", "ada@example.org"}},
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

func FuzzVerifyLetsNobodyInUnsigned(f *testing.F) {
	f.Add("Bearer a.b.c")
	f.Add("Bearer eyJhbGciOiJub25lIn0.eyJ1aWQiOiJ1IiwiZXhwIjo0MTAyNDQ0ODAwfQ.")
	v := newVerifier("", "")
	f.Fuzz(func(t *testing.T, authorization string) {
		if who, err := v.Verify(authorization); err == nil {
			t.Errorf("%q let %+v in", authorization, who)
		}
	})
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
