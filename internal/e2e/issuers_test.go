//go:build e2e

package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// issuerKey is a key that an issuer signs with.
type issuerKey struct {
	kid     string
	method  jwt.SigningMethod
	private crypto.Signer
}

func newIssuerKey(alg string) issuerKey {
	var private crypto.Signer
	var err error
	switch alg {
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		panic(err)
	}
	return issuerKey{"key-" + rand.Text(), jwt.GetSigningMethod(alg), private}
}

// jwk is the public half as a member of a key set, without alg and use.
func (k issuerKey) jwk() map[string]string {
	text := base64.RawURLEncoding.EncodeToString
	switch public := k.private.Public().(type) {
	case *rsa.PublicKey:
		return map[string]string{"kid": k.kid, "kty": "RSA", "n": text(public.N.Bytes()), "e": "AQAB"}
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			panic(err)
		}
		half := 1 + len(point)/2
		return map[string]string{"kid": k.kid, "kty": "EC", "crv": public.Params().Name, "x": text(point[1:half]), "y": text(point[half:])}
	case ed25519.PublicKey:
		return map[string]string{"kid": k.kid, "kty": "OKP", "crv": "Ed25519", "x": text(public)}
	}
	panic("another kind of key")
}

func (k issuerKey) pem() string {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// token signs a token of a user.
func (k issuerKey) token(claims jwt.MapClaims) string {
	unsigned := jwt.NewWithClaims(k.method, claims)
	if k.kid != "" {
		unsigned.Header["kid"] = k.kid
	}
	signed, err := unsigned.SignedString(k.private)
	if err != nil {
		panic(err)
	}
	return signed
}

// tokenIssuer serves a key set, and counts how often it is read.
type tokenIssuer struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
	reads  atomic.Int64
}

func newTokenIssuer(t *testing.T, keys ...issuerKey) *tokenIssuer {
	i := &tokenIssuer{}
	i.publishes(keys...)
	i.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		i.reads.Add(1)
		(*i.answer.Load())(rw, r)
	}))
	t.Cleanup(func() {
		i.CloseClientConnections()
		i.Close()
	})
	return i
}

func (i *tokenIssuer) answers(with http.HandlerFunc) { i.answer.Store(&with) }

func (i *tokenIssuer) publishes(keys ...issuerKey) {
	set := []map[string]string{{"kty": "oct", "kid": "symmetric", "k": base64.RawURLEncoding.EncodeToString([]byte(jwtSecret))}}
	for _, key := range keys {
		set = append(set, key.jwk())
	}
	i.answers(func(rw http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(rw).Encode(map[string]any{"keys": set}); err != nil {
			panic(http.ErrAbortHandler) // the client has gone
		}
	})
}

// startAt starts a Worker that knows no secret of tokens, but an issuer.
func startAt(t *testing.T, i *tokenIssuer, changes with) *worker {
	t.Helper()
	vars := map[string]string{"JWT_JWKS_URL": i.URL + "/keys"}
	maps.Copy(vars, changes.vars)
	changes.vars = vars
	if changes.secrets == nil {
		changes.secrets = map[string]string{"JWT_SECRET_CLOUD": ""}
	}
	return startQuiet(t, changes)
}

// isUser tells what is wrong with an answer that is to be a user's own.
func isUser(a answer, id string) error {
	var body struct {
		ID  string `json:"id"`
		Key string `json:"openrouter_api_key"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.status != 200 || body.ID != id || !wholeKey.MatchString(body.Key) {
		return fmt.Errorf("it is not an answer for %s: %v", id, a)
	}
	return nil
}

func claimsOf(id string) jwt.MapClaims {
	return jwt.MapClaims{"sub": id, "exp": time.Now().Add(time.Hour).Unix()}
}

func TestTokensOfAnIssuer(t *testing.T) {
	var keys []issuerKey
	for _, alg := range []string{"RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA"} {
		keys = append(keys, newIssuerKey(alg))
	}
	i := newTokenIssuer(t, keys...)
	w := startAt(t, i, with{})
	if a := w.ask(t, "GET", "/healthz", nil); a.status != 200 {
		t.Fatalf("without a secret: %v", a)
	}
	for _, key := range keys {
		id := "u_" + key.method.Alg()
		for range 2 {
			if err := isUser(w.ask(t, "GET", me, bearer(key.token(claimsOf(id)))), id); err != nil {
				t.Error(err)
			}
		}
	}
	rs, es := keys[0], keys[4]
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claimsOf("u_none")).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	mixed, noKid := es, rs
	mixed.kid, noKid.kid = rs.kid, ""
	expired := claimsOf("u_expired")
	expired["exp"] = time.Now().Add(-time.Minute).Unix()
	for name, c := range map[string]struct{ token, code string }{
		"a secret":                   {sign(jwt.SigningMethodHS256, jwtSecret, claimsOf("u_secret")), "invalid_token"},
		"the text of a public key":   {sign(jwt.SigningMethodHS256, rs.pem(), claimsOf("u_text")), "invalid_token"},
		"none":                       {unsigned, "invalid_token"},
		"the kid of another key":     {mixed.token(claimsOf("u_mixed")), "invalid_token"},
		"a key that nobody has":      {newIssuerKey("ES256").token(claimsOf("u_new")), "invalid_token"},
		"no kid, and several fit":    {noKid.token(claimsOf("u_several")), "invalid_token"},
		"expired":                    {es.token(expired), "expired_token"},
		"exp in milliseconds":        {es.token(jwt.MapClaims{"sub": "u_ms", "exp": time.Now().Add(time.Hour).UnixMilli()}), "invalid_token"},
		"exp that overflows":         {es.token(jwt.MapClaims{"sub": "u_exp", "exp": 1e308}), "invalid_token"},
		"nbf that overflows":         {es.token(jwt.MapClaims{"sub": "u_nbf", "exp": time.Now().Add(time.Hour).Unix(), "nbf": 1e308}), "invalid_token"},
		"nbf that overflows below 0": {es.token(jwt.MapClaims{"sub": "u_nbf", "exp": time.Now().Add(time.Hour).Unix(), "nbf": -1e308}), "invalid_token"},
	} {
		a := problem(t, w.ask(t, "GET", me, bearer(c.token)), 401, c.code)
		if strings.Contains(name, "milliseconds") && !strings.Contains(a.body, "milliseconds") {
			t.Errorf("%s: %v", name, a)
		}
	}
	// A flood of keys that nobody has: the issuer hears of it once a minute.
	forger := newIssuerKey("EdDSA")
	for n, err := range atOnce(20, func(int) error {
		for range 20 {
			forged := issuerKey{rand.Text(), forger.method, forger.private}.token(claimsOf("u_forged"))
			a, err := w.send(context.Background(), "GET", me, bearer(forged), nil)
			if err == nil {
				err = checkProblem(a, 401, "invalid_token")
			}
			if err != nil {
				return err
			}
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("forger %d: %v", n, err)
		}
	}
	if reads := i.reads.Load(); reads > 2 {
		t.Errorf("the key set was read %d times", reads)
	}
	if lines := w.log.lines("u_forged"); len(lines) > 0 {
		t.Errorf("an object was asked for a forged token: %v", lines)
	}
}

// The set is read once, whoever comes while it is being read, and for each of them
// in their own context.
func TestFirstRequestsOfManyUsersAtOnce(t *testing.T) {
	key := newIssuerKey("ES256")
	i := newTokenIssuer(t, key)
	published := *i.answer.Load()
	i.answers(func(rw http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second) // a slow issuer
		published(rw, r)
	})
	w := startAt(t, i, patient)

	// The one for whom it is read goes away meanwhile.
	ctx, leave := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer leave()
	if a, err := w.send(ctx, "GET", me, bearer(key.token(claimsOf("u_gone"))), nil); err == nil {
		t.Errorf("the issuer was not slow: %v", a)
	}
	for n, err := range atOnce(60, func(n int) error {
		id := fmt.Sprintf("u_%d", n)
		a, err := w.send(context.Background(), "GET", me, bearer(key.token(claimsOf(id))), nil)
		if err != nil {
			return err
		}
		return isUser(a, id)
	}) {
		if err != nil {
			t.Errorf("user %d: %v", n, err)
		}
	}
	if reads := i.reads.Load(); reads != 1 {
		t.Errorf("the key set was read %d times", reads)
	}
}

// While no key is known the issuer is unavailable, whatever is wrong with it. As
// soon as it is well again, its users are let in.
func TestIssuerIsUnavailable(t *testing.T) {
	key := newIssuerKey("RS256")
	i := newTokenIssuer(t, key)
	published := *i.answer.Load()
	w := startAt(t, i, with{})
	token := key.token(claimsOf("u_1"))
	var sent atomic.Int64
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"500", func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "down", 500) }},
		{"a redirect", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/elsewhere", http.StatusFound) }},
		{"no key", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, `{"keys":[]}`) }},
		{"a hanging one", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"a set without an end", func(rw http.ResponseWriter, _ *http.Request) {
			io.WriteString(rw, `{"keys":[`)
			for {
				n, err := io.WriteString(rw, strings.Repeat(`{"kty":"oct"},`, 1000))
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			reads := i.reads.Load()
			i.answers(c.answer)
			eventually(t, 20*time.Second, "another read", func() (string, bool) {
				began := time.Now()
				a := problem(t, w.ask(t, "GET", me, bearer(token)), 503, "issuer_unavailable")
				retryAfter(t, a, 1, 10)
				if took := time.Since(began); took > 8*time.Second {
					t.Fatalf("it took %v", took)
				}
				return a.String(), i.reads.Load() > reads
			})
			if more := i.reads.Load() - reads; more != 1 {
				t.Errorf("it was read %d times", more)
			}
		})
	}
	if sent.Load() > 16<<20 {
		t.Errorf("%d bytes of a set were taken", sent.Load())
	}
	i.answers(published)
	var a answer
	eventually(t, 15*time.Second, "an answer", func() (string, bool) {
		a = w.ask(t, "GET", me, bearer(token))
		return a.String(), a.status == 200
	})
	if err := isUser(a, "u_1"); err != nil {
		t.Error(err)
	}
	if !strings.Contains(w.log.String(), `"evt":"issuer"`) {
		t.Error("the log does not tell of the issuer")
	}
}

// An issuer changes its key: the new one is known within a minute, the old one no
// more. Then the issuer goes down, and nobody notices.
func TestIssuerChangesItsKey(t *testing.T) {
	first, second := newIssuerKey("EdDSA"), newIssuerKey("PS256")
	i := newTokenIssuer(t, first)
	w := startAt(t, i, with{})
	old := first.token(claimsOf("u_1"))
	if err := isUser(w.ask(t, "GET", me, bearer(old)), "u_1"); err != nil {
		t.Fatal(err)
	}
	i.publishes(second)
	var a answer
	eventually(t, 65*time.Second, "the new key to be known", func() (string, bool) {
		if a = w.ask(t, "GET", me, bearer(second.token(claimsOf("u_1")))); a.status != 200 {
			problem(t, a, 401, "invalid_token")
		}
		return a.String(), a.status == 200
	})
	if err := isUser(a, "u_1"); err != nil {
		t.Error(err)
	}
	problem(t, w.ask(t, "GET", me, bearer(old)), 401, "invalid_token")
	if reads := i.reads.Load(); reads != 2 {
		t.Errorf("the key set was read %d times", reads)
	}
	i.answers(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "down", 500) })
	for range 3 {
		if err := isUser(w.ask(t, "GET", me, bearer(second.token(claimsOf("u_1")))), "u_1"); err != nil {
			t.Error(err)
		}
	}
}

// Secrets, public keys and a key set at once, and whom their tokens speak for.
func TestEveryKindOfKeyAtOnce(t *testing.T) {
	const iss, other = "https://issuer.example.org/", "https://other.example.org"
	set, ec, rs := newIssuerKey("EdDSA"), newIssuerKey("ES256"), newIssuerKey("RS256")
	i := newTokenIssuer(t, set)
	w := startAt(t, i, with{
		vars: map[string]string{
			"JWT_PUBLIC_KEY": strings.ReplaceAll(ec.pem()+rs.pem(), "\n", `\n`),
			"JWT_ISSUER":     iss + ", " + other, "JWT_AUDIENCE": "keys,more", "JWT_AUTHORIZED_PARTIES": "app",
			"JWT_USER_ID_CLAIM": "https://example.org/id", "JWT_USER_ID_PREFIXED": "true", "JWT_MAX_LIFETIME": "2h",
		},
		secrets: map[string]string{"JWT_SECRET_CLOUD": jwtSecret},
	})
	claims := func(changes jwt.MapClaims) jwt.MapClaims {
		all := jwt.MapClaims{"iss": iss, "aud": []string{"x", "more"}, "azp": "app", "sub": "s", "https://example.org/id": "u|1", "exp": time.Now().Add(time.Hour).Unix()}
		maps.Copy(all, changes)
		return all
	}
	for name, token := range map[string]string{
		"HS256": sign(jwt.SigningMethodHS256, jwtSecret, claims(nil)), "EdDSA": set.token(claims(nil)), "ES256": ec.token(claims(nil)), "RS256": rs.token(claims(nil)),
	} {
		if err := isUser(w.ask(t, "GET", me, bearer(token)), iss+"|u|1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := isUser(w.ask(t, "GET", me, bearer(rs.token(claims(jwt.MapClaims{"iss": other})))), other+"|u|1"); err != nil {
		t.Errorf("the same id at another issuer: %v", err)
	}
	for name, changes := range map[string]jwt.MapClaims{
		"another issuer": {"iss": "https://issuer.example.org"}, "another audience": {"aud": "x"}, "another party": {"azp": "x"},
		"too long": {"exp": time.Now().Add(3 * time.Hour).Unix()}, "no such claim": {"https://example.org/id": nil},
	} {
		for _, token := range []string{sign(jwt.SigningMethodHS256, jwtSecret, claims(changes)), set.token(claims(changes)), ec.token(claims(changes))} {
			if err := checkProblem(w.ask(t, "GET", me, bearer(token)), 401, "invalid_token"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, secret := range []string{ec.pem(), rs.pem()} {
		problem(t, w.ask(t, "GET", me, bearer(sign(jwt.SigningMethodHS256, secret, claims(nil)))), 401, "invalid_token")
	}
}

func TestWithoutAnyKeyOfTokensItIsMisconfigured(t *testing.T) {
	w := start(t, with{secrets: map[string]string{"JWT_SECRET_CLOUD": ""}})
	if a := w.ask(t, "GET", "/healthz", nil); a.status != 503 || a.body != `{"status":"misconfigured"}` {
		t.Errorf("got %v", a)
	}
	if log := w.log.String(); !strings.Contains(log, "JWT_SECRET_CLOUD, JWT_PUBLIC_KEY or JWT_JWKS_URL is missing") {
		t.Errorf("the log does not say so: %s", w.log.tail())
	}
}

// An object verifies for itself: where it runs apart from the Worker, it reads the
// set too. And every answer over https has its headers.
func TestAnObjectReadsTheSetItself(t *testing.T) {
	key := newIssuerKey("ES384")
	i := newTokenIssuer(t, key)
	w := startAt(t, i, with{script: "internal/e2e/testdata/straight.mjs"})
	header := bearer(key.token(claimsOf("u_1")))
	for n, err := range atOnce(10, func(int) error {
		a, err := w.send(context.Background(), "GET", "/straight/u_1"+me, header, nil)
		if err != nil {
			return err
		}
		return isUser(a, "u_1")
	}) {
		if err != nil {
			t.Errorf("request %d: %v", n, err)
		}
	}
	if a := w.ask(t, "GET", "/straight/u_2"+me, header); a.status == 200 {
		t.Errorf("the object of another user answers: %v", a)
	}
	if reads := i.reads.Load(); reads != 1 {
		t.Errorf("the key set was read %d times", reads)
	}
	for name, a := range map[string]answer{
		"of the object": w.ask(t, "GET", me, header), "a problem": w.ask(t, "GET", me, nil), "not found": w.ask(t, "GET", "/x", nil),
		"health": w.ask(t, "GET", "/healthz", nil), "preflight": w.ask(t, "OPTIONS", me, nil), "a problem of the object": w.ask(t, "GET", "/straight/u_1"+me, bearer("canary-token")),
	} {
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Strict-Transport-Security") != "max-age=31536000" {
			t.Errorf("%s: %v", name, a)
		}
	}
}

func TestHeadersOverHTTP(t *testing.T) {
	w := useShared(t)
	for name, a := range map[string]answer{
		"of the object": newUser(t, w).get(), "a problem": w.ask(t, "GET", me, nil), "not found": w.ask(t, "GET", "/x", nil),
		"health": w.ask(t, "HEAD", "/healthz", nil), "preflight": w.ask(t, "OPTIONS", me, nil),
	} {
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: %v", name, a)
		}
	}
}
