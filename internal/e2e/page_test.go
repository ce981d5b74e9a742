//go:build e2e

package e2e

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var screenshots = flag.String("screenshots", "", "folder that gets pictures of the account page, as in ../../docs/page")

// TestAccountPageInABrowser runs browser/page.mjs, whose tests say what they check.
func TestAccountPageInABrowser(t *testing.T) {
	w := useShared(t)
	pictures := *screenshots
	if pictures != "" {
		var err error
		if pictures, err = filepath.Abs(pictures); err != nil {
			t.Fatal(err)
		}
	}
	ada, bob := newUser(t, w), newUser(t, w)
	expired := newUser(t, w).claims()
	expired["exp"] = time.Now().Add(-time.Hour).Unix()

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	browser := exec.CommandContext(ctx, filepath.Join(site.root, "node_modules", ".bin", "node"), "--test-reporter=spec", "page.mjs")
	browser.Dir = filepath.Join(site.root, "internal", "e2e", "browser")
	browser.Env = append(os.Environ(),
		"TMPDIR="+t.TempDir(), // Chromium is unpacked there
		"WORKER="+w.URL+"/", "ADA="+ada.token(), "BOB="+bob.token(), "EXPIRED="+sign(jwt.SigningMethodHS256, jwtSecret, expired),
		"SCREENSHOTS="+pictures,
	)
	browser.Cancel = func() error { return browser.Process.Signal(syscall.SIGTERM) } // it ends Chromium
	browser.WaitDelay = 10 * time.Second
	out, err := browser.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, plainKey.ReplaceAll(out, []byte("sk-or-v1-…")))
	}
	t.Logf("%s", out)
}

func TestTheAccountPageAnswersReadersAlone(t *testing.T) {
	w := useShared(t)
	a := w.ask(t, "GET", "/", nil)
	policy := a.header.Get("Content-Security-Policy")
	switch {
	case a.status != 200 || a.header.Get("Content-Type") != "text/html; charset=utf-8" || a.header.Get("X-Content-Type-Options") != "nosniff":
		t.Errorf("GET: %v", a)
	case !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe"):
		t.Errorf("the policy is %q", policy)
	case !strings.HasSuffix(policy, "frame-ancestors "+strings.Join(listed, " ")):
		t.Errorf("the policy is %q", policy)
	}
	if a := w.ask(t, "HEAD", "/", nil); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %v", a)
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		if a := w.ask(t, method, "/", nil); a.status != 405 || a.header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: %v", method, a)
		}
	}
}
