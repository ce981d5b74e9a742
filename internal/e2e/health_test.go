//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	w := useShared(t)
	calls := len(w.openrouter.CallLog())
	a := w.ask(t, "GET", "/healthz", nil)
	if a.status != 200 || a.body != `{"status":"ok"}` {
		t.Errorf("got %v", a)
	}
	if a := w.ask(t, "GET", "/healthz", bearer("canary-token")); a.status != 200 {
		t.Errorf("with a bad token: %v", a)
	}
	if now := len(w.openrouter.CallLog()); now != calls {
		t.Errorf("%d calls to OpenRouter", now-calls)
	}
}

// The log names what is missing, bad or misspelt. The response does not, and nothing else
// is served.
func TestMisconfigured(t *testing.T) {
	w := start(t, with{
		vars:    map[string]string{"TOTAL_LIMIT": "ten", "RENEW_AFTER": "1 day", "METER_INTERVL": "5s"},
		secrets: map[string]string{"KEY_ENCRYPTION_KEY": "", "JWT_SECRET_CLOUD": "fake-but-too-short"},
	})
	a := w.ask(t, "GET", "/healthz", nil)
	if a.status != 503 || a.body != `{"status":"misconfigured"}` || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %v", a)
	}
	u := newUser(t, w)
	for _, a := range []answer{u.get(), u.refresh(), w.ask(t, "GET", me, nil)} {
		if a.status < 500 {
			t.Errorf("got %v", a)
		}
		if err := checkProblem(a, 500, "internal"); err != nil {
			t.Error(err)
		}
	}
	problem(t, w.ask(t, "GET", "/nowhere", nil), 404, "not_found")
	for _, name := range []string{"TOTAL_LIMIT", "RENEW_AFTER", "KEY_ENCRYPTION_KEY", "JWT_SECRET_CLOUD", "METER_INTERVL"} {
		eventually(t, pollLog, "a log line that names "+name, func() (string, bool) {
			for line := range strings.Lines(w.log.String()) {
				// wrangler lists the settings too, but not as JSON.
				if strings.HasPrefix(line, "{") && strings.Contains(line, name) {
					return "", true
				}
			}
			return w.log.tail(), false
		})
		for _, a := range []answer{a, u.get()} {
			if strings.Contains(fmt.Sprint(a), name) {
				t.Errorf("the response names %s: %v", name, a)
			}
		}
	}
	u.called("")
}
