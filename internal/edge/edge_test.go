package edge

import "testing"

func TestAURLIsKeptAsItWasSent(t *testing.T) {
	for _, c := range []struct {
		url, path, query string
		https            bool
		site             string
	}{
		{"https://latchkey.example/api/users/me", "/api/users/me", "", true, "https://latchkey.example"},
		{"http://127.0.0.1:8787/api/admin/users/a%2Fb%20%D0%B6/ledger?limit=3&cursor=7", "/api/admin/users/a%2Fb%20%D0%B6/ledger", "limit=3&cursor=7", false, "http://127.0.0.1:8787"},
		{"https://latchkey.example/", "/", "", true, "https://latchkey.example"},
		{"https://latchkey.example", "/", "", true, "https://latchkey.example"},
		{"https://latchkey.example//healthz?", "//healthz", "", true, "https://latchkey.example"},
		{"http://https/x?u=https://y/z?w", "/x", "u=https://y/z?w", false, "http://https"},
	} {
		want := Request{Method: "GET", Path: c.path, Query: c.query, Authorization: "Bearer x", Origin: "https://app.example", Site: c.site, HTTPS: c.https}
		if got := newRequest("GET", c.url, "Bearer x", "https://app.example", ""); got != want {
			t.Errorf("%s: %+v, want %+v", c.url, got, want)
		}
	}
}

func TestWhatARequestSaysOfAnUpgrade(t *testing.T) {
	for socket, want := range map[string]Request{
		"":                         {},
		"websocket\n":              {WebSocket: true},
		"WebSocket\nbearer, a.b.c": {WebSocket: true, Protocols: "bearer, a.b.c"},
		"h2c\nbearer, a.b.c":       {Protocols: "bearer, a.b.c"},
		"websocket bearer\na.b.c":  {Protocols: "a.b.c"},
	} {
		if got := newRequest("GET", "http://x/", "", "", socket); got.WebSocket != want.WebSocket || got.Protocols != want.Protocols {
			t.Errorf("%q: %+v", socket, got)
		}
	}
}
