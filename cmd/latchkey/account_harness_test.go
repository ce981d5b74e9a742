package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

const provisioningKey = "sk-or-v1-provisioning-not-a-real-one"

// accountFixture is an OpenRouter account, and the command line at work on it.
type accountFixture struct {
	*testing.T
	*openroutertest.Server
	url string
	env map[string]string

	mu  sync.Mutex
	now time.Time // at the stand-in
}

func (f *accountFixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *accountFixture) at(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = now
}

// newAccount starts a stand-in that makes the same keys in every run. wrap may
// come between it and its clients.
func newAccount(t *testing.T, wrap func(http.Handler) http.Handler) *accountFixture {
	t.Helper()
	f := &accountFixture{T: t, now: testTime}
	f.Server = openroutertest.New(openroutertest.Options{
		ProvisioningKey: provisioningKey, Now: f.clock, Rand: rand.NewChaCha8([32]byte{1}), TotalCredits: 25, FloatNoise: true, ExtraFields: true,
	})
	var handler http.Handler = f.Server
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() { f.Server.Close(); server.Close() })
	f.url = server.URL + "/api/v1"
	f.env = map[string]string{"OPENROUTER_PROVISIONING_API_KEY": provisioningKey, "OPENROUTER_BASE_URL": f.url}
	return f
}

// run runs the command line, and demands the exit code and that no secret is
// printed.
func (f *accountFixture) run(code int, args ...string) printed {
	f.Helper()
	p := f.runWithKeys(code, args...)
	f.holdsNoKey(p.String())
	return p
}

// runWithKeys is run where a key is meant to be printed.
func (f *accountFixture) runWithKeys(code int, args ...string) printed {
	f.Helper()
	p := latchkey(context.Background(), f.env, args...)
	p.out = strings.ReplaceAll(p.out, f.url, "URL")
	p.stderr = strings.ReplaceAll(p.stderr, f.url, "URL")
	if p.code != code {
		f.Fatalf("%q: want exit code %d, got %v", args, code, p)
	}
	if strings.Contains(p.String(), provisioningKey) {
		f.Errorf("%q shows the provisioning key: %v", args, p)
	}
	return p
}

func (f *accountFixture) holdsNoKey(text string) {
	f.Helper()
	for _, key := range f.Keys() {
		if strings.Contains(text, key.Secret) {
			f.Errorf("a key is shown: %s", text)
		}
	}
}

// someKeys makes keys of all sorts, and returns their hashes, oldest first.
func (f *accountFixture) someKeys() []string {
	f.Helper()
	f.at(time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC))
	f.runWithKeys(0, "keys", "create", "ada@example.org", "--limit", "1", "--reset", "weekly")
	f.runWithKeys(0, "keys", "create", "Class A: Grace", "--limit", "2.5", "--expires", "2027-01-31")
	f.at(time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC))
	f.runWithKeys(0, "keys", "create", "no limit", "--unlimited")
	f.runWithKeys(0, "keys", "create", "evil\x1b[31m\tname", "--limit", "0.000000001")
	keys := f.Keys()
	for i, credits := range []float64{0.9, 0.123456789, 3} {
		if err := f.Spend(keys[i].Secret, credits); err != nil {
			f.Fatal(err)
		}
	}
	if err := f.SetDisabled(keys[3].Hash, true); err != nil {
		f.Fatal(err)
	}
	f.at(testTime)
	return []string{keys[0].Hash, keys[1].Hash, keys[2].Hash, keys[3].Hash}
}

// spend charges a key through the stand-in's control surface.
func (f *accountFixture) spend(hash string, credits float64, model, provider string) {
	f.Helper()
	body := strings.NewReader(fmt.Sprintf(`{"hash":%q,"credits":%v,"model":%q,"provider_name":%q}`, hash, credits, model, provider))
	response, err := http.Post(strings.TrimSuffix(f.url, "/api/v1")+"/_control/spend", "application/json", body)
	if err != nil {
		f.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		f.Fatalf("spend: %s", response.Status)
	}
}
