package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
	"latchkey/internal/settings"
)

const (
	secret  = "not-a-real-secret-not-a-real-secret"
	me      = "/api/users/me"
	refresh = "/api/users/me/openrouter-api-key/refresh"
	app     = "https://app.example.org"
	local   = "http://localhost:3000"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// logged is what a front has logged.
type logged struct{ lines []oplog.Line }

func newFront(origins ...string) (*front, *logged) {
	l := &logged{}
	return &front{
		settings: settings.Settings{AllowedOrigins: origins},
		verifier: auth.New([]seal.Secret{seal.NewSecret(secret)}, "", "", func() time.Time { return now }),
		log:      func(line oplog.Line) { l.lines = append(l.lines, line) },
	}, l
}

// misconfigured is a front as it is where a setting is bad: without a verifier.
func misconfigured(origins ...string) (*front, *logged) {
	f, l := newFront(origins...)
	f.bad, f.verifier = errors.New("KEY_ENCRYPTION_KEY is missing"), nil
	return f, l
}

// one demands a single line of one request, and returns it.
func (l *logged) one(t *testing.T) oplog.Line {
	t.Helper()
	if len(l.lines) != 1 {
		t.Fatalf("%d log lines, want 1: %v", len(l.lines), l.lines)
	}
	line := l.lines[0]
	l.lines = nil
	return line
}

func bearer(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + token
}

func ada(t *testing.T) string {
	t.Helper()
	return bearer(t, jwt.MapClaims{"uid": "u_42", "username": "Ada", "email": "ada@example.org", "exp": now.Add(time.Hour).Unix()})
}

// values returns the values of a header; names are compared as HTTP does.
func values(a answer.Answer, name string) []string {
	var all []string
	for _, h := range a.Header {
		if strings.EqualFold(h[0], name) {
			all = append(all, h[1])
		}
	}
	return all
}

// carries demands a header once, with that value; the empty value is none.
func carries(t *testing.T, a answer.Answer, name, value string) {
	t.Helper()
	var want []string
	if value != "" {
		want = []string{value}
	}
	if got := values(a, name); !slices.Equal(got, want) {
		t.Errorf("%s is %q, want %q", name, got, want)
	}
}

// isProblem demands a problem document that no cache keeps.
func isProblem(t *testing.T, a answer.Answer, status int, code string) {
	t.Helper()
	var doc struct {
		Status            int
		Code, Type, Title string
	}
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil {
		t.Fatalf("%q: %v", a.Body, err)
	}
	if a.Status != status || doc.Status != status || doc.Code != code || doc.Type == "" || doc.Title == "" {
		t.Errorf("%d %s, want %d %s", a.Status, a.Body, status, code)
	}
	carries(t, a, "Content-Type", "application/problem+json")
	carries(t, a, "Cache-Control", "no-store")
}

func TestWhatTheFrontAnswersItself(t *testing.T) {
	expired := bearer(t, jwt.MapClaims{"uid": "u", "exp": now.Add(-time.Hour).Unix()})
	for _, c := range []struct {
		name      string
		request   request
		status    int
		code      string
		allow     string
		challenge string
	}{
		{"a file of the page", request{method: "GET", path: "/page.js"}, 404, problem.NotFound, "", ""},
		{"no path", request{method: "GET"}, 404, problem.NotFound, "", ""},
		{"a slash at the end", request{method: "GET", path: me + "/", authorization: ada(t)}, 404, problem.NotFound, "", ""},
		{"two slashes", request{method: "GET", path: "//healthz"}, 404, problem.NotFound, "", ""},
		{"another case", request{method: "GET", path: "/API/users/me", authorization: ada(t)}, 404, problem.NotFound, "", ""},
		{"a part of a path", request{method: "GET", path: "/api/users", authorization: ada(t)}, 404, problem.NotFound, "", ""},
		{"another user", request{method: "GET", path: "/api/users/u_43", authorization: ada(t)}, 404, problem.NotFound, "", ""},
		{"OPTIONS of an unknown path", request{method: "OPTIONS", path: "/x"}, 404, problem.NotFound, "", ""},
		{"a large body at an unknown path", request{method: "POST", path: "/x", tooLarge: true}, 404, problem.NotFound, "", ""},

		{"POST page", request{method: "POST", path: "/"}, 405, problem.MethodNotAllowed, "GET, HEAD, OPTIONS", ""},
		{"POST me", request{method: "POST", path: me, authorization: ada(t)}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"HEAD me", request{method: "HEAD", path: me, authorization: ada(t)}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"DELETE me", request{method: "DELETE", path: me}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"GET refresh", request{method: "GET", path: refresh, authorization: ada(t)}, 405, problem.MethodNotAllowed, "POST, OPTIONS", ""},
		{"PUT refresh", request{method: "PUT", path: refresh, authorization: ada(t)}, 405, problem.MethodNotAllowed, "POST, OPTIONS", ""},
		{"POST healthz", request{method: "POST", path: "/healthz"}, 405, problem.MethodNotAllowed, "GET, HEAD, OPTIONS", ""},
		{"a method in lower case", request{method: "get", path: me, authorization: ada(t)}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"no method", request{path: me, authorization: ada(t)}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"a large body and a wrong method", request{method: "POST", path: me, tooLarge: true}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},

		{"a large body", request{method: "POST", path: refresh, authorization: ada(t), tooLarge: true}, 413, problem.TooLarge, "", ""},
		{"a large body without a token", request{method: "GET", path: me, tooLarge: true}, 413, problem.TooLarge, "", ""},
		{"a large token", request{method: "GET", path: me, authorization: "Bearer " + strings.Repeat("x", auth.MaxTokenBytes+1)}, 413, problem.TooLarge, "", ""},

		{"no token", request{method: "GET", path: me}, 401, problem.MissingToken, "", "Bearer"},
		{"no token to refresh", request{method: "POST", path: refresh}, 401, problem.MissingToken, "", "Bearer"},
		{"another scheme", request{method: "GET", path: me, authorization: "Basic dTpw"}, 401, problem.MissingToken, "", "Bearer"},
		{"no JWT", request{method: "GET", path: me, authorization: "Bearer abc"}, 401, problem.InvalidToken, "", `Bearer error="invalid_token"`},
		{"a changed token", request{method: "GET", path: me, authorization: ada(t) + "x"}, 401, problem.InvalidToken, "", `Bearer error="invalid_token"`},
		{"an expired token", request{method: "POST", path: refresh, authorization: expired}, 401, problem.ExpiredToken, "",
			`Bearer error="invalid_token", error_description="The token has expired"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFront()
			a, onward := f.serve(c.request)
			if onward != nil {
				t.Fatalf("it is forwarded: %+v", onward)
			}
			isProblem(t, a, c.status, c.code)
			carries(t, a, "Allow", c.allow)
			carries(t, a, "WWW-Authenticate", c.challenge)
			if line := l.one(t); line.Evt != oplog.Request || line.Status != c.status || line.Outcome != c.code || line.Method != c.request.method || line.User != "" {
				t.Errorf("logged %s", line)
			}
		})
	}
}

func TestTheAccountPage(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		f, _ := newFront()
		a, onward := f.serve(request{method: method, path: "/", https: true})
		if onward != nil || a.Status != 200 || !strings.HasPrefix(a.Body, "<!doctype html>") {
			t.Errorf("%s: %d %.80q, %+v", method, a.Status, a.Body, onward)
		}
		carries(t, a, "Content-Type", "text/html; charset=utf-8")
		carries(t, a, "X-Content-Type-Options", "nosniff")
		carries(t, a, "Strict-Transport-Security", "max-age=31536000")
	}
}

func onwardOf(want durable.Action, who auth.Identity) forward {
	return forward{object: who.ID, op: string(want), request: durable.Request{Action: want, Who: who}}
}

func TestARequestIsForwardedWithItsIdentity(t *testing.T) {
	for _, c := range []struct {
		method, path string
		claims       jwt.MapClaims
		want         forward
	}{
		{"GET", me, jwt.MapClaims{"uid": "u_42", "username": "Ada", "email": "ada@example.org"}, onwardOf(durable.Me, auth.Identity{ID: "u_42", Name: "Ada", Email: "ada@example.org"})},
		{"POST", refresh, jwt.MapClaims{"uid": "u_42"}, onwardOf(durable.Refresh, auth.Identity{ID: "u_42"})},
		{"GET", me, jwt.MapClaims{"sub": "пользователь-用户-🔑", "username": "Ἀδα\u0301"}, onwardOf(durable.Me, auth.Identity{ID: "пользователь-用户-🔑", Name: "Ἀδα\u0301"})},
		{"POST", refresh, jwt.MapClaims{"uid": "../u?x=1#y\n", "email": "a\"b"}, onwardOf(durable.Refresh, auth.Identity{ID: "../u?x=1#y\n", Email: "a\"b"})},
	} {
		f, l := newFront(app)
		c.claims["exp"] = now.Add(time.Hour).Unix()
		a, onward := f.serve(request{method: c.method, path: c.path, authorization: bearer(t, c.claims), origin: app})
		if onward == nil {
			t.Fatalf("%+v: not forwarded, but answered %+v", c.want, a)
		}
		if *onward != c.want {
			t.Errorf("%+v, want %+v", *onward, c.want)
		}
		if a.Status != 0 || a.Body != "" || len(a.Header) > 0 {
			t.Errorf("%+v: there is an answer too: %+v", c.want, a)
		}
		want := oplog.Line{Evt: oplog.Request, User: c.want.object, Op: c.want.op, Outcome: "forwarded", Method: c.method, Path: c.path}
		if line := l.one(t); line.String() != want.String() {
			t.Errorf("logged %s, want %s", line, want)
		}
	}
}

func TestHealth(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		for _, authorization := range []string{"", "Bearer abc", ada(t)} {
			for name, c := range map[string]struct {
				make   func(...string) (*front, *logged)
				status int
				body   string
			}{
				"ok":            {newFront, 200, `{"status":"ok"}`},
				"misconfigured": {misconfigured, 503, `{"status":"misconfigured"}`},
			} {
				f, l := c.make()
				a, onward := f.serve(request{method: method, path: "/healthz", authorization: authorization})
				if a.Status != c.status || a.Body != c.body || onward != nil {
					t.Errorf("%s %s: %+v, %v", method, name, a, onward)
				}
				carries(t, a, "Content-Type", "application/json")
				carries(t, a, "Cache-Control", "no-store")
				if line := l.one(t); line.Status != c.status || line.Path != "/healthz" || line.User != "" {
					t.Errorf("%s %s: logged %s", method, name, line)
				}
			}
		}
	}
}

func TestNothingRunsOnBadSettings(t *testing.T) {
	for path, method := range map[string]string{me: "GET", refresh: "POST"} {
		for _, authorization := range []string{"", ada(t)} {
			f, l := misconfigured()
			a, onward := f.serve(request{method: method, path: path, authorization: authorization})
			if onward != nil {
				t.Fatalf("%s: it is forwarded", path)
			}
			isProblem(t, a, 500, problem.Internal)
			if strings.Contains(a.Body, "KEY_ENCRYPTION_KEY") {
				t.Errorf("the client is told: %s", a.Body)
			}
			if line := l.one(t); !strings.Contains(line.Err, "KEY_ENCRYPTION_KEY is missing") {
				t.Errorf("the log does not name the setting: %s", line)
			}
		}
	}
}

func TestPreflight(t *testing.T) {
	for _, origin := range []string{app, local} {
		for path, methods := range map[string]string{"/healthz": "GET, HEAD", me: "GET", refresh: "POST"} {
			f, l := newFront(app, local)
			// A browser sends no token with a preflight.
			a, onward := f.serve(request{method: "OPTIONS", path: path, origin: origin})
			if a.Status != 204 || a.Body != "" || onward != nil {
				t.Errorf("%s: %+v", path, a)
			}
			carries(t, a, "Access-Control-Allow-Origin", origin)
			carries(t, a, "Access-Control-Allow-Methods", methods)
			carries(t, a, "Access-Control-Allow-Headers", "Authorization, Content-Type")
			carries(t, a, "Access-Control-Max-Age", "7200")
			carries(t, a, "Access-Control-Allow-Credentials", "")
			carries(t, a, "Vary", "Origin")
			carries(t, a, "Allow", methods+", OPTIONS")
			if line := l.one(t); line.Status != 204 || line.Method != "OPTIONS" || line.Path != path {
				t.Errorf("%s: logged %s", path, line)
			}
		}
	}
}

// answers are all kinds of answers that a page may get.
func answers(t *testing.T, origin string, allowed ...string) map[string]answer.Answer {
	t.Helper()
	return answersOver(t, false, origin, allowed...)
}

func answersOver(t *testing.T, https bool, origin string, allowed ...string) map[string]answer.Answer {
	t.Helper()
	all := map[string]answer.Answer{}
	for name, r := range map[string]request{
		"health":             {method: "GET", path: "/healthz"},
		"preflight":          {method: "OPTIONS", path: me},
		"not found":          {method: "GET", path: "/x"},
		"OPTIONS, not found": {method: "OPTIONS", path: "/x"},
		"method not allowed": {method: "PUT", path: me},
		"too large":          {method: "POST", path: refresh, tooLarge: true},
		"missing token":      {method: "GET", path: me},
		"invalid token":      {method: "GET", path: me, authorization: "Bearer abc"},
	} {
		r.origin, r.https = origin, https
		f, _ := newFront(allowed...)
		all[name], _ = f.serve(r)
		all["failed: "+name] = f.failed(r, problem.Overloaded, "overloaded")
		f, _ = misconfigured(allowed...)
		all["misconfigured: "+name], _ = f.serve(r)
	}
	f, _ := newFront(allowed...)
	all["of the object"] = f.finish(answer.JSON(200, "application/json", "body"), request{origin: origin, https: https})
	return all
}

func TestEveryAnswerHasItsHeaders(t *testing.T) {
	for _, allowed := range [][]string{nil, {app}} {
		for _, https := range []bool{false, true} {
			want := ""
			if https {
				want = "max-age=31536000"
			}
			for name, a := range answersOver(t, https, app, allowed...) {
				t.Run(name, func(t *testing.T) {
					carries(t, a, "X-Content-Type-Options", "nosniff")
					carries(t, a, "Strict-Transport-Security", want)
				})
			}
		}
	}
}

func TestPagesOfAListedOriginMayReadEveryAnswer(t *testing.T) {
	for _, origin := range []string{app, local} {
		for name, a := range answers(t, origin, app, local) {
			t.Run(name, func(t *testing.T) {
				carries(t, a, "Access-Control-Allow-Origin", origin)
				carries(t, a, "Vary", "Origin")
				if exposed := strings.Join(values(a, "Access-Control-Expose-Headers"), ", "); !strings.Contains(exposed, "Retry-After") {
					t.Errorf("exposed are %q", exposed)
				}
			})
		}
	}
}

// closed demands that no page may read an answer.
func closed(t *testing.T, a answer.Answer) {
	t.Helper()
	for _, h := range a.Header {
		if strings.HasPrefix(strings.ToLower(h[0]), "access-control-") {
			t.Errorf("%s: %s", h[0], h[1])
		}
	}
}

func TestPagesOfOtherOriginsMayReadNothing(t *testing.T) {
	for _, origin := range []string{
		"", "*", "null", "https://evil.test", app + ".evil.test", "https://evil.test/?" + app, app + "/", app + ":443", app + ":8443", "http://app.example.org",
		"HTTPS://APP.EXAMPLE.ORG", " " + app, app + "," + local, "https://example.org", "https://a.app.example.org",
	} {
		for name, a := range answers(t, origin, app, local) {
			t.Run(origin+"/"+name, func(t *testing.T) {
				closed(t, a)
				carries(t, a, "Vary", "Origin") // a cache must not give this answer to a listed one
			})
		}
	}
}

func TestWithoutAListNoPageMayReadAnything(t *testing.T) {
	for _, origin := range []string{"", "*", "null", app} {
		for name, a := range answers(t, origin) {
			t.Run(origin+"/"+name, func(t *testing.T) {
				closed(t, a)
				carries(t, a, "Vary", "")
			})
		}
	}
}

func TestTheLogTellsNoUnknownPath(t *testing.T) {
	token := strings.TrimPrefix(ada(t), "Bearer ")
	for _, path := range []string{"/" + token, me + "/" + token, "/healthz/" + token, "/api/users/me;" + token} {
		for _, method := range []string{"GET", "OPTIONS", "PURGE"} {
			f, l := newFront(app)
			r := request{method: method, path: path, authorization: "Bearer " + token, origin: app}
			a, _ := f.serve(r)
			if line := l.one(t); line.Path != "" || strings.Contains(line.String(), token) {
				t.Errorf("serve logged %s", line)
			}
			if strings.Contains(a.Body, token) {
				t.Errorf("the client is told %s", a.Body)
			}
			f.failed(r, problem.UpstreamUnavailable, "the program ended")
			if line := l.one(t); line.Path != "" || strings.Contains(line.String(), token) {
				t.Errorf("failed logged %s", line)
			}
		}
	}
}

func TestTheLogNeverHoldsAToken(t *testing.T) {
	sign := func(claims jwt.MapClaims) string { return strings.TrimPrefix(bearer(t, claims), "Bearer ") }
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	good := sign(jwt.MapClaims{"uid": "u_42", "username": "Ada", "exp": in(time.Hour)})
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"good":                     good,
		"expired":                  sign(jwt.MapClaims{"uid": "u", "exp": in(-time.Hour)}),
		"not yet valid":            sign(jwt.MapClaims{"uid": "u", "exp": in(time.Hour), "nbf": in(time.Minute)}),
		"no exp":                   sign(jwt.MapClaims{"uid": "u"}),
		"exp is no number":         sign(jwt.MapClaims{"uid": "u", "exp": "canary-canary"}),
		"no user id":               sign(jwt.MapClaims{"exp": in(time.Hour)}),
		"the name is no string":    sign(jwt.MapClaims{"uid": "u", "username": []string{"canary-canary"}, "exp": in(time.Hour)}),
		"two parts":                parts[0] + "." + parts[1],
		"four parts":               good + "." + parts[2],
		"a changed signature":      good[:len(good)-4] + "AAAA",
		"a header that is no JSON": "Y2FuYXJ5LWNhbmFyeQ." + parts[1] + "." + parts[2],
		"a payload of no base64":   parts[0] + ".canary-canary!." + parts[2],
		"an OpenRouter key":        "sk-or-v1-canary-canary",
		"over 8 KiB":               strings.Repeat(good, 50),
		"two tokens":               good + ", " + good,
	} {
		t.Run(name, func(t *testing.T) {
			for path, method := range map[string]string{me: "GET", refresh: "POST", "/healthz": "GET", "/x": "GET"} {
				for _, scheme := range []string{"Bearer ", "bearer  ", "Basic ", ""} {
					f, l := newFront()
					a, _ := f.serve(request{method: method, path: path, authorization: scheme + token})
					for _, text := range []string{l.one(t).String(), a.Body} {
						for _, part := range append(strings.Split(token, "."), "canary", parts[1], parts[2]) {
							if len(part) > 5 && strings.Contains(text, part) {
								t.Errorf("%s %s: %q is in %s", method, path, part, text)
							}
						}
					}
				}
			}
		})
	}
}

func TestFailed(t *testing.T) {
	for _, c := range []struct {
		code   string
		status int
	}{{problem.UpstreamUnavailable, 503}, {problem.Overloaded, 503}, {problem.Internal, 500}} {
		t.Run(c.code, func(t *testing.T) {
			f, l := newFront(app)
			const cause = "Durable Object reset because its code was updated."
			a := f.failed(request{method: "GET", path: me, authorization: ada(t), origin: app}, c.code, cause)
			isProblem(t, a, c.status, c.code)
			if strings.Contains(a.Body, "reset") || strings.Contains(a.Body, `"detail":""`) {
				t.Errorf("the client is told %s", a.Body)
			}
			if c.status == 503 {
				carries(t, a, "Retry-After", "1")
			}
			carries(t, a, "Access-Control-Allow-Origin", app)
			want := oplog.Line{Evt: oplog.Request, Outcome: c.code, Status: c.status, Method: "GET", Path: me, Err: cause}
			if line := l.one(t); line.String() != want.String() {
				t.Errorf("logged %s, want %s", line, want)
			}
		})
	}
}

// A request that wants the issuer's keys comes again once they were read, or could
// not be. It is logged once.
func TestARequestComesAgainForTheKeysOfItsIssuer(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": "u_42", "exp": now.Add(time.Hour).Unix()}).SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	r := request{method: "GET", path: me, authorization: "Bearer " + token, origin: app}
	set := `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + base64.RawURLEncoding.EncodeToString(public) + `"}]}`
	for name, c := range map[string]struct {
		failure       error
		code, outcome string
	}{
		"read":     {nil, "", "done"},
		"not read": {errors.New("the issuer answered 500"), problem.IssuerUnavailable, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			f, l := newFront(app)
			f.verifier = auth.NewVerifier(auth.Rules{KeySetURL: "https://issuer.example/keys", MaxLifetime: auth.MaxLifetime}, func() time.Time { return now })
			for _, url := range []string{"https://issuer.example/keys", ""} { // the next one waits
				if _, onward := f.serve(r); onward == nil || onward.keys == nil || onward.keys.URL != url || onward.object != "" {
					t.Fatalf("it goes to %+v", onward)
				}
			}
			if len(l.lines) != 0 {
				t.Fatalf("logged %v", l.lines)
			}
			f.keysRead(set, "", c.failure)
			if line := l.one(t); line.Evt != oplog.Issuer || line.Op != "keys" || line.Outcome != c.outcome || (line.Err != "") != (c.failure != nil) {
				t.Errorf("logged %s", line)
			}
			a, onward := f.serve(r)
			if c.code != "" {
				isProblem(t, a, 503, c.code)
				carries(t, a, "Retry-After", "10")
				carries(t, a, "WWW-Authenticate", "")
				carries(t, a, "Access-Control-Allow-Origin", app)
			} else if onward == nil || onward.object != "u_42" {
				t.Errorf("it goes to %+v", onward)
			}
			l.one(t)
		})
	}
}

// Requests of an isolate are served by one front, one after the other.
func TestARequestLeavesNothingBehind(t *testing.T) {
	f, _ := newFront(app)
	plain := request{method: "GET", path: "/healthz"}
	before, _ := f.serve(plain)
	for _, r := range []request{
		{method: "OPTIONS", path: me, origin: app}, {method: "PUT", path: me, origin: app}, {method: "GET", path: me, authorization: ada(t), origin: app},
		{method: "GET", path: "/x", origin: app}, {method: "OPTIONS", path: "/healthz", origin: app},
	} {
		f.serve(r)
		after, onward := f.serve(plain)
		if onward != nil || after.Status != before.Status || after.Body != before.Body || !slices.Equal(after.Header, before.Header) {
			t.Errorf("after %+v: %+v, before %+v", r, after, before)
		}
	}
}
