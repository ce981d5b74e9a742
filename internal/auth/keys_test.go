package auth

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

// Keys made up for each run.
var (
	rsaKey    = newRSA(2048)
	edKey     = newEd25519()
	p256Key   = newEC(elliptic.P256())
	p384Key   = newEC(elliptic.P384())
	p521Key   = newEC(elliptic.P521())
	publicOf  = map[string]any{"RSA": &rsaKey.PublicKey, "P-256": &p256Key.PublicKey, "P-384": &p384Key.PublicKey, "P-521": &p521Key.PublicKey, "Ed25519": edKey.Public()}
	privateOf = map[string]any{"RSA": rsaKey, "P-256": p256Key, "P-384": p384Key, "P-521": p521Key, "Ed25519": edKey, "secret": []byte(secret)}
)

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func newEC(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newEd25519() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// kindOf is the kind of key that each algorithm belongs to.
var kindOf = map[string]string{
	"HS256": "secret", "HS384": "secret", "HS512": "secret",
	"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
	"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519",
}

func pemOf(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// jwk returns a public key as a member of a key set, with what changes it; nil takes out.
func jwk(public any, changes map[string]any) map[string]any {
	var k map[string]any
	b64 := base64.RawURLEncoding.EncodeToString
	switch public := public.(type) {
	case *rsa.PublicKey:
		k = map[string]any{"kty": "RSA", "n": b64(public.N.Bytes()), "e": "AQAB"}
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			panic(err)
		}
		half := (len(point) - 1) / 2
		k = map[string]any{"kty": "EC", "crv": public.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PublicKey:
		k = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public)}
	case []byte:
		k = map[string]any{"kty": "oct", "k": b64(public)}
	}
	maps.Copy(k, changes)
	return k
}

func setOf(keys ...map[string]any) string {
	if keys == nil {
		keys = []map[string]any{}
	}
	encoded, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

func publicKeys(t *testing.T, text string) []Key {
	t.Helper()
	keys, err := ParsePublicKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// withSet returns a Verifier that has read a key set.
func withSet(t *testing.T, set string) *Verifier {
	t.Helper()
	v := NewVerifier(Rules{KeySetURL: "https://issuer.example/keys", MaxLifetime: MaxLifetime}, func() time.Time { return now })
	if err := v.KeysRead(set, "", nil); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEachAlgorithmVerifiesWithItsOwnKindOfKeyAlone(t *testing.T) {
	claims := jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}
	clock := func() time.Time { return now }
	for alg, kind := range kindOf {
		token := "Bearer " + sign(t, jwt.GetSigningMethod(alg), privateOf[kind], map[string]any{"kid": "k"}, claims)
		verifiers := map[string]*Verifier{"secret": NewVerifier(Rules{Secrets: []seal.Secret{seal.NewSecret(secret)}, MaxLifetime: time.Hour}, clock)}
		for other, public := range publicOf {
			verifiers[other] = NewVerifier(Rules{PublicKeys: publicKeys(t, pemOf(t, public)), MaxLifetime: time.Hour}, clock)
			verifiers[other+" of a set"] = withSet(t, setOf(jwk(public, map[string]any{"kid": "k"})))
			verifiers[other+" of a set, for "+alg] = withSet(t, setOf(jwk(public, map[string]any{"kid": "k", "alg": alg})))
			verifiers[other+" of a set, for another one"] = withSet(t, setOf(jwk(public, map[string]any{"kid": "k", "alg": "XS256"})))
		}
		for other, v := range verifiers {
			who, err := v.Verify(token)
			of, use, _ := strings.Cut(other, " of a set")
			switch fits := of == kind && use != ", for another one"; {
			case fits && (err != nil || who.ID != "u"):
				t.Errorf("%s with %s: %+v, %v", alg, other, who, err)
			case !fits && err == nil:
				t.Errorf("%s is verified with %s", alg, other)
			}
		}
	}
}

func TestEdDSAGoesByTwoNames(t *testing.T) {
	claims := jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}
	for _, named := range []string{"EdDSA", "Ed25519"} {
		token := "Bearer " + sign(t, jwt.SigningMethodEdDSA, edKey, map[string]any{"alg": named, "kid": "k"}, claims)
		for name, c := range map[string]struct {
			key map[string]any
			ok  bool
		}{
			"a key without alg": {jwk(edKey.Public(), map[string]any{"kid": "k"}), true},
			"a key of EdDSA":    {jwk(edKey.Public(), map[string]any{"kid": "k", "alg": "EdDSA"}), true},
			"a key of Ed25519":  {jwk(edKey.Public(), map[string]any{"kid": "k", "alg": "Ed25519"}), true},
			"a key of Ed448":    {jwk(edKey.Public(), map[string]any{"kid": "k", "alg": "Ed448"}), false},
			"a key of P-256":    {jwk(&p256Key.PublicKey, map[string]any{"kid": "k"}), false},
		} {
			if who, err := withSet(t, setOf(c.key)).Verify(token); (err == nil && who.ID == "u") != c.ok {
				t.Errorf("%s with %s: %+v, %v", named, name, who, err)
			}
		}
		set := NewVerifier(Rules{PublicKeys: publicKeys(t, pemOf(t, edKey.Public())), MaxLifetime: time.Hour}, func() time.Time { return now })
		if who, err := set.Verify(token); err != nil || who.ID != "u" {
			t.Errorf("%s with a key that is set: %+v, %v", named, who, err)
		}
		secrets := NewVerifier(Rules{Secrets: []seal.Secret{seal.NewSecret(secret)}, MaxLifetime: time.Hour}, func() time.Time { return now })
		if _, err := secrets.Verify(token); err == nil {
			t.Errorf("%s is verified with a secret", named)
		}
	}
}

// Whoever takes the text of a public key for a secret lets everybody in.
func TestAPublicKeyIsNoSecret(t *testing.T) {
	claims := jwt.MapClaims{"uid": "u", "exp": in(time.Hour)}
	for kind, public := range publicOf {
		text := pemOf(t, public)
		block, _ := pem.Decode([]byte(text))
		member, err := json.Marshal(jwk(public, map[string]any{"kid": "k"}))
		if err != nil {
			t.Fatal(err)
		}
		set := setOf(jwk(public, map[string]any{"kid": "k"}), jwk([]byte(secret), map[string]any{"kid": "k"}))
		v := withSet(t, set)
		v.keys = publicKeys(t, text)
		for _, key := range [][]byte{[]byte(text), []byte(strings.TrimSpace(text)), block.Bytes, member, []byte(set), []byte(secret), {}} {
			for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
				for _, header := range []map[string]any{nil, {"kid": "k"}} {
					if who, err := v.Verify("Bearer " + sign(t, method, key, header, claims)); err == nil || problem.From(err).Code != problem.InvalidToken {
						t.Errorf("%s, %s: %+v, %v", kind, method.Alg(), who, err)
					}
				}
			}
		}
	}
}

func TestParsePublicKeysTakesSeveralInOneText(t *testing.T) {
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)}))
	all := pemOf(t, publicOf["RSA"]) + pemOf(t, publicOf["P-521"]) + "\n" + pemOf(t, publicOf["Ed25519"]) + pkcs1
	for name, text := range map[string]string{
		"as it is": all, "on one line": strings.ReplaceAll(all, "\n", `\n`), "with \\r": strings.ReplaceAll(all, "\n", "\r\n"), "with spaces around": "  \n" + all + " \n",
	} {
		if keys, err := ParsePublicKeys(text); err != nil || len(keys) != 4 {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

func TestParsePublicKeysRefuses(t *testing.T) {
	good := pemOf(t, publicOf["Ed25519"])
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(p256Key)
	if err != nil {
		t.Fatal(err)
	}
	short, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: newShortRSA(), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for name, text := range map[string]string{
		"nothing":                 " ",
		"no PEM":                  "ssh-ed25519 AAAA",
		"a secret":                secret,
		"a private key":           encode("PRIVATE KEY", pkcs8),
		"a private key beside":    good + encode("PRIVATE KEY", pkcs8),
		"a private key so called": encode("PUBLIC KEY", pkcs8),
		"a certificate":           encode("CERTIFICATE", []byte("not a certificate")),
		"rubbish":                 encode("PUBLIC KEY", []byte("rubbish")),
		"a key that is cut":       good[:len(good)-10],
		"a broken one first":      strings.Replace(good, "MCow", "MC!w", 1) + good,
		"RSA of 1024 bits":        encode("PUBLIC KEY", short),
		"P-224":                   pemOf(t, &newEC(elliptic.P224()).PublicKey),
		"X25519":                  pemOf(t, x25519.PublicKey()),
		"17 keys":                 strings.Repeat(good, 17),
	} {
		keys, err := ParsePublicKeys(text)
		if err == nil {
			t.Errorf("%s: %d keys", name, len(keys))
		} else if len(text) > 30 && strings.Contains(err.Error(), text[28:min(len(text), 48)]) {
			t.Errorf("%s: the error shows what was set: %v", name, err)
		}
	}
	if _, err := ParsePublicKeys(strings.Repeat(good, 16)); err != nil {
		t.Errorf("16 keys: %v", err)
	}
}

// newShortRSA returns a modulus of 1024 bits.
func newShortRSA() *big.Int {
	return new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, 128))
}
