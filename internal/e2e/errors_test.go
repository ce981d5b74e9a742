//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/openroutertest"
)

func TestMissingToken(t *testing.T) {
	w := useShared(t)
	for name, header := range map[string]http.Header{
		"no header":        {},
		"another scheme":   {"Authorization": {"Basic YTpi"}},
		"no token":         {"Authorization": {"Bearer"}},
		"an empty token":   {"Authorization": {"Bearer  "}},
		"token, no Bearer": {"Authorization": {"canary-token"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []struct{ method, path string }{{"GET", me}, {"POST", refresh}} {
				a := problem(t, w.ask(t, r.method, r.path, header), 401, "missing_token")
				if got := a.header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != "Bearer" {
					t.Errorf("WWW-Authenticate is %q", got)
				}
			}
		})
	}
}

func TestInvalidToken(t *testing.T) {
	w := useShared(t)
	valid := func(change func(jwt.MapClaims)) jwt.MapClaims {
		claims := newUser(t, w).claims()
		change(claims)
		return claims
	}
	signed := func(change func(jwt.MapClaims)) string {
		return sign(jwt.SigningMethodHS256, jwtSecret, valid(change))
	}
	unchanged := func(jwt.MapClaims) {}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, valid(unchanged)).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs256, err := jwt.NewWithClaims(jwt.SigningMethodRS256, valid(unchanged)).SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	whole := signed(unchanged)
	for name, token := range map[string]string{
		"malformed":               "canary-token",
		"three parts of nothing":  "..",
		"bad signature":           sign(jwt.SigningMethodHS256, strings.Repeat("another-fake-secret", 3), valid(unchanged)),
		"signature cut":           whole[:len(whole)-4],
		"no signature":            whole[:strings.LastIndex(whole, ".")+1],
		"alg none":                unsigned,
		"wrong alg RS256":         rs256,
		"not yet valid":           signed(func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(5 * time.Minute).Unix() }),
		"issued in the future":    signed(func(c jwt.MapClaims) { c["iat"] = time.Now().Add(5 * time.Minute).Unix() }),
		"no exp":                  signed(func(c jwt.MapClaims) { delete(c, "exp") }),
		"exp is text":             signed(func(c jwt.MapClaims) { c["exp"] = "tomorrow" }),
		"no user id":              signed(func(c jwt.MapClaims) { delete(c, "uid") }),
		"empty user id":           signed(func(c jwt.MapClaims) { c["uid"] = "" }),
		"user id is a number":     signed(func(c jwt.MapClaims) { c["uid"] = 42 }),
		"user id is .":            signed(func(c jwt.MapClaims) { c["uid"] = "." }),
		"user id is ..":           signed(func(c jwt.MapClaims) { c["uid"] = ".." }),
		"user id of 257 bytes":    signed(func(c jwt.MapClaims) { c["uid"] = strings.Repeat("x", 257) }),
		"user id of 86 × 3 bytes": signed(func(c jwt.MapClaims) { c["uid"] = strings.Repeat("語", 86) }),
		"expired, bad signature": sign(jwt.SigningMethodHS256, strings.Repeat("another-fake-secret", 3), valid(func(c jwt.MapClaims) {
			c["exp"] = time.Now().Add(-time.Hour).Unix()
		})),
	} {
		t.Run(name, func(t *testing.T) {
			a := problem(t, w.ask(t, "GET", me, bearer(token)), 401, "invalid_token")
			if got := a.header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != `Bearer error="invalid_token"` {
				t.Errorf("WWW-Authenticate is %q", got)
			}
		})
	}
}

func TestExpiredToken(t *testing.T) {
	w := useShared(t)
	claims := newUser(t, w).claims()
	claims["exp"] = time.Now().Add(-35 * time.Second).Unix()
	a := problem(t, w.ask(t, "GET", me, bearer(sign(jwt.SigningMethodHS256, jwtSecret, claims))), 401, "expired_token")
	got := a.header.Values("WWW-Authenticate")
	if len(got) != 1 || !strings.HasPrefix(got[0], `Bearer error="invalid_token", error_description="`) || !strings.Contains(got[0], "expired") {
		t.Errorf("WWW-Authenticate is %q", got)
	}
}

func TestUnknownPathIsNotFound(t *testing.T) {
	w := useShared(t)
	token := newUser(t, w).token()
	for _, path := range []string{"/page.js", me + "/", me + "/x", "/api/users", "/API/users/me", "/api/admin/users", "/healthz/", "/%00"} {
		for _, method := range []string{"GET", "POST"} {
			problem(t, w.ask(t, method, path, bearer(token)), 404, "not_found")
			problem(t, w.ask(t, method, path, nil), 404, "not_found")
		}
	}
}

func TestWrongMethodNamesTheRightOnes(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	for _, test := range []struct{ path, right, wrong string }{
		{me, "GET", "POST PUT PATCH DELETE"},
		{refresh, "POST", "GET PUT PATCH DELETE"},
		{"/healthz", "GET", "POST PUT DELETE"},
	} {
		for method := range strings.FieldsSeq(test.wrong) {
			a := problem(t, w.ask(t, method, test.path, bearer(u.token())), 405, "method_not_allowed")
			allowed := strings.Split(strings.ReplaceAll(a.header.Get("Allow"), " ", ""), ",")
			if !slices.Contains(allowed, test.right) || slices.Contains(allowed, method) {
				t.Errorf("%s %s: Allow is %q", method, test.path, a.header.Get("Allow"))
			}
		}
	}
	u.called("")
}

// unsized hides the length of a body, so that it is sent in chunks.
type unsized struct{ io.Reader }

// No request of a user has a use for a body, and none suffers from one.
func TestABodyThatNobodyWants(t *testing.T) {
	w := useShared(t)
	for name, test := range map[string]struct {
		method, path string
		body         io.Reader
	}{
		"GET":                      {"GET", me, strings.NewReader("{}")},
		"GET, chunked":             {"GET", me, unsized{strings.NewReader("{}")}},
		"GET, chunked, empty":      {"GET", me, unsized{strings.NewReader("")}},
		"POST, chunked, empty":     {"POST", refresh, unsized{strings.NewReader("")}},
		"POST, not UTF-8":          {"POST", refresh, strings.NewReader("\xff\xfe\x00\x00")},
		"POST, nothing but zeroes": {"POST", refresh, strings.NewReader(strings.Repeat("\x00", 1000))},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, w)
			a, err := w.send(t.Context(), test.method, test.path, bearer(u.token()), test.body)
			if err != nil {
				t.Fatal(err)
			}
			u.expect(a, "provisioned", 10, 1)
		})
	}
}

func TestTooLarge(t *testing.T) {
	w := useShared(t)
	const limit = 64 << 10
	for name, test := range map[string]struct {
		body   io.Reader
		status int
	}{
		"one byte over, with Content-Length": {strings.NewReader(strings.Repeat("x", limit+1)), 413},
		"one byte over, chunked":             {unsized{strings.NewReader(strings.Repeat("x", limit+1))}, 413},
		"a megabyte, with Content-Length":    {strings.NewReader(strings.Repeat("x", 1<<20)), 413},
		"a megabyte, chunked":                {unsized{strings.NewReader(strings.Repeat("x", 1<<20))}, 413},
		"at the limit, with Content-Length":  {strings.NewReader(strings.Repeat("x", limit)), 200},
		"at the limit, chunked":              {unsized{strings.NewReader(strings.Repeat("x", limit))}, 200},
		"a small one":                        {strings.NewReader("{}"), 200},
	} {
		t.Run("body: "+name, func(t *testing.T) {
			u := newUser(t, w)
			a, err := w.send(t.Context(), "POST", refresh, bearer(u.token()), test.body)
			switch {
			case err != nil:
				t.Fatal(err)
			case test.status == 413:
				problem(t, a, 413, "too_large")
				u.called("")
			default:
				u.expect(a, "provisioned", 10, 1)
			}
		})
	}
	for name, length := range map[string]int{"one byte over": 8<<10 + 1, "12 KiB": 12 << 10} {
		t.Run("token: "+name, func(t *testing.T) {
			problem(t, w.ask(t, "GET", me, bearer("canary-token."+strings.Repeat("x", length-13))), 413, "too_large")
		})
	}
	t.Run("token: as long as may be", func(t *testing.T) {
		u := newUser(t, w)
		u.name = strings.Repeat("😀", 1460)
		for len(u.token()) <= 8<<10-4 {
			u.name += "x"
		}
		u.expect(u.get(), "provisioned", 10, 1)
	})
}

func TestRefusedByOpenRouter(t *testing.T) {
	w := useShared(t)
	refusal := func(status int) openroutertest.Fault {
		return openroutertest.Fault{Kind: openroutertest.KindStatus, Status: status}
	}
	for _, status := range []int{400, 401, 403} {
		t.Run("new user, POST "+http.StatusText(status), func(t *testing.T) {
			u := newUser(t, w)
			w.openrouter.Fail(openroutertest.OpCreate, refusal(status), 1)
			problem(t, u.get(), 502, "upstream_refused")
			u.called("POST")
			u.settles(u.expect(u.get(), "provisioned", 10, 1))
		})
		t.Run("rotation, POST "+http.StatusText(status), func(t *testing.T) {
			u := newUser(t, w)
			u.spend(u.provisioned(), 0.6)
			w.openrouter.Fail(openroutertest.OpCreate, refusal(status), 1)
			problem(t, u.get(), 502, "upstream_refused")
			u.called("GET DELETE POST")
			u.settles(u.expect(u.get(), "rotated", 9.4, 1))
			u.called("POST")
		})
		t.Run("refresh, DELETE "+http.StatusText(status), func(t *testing.T) {
			u := newUser(t, w)
			u.spend(u.provisioned(), 0.6)
			w.openrouter.Fail(openroutertest.OpDelete, refusal(status), 1)
			problem(t, u.refresh(), 502, "upstream_refused")
			u.called("GET DELETE")
			u.settles(u.expect(u.get(), "rotated", 9.4, 1))
			u.called("DELETE POST")
		})
	}
}

// A DELETE that surely had no effect leaves the stored key in use, and the next
// reading tries again.
func TestDeleteWithoutEffectLeavesTheKeyInUse(t *testing.T) {
	w := useShared(t)
	for _, status := range []int{400, 401, 403, 429} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			u := newUser(t, w)
			old := u.provisioned()
			w.openrouter.Fail(openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: status}, 2)
			for _, step := range []struct{ spend, remaining, usage float64 }{{0.6, 9.4, 0.4}, {0.1, 9.3, 0.3}} {
				u.spend(old, step.spend)
				if v := u.expect(u.get(), "kept", step.remaining, step.usage); v.Key != old.Key {
					t.Error("the key is another one")
				}
				u.called("GET DELETE")
			}
			u.settles(u.expect(u.get(), "rotated", 9.3, 1))
			u.called("GET DELETE POST")
		})
	}
}

func TestUnavailableForANewUser(t *testing.T) {
	w := useShared(t)
	soon := time.Now().Add(20 * time.Minute).UTC().Format(http.TimeFormat)
	for name, test := range map[string]struct {
		fault       openroutertest.Fault
		least, most int // Retry-After
	}{
		"429":                           {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429}, 1, 60},
		"429 with Retry-After: seconds": {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "17"}, 17, 17},
		"429 with Retry-After: a date":  {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: soon}, 15 * 60, 20 * 60},
		"500":                           {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 500}, 1, 60},
		"503 with Retry-After: seconds": {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 503, RetryAfter: "170"}, 170, 170},
		"503 with Retry-After: a date":  {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 503, RetryAfter: soon}, 15 * 60, 20 * 60},
		"502, HTML":                     {openroutertest.Fault{Kind: openroutertest.KindHTML}, 1, 60},
		"never answering":               {openroutertest.Fault{Kind: openroutertest.KindHang}, 1, 60},
		"too slow":                      {openroutertest.Fault{Kind: openroutertest.KindSlow, Delay: 2 * upstreamTimeout}, 1, 60},
		"connection dropped":            {openroutertest.Fault{Kind: openroutertest.KindDrop}, 1, 60},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, w)
			w.openrouter.Fail(openroutertest.OpCreate, test.fault, 1)
			began := time.Now()
			a := problem(t, u.get(), 503, "upstream_unavailable")
			retryAfter(t, a, test.least, test.most)
			if took := time.Since(began); took > 2*upstreamTimeout-500*time.Millisecond {
				t.Errorf("answered after %v, with OPENROUTER_TIMEOUT %v", took, upstreamTimeout)
			}
			u.called("POST")
			u.settles(u.expect(u.get(), "provisioned", 10, 1))
		})
	}
}

func TestDisabledKeyIsNeitherReturnedNorReplaced(t *testing.T) {
	w := useShared(t)
	disabled := func(t *testing.T) (*user, view) {
		t.Helper()
		u := newUser(t, w)
		v := u.provisioned()
		disable(u, v, true)
		return u, v
	}
	t.Run("read, refreshed, read again", func(t *testing.T) {
		u, v := disabled(t)
		for range 2 {
			problem(t, u.get(), 403, "key_disabled")
			problem(t, u.refresh(), 403, "key_disabled")
		}
		u.called("GET GET GET GET")
		disable(u, v, false)
		if again := u.expect(u.get(), "kept", 10, 1); again.Key != v.Key {
			t.Error("once enabled, the key is another one")
		}
	})
	t.Run("rotation would be due", func(t *testing.T) {
		u := newUser(t, w)
		v := u.provisioned()
		u.spend(v, 0.7)
		disable(u, v, true)
		problem(t, u.get(), 403, "key_disabled")
		problem(t, u.refresh(), 403, "key_disabled")
		u.called("GET GET")
		disable(u, v, false)
		u.expect(u.get(), "rotated", 9.3, 1)
	})
	for name, ask := range map[string]func(*user) answer{"get": (*user).get, "refresh": (*user).refresh} {
		t.Run("the quota is then spent, "+name, func(t *testing.T) {
			u := newUser(t, w)
			v := u.provisioned()
			u.spend(v, 9.95)
			disable(u, v, true)
			problem(t, ask(u), 403, "key_disabled") // this reading finds the quota spent
			problem(t, ask(u), 403, "key_disabled")
			problem(t, ask(u), 403, "key_disabled")
			if strings.ContainsAny(u.methods(), "PD") {
				t.Fatalf("OpenRouter was called with %q", u.methods())
			}
			disable(u, v, false)
			u.settles(u.expect(ask(u), "renewed", 10, 1))
		})
	}
	t.Run("known to be disabled, and OpenRouter cannot be read", func(t *testing.T) {
		u, v := disabled(t)
		problem(t, u.get(), 403, "key_disabled")
		w.openrouter.Fail(openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 500}, 1)
		if a := u.get(); a.status == 200 {
			t.Errorf("the disabled key was returned: %v", a)
		}
		disable(u, v, false)
		u.expect(u.get(), "kept", 10, 1)
	})
}

// disable disables a key at OpenRouter, or enables it.
func disable(u *user, v view, disabled bool) {
	u.t.Helper()
	if err := u.w.openrouter.SetDisabled(v.Hash, disabled); err != nil {
		u.t.Fatal(err)
	}
}
