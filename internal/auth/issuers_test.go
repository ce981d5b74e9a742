package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/auth"
	"latchkey/internal/settings"
)

// issuersSecret is the shared secret of issuers that have one.
const issuersSecret = "not-a-real-secret-not-a-real-secret"

// Every token in docs/issuers.md is accepted with the settings that stand above it,
// and with those of no other issuer.
func TestTokensOfTheDocumentedIssuers(t *testing.T) {
	const ada, email = "Ada Lovelace", "ada@example.org"
	want := map[string][]auth.Identity{
		"Clerk":             {{ID: "user_2mXq7N4kRzGd0exampleAda12"}},
		"Auth0":             {{ID: "auth0|65a1f0c2example0000000001"}},
		"Supabase":          {{ID: "7c2d4c7e-9a41-4c0a-b0a5-000000000001", Email: email}, {ID: "7c2d4c7e-9a41-4c0a-b0a5-000000000001", Email: email}},
		"Firebase":          {{ID: "Zk3exampleUidOfAda00000000000", Name: ada, Email: email}},
		"WorkOS":            {{ID: "user_01HEXAMPLE00000000000000AD"}},
		"Better Auth":       {{ID: "mJ3exampleUserId0000000000000000", Name: ada, Email: email}},
		"Cognito":           {{ID: "a3c4f8e2-70a1-70f2-9c1d-000000000001", Name: ada, Email: email}},
		"Keycloak":          {{ID: "f1c4f64e-2c0c-4cda-8c9f-000000000001", Name: ada, Email: email}},
		"Cloudflare Access": {{ID: "7335d417-61da-459d-899c-000000000001", Email: email}},
	}
	issuers := documented(t)
	if len(issuers) != len(want) {
		t.Errorf("%d issuers are documented, and %d are tested", len(issuers), len(want))
	}
	for name, issuer := range issuers {
		t.Run(name, func(t *testing.T) {
			if len(issuer.tokens) != len(want[name]) {
				t.Fatalf("there are %d tokens, and not %d", len(issuer.tokens), len(want[name]))
			}
			for i, token := range issuer.tokens {
				signed, set := token.sign(t, name)
				who, err := issuer.verifier(t, set).Verify("Bearer " + signed)
				who.Expires = time.Time{}
				if err != nil || who != want[name][i] {
					t.Errorf("token %d: %+v, %v; want %+v", i, who, err, want[name][i])
				}
				for other := range issuers {
					if other == name {
						continue
					}
					if who, err := issuers[other].verifier(t, set).Verify("Bearer " + signed); err == nil {
						t.Errorf("token %d is accepted with the settings of %s: %+v", i, other, who)
					}
				}
			}
		})
	}
}

// issuer is a section of docs/issuers.md.
type issuer struct {
	env    map[string]string
	tokens []documentedToken
}

type documentedToken struct{ header, claims map[string]any }

func documented(t *testing.T) map[string]issuer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "issuers.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(toml|json)\n(.*?)```")
	assignment := regexp.MustCompile(`(?m)^([A-Z_]+) = "(.*)"$`)
	issuers := map[string]issuer{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		found := issuer{env: map[string]string{}}
		for _, block := range blocks.FindAllStringSubmatch(body, -1) {
			if block[1] == "toml" {
				for _, set := range assignment.FindAllStringSubmatch(block[2], -1) {
					found.env[set[1]] = set[2]
				}
				continue
			}
			var token documentedToken
			decoder := json.NewDecoder(strings.NewReader(block[2]))
			for _, part := range []*map[string]any{&token.header, &token.claims} {
				if err := decoder.Decode(part); err != nil {
					t.Fatalf("%s: %v in %s", name, err, block[2])
				}
			}
			if _, err := decoder.Token(); err != io.EOF {
				t.Fatalf("%s: there is more than a header and claims in %s", name, block[2])
			}
			found.tokens = append(found.tokens, token)
		}
		issuers[name] = found
	}
	return issuers
}

// verifier returns a Verifier with the documented settings, a second after the
// tokens were issued, that has read a key set.
func (i issuer) verifier(t *testing.T, set string) *auth.Verifier {
	t.Helper()
	env := map[string]string{
		"OPENROUTER_PROVISIONING_API_KEY": "sk-or-v1-not-a-real-key", "JWT_SECRET_CLOUD": issuersSecret,
		"KEY_ENCRYPTION_KEY": base64.StdEncoding.EncodeToString(make([]byte, 32)), "OPENROUTER_BASE_URL": "http://127.0.0.1/api/v1", // else no example would do
	}
	maps.Copy(env, i.env)
	all, err := settings.Parse(func(name string) string { return env[name] }, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	verifier := auth.NewVerifier(all.Tokens, func() time.Time { return time.Unix(1795600001, 0) })
	if err := verifier.KeysRead(set, "", nil); err != nil {
		t.Fatal(err)
	}
	return verifier
}

// sign signs a token as it is documented, and returns the key set of its issuer.
func (d documentedToken) sign(t *testing.T, issuer string) (token, set string) {
	t.Helper()
	kid, _ := d.header["kid"].(string)
	method := jwt.GetSigningMethod(d.header["alg"].(string))
	key := any([]byte(issuersSecret))
	// A set has a key that is not for signatures, and a symmetric one.
	keys := []map[string]any{
		{"kty": "oct", "kid": kid, "k": base64.RawURLEncoding.EncodeToString([]byte(issuersSecret))},
		{"kty": "RSA", "kid": "of-encryption", "use": "enc", "alg": "RSA-OAEP", "n": text(rsaKey.N.Bytes()), "e": "AQAB"},
		{"kty": "RSA", "kid": "of-another-day", "use": "sig", "alg": "RS256", "n": text(rsaKey.N.Bytes()), "e": "AQAB"},
	}
	switch method.Alg() {
	case "RS256":
		key = rsaKey
		keys = append(keys, map[string]any{"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": text(rsaKey.N.Bytes()), "e": "AQAB"})
	case "ES256":
		point, err := ecKey.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		key = ecKey
		keys = append(keys, map[string]any{"kty": "EC", "kid": kid, "use": "sig", "alg": "ES256", "crv": "P-256", "key_ops": []string{"verify"}, "x": text(point[1:33]), "y": text(point[33:])})
	case "EdDSA":
		key = edKey
		keys = append(keys, map[string]any{"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": text(edKey.Public().(ed25519.PublicKey))})
	}
	unsigned := jwt.NewWithClaims(method, jwt.MapClaims(d.claims))
	unsigned.Header = d.header
	token, err := unsigned.SignedString(key)
	if err != nil {
		t.Fatalf("%s: %v", issuer, err)
	}
	encoded, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return token, string(encoded)
}

func text(bytes []byte) string { return base64.RawURLEncoding.EncodeToString(bytes) }

// Keys made up for each run.
var (
	rsaKey = made(rsa.GenerateKey(rand.Reader, 2048))
	ecKey  = made(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	edKey  = func() ed25519.PrivateKey { _, key, _ := ed25519.GenerateKey(rand.Reader); return key }()
)

func made[K crypto.PrivateKey](key K, err error) K {
	if err != nil {
		panic(err)
	}
	return key
}
