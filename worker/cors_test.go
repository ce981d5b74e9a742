package worker

import (
	"strings"
	"testing"

	"latchkey/internal/answer"
	"latchkey/internal/edge"
)

func TestPreflight(t *testing.T) {
	for _, origin := range []string{app, local} {
		for path, methods := range map[string]string{"/healthz": "GET, HEAD", mePath: "GET", refreshPath: "POST", ledgerPath: "GET"} {
			f, l := testFront(app, local)
			// A browser sends no token with a preflight.
			a, onward := ask(f, edge.Request{Method: "OPTIONS", Path: path, Origin: origin})
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
	for name, r := range map[string]edge.Request{
		"health":             {Method: "GET", Path: "/healthz"},
		"preflight":          {Method: "OPTIONS", Path: mePath},
		"not found":          {Method: "GET", Path: "/x"},
		"OPTIONS, not found": {Method: "OPTIONS", Path: "/x"},
		"method not allowed": {Method: "PUT", Path: mePath},
		"too large":          {Method: "POST", Path: refreshPath, TooLarge: true},
		"missing token":      {Method: "GET", Path: mePath},
		"invalid token":      {Method: "GET", Path: mePath, Authorization: "Bearer abc"},
	} {
		r.Origin, r.HTTPS = origin, https
		f, _ := testFront(allowed...)
		all[name], _ = ask(f, r)
		all["failed: "+name] = failed(f, r, edge.Overloaded, "overloaded")
		f, _ = misconfigured(allowed...)
		all["misconfigured: "+name], _ = ask(f, r)
	}
	f, _ := testFront(allowed...)
	all["of the object"] = f.finish(answer.JSON(200, "application/json", "body"), edge.Request{Origin: origin, HTTPS: https})
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
