package openroutertest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

const provisioningKey = "sk-or-v1-provisioning"

// A clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

// newClock starts on a Wednesday, the 12th, at noon.
func newClock() *clock { return &clock{now: time.Date(2026, 8, 12, 12, 0, 0, 123456000, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A fixture is a stand-in behind a real socket, and a client of it.
type fixture struct {
	*testing.T
	*openroutertest.Server
	clock *clock
	url   string
	http  *http.Client
}

func start(t *testing.T, adapt ...func(*openroutertest.Options)) *fixture {
	t.Helper()
	c := newClock()
	o := openroutertest.Options{ProvisioningKey: provisioningKey, Now: c.Now, Rand: rand.NewChaCha8([32]byte{1})}
	for _, f := range adapt {
		f(&o)
	}
	s := openroutertest.New(o)
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		server.Close()
	})
	// A connection a call: net/http repeats a GET by itself where a reused
	// connection drops.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return &fixture{t, s, c, server.URL, client}
}

// An answer is a response read to its end.
type answer struct {
	*testing.T
	status int
	header http.Header
	body   string
}

// send makes one call. A path without a leading slash is one of the API. The
// error is that of the connection or of reading the body.
func (f *fixture) send(method, path, token, body string) (answer, error) {
	f.Helper()
	return f.do(f.request(method, path, token, body))
}

func (f *fixture) do(request *http.Request) (answer, error) {
	f.Helper()
	response, err := f.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return answer{f.T, response.StatusCode, response.Header, string(b)}, err
}

func (f *fixture) request(method, path, token, body string) *http.Request {
	f.Helper()
	if !strings.HasPrefix(path, "/") {
		path = "/api/v1/" + path
	}
	request, err := http.NewRequestWithContext(f.Context(), method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request
}

// call makes one call with the provisioning key and demands the status.
func (f *fixture) call(method, path, body string, status int) answer {
	f.Helper()
	return f.callAs(provisioningKey, method, path, body, status)
}

func (f *fixture) callAs(token, method, path, body string, status int) answer {
	f.Helper()
	a, err := f.send(method, path, token, body)
	if err != nil {
		f.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != status {
		f.Fatalf("%s %s %s: status %d, want %d: %s", method, path, body, a.status, status, a.body)
	}
	return a
}

// create makes a key and returns its hash and secret.
func (f *fixture) create(body string) (hash, secret string) {
	f.Helper()
	a := f.call("POST", "keys", body, http.StatusCreated)
	return a.at("data", "hash").(string), a.at("key").(string)
}

func (f *fixture) spend(secret string, credits float64) {
	f.Helper()
	if err := f.Spend(secret, credits); err != nil {
		f.Fatalf("Spend(%v): %v", credits, err)
	}
}

// at returns the value in the body under the names and indices given; numbers
// come as json.Number, as they stood on the wire.
func (a answer) at(path ...any) any {
	a.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(a.body)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		a.Fatalf("body %q: %v", a.body, err)
	}
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, ok := v.(map[string]any)
			if !ok {
				a.Fatalf("no object for %q of %v in %s", step, path, a.body)
			}
			member, ok := object[step]
			if !ok {
				a.Fatalf("no %q of %v in %s", step, path, a.body)
			}
			v = member
		case int:
			v = v.([]any)[step]
		}
	}
	return v
}

// want demands the JSON text of a value in the body.
func (a answer) want(want string, path ...any) {
	a.Helper()
	got, err := json.Marshal(a.at(path...))
	if err != nil {
		a.Fatal(err)
	}
	if string(got) != want {
		a.Errorf("%v is %s, want %s", path, got, want)
	}
}

// names returns the names of the keys listed.
func (a answer) names() string {
	a.Helper()
	var names []string
	for _, record := range a.at("data").([]any) {
		names = append(names, record.(map[string]any)["name"].(string))
	}
	return strings.Join(names, " ")
}
