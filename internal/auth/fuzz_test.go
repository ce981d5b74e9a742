package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

// FuzzHeader: whatever stands in the Authorization header, nobody gets in whose
// token this test did not sign, and what is answered is a problem without the token.
func FuzzHeader(f *testing.F) {
	good := "Bearer " + hs256(`{"alg":"HS256","typ":"JWT"}`, `{"uid":"u","exp":1795352400}`)
	kid := strings.Replace(good, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"a"}`)), 1)
	for _, seed := range []string{good, kid, "", "Bearer", "bearer  " + good[7:] + "  ", good + ".", "Basic dTpw", "Bearer e30.e30.", "Bearer " + strings.Repeat("x", 9000)} {
		f.Add(seed)
	}
	if _, err := newVerifier("", "").Verify(good); err != nil {
		f.Fatal(err)
	}
	set := Rules{Secrets: newVerifier("", "").rules.Secrets, KeySetURL: setURL, MaxLifetime: MaxLifetime}
	f.Fuzz(func(t *testing.T, authorization string) {
		v := NewVerifier(set, func() time.Time { return now })
		for range 2 { // the second time it may be remembered
			who, err := v.Verify(authorization)
			_, token, _ := strings.Cut(authorization, " ")
			token = strings.Trim(token, " ")
			if err == nil {
				signed, signature, _ := cutLast(token, ".")
				mac := hmac.New(sha256.New, []byte(secret))
				mac.Write([]byte(signed))
				if given, err := base64.RawURLEncoding.DecodeString(signature); err != nil || !hmac.Equal(mac.Sum(nil), given) {
					t.Errorf("%q is let in as %+v", authorization, who)
				}
				continue
			}
			wanted := (*KeysWanted)(nil)
			if errors.As(err, &wanted) {
				continue
			}
			p := problem.From(err)
			if !slices.Contains([]string{problem.MissingToken, problem.InvalidToken, problem.ExpiredToken, problem.TooLarge}, p.Code) {
				t.Errorf("%q: %v", authorization, err)
			}
			if body := p.Answer().Body; len(token) > 40 && strings.Contains(body, token) || strings.Contains(err.Error(), secret) {
				t.Errorf("the answer shows the token: %s", body)
			}
		}
	})
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// hs256 signs any header and payload.
func hs256(header, payload string) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// FuzzClaims: whatever an issuer signs, a token is accepted within its dates alone,
// as exact arithmetic has them, and for an id that can be one.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{"uid":"u","exp":1795352400}`, `{"sub":"u","exp":1795352400,"nbf":1e308}`, `{"uid":"u","exp":1795352400.5,"iat":-1e308,"nbf":-0}`,
		`{"uid":"u","exp":1e308}`, `{"uid":"u","exp":9.3e18}`, `{"uid":"u","exp":1795352400,"nbf":9223372036854775808}`, `{"uid":"\ud800","exp":1795352400}`,
		`{"uid":".","exp":1795352400}`, `{"uid":null,"sub":"s","exp":1795352400,"aud":["a","b"],"iss":"i","azp":1}`, `{"uid":"u","exp":"1795352400"}`,
		`{"uid":"u","exp":1795352400,"exp":1}`, `{"uid":"u","exp":1795352400,"name":"` + strings.Repeat("\xff", 5800) + `"}`, `[]`, `null`, `{"uid":"u","username":1,"exp":1795352400}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		who, err := newVerifier("", "").Verify("Bearer " + hs256(`{"alg":"HS256"}`, payload))
		if err != nil {
			if code := problem.From(err).Code; code != problem.InvalidToken && code != problem.ExpiredToken && code != problem.TooLarge {
				t.Errorf("%s: %v", payload, err)
			}
			return
		}
		decoder := json.NewDecoder(strings.NewReader(payload))
		decoder.UseNumber()
		claims := map[string]any{}
		if err := decoder.Decode(&claims); err != nil {
			t.Fatalf("%s is accepted: %v", payload, err)
		}
		dateOf := func(name string) *big.Float {
			number, _ := claims[name].(json.Number)
			date, ok := new(big.Float).SetString(string(number))
			if ok {
				return date
			}
			// math/big knows no exponent that large. One below 0 is of a number next to it.
			near, err := strconv.ParseFloat(string(number), 64)
			if err != nil {
				t.Fatalf("%s is accepted, and its %s is no number", payload, name)
			}
			return big.NewFloat(near)
		}
		// A second more than is meant: fractions are cut.
		in := func(d time.Duration) *big.Float { return big.NewFloat(float64(now.Add(d).Unix())) }
		if exp := dateOf("exp"); exp.Cmp(in(-Leeway-time.Second)) < 0 || exp.Cmp(in(MaxLifetime+Leeway+time.Second)) > 0 {
			t.Errorf("%s is accepted", payload)
		}
		for _, name := range []string{"nbf", "iat"} {
			if _, there := claims[name]; there && dateOf(name).Cmp(in(Leeway+time.Second)) > 0 {
				t.Errorf("%s is accepted", payload)
			}
		}
		id := claims["uid"]
		if id == nil {
			id = claims["sub"]
		}
		if who.ID == "" || who.ID == "." || who.ID == ".." || len(who.ID) > MaxIDBytes || strings.Contains(who.ID, "\uFFFD") || who.ID != id {
			t.Errorf("%s speaks for %q", payload, who.ID)
		}
		if max(len(who.Name), len(who.Email)) > MaxTextBytes || !utf8.ValidString(who.Name+who.Email) {
			t.Errorf("%s has the name %q and the address %q", payload, who.Name, who.Email)
		}
	})
}

// FuzzPublicKeys: whatever PEM is set, keys are read or refused, and what is refused
// is not shown: it may be a private key.
func FuzzPublicKeys(f *testing.F) {
	for _, kind := range []string{"RSA", "P-256", "Ed25519"} {
		f.Add(pemOf(f, publicOf[kind]))
	}
	f.Add(strings.ReplaceAll(pemOf(f, edKey.Public())+pemOf(f, publicOf["P-521"]), "\n", `\n`))
	f.Add("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParsePublicKeys(text)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxPublicKeys {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if _, secret := k.material.(seal.Secret); secret || k.material == nil {
				t.Errorf("a key is a %T", k.material)
			}
			for alg, kind := range kindOf {
				fits := k.fits(jwt.GetSigningMethod(alg))
				if _, public := publicOf[kind]; fits && (!public || reflect.TypeOf(publicOf[kind]) != reflect.TypeOf(k.material)) {
					t.Errorf("a %T fits %s", k.material, alg)
				}
			}
		}
		if err != nil && len(text) > 100 && strings.Contains(err.Error(), text[30:60]) {
			t.Errorf("the error shows the key: %v", err)
		}
	})
}
