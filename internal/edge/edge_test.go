package edge

import "testing"

func TestAURLIsKeptAsItWasSent(t *testing.T) {
	for _, c := range []struct {
		url, path, query string
		https            bool
	}{
		{"https://latchkey.example/api/users/me", "/api/users/me", "", true},
		{"http://127.0.0.1:8787/api/admin/users/a%2Fb%20%D0%B6/ledger?limit=3&cursor=7", "/api/admin/users/a%2Fb%20%D0%B6/ledger", "limit=3&cursor=7", false},
		{"https://latchkey.example/", "/", "", true},
		{"https://latchkey.example", "/", "", true},
		{"https://latchkey.example//healthz?", "//healthz", "", true},
		{"http://https/x?u=https://y/z?w", "/x", "u=https://y/z?w", false},
	} {
		want := Request{Method: "GET", Path: c.path, Query: c.query, Authorization: "Bearer x", Origin: "https://app.example", HTTPS: c.https}
		if got := newRequest("GET", c.url, "Bearer x", "https://app.example"); got != want {
			t.Errorf("%s: %+v, want %+v", c.url, got, want)
		}
	}
}
