package openroutertest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPagesMayCallWhatAUsersKeyMayAndNothingElse(t *testing.T) {
	s := New(Options{ProvisioningKey: "sk-or-v1-stand-in-provisioning"})
	defer s.Close()
	for _, c := range []struct {
		method, path string
		allowed      bool
	}{
		{"POST", "/api/v1/chat/completions", true},
		{"GET", "/api/v1/key", true},
		{"GET", "/api/v1/keys", false},
		{"POST", "/api/v1/keys", false},
		{"GET", "/api/v1/credits", false},
		{"GET", "/_control/keys", false},
		{"POST", "/_control/spend", false},
	} {
		for _, method := range []string{"OPTIONS", c.method} {
			r := httptest.NewRequest(method, c.path, strings.NewReader("{}"))
			r.Header.Set("Origin", "http://localhost:5173")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if got := w.Header().Get("Access-Control-Allow-Origin") == "*"; got != c.allowed {
				t.Errorf("%s %s: %d %v", method, c.path, w.Code, w.Header())
			}
			preflight := w.Code == http.StatusNoContent && w.Header().Get("Access-Control-Allow-Methods") == c.method &&
				strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "Authorization, Content-Type")
			if method == "OPTIONS" && preflight != c.allowed {
				t.Errorf("OPTIONS %s: %d %v", c.path, w.Code, w.Header())
			}
		}
	}
}
