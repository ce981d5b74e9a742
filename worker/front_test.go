package worker

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/durable"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
)

func TestWhatTheFrontAnswersItself(t *testing.T) {
	expired := bearer(t, jwt.MapClaims{"uid": "u", "exp": now.Add(-time.Hour).Unix()})
	for _, c := range []struct {
		name      string
		request   edge.Request
		status    int
		code      string
		allow     string
		challenge string
	}{
		{"a file of the page", edge.Request{Method: "GET", Path: "/page.js"}, 404, problem.NotFound, "", ""},
		{"no path", edge.Request{Method: "GET"}, 404, problem.NotFound, "", ""},
		{"a slash at the end", edge.Request{Method: "GET", Path: mePath + "/", Authorization: ada(t)}, 404, problem.NotFound, "", ""},
		{"two slashes", edge.Request{Method: "GET", Path: "//healthz"}, 404, problem.NotFound, "", ""},
		{"another case", edge.Request{Method: "GET", Path: "/API/users/me", Authorization: ada(t)}, 404, problem.NotFound, "", ""},
		{"a part of a path", edge.Request{Method: "GET", Path: "/api/users", Authorization: ada(t)}, 404, problem.NotFound, "", ""},
		{"another user", edge.Request{Method: "GET", Path: "/api/users/u_43", Authorization: ada(t)}, 404, problem.NotFound, "", ""},
		{"OPTIONS of an unknown path", edge.Request{Method: "OPTIONS", Path: "/x"}, 404, problem.NotFound, "", ""},
		{"a large body at an unknown path", edge.Request{Method: "POST", Path: "/x", TooLarge: true}, 404, problem.NotFound, "", ""},

		{"POST page", edge.Request{Method: "POST", Path: "/"}, 405, problem.MethodNotAllowed, "GET, HEAD, OPTIONS", ""},
		{"POST me", edge.Request{Method: "POST", Path: mePath, Authorization: ada(t)}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"HEAD me", edge.Request{Method: "HEAD", Path: mePath, Authorization: ada(t)}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"DELETE me", edge.Request{Method: "DELETE", Path: mePath}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"GET refresh", edge.Request{Method: "GET", Path: refreshPath, Authorization: ada(t)}, 405, problem.MethodNotAllowed, "POST, OPTIONS", ""},
		{"PUT refresh", edge.Request{Method: "PUT", Path: refreshPath, Authorization: ada(t)}, 405, problem.MethodNotAllowed, "POST, OPTIONS", ""},
		{"POST healthz", edge.Request{Method: "POST", Path: "/healthz"}, 405, problem.MethodNotAllowed, "GET, HEAD, OPTIONS", ""},
		{"a method in lower case", edge.Request{Method: "get", Path: mePath, Authorization: ada(t)}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"no method", edge.Request{Path: mePath, Authorization: ada(t)}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},
		{"a large body and a wrong method", edge.Request{Method: "POST", Path: mePath, TooLarge: true}, 405, problem.MethodNotAllowed, "GET, OPTIONS", ""},

		{"a large body", edge.Request{Method: "POST", Path: refreshPath, Authorization: ada(t), TooLarge: true}, 413, problem.TooLarge, "", ""},
		{"a large body without a token", edge.Request{Method: "GET", Path: mePath, TooLarge: true}, 413, problem.TooLarge, "", ""},
		{"a large token", edge.Request{Method: "GET", Path: mePath, Authorization: "Bearer " + strings.Repeat("x", auth.MaxTokenBytes+1)}, 413, problem.TooLarge, "", ""},

		{"no token", edge.Request{Method: "GET", Path: mePath}, 401, problem.MissingToken, "", "Bearer"},
		{"no token to refresh", edge.Request{Method: "POST", Path: refreshPath}, 401, problem.MissingToken, "", "Bearer"},
		{"another scheme", edge.Request{Method: "GET", Path: mePath, Authorization: "Basic dTpw"}, 401, problem.MissingToken, "", "Bearer"},
		{"no JWT", edge.Request{Method: "GET", Path: mePath, Authorization: "Bearer abc"}, 401, problem.InvalidToken, "", `Bearer error="invalid_token"`},
		{"a changed token", edge.Request{Method: "GET", Path: mePath, Authorization: ada(t) + "x"}, 401, problem.InvalidToken, "", `Bearer error="invalid_token"`},
		{"an expired token", edge.Request{Method: "POST", Path: refreshPath, Authorization: expired}, 401, problem.ExpiredToken, "",
			`Bearer error="invalid_token", error_description="The token has expired"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := testFront()
			a, onward := ask(f, c.request)
			if onward != nil {
				t.Fatalf("it is forwarded: %+v", onward)
			}
			isProblem(t, a, c.status, c.code)
			carries(t, a, "Allow", c.allow)
			carries(t, a, "WWW-Authenticate", c.challenge)
			if line := l.one(t); line.Evt != oplog.Request || line.Status != c.status || line.Outcome != oplog.Outcome(c.code) || line.Method != c.request.Method || line.User != "" {
				t.Errorf("logged %s", line)
			}
		})
	}
}

func TestTheAccountPage(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		f, _ := testFront()
		a, to := ask(f, edge.Request{Method: method, Path: "/", HTTPS: true})
		if to != nil || a.Status != 200 || !strings.HasPrefix(a.Body, "<!doctype html>") {
			t.Errorf("%s: %d %.80q, %+v", method, a.Status, a.Body, to)
		}
		carries(t, a, "Content-Type", "text/html; charset=utf-8")
		carries(t, a, "X-Content-Type-Options", "nosniff")
		carries(t, a, "Strict-Transport-Security", "max-age=31536000")
	}
}

func onwardOf(want durable.Action, who auth.Identity) target {
	return *toUser(who.ID, durable.Request{Action: want, Who: who})
}

// The object that answers a request logs it, and the Worker does not.
func TestARequestIsForwardedWithItsIdentity(t *testing.T) {
	for _, c := range []struct {
		method, path string
		claims       jwt.MapClaims
		want         target
	}{
		{"GET", mePath, jwt.MapClaims{"uid": "u_42", "username": "Ada", "email": "ada@example.org"}, onwardOf(durable.Me, auth.Identity{ID: "u_42", Name: "Ada", Email: "ada@example.org"})},
		{"POST", refreshPath, jwt.MapClaims{"uid": "u_42"}, onwardOf(durable.Refresh, auth.Identity{ID: "u_42"})},
		{"GET", mePath, jwt.MapClaims{"sub": "пользователь-用户-🔑", "username": "Ἀδα\u0301"}, onwardOf(durable.Me, auth.Identity{ID: "пользователь-用户-🔑", Name: "Ἀδα\u0301"})},
		{"POST", refreshPath, jwt.MapClaims{"uid": "../u?x=1#y\n", "email": "a\"b"}, onwardOf(durable.Refresh, auth.Identity{ID: "../u?x=1#y\n", Email: "a\"b"})},
	} {
		f, l := testFront(app)
		c.claims["exp"] = now.Add(time.Hour).Unix()
		a, onward := ask(f, edge.Request{Method: c.method, Path: c.path, Authorization: bearer(t, c.claims), Origin: app})
		if onward == nil {
			t.Fatalf("%+v: not forwarded, but answered %+v", c.want, a)
		}
		if expires := onward.user.Who.Expires; !expires.Equal(now.Add(time.Hour + auth.Leeway)) {
			t.Errorf("%+v: the token is accepted until %v", c.want, expires)
		}
		onward.user.Who.Expires = time.Time{}
		if *onward != c.want {
			t.Errorf("%+v, want %+v", *onward, c.want)
		}
		if a.Status != 0 || a.Body != "" || len(a.Header) > 0 {
			t.Errorf("%+v: there is an answer too: %+v", c.want, a)
		}
		l.none(t) // the object does
	}
}

func TestHealth(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		for _, authorization := range []string{"", "Bearer abc", ada(t)} {
			for name, c := range map[string]struct {
				make   func(...string) (*Front, *logged)
				status int
				body   string
			}{
				"ok":            {testFront, 200, `{"status":"ok"}`},
				"misconfigured": {misconfigured, 503, `{"status":"misconfigured"}`},
			} {
				f, l := c.make()
				a, onward := ask(f, edge.Request{Method: method, Path: "/healthz", Authorization: authorization})
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

func TestAMisspeltVariableIsLoggedByItsName(t *testing.T) {
	l := &logged{}
	Misspelt([]string{"TOTAL_LIMIT", "RENEW_AFTR", "USERS", "ANOTHER_THING"}, l.add)
	if line := l.one(t); line.Evt != oplog.Settings || line.Outcome != oplog.Misspelt || line.Err != "RENEW_AFTR is no setting, and is ignored: is RENEW_AFTER meant?" {
		t.Errorf("logged %s", line)
	}
}

func TestNothingRunsOnBadSettings(t *testing.T) {
	for path, method := range map[string]string{mePath: "GET", refreshPath: "POST"} {
		for _, authorization := range []string{"", ada(t)} {
			f, l := misconfigured()
			a, onward := ask(f, edge.Request{Method: method, Path: path, Authorization: authorization})
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

func TestTheLogTellsNoUnknownPath(t *testing.T) {
	token := strings.TrimPrefix(ada(t), "Bearer ")
	for _, path := range []string{"/" + token, mePath + "/" + token, "/healthz/" + token, "/api/users/me;" + token} {
		for _, method := range []string{"GET", "OPTIONS", "PURGE"} {
			f, l := testFront(app)
			r := edge.Request{Method: method, Path: path, Authorization: "Bearer " + token, Origin: app}
			a, _ := ask(f, r)
			if line := l.one(t); line.Path != "" || strings.Contains(line.String(), token) {
				t.Errorf("serve logged %s", line)
			}
			if strings.Contains(a.Body, token) {
				t.Errorf("the client is told %s", a.Body)
			}
			failed(f, r, edge.Unreached, "the program ended")
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
			for path, method := range map[string]string{mePath: "GET", refreshPath: "POST", "/healthz": "GET", "/x": "GET"} {
				for _, scheme := range []string{"Bearer ", "bearer  ", "Basic ", ""} {
					f, l := testFront()
					a, _ := ask(f, edge.Request{Method: method, Path: path, Authorization: scheme + token})
					for _, text := range []string{fmt.Sprint(l.lines), a.Body} {
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

func TestWhereAnObjectGaveNoAnswerTheWorkerDoes(t *testing.T) {
	const cause = "Durable Object reset because its code was updated."
	for _, c := range []struct {
		failure edge.Failure
		status  int
		code    string
	}{
		{edge.Unreached, 503, problem.UpstreamUnavailable}, {edge.Overloaded, 503, problem.Overloaded}, {edge.Mistake, 500, problem.Internal},
		{"of a kind that nobody knows", 500, problem.Internal},
	} {
		t.Run(string(c.failure), func(t *testing.T) {
			for _, r := range []struct {
				request edge.Request
				user    string
				op      oplog.Op
				pattern string
			}{
				{edge.Request{Method: "GET", Path: mePath, Authorization: ada(t)}, "u_42", "me", mePath},
				{edge.Request{Method: "PATCH", Path: adminUsers + "/u_43", Authorization: "Bearer " + adminToken, Body: `{"suspended":true}`}, "u_43", "adjust", adminUsers + "/{id}"},
				{edge.Request{Method: "GET", Path: adminUsers, Authorization: "Bearer " + adminToken}, "", "list", adminUsers},
				{edge.Request{Method: "GET", Path: mePath}, "", "", mePath}, // its token has expired meanwhile, say
			} {
				f, l := adminFront(app)
				r.request.Origin = app
				a := failed(f, r.request, c.failure, cause)
				isProblem(t, a, c.status, c.code)
				if strings.Contains(a.Body, "reset") || strings.Contains(a.Body, `"detail":""`) {
					t.Errorf("the client is told %s", a.Body)
				}
				if c.status == 503 {
					carries(t, a, "Retry-After", "1")
				}
				carries(t, a, "Access-Control-Allow-Origin", app)
				line := l.one(t)
				if line.Evt != oplog.Request || line.User != r.user || line.Op != r.op || line.Outcome != oplog.Outcome(c.code) || line.Status != c.status ||
					line.Method != r.request.Method || line.Path != r.pattern || !strings.Contains(line.Err, cause) {
					t.Errorf("logged %s", line)
				}
			}
		})
	}
}

const keysURL = "https://issuer.example/keys"

// issued returns an Authorization header with a token of an issuer's for u_42, and the
// issuer's key set.
func issued(t *testing.T, name string) (authorization, set string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "u_42", "name": name, "exp": now.Add(time.Hour).Unix()}
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + token, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + base64.RawURLEncoding.EncodeToString(public) + `"}]}`
}

// A request that wants the issuer's keys comes again once they were read, or could
// not be. It is logged once.
func TestARequestComesAgainForTheKeysOfItsIssuer(t *testing.T) {
	authorization, set := issued(t, "Ada")
	r := edge.Request{Method: "GET", Path: mePath, Authorization: authorization, Origin: app}
	for name, c := range map[string]struct {
		failure error
		code    string
		outcome oplog.Outcome
	}{
		"read":     {nil, "", "done"},
		"not read": {errors.New("the issuer answered 500"), problem.IssuerUnavailable, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			f, l := testFront(app)
			f.verifier = auth.NewVerifier(auth.Rules{KeySetURL: keysURL, MaxLifetime: auth.MaxLifetime}, func() time.Time { return now })
			for _, url := range []string{keysURL, ""} { // the next one waits
				var again called
				f.Route(&again, r, func(object string) { t.Errorf("it is handed to %s", object) })
				if again.keys == nil || *again.keys != url {
					t.Fatalf("it is answered %+v", again)
				}
			}
			if len(l.lines) != 0 {
				t.Fatalf("logged %v", l.lines)
			}
			f.KeysRead(set, "", c.failure)
			if line := l.one(t); line.Evt != oplog.Issuer || line.Op != "keys" || line.Outcome != c.outcome || (line.Err != "") != (c.failure != nil) {
				t.Errorf("logged %s", line)
			}
			a, onward := ask(f, r)
			if c.code != "" {
				isProblem(t, a, 503, c.code)
				carries(t, a, "Retry-After", "10")
				carries(t, a, "WWW-Authenticate", "")
				carries(t, a, "Access-Control-Allow-Origin", app)
				l.one(t)
			} else if onward == nil || onward.object != "u_42" {
				t.Errorf("it goes to %+v", onward)
			} else {
				l.none(t)
			}
		})
	}
}

// A request that an object did not answer is answered, and nobody would read the keys
// that its token wants: the next request has to.
func TestARequestThatFailedLeavesTheKeysToTheNext(t *testing.T) {
	authorization, set := issued(t, strings.Repeat("x", 1024)) // a token longer than those that are remembered
	r := edge.Request{Method: "GET", Path: mePath, Authorization: authorization}
	for name, read := range map[string]bool{"a new program": false, "the set's time is over": true} {
		t.Run(name, func(t *testing.T) {
			f, l := testFront()
			clock := now
			f.verifier = auth.NewVerifier(auth.Rules{KeySetURL: keysURL, MaxLifetime: auth.MaxLifetime}, func() time.Time { return clock })
			if read {
				f.KeysRead(set, "", nil)
				l.one(t)
				clock = now.Add(10 * time.Minute)
			}
			isProblem(t, failed(f, r, edge.Unreached, "the program ended"), 503, problem.UpstreamUnavailable)
			l.one(t)
			var next called
			f.Route(&next, r, func(object string) { t.Errorf("it is handed to %s", object) })
			if next.keys == nil || *next.keys != keysURL {
				t.Errorf("the next one is answered %+v", next)
			}
		})
	}
}

// Requests of an isolate are served by one front, one after the other.
func TestARequestLeavesNothingBehind(t *testing.T) {
	f, _ := testFront(app)
	plain := edge.Request{Method: "GET", Path: "/healthz"}
	before, _ := ask(f, plain)
	for _, r := range []edge.Request{
		{Method: "OPTIONS", Path: mePath, Origin: app}, {Method: "PUT", Path: mePath, Origin: app}, {Method: "GET", Path: mePath, Authorization: ada(t), Origin: app},
		{Method: "GET", Path: "/x", Origin: app}, {Method: "OPTIONS", Path: "/healthz", Origin: app},
	} {
		ask(f, r)
		after, onward := ask(f, plain)
		if onward != nil || after.Status != before.Status || after.Body != before.Body || !slices.Equal(after.Header, before.Header) {
			t.Errorf("after %+v: %+v, before %+v", r, after, before)
		}
	}
}
