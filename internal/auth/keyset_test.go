package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/problem"
)

const setURL = "https://issuer.example/keys"

var errDown = errors.New("the issuer answered 500")

// atIssuer is a Verifier of an issuer's tokens whose clock the test sets.
type atIssuer struct {
	*Verifier
	t     *testing.T
	clock time.Time
}

func newIssuer(t *testing.T) *atIssuer {
	i := &atIssuer{t: t, clock: now}
	i.Verifier = NewVerifier(Rules{KeySetURL: setURL, MaxLifetime: MaxLifetime}, func() time.Time { return i.clock })
	return i
}

func (i *atIssuer) passes(d time.Duration) { i.clock = i.clock.Add(d) }

// token is one that lives for a year, signed with the Ed25519 key.
func (i *atIssuer) token(kid any) string {
	header := map[string]any{"kid": kid}
	if kid == nil {
		header = nil
	}
	return "Bearer " + sign(i.t, jwt.SigningMethodEdDSA, edKey, header, jwt.MapClaims{"uid": "u", "exp": in(365 * 24 * time.Hour)})
}

// says verifies a token: "ok", a problem's code, "read" where the set is wanted, and
// its read begins, or "wait" where another request reads it.
func (i *atIssuer) says(token string) string {
	_, err := i.Verify(token)
	var wanted *KeysWanted
	switch {
	case err == nil:
		return "ok"
	case !errors.As(err, &wanted):
		return problem.From(err).Code
	case wanted.URL == "":
		return "wait"
	case wanted.URL != setURL:
		i.t.Fatalf("the set is wanted from %q", wanted.URL)
	}
	i.KeysReading()
	return "read"
}

func (i *atIssuer) expect(when, token, want string) {
	i.t.Helper()
	if got := i.says(token); got != want {
		i.t.Errorf("%s: %s, want %s", when, got, want)
	}
}

// reads hands over what the issuer answers.
func (i *atIssuer) reads(set string) {
	i.t.Helper()
	if err := i.KeysRead(set, "", nil); err != nil {
		i.t.Fatal(err)
	}
}

func edSet(kids ...string) string {
	var keys []map[string]any
	for _, kid := range kids {
		keys = append(keys, jwk(edKey.Public(), map[string]any{"kid": kid}))
	}
	return setOf(keys...)
}

func TestTheFirstTokenWantsTheSetAndOthersWaitForIt(t *testing.T) {
	i := newIssuer(t)
	i.expect("at first", i.token("a"), "read")
	i.expect("meanwhile", i.token("a"), "wait")
	i.expect("meanwhile, another key", i.token("b"), "wait")
	i.reads(edSet("a"))
	i.expect("then", i.token("a"), "ok")
	i.expect("the next one", i.token("a"), "ok")
	i.expect("an unknown key", i.token("b"), problem.InvalidToken)
}

func TestTokensThatNoSetCouldVerifyWantNone(t *testing.T) {
	i := newIssuer(t)
	claims := jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}
	for name, token := range map[string]string{
		"HS256":               "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), map[string]any{"kid": "a"}, claims),
		"none":                "Bearer " + sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, map[string]any{"kid": "a"}, claims),
		"a critical header":   "Bearer " + sign(t, jwt.SigningMethodEdDSA, edKey, map[string]any{"kid": "a", "crit": []string{"exp"}}, claims),
		"an unknown alg":      "Bearer eyJhbGciOiJFUzI1NksifQ.e30.AAAA",
		"encrypted":           "Bearer eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AA.AA.AA.AA",
		"encrypted, 3 parts":  "Bearer eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.e30.AA",
		"no JSON in its body": "Bearer eyJhbGciOiJFZERTQSIsImN0eSI6IkpXVCJ9.ZXlKaGJHY2lPaUpGWkVSVFFTSjkuZTMwLkFB.AA",
	} {
		i.expect(name, token, problem.InvalidToken)
	}
}

func TestUnknownKeysCostOneReadAMinute(t *testing.T) {
	i := newIssuer(t)
	i.expect("at first", i.token("a"), "read")
	i.reads(edSet("a"))
	reads := 0
	for second := range 600 {
		i.passes(time.Second)
		for range 5 {
			switch got := i.says(i.token(rand.Text())); got {
			case "read":
				reads++
				i.reads(edSet("a"))
			case problem.InvalidToken:
			default:
				t.Fatalf("after %d s: %s", second, got)
			}
		}
		if got := i.says(i.token("a")); got != "ok" {
			t.Fatalf("after %d s the known key is %s", second, got)
		}
	}
	if reads != 10 {
		t.Errorf("%d reads in 10 minutes", reads)
	}
}

func TestANewKeyIsKnownOnceItIsUsed(t *testing.T) {
	i := newIssuer(t)
	i.expect("at first", i.token("a"), "read")
	i.reads(edSet("a"))
	i.passes(time.Minute)
	i.expect("a new key", i.token("b"), "read")
	i.expect("the old one meanwhile", i.token("a"), "ok")
	i.reads(edSet("a", "b"))
	i.expect("the new key then", i.token("b"), "ok")
}

func TestASetIsKeptForTenMinutesOrAsLongAsTheIssuerSays(t *testing.T) {
	for cacheControl, kept := range map[string]time.Duration{
		"": 10 * time.Minute, "public": 10 * time.Minute, "max-age=120": 2 * time.Minute, "public, Max-Age=\"120\", x": 2 * time.Minute,
		"max-age=15": time.Minute, "max-age=0": time.Minute, "no-store": time.Minute, "no-cache, max-age=300": time.Minute,
		"max-age=21600": 10 * time.Minute, "max-age=99999999999999999999": 10 * time.Minute, "max-age=-1": 10 * time.Minute, "max-age=x": 10 * time.Minute,
		"max-age": 10 * time.Minute, "s-maxage=5": 10 * time.Minute,
	} {
		i := newIssuer(t)
		i.expect("at first", i.token("a"), "read")
		if err := i.KeysRead(edSet("a"), cacheControl, nil); err != nil {
			t.Fatal(err)
		}
		i.passes(kept - time.Second)
		i.expect(cacheControl+": just before", i.token("a"), "ok")
		i.passes(time.Second)
		i.expect(cacheControl+": after", i.token("a"), "read")
	}
}

func TestASetIsUsedForADayMoreWhileTheIssuerIsDown(t *testing.T) {
	i := newIssuer(t)
	i.expect("at first", i.token("a"), "read")
	i.reads(edSet("a"))
	i.passes(10 * time.Minute)
	end := i.clock.Add(24 * time.Hour)
	others := "wait"
	for i.clock.Before(end) {
		i.expect("it is asked", i.token("a"), "read")
		i.expect("others meanwhile", i.token("a"), others)
		i.expect("others meanwhile, an unknown key", i.token("b"), "wait")
		others = "ok" // it is known to be down
		if err := i.KeysRead("", "", errDown); !errors.Is(err, errDown) {
			t.Fatalf("the failure is told as %v", err)
		}
		i.expect("it is down", i.token("a"), "ok")
		i.passes(59 * time.Second)
		i.expect("a minute later", i.token("a"), "ok")
		i.expect("an unknown key", i.token("b"), problem.IssuerUnavailable)
		i.passes(time.Second)
	}
	i.expect("it is asked once more", i.token("a"), "read")
	_ = i.KeysRead("", "", errDown)
	i.expect("after a day", i.token("a"), problem.IssuerUnavailable)
	i.passes(10 * time.Second)
	i.expect("10 s later", i.token("a"), "read")
	i.reads(edSet("a"))
	i.expect("it is back", i.token("a"), "ok")
	i.passes(10 * time.Minute)
	i.expect("later", i.token("a"), "read")
	i.expect("later, others", i.token("a"), "wait")
}

func TestWithoutAnyKeysTheIssuerIsUnavailable(t *testing.T) {
	i := newIssuer(t)
	i.expect("at first", i.token("a"), "read")
	_ = i.KeysRead("", "", errDown)
	_, err := i.Verify(i.token("a"))
	if p := problem.From(err); p.Code != problem.IssuerUnavailable || p.RetryAfter != 10*time.Second {
		t.Errorf("%v, Retry-After %v", err, p.RetryAfter)
	}
	i.passes(9 * time.Second)
	i.expect("9 s later", i.token("b"), problem.IssuerUnavailable)
	i.passes(time.Second)
	i.expect("10 s later", i.token("b"), "read")
	i.reads(edSet("a"))
	i.expect("it is back", i.token("a"), "ok")
}

func TestAReadThatIsLostIsDoneAgain(t *testing.T) {
	i := newIssuer(t)
	i.expect("at first", i.token("a"), "read")
	i.passes(5 * time.Second)
	i.expect("5 s later", i.token("a"), "wait")
	i.passes(time.Second)
	i.expect("6 s later", i.token("a"), problem.IssuerUnavailable)
	i.passes(4 * time.Second)
	i.expect("10 s later", i.token("a"), "read")
	i.reads(edSet("a"))
	i.passes(time.Minute)
	i.expect("an unknown key", i.token("b"), "read")
	i.passes(6 * time.Second)
	i.expect("an unknown key, 6 s later", i.token("b"), problem.IssuerUnavailable)
	i.expect("the known one", i.token("a"), "ok")
	i.passes(54 * time.Second)
	i.expect("an unknown key, a minute later", i.token("b"), "read")
}

func TestABadSetDoesNotReplaceAGoodOne(t *testing.T) {
	large := setOf(jwk(edKey.Public(), map[string]any{"kid": "a", "x5c": strings.Repeat("A", maxSetBytes)}))
	for name, set := range map[string]string{
		"nothing": "", "no JSON": "<html>", "null": "null", "a list": "[]", "no keys": `{"keys":[]}`, "keys is an object": `{"keys":{}}`,
		"another document": `{"issuer":"https://issuer.example"}`, "over 64 KiB": large,
		"only symmetric keys": setOf(jwk([]byte(secret), map[string]any{"kid": "a"})),
		"only for encryption": setOf(jwk(edKey.Public(), map[string]any{"kid": "a", "use": "enc"})),
	} {
		i := newIssuer(t)
		i.expect("at first", i.token("a"), "read")
		if err := i.KeysRead(set, "", nil); err == nil {
			t.Errorf("%s is taken", name)
		}
		i.expect(name+" at first", i.token("a"), problem.IssuerUnavailable)
		i.passes(10 * time.Second)
		i.expect("again", i.token("a"), "read")
		i.reads(edSet("a"))
		i.passes(10 * time.Minute)
		i.expect("later", i.token("a"), "read")
		if err := i.KeysRead(set, "", nil); err == nil || len(err.Error()) > 200 {
			t.Errorf("%s: %v", name, err)
		}
		i.expect(name+" later", i.token("a"), "ok")
	}
	if limit := edSet("a") + strings.Repeat(" ", maxSetBytes-len(edSet("a"))); len(limit) != maxSetBytes {
		t.Fatal("the largest set is another size")
	} else if _, err := parseKeySet(limit); err != nil {
		t.Errorf("64 KiB: %v", err)
	}
}

// A verified token is remembered; its key may go all the same.
func TestAKeyThatLeftTheSetVerifiesNothing(t *testing.T) {
	i := newIssuer(t)
	token := i.token("a")
	i.expect("at first", token, "read")
	i.reads(edSet("a", "b"))
	i.expect("then", token, "ok")
	i.passes(10 * time.Minute)
	i.expect("10 minutes later", token, "read")
	i.reads(edSet("b"))
	i.expect("once it is gone", token, problem.InvalidToken)

	i = newIssuer(t)
	i.expect("at first", token, "read")
	i.reads(edSet("a"))
	i.expect("then", token, "ok")
	i.passes(time.Minute)
	i.expect("an unknown key", i.token("b"), "read")
	i.reads(edSet("b"))
	i.expect("once a read has shown that it is gone", token, problem.InvalidToken)
}

// What was planned while the clock was ahead would be a month away.
func TestAClockThatIsSetBackHoldsNoReadUp(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for _, c := range []struct {
		name  string
		ahead func(*atIssuer) // what happens while the clock is a month ahead
		token string          // kid of the first one after that
	}{
		{"the set was read", func(i *atIssuer) { i.reads(edSet("a")) }, "a"},
		{"the set was read: a new key", func(i *atIssuer) { i.reads(edSet("a")) }, "b"},
		{"a token was verified", func(i *atIssuer) { i.reads(edSet("a")); i.expect("ahead", i.token("a"), "ok") }, "a"},
		{"the set could not be read", func(i *atIssuer) { _ = i.KeysRead("", "", errDown) }, "a"},
		{"a read is going on", func(*atIssuer) {}, "a"},
		{"a read fails after that", func(i *atIssuer) {
			i.reads(edSet("a"))
			i.passes(time.Minute)
			i.expect("ahead", i.token("b"), "read")
			i.passes(-month)
			_ = i.KeysRead("", "", errDown)
			i.passes(month + time.Minute)
		}, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newIssuer(t)
			i.passes(month)
			i.expect("ahead", i.token("a"), "read")
			c.ahead(i)
			i.passes(-month)
			i.expect("once it is set back", i.token(c.token), "read")
			i.reads(edSet("b"))
			i.expect("a key that left the set", i.token("a"), problem.InvalidToken)
		})
	}
}

func TestAClockThatIsSetBackKeepsTheKeysForADayWhileTheIssuerIsDown(t *testing.T) {
	i := newIssuer(t)
	i.passes(30 * 24 * time.Hour)
	i.reads(edSet("a"))
	i.passes(-30 * 24 * time.Hour)
	i.expect("once it is set back", i.token("a"), "read")
	_ = i.KeysRead("", "", errDown)
	i.expect("the issuer is down", i.token("a"), "ok")
	i.passes(24 * time.Hour)
	i.expect("a day later", i.token("a"), "read")
	_ = i.KeysRead("", "", errDown)
	i.expect("the issuer is down still", i.token("a"), problem.IssuerUnavailable)
}

// Each request has a clock of its own, and one may be a little behind.
func TestAClockThatIsALittleBehindReadsNothingAnew(t *testing.T) {
	i := newIssuer(t)
	i.expect("at first", i.token("a"), "read")
	i.passes(-10 * time.Second)
	i.expect("meanwhile", i.token("a"), "wait")
	i.reads(edSet("a"))
	i.passes(-10 * time.Second)
	i.expect("then", i.token("a"), "ok")
	i.expect("an unknown key", i.token("b"), problem.InvalidToken)
}

func TestASetThatIsReadAnewAndTheSameForgetsNoToken(t *testing.T) {
	i := newIssuer(t)
	i.expect("at first", i.token("a"), "read")
	i.reads(edSet("a"))
	i.expect("then", i.token("a"), "ok")
	i.passes(time.Minute)
	i.expect("an unknown key", i.token("b"), "read")
	i.reads(edSet("a"))
	if len(i.verified) != 1 {
		t.Errorf("%d tokens are remembered", len(i.verified))
	}
}

func TestAKeyIsPickedByKidOrIsTheOnlyOneThatFits(t *testing.T) {
	other := newEd25519()
	member := func(kid any) map[string]any {
		if kid == nil {
			return jwk(edKey.Public(), nil)
		}
		return jwk(edKey.Public(), map[string]any{"kid": kid})
	}
	for _, c := range []struct {
		name string
		kid  any // of the token
		set  []map[string]any
		ok   bool
	}{
		{"by kid", "a", []map[string]any{jwk(other.Public(), map[string]any{"kid": "b"}), member("a")}, true},
		{"another key of that kid", "a", []map[string]any{jwk(other.Public(), map[string]any{"kid": "a"})}, false},
		{"a key that is listed twice", "a", []map[string]any{member("a"), member("a")}, true},
		{"two keys of that kid", "a", []map[string]any{member("a"), jwk(other.Public(), map[string]any{"kid": "a"})}, false},
		{"another kid", "a", []map[string]any{member("A")}, false},
		{"a set without kids", "a", []map[string]any{member(nil)}, false},
		{"an empty kid", "", []map[string]any{member(""), member("a")}, false},
		{"a kid that is a number", 1, []map[string]any{member("1")}, false},
		{"a kid that is null", jwt.MapClaims(nil), []map[string]any{member("a")}, false},
		{"a kid that is a path", "../a", []map[string]any{member("a")}, false},
		{"no kid, one key", nil, []map[string]any{member("a")}, true},
		{"no kid, one that fits", nil, []map[string]any{jwk(&rsaKey.PublicKey, nil), jwk(&p256Key.PublicKey, nil), member("a")}, true},
		{"no kid, one key that is listed twice", nil, []map[string]any{member("a"), member("a")}, true},
		{"no kid, two that fit", nil, []map[string]any{jwk(other.Public(), nil), member("a")}, false},
		{"no kid, the other one for encryption", nil, []map[string]any{jwk(other.Public(), map[string]any{"use": "enc"}), member("a")}, true},
		{"a kid of two kinds of keys", "a", []map[string]any{jwk(&rsaKey.PublicKey, map[string]any{"kid": "a"}), member("a")}, true},
	} {
		i := newIssuer(t)
		i.reads(setOf(c.set...))
		i.set.next = i.clock.Add(time.Minute)
		if got := i.says(i.token(c.kid)); (got == "ok") != c.ok || !c.ok && got != problem.InvalidToken {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestKeysOfASetThatAreUsableAndThoseThatAreIgnored(t *testing.T) {
	ec, ed, rs := publicOf["P-256"], publicOf["Ed25519"], publicOf["RSA"]
	with := func(public any, name string, value any) map[string]any {
		return jwk(public, map[string]any{name: value})
	}
	usable := map[string]map[string]any{
		"RSA": jwk(rs, nil), "P-256": jwk(ec, nil), "P-384": jwk(publicOf["P-384"], nil), "P-521": jwk(publicOf["P-521"], nil), "Ed25519": jwk(ed, nil),
		"use sig": with(rs, "use", "sig"), "for verifying": with(rs, "key_ops", []string{"verify"}), "with more": with(ec, "x5c", []string{"AAAA"}),
		"an alg that nobody has": with(rs, "alg", "RSA-OAEP"), // it fits no token
	}
	for name, member := range usable {
		if keys, err := parseKeySet(setOf(member)); err != nil || len(keys) != 1 {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
	ignored := map[string]map[string]any{
		"for encryption": with(rs, "use", "enc"), "for wrapping": with(rs, "key_ops", []string{"wrapKey"}), "for nothing": with(rs, "key_ops", []string{}),
		"symmetric": jwk([]byte(secret), nil), "no kty": with(rs, "kty", ""), "an unknown kty": with(rs, "kty", "AKP"), "another kty": with(rs, "kty", "EC"),
		"RSA of 1024 bits": with(rs, "n", strings.Repeat("_", 170)+"w"), "RSA of 16384 bits": with(rs, "n", strings.Repeat("_", 2731)),
		"RSA, even": with(rs, "n", strings.Repeat("_", 342)+"A"), "RSA without n": with(rs, "n", ""), "RSA, e 1": with(rs, "e", "AQ"), "RSA, e 2": with(rs, "e", "Ag"),
		"RSA without e": with(rs, "e", ""), "RSA, e of 64 bits": with(rs, "e", "__________8"), "RSA, n with padding": with(rs, "n", "AQAB=="),
		"secp256k1": with(ec, "crv", "secp256k1"), "no curve": with(ec, "crv", ""), "not on the curve": with(ec, "x", jwk(ec, nil)["y"]),
		"the other curve": with(ec, "crv", "P-384"), "x too short": with(ec, "x", "AQAB"), "no y": with(ec, "y", ""),
		"Ed448": with(ed, "crv", "Ed448"), "X25519": with(ed, "crv", "X25519"), "Ed25519 too short": with(ed, "x", "AQAB"), "Ed25519 without x": with(ed, "x", ""),
		"kid is a number": with(rs, "kid", 1), "use is a list": with(rs, "use", []string{"sig"}), "x is a number": with(ed, "x", 1),
	}
	for name, member := range ignored {
		if keys, err := parseKeySet(setOf(member)); err == nil {
			t.Errorf("%s is taken: %+v", name, keys)
		}
		if keys, err := parseKeySet(setOf(member, jwk(ed, nil))); err != nil || len(keys) != 1 {
			t.Errorf("%s hinders another: %d keys, %v", name, len(keys), err)
		}
	}
	for _, odd := range []string{`1`, `null`, `"x"`, `[]`, `{}`} {
		if keys, err := parseKeySet(strings.Replace(setOf(jwk(ed, nil)), "[", "["+odd+",", 1)); err != nil || len(keys) != 1 {
			t.Errorf("%s hinders another: %d keys, %v", odd, len(keys), err)
		}
	}
}

func TestAtMost64KeysOfASetAreKept(t *testing.T) {
	var kids []string
	for n := range 100 {
		kids = append(kids, fmt.Sprint(n))
	}
	if keys, err := parseKeySet(edSet(kids...)); err != nil || len(keys) != maxSetKeys {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestAKeyThatIsListedOftenIsKeptOnce(t *testing.T) {
	var often []map[string]any
	for _, public := range publicOf {
		often = append(often, slices.Repeat([]map[string]any{jwk(public, map[string]any{"kid": "a"})}, 20)...)
	}
	if keys, err := parseKeySet(setOf(often...)); err != nil || len(keys) != len(publicOf) {
		t.Errorf("%d keys, want %d, %v", len(keys), len(publicOf), err)
	}
}

// Keys that are set come first, and a token of theirs asks the issuer nothing.
func TestKeysThatAreSetVerifyBesideASet(t *testing.T) {
	i := newIssuer(t)
	i.keys = publicKeys(t, pemOf(t, edKey.Public())+pemOf(t, publicOf["RSA"]))
	i.expect("by a key that is set", i.token("x"), "ok")
	other := newEd25519()
	token := "Bearer " + sign(t, jwt.SigningMethodEdDSA, other, map[string]any{"kid": "b"}, jwt.MapClaims{"uid": "u", "exp": in(time.Hour)})
	i.expect("by a key of the set", token, "read")
	i.reads(setOf(jwk(other.Public(), map[string]any{"kid": "b"})))
	i.expect("by a key of the set, then", token, "ok")
}

// Whatever an issuer sends, nothing breaks, and what is kept verifies.
func FuzzKeySet(f *testing.F) {
	f.Add(edSet("a"))
	f.Add(setOf(jwk(&rsaKey.PublicKey, nil), jwk(&p521Key.PublicKey, map[string]any{"use": "enc"}), jwk([]byte(secret), nil)))
	f.Add(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},null]}`)
	tokens := map[string]string{}
	for alg, kind := range kindOf {
		signed, err := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{"uid": "u"}).SignedString(privateOf[kind])
		if err != nil {
			f.Fatal(err)
		}
		tokens[alg] = signed
	}
	f.Fuzz(func(t *testing.T, set string) {
		keys, err := parseKeySet(set)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxSetKeys {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for alg, signed := range tokens {
			token, _, err := jwt.NewParser().ParseUnverified(signed, jwt.MapClaims{})
			if err != nil {
				t.Fatal(err)
			}
			// Nobody else's key verifies it, and no secret can come from a set.
			ours := slices.ContainsFunc(keys, func(k Key) bool { return reflect.DeepEqual(k.material, publicOf[kindOf[alg]]) })
			if verifies(keys, token) && !ours {
				t.Errorf("%s is verified by %+v", alg, keys)
			}
		}
	})
}
