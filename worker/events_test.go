package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/durable"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
)

func TestWhoGetsASocket(t *testing.T) {
	good := strings.TrimPrefix(ada(t), "Bearer ")
	expired := strings.TrimPrefix(bearer(t, jwt.MapClaims{"uid": "u_42", "exp": now.Add(-time.Hour).Unix()}), "Bearer ")
	socket := func(protocols string) edge.Request {
		return edge.Request{Method: "GET", Path: eventsPath, WebSocket: true, Protocols: protocols, Site: "https://latchkey.example"}
	}
	post := func(r edge.Request) edge.Request { r.Method = "POST"; return r }
	from := func(origin string, r edge.Request) edge.Request { r.Origin = origin; return r }
	with := func(authorization string, r edge.Request) edge.Request { r.Authorization = authorization; return r }
	for _, c := range []struct {
		name    string
		request edge.Request
		status  int    // 0: it is forwarded
		code    string // of the problem, or the reason of the close
	}{
		{"a token among the protocols", socket("bearer, " + good), 0, ""},
		{"the other way round", socket(good + ",bearer"), 0, ""},
		{"a token in the header", with("Bearer "+good, socket("")), 0, ""},
		{"another protocol, and a token in the header", with("Bearer "+good, socket("chat")), 0, ""},
		{"a page that is listed", from(app, socket("bearer, "+good)), 0, ""},
		{"the Worker's own page", from("https://latchkey.example", socket("bearer, "+good)), 0, ""},
		{"a page of another origin", from("https://evil.example", socket("bearer, "+good)), 403, problem.OriginNotAllowed},
		{"a page of another scheme", from("http://latchkey.example", socket("bearer, "+good)), 403, problem.OriginNotAllowed},
		{"no upgrade", with("Bearer "+good, edge.Request{Method: "GET", Path: eventsPath}), 426, problem.UpgradeRequired},
		{"no token at all", socket(""), 401, problem.MissingToken},
		{"a token that expired, in the header", with("Bearer "+expired, socket("")), 401, problem.ExpiredToken},
		{"another method", post(socket("bearer, " + good)), 405, problem.MethodNotAllowed},
		{"bearer alone", socket("bearer"), 4401, problem.MissingToken},
		{"bearer twice", socket("bearer, bearer"), 4401, problem.InvalidToken},
		{"a token that is none", socket("bearer, abc"), 4401, problem.InvalidToken},
		{"a token that expired", socket("bearer, " + expired), 4401, problem.ExpiredToken},
		{"a good one in the header beside it", with("Bearer "+good, socket("bearer, "+expired)), 4401, problem.ExpiredToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := testFront(app)
			a, to := ask(f, c.request)
			switch {
			case c.status == 0:
				if to == nil || to.object != "u_42" || to.user.Action != durable.Connect || to.user.Who.Expires.Before(now.Add(time.Hour)) {
					t.Errorf("forwarded %+v, answered %+v", to, a)
				}
				return
			case to != nil:
				t.Fatalf("it is forwarded: %+v", to)
			case c.status < 4000:
				isProblem(t, a, c.status, c.code)
			case a.Status != 101 || a.Socket == nil || a.Socket.Code != c.status || a.Socket.Reason != c.code || a.Body != "":
				t.Errorf("answered %+v, %+v", a, a.Socket)
			default:
				carries(t, a, "Sec-WebSocket-Protocol", "bearer")
			}
			if line := l.one(t); line.Evt != oplog.Request || line.Outcome != oplog.Outcome(c.code) || line.Status != c.status%4000 {
				t.Errorf("logged %s", line)
			}
		})
	}
}
