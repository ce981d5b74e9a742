//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/internal/localdev"
	"latchkey/internal/openroutertest"
	"latchkey/internal/users/d1test"
)

// Secrets that are none.
const (
	jwtSecret       = "fake-jwt-secret-of-the-e2e-tests-0123456789"
	provisioningKey = "fake-provisioning-key-of-the-e2e-tests"
)

// encryptionKey returns one of several fake keys of 32 bytes, in base64.
func encryptionKey(n int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "fake-key-encryption-key-no-%05d", n))
}

// upstreamTimeout is OPENROUTER_TIMEOUT: short, since tests wait for it.
const upstreamTimeout = 2 * time.Second

// listed are the origins in ALLOWED_ORIGINS of the shared Worker.
var listed = []string{"https://app.example.org", "http://localhost:5173"}

// worker is a Worker with its state folder, its log and its own OpenRouter.
type worker struct {
	*localdev.Worker
	name        string // of the test that started it
	dir         string
	state       string
	vars        map[string]string
	secrets     map[string]string
	everySecret map[string]string // that it ever had, by name
	planted     map[string]bool   // keys that a test itself wrote to disk unsealed
	log         *logbook
	openrouter  *openroutertest.Server
	behind      atomic.Int64 // nanoseconds by which OpenRouter's clock is slow, to make old keys
	server      *httptest.Server

	successor atomic.Value // a second provisioning key of the account, as text
	retired   atomic.Bool  // the first one is gone

	mu    sync.Mutex
	gates map[string]*gate // by method; those that hold calls to OpenRouter
}

// with is what differs from the standard settings of the tests. An empty secret
// is left out; an empty script is the Worker's own.
type with struct {
	vars, secrets map[string]string
	script        string
}

// A test with a Worker of its own has a place, of which there are few: with more at once
// all of them would be late. So does one that mostly waits, for time to pass. Those of the
// shared Worker, one at a time, run beside them.
var places, quietPlaces = make(chan struct{}, 3), make(chan struct{}, 3)

// takePlace waits for a place, and has it for as long as the test runs.
func takePlace(t *testing.T, places chan struct{}) {
	places <- struct{}{}
	t.Cleanup(func() { <-places })
}

// start starts a Worker for this test alone.
func start(t *testing.T, changes with) *worker {
	t.Helper()
	t.Parallel()
	takePlace(t, places)
	return launchFor(t, changes)
}

// startFirst is start for the test that takes longest: it has a place before all others.
func startFirst(t *testing.T, changes with) *worker {
	t.Helper()
	takePlace(t, places)
	t.Parallel()
	return launchFor(t, changes)
}

// startQuiet is start for a test that mostly waits.
func startQuiet(t *testing.T, changes with) *worker {
	t.Helper()
	t.Parallel()
	takePlace(t, quietPlaces)
	return launchFor(t, changes)
}

// alone is held by the test that has every place, or waits for them.
var alone sync.Mutex

// startAlone starts a Worker for this test alone, and lets no other test run
// beside it: it would make their calls to OpenRouter late.
func startAlone(t *testing.T, changes with) *worker {
	t.Helper()
	t.Parallel()
	alone.Lock()
	t.Cleanup(alone.Unlock)
	for range cap(places) {
		takePlace(t, places)
	}
	inShared.Lock()
	t.Cleanup(inShared.Unlock)
	return launchFor(t, changes)
}

func launchFor(t *testing.T, changes with) *worker {
	t.Helper()
	w, err := launch(t.Name(), changes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.shutDown)
	return w
}

var shared = sync.OnceValues(func() (*worker, error) {
	return launch("shared", with{vars: map[string]string{"ALLOWED_ORIGINS": strings.Join(listed, ", ")}})
})

var inShared, inPlanted sync.Mutex // held by the test that has the one

// useShared returns the Worker with standard settings, to this test alone until
// it ends.
func useShared(t *testing.T) *worker {
	t.Helper()
	t.Parallel()
	return use(t, shared, &inShared)
}

var planted = sync.OnceValues(func() (*worker, error) {
	return launch("planted", with{secrets: administered.secrets, script: "internal/e2e/testdata/planted.mjs"})
})

// usePlanted returns a Worker with the admin API and a path that writes a user's
// state, to this test alone until it ends.
func usePlanted(t *testing.T) *worker {
	t.Helper()
	t.Parallel()
	w := use(t, planted, &inPlanted)
	takePlace(t, places)
	return w
}

func use(t *testing.T, one func() (*worker, error), inUse *sync.Mutex) *worker {
	t.Helper()
	inUse.Lock()
	t.Cleanup(inUse.Unlock)
	w, err := one()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.openrouter.ClearFaults)
	return w
}

// launch starts a Worker and its OpenRouter.
func launch(name string, changes with) (*worker, error) {
	fleet.Lock()
	dir := filepath.Join(site.dir, fmt.Sprintf("worker-%d", len(fleet.workers)))
	w := &worker{
		name: name, dir: dir, state: filepath.Join(dir, "state"), log: &logbook{},
		everySecret: map[string]string{}, planted: map[string]bool{}, gates: map[string]*gate{},
	}
	w.openrouter = openroutertest.New(openroutertest.Options{
		ProvisioningKey: provisioningKey,
		Now:             func() time.Time { return time.Now().Add(-time.Duration(w.behind.Load())) },
	})
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(w.upstream))
	// On a connection that was used before, workerd itself repeats a GET or DELETE
	// once where the connection is dropped. Tests want to see what we do then.
	w.server.Config.SetKeepAlivesEnabled(false)
	w.server.Start()
	fleet.workers = append(fleet.workers, w)
	fleet.Unlock()

	w.vars = map[string]string{
		"OPENROUTER_BASE_URL": w.server.URL + "/api/v1",
		"OPENROUTER_TIMEOUT":  upstreamTimeout.String(),
	}
	w.secrets = map[string]string{
		"JWT_SECRET_CLOUD": jwtSecret, "OPENROUTER_PROVISIONING_API_KEY": provisioningKey, "KEY_ENCRYPTION_KEY": encryptionKey(1),
	}
	if err := os.CopyFS(w.state, os.DirFS(site.state)); err != nil {
		return nil, err
	}
	return w, w.run(changes)
}

// run runs the Worker, after a start or a stop, with settings changed.
func (w *worker) run(changes with) error {
	maps.Copy(w.vars, changes.vars)
	maps.Copy(w.secrets, changes.secrets)
	var env strings.Builder
	for name, value := range w.secrets {
		if value != "" {
			fmt.Fprintf(&env, "%s=%s\n", name, value)
			w.everySecret[name+" "+value[:8]+"…"] = value
		}
	}
	envFile := filepath.Join(w.dir, "secrets.env")
	if err := os.WriteFile(envFile, []byte(env.String()), 0o600); err != nil {
		return err
	}
	running, err := localdev.Start(context.Background(), localdev.Options{
		Root: site.root, StateDir: w.state, EnvFile: envFile, Vars: w.vars, Log: w.log, Script: changes.script,
	})
	if err != nil {
		return fmt.Errorf("%w; the log ends\n%s", err, w.log.tail())
	}
	w.Worker = running
	return nil
}

// again starts a Worker that was stopped or killed, on the same state.
func (w *worker) again(t *testing.T, changes with) {
	t.Helper()
	if err := w.run(changes); err != nil {
		t.Fatal(err)
	}
}

// loseObjects removes the storage of all Durable Objects of a Worker that was
// stopped.
func (w *worker) loseObjects(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(w.state, "v3", "do")); err != nil {
		t.Fatal(err)
	}
}

// shutDown ends the Worker and its OpenRouter; doing it twice does no harm.
func (w *worker) shutDown() {
	if w.Worker != nil {
		w.Stop()
	}
	w.openrouter.Close()
	w.server.CloseClientConnections()
	w.server.Close()
}

// gate holds the calls of one method on their way to OpenRouter.
type gate struct {
	arrived chan struct{} // gets one for each call that is held
	opened  chan struct{} // closed to let all through
	open    func()
}

// patient are settings under which a held call does not time out.
var patient = with{vars: map[string]string{"OPENROUTER_TIMEOUT": "50s"}}

// hold holds the calls of a method to OpenRouter, from now on until the gate is
// opened, in any case at the end of the test.
func (w *worker) hold(t *testing.T, method string) *gate {
	g := &gate{arrived: make(chan struct{}, 1000), opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.gates, method)
		close(g.opened)
	})
	t.Cleanup(g.open)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gates[method] = g
	return g
}

// await waits until a call is held.
func (g *gate) await(t *testing.T) {
	t.Helper()
	select {
	case <-g.arrived:
	case <-time.After(20 * time.Second):
		t.Fatal("no call arrived at the gate")
	}
}

// upstream is OpenRouter, behind the gates.
func (w *worker) upstream(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	g := w.gates[r.Method]
	w.mu.Unlock()
	if g != nil {
		g.arrived <- struct{}{}
		<-g.opened
	}
	switch second, _ := w.successor.Load().(string); {
	case second != "" && r.Header.Get("Authorization") == "Bearer "+second:
		r.Header.Set("Authorization", "Bearer "+provisioningKey)
	case w.retired.Load():
		r.Header.Set("Authorization", "Bearer a-key-that-is-gone")
	}
	w.openrouter.ServeHTTP(rw, r)
}

// logbook is all that wrangler and the Worker printed.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// tail is the end of the log, for messages.
func (l *logbook) tail() string {
	text := l.String()
	return text[max(0, len(text)-4000):]
}

// lines returns the log lines about a user: one JSON object each.
func (l *logbook) lines(user string) []map[string]any {
	var lines []map[string]any
	for text := range strings.Lines(l.String()) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["user"] == user {
			lines = append(lines, line)
		}
	}
	return lines
}

// query runs SQL on the Worker's D1 and returns the rows.
func (w *worker) query(t *testing.T, sql string) (rows []map[string]any) {
	t.Helper()
	db := d1test.Open(t, w.state)
	defer db.Close()
	if err := json.Unmarshal([]byte(db.Dump(t, sql)), &rows); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// client has room for hundreds of connections and knows no proxy.
var client = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: 1000},
	Timeout:   time.Minute,
}

// answer is a response of the Worker, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string {
	return fmt.Sprintf("%d %v %s", a.status, a.header, plainKey.ReplaceAllString(a.body, "sk-or-v1-…"))
}

// send sends a request. It may be called from any goroutine.
func (w *worker) send(ctx context.Context, method, path string, header http.Header, body io.Reader) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, w.URL+path, body)
	if err != nil {
		return answer{}, err
	}
	maps.Copy(request.Header, header)
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	a := answer{response.StatusCode, response.Header, string(text)}
	if err == nil {
		described().check(request, a)
	}
	return a, err
}

// ask sends a request without a body.
func (w *worker) ask(t *testing.T, method, path string, header http.Header) answer {
	t.Helper()
	a, err := w.send(t.Context(), method, path, header, nil)
	if err != nil {
		t.Fatalf("%s %s: %v; the log ends\n%s", method, path, err, w.log.tail())
	}
	return a
}

// bearer is the header that carries a token.
func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// eventually polls until check is content, or fails the test with what was seen
// last.
func eventually(t *testing.T, within time.Duration, what string, check func() (seen string, ok bool)) {
	t.Helper()
	deadline, pause := time.Now().Add(within), 20*time.Millisecond
	for {
		seen, ok := check()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s; seen last: %s", within, what, seen)
		}
		time.Sleep(pause)
		pause = min(pause*5/4, 200*time.Millisecond)
	}
}
