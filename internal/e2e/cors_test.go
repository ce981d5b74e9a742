//go:build e2e

package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	or "latchkey/internal/openroutertest"
)

func from(origin string, header http.Header) http.Header {
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Origin", origin)
	return header
}

// fields splits a header of comma-separated names, in lower case.
func fields(a answer, name string) []string {
	var list []string
	for field := range strings.SplitSeq(strings.Join(a.header.Values(name), ","), ",") {
		list = append(list, strings.ToLower(strings.TrimSpace(field)))
	}
	return list
}

func TestPreflight(t *testing.T) {
	w := useShared(t)
	for _, path := range []struct{ path, method string }{{me, "GET"}, {refresh, "POST"}} {
		ask := func(origin string) answer {
			header := from(origin, nil)
			header.Set("Access-Control-Request-Method", path.method)
			header.Set("Access-Control-Request-Headers", "authorization,content-type")
			return w.ask(t, "OPTIONS", path.path, header)
		}
		for _, origin := range listed {
			a := ask(origin)
			allowed := fields(a, "Access-Control-Allow-Headers")
			switch {
			case a.status != 204 || a.body != "":
				t.Errorf("%s from %s: %v", path.path, origin, a)
			case a.header.Get("Access-Control-Allow-Origin") != origin || !slices.Contains(fields(a, "Vary"), "origin"):
				t.Errorf("%s from %s: %v", path.path, origin, a)
			case !slices.Contains(fields(a, "Access-Control-Allow-Methods"), strings.ToLower(path.method)):
				t.Errorf("%s from %s: %v", path.path, origin, a)
			case !slices.Contains(allowed, "authorization") || !slices.Contains(allowed, "content-type"):
				t.Errorf("%s from %s: %v", path.path, origin, a)
			case a.header.Get("Access-Control-Max-Age") == "":
				t.Errorf("%s from %s: %v", path.path, origin, a)
			}
		}
		for _, origin := range unlisted {
			if a := ask(origin); a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Access-Control-Allow-Methods") != "" {
				t.Errorf("%s from %s: %v", path.path, origin, a)
			}
		}
	}
}

// unlisted are near misses of what is listed.
var unlisted = []string{
	"https://evil.example.org", "http://app.example.org", "https://app.example.org:8443", "https://app.example.org.evil.org",
	"https://sub.app.example.org", "http://localhost", "null", "*", "https://APP.example.org", "https://app.example.org, http://localhost:5173",
}

func TestSimpleRequestsAcrossOrigins(t *testing.T) {
	w := useShared(t)
	fail := func(status int) { w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindStatus, Status: status}, 1) }
	for _, test := range []struct {
		name   string
		status int
		ask    func(u *user, origin string) answer
	}{
		{"a key, from the object", 200, func(u *user, origin string) answer {
			return w.ask(u.t, "GET", me, from(origin, bearer(u.token())))
		}},
		{"a refresh, from the object", 200, func(u *user, origin string) answer {
			return w.ask(u.t, "POST", refresh, from(origin, bearer(u.token())))
		}},
		{"403 from the object", 403, func(u *user, origin string) answer {
			disable(u, u.provisioned(), true)
			return w.ask(u.t, "GET", me, from(origin, bearer(u.token())))
		}},
		{"502 from the object", 502, func(u *user, origin string) answer {
			fail(401)
			return w.ask(u.t, "GET", me, from(origin, bearer(u.token())))
		}},
		{"503 from the object", 503, func(u *user, origin string) answer {
			fail(500)
			return w.ask(u.t, "POST", refresh, from(origin, bearer(u.token())))
		}},
		{"401 without a token", 401, func(u *user, origin string) answer { return w.ask(u.t, "GET", me, from(origin, nil)) }},
		{"401 with a bad token", 401, func(u *user, origin string) answer {
			return w.ask(u.t, "GET", me, from(origin, bearer("canary-token")))
		}},
		{"404", 404, func(u *user, origin string) answer { return w.ask(u.t, "GET", "/nowhere", from(origin, nil)) }},
		{"405", 405, func(u *user, origin string) answer { return w.ask(u.t, "PUT", me, from(origin, nil)) }},
		{"413", 413, func(u *user, origin string) answer {
			return w.ask(u.t, "GET", me, from(origin, bearer(strings.Repeat("x", 9000))))
		}},
		{"healthz", 200, func(u *user, origin string) answer { return w.ask(u.t, "GET", "/healthz", from(origin, nil)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, origin := range append(slices.Clone(listed), unlisted[0], unlisted[3]) {
				a := test.ask(newUser(t, w), origin)
				want := []string{origin}
				if !slices.Contains(listed, origin) {
					want = nil
				}
				if a.status != test.status || !slices.Equal(a.header.Values("Access-Control-Allow-Origin"), want) || !slices.Contains(fields(a, "Vary"), "origin") {
					t.Errorf("from %s: %v", origin, a)
				}
			}
		})
	}
}

func TestNoOriginIsListed(t *testing.T) {
	w := start(t, with{})
	u := newUser(t, w)
	for _, a := range []answer{
		w.ask(t, "OPTIONS", me, from("https://app.example.org", http.Header{"Access-Control-Request-Method": {"GET"}})),
		w.ask(t, "GET", me, from("https://app.example.org", bearer(u.token()))),
		w.ask(t, "GET", me, from("https://app.example.org", nil)),
		w.ask(t, "GET", "/healthz", from("null", nil)),
	} {
		for name := range a.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s in %v", name, a)
			}
		}
	}
}
