// Package adminapitest is a latchkey for tests of the admin API's clients, over HTTP
// and without a runtime. What answers is the real thing, the Worker and its objects,
// and so a client that knows the API otherwise fails. Beneath it are a storage in
// memory, SQLite in D1's place, and the stand-in for OpenRouter.
//
//	s := adminapitest.New(t, "token", clock)
//	s.Put(adminapitest.User{Record: record, Ledger: entries})
//	client, err := adminclient.New(s.URL, seal.NewSecret("token"), nil)
package adminapitest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/durable"
	"latchkey/durable/durabletest"
	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/edge"
	"latchkey/internal/openrouter"
	"latchkey/internal/openroutertest"
	"latchkey/internal/oplog"
	"latchkey/internal/seal"
	"latchkey/internal/settings"
	"latchkey/internal/users"
	"latchkey/internal/users/d1test"
	"latchkey/worker"
)

const provisioningKey = "sk-or-v1-provisioning-not-a-real-one"

// Server is a latchkey with an admin API. Its objects begin anew with every
// request, from what is stored.
type Server struct {
	*httptest.Server
	OpenRouter *openroutertest.Server
	D1         SQLite

	t        testing.TB
	settings settings.Settings
	now      func() time.Time

	worker  sync.Mutex // held for every call into what follows, as the runtime has it
	front   *worker.Front
	objects *worker.Objects

	mu          sync.Mutex                      // guards what follows
	stored      map[string]*durabletest.Storage // by user
	constructed int32                           // objects so far
	age         time.Duration                   // by which OpenRouter's clock is behind
	calls       []string
	instead     func(w http.ResponseWriter, r *http.Request) bool
}

// User is a user as the object's storage has one, and D1.
type User struct {
	Record account.Record
	Ledger []account.Entry
	Rest   string // what is stored beside the record: members of a JSON object, as `"pending":{…}`
}

// New starts a server for operators with a token. It is stopped with the test.
func New(t testing.TB, token string, now func() time.Time) *Server {
	t.Helper()
	values := map[string]string{
		"ADMIN_TOKEN": token, "OPENROUTER_PROVISIONING_API_KEY": provisioningKey, "OPENROUTER_BASE_URL": "http://127.0.0.1/api/v1",
		"JWT_SECRET_CLOUD":   "fake-jwt-secret-of-the-admin-api-tests",
		"KEY_ENCRYPTION_KEY": base64.StdEncoding.EncodeToString(make([]byte, seal.KeySize)),
	}
	set, err := settings.Parse(func(name string) string { return values[name] }, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, settings: set, now: now, D1: SQLite{d1test.New(t)}, stored: map[string]*durabletest.Storage{}}
	s.OpenRouter = openroutertest.New(openroutertest.Options{
		ProvisioningKey: provisioningKey, Rand: rand.NewChaCha8([32]byte{2}),
		Now: func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return now().Add(-s.age)
		},
	})
	s.front = worker.NewFront(set, nil, now, func(oplog.Line) {})
	s.objects = worker.NewObjects(s.front)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.Server.Close()
		s.OpenRouter.Close()
	})
	return s
}

// Put stores a user. The record's key is sealed.
func (s *Server) Put(u User) {
	s.t.Helper()
	row := u.Record
	if row.Key != "" {
		row.Key = s.settings.Sealer.Seal(row.UserID, seal.NewSecret(row.Key))
	}
	record, err := json.Marshal(row)
	if err != nil {
		s.t.Fatal(err)
	}
	state := `{"record":` + string(record)
	if u.Rest != "" {
		state += "," + u.Rest
	}
	s.PutState(row.UserID, state+"}", u.Ledger)
	if err := (users.Table{DB: s.D1}).Save(row, nil); err != nil {
		s.t.Fatal(err)
	}
}

// PutState stores what an object's storage holds, whatever it is.
func (s *Server) PutState(user, state string, ledger []account.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[user] = durabletest.NewStorage(state, ledger)
}

// ChangeEncryptionKey makes what is sealed so far sealed with the previous key, as a
// deployment with another KEY_ENCRYPTION_KEY does.
func (s *Server) ChangeEncryptionKey() {
	s.t.Helper()
	sealer, err := seal.New(bytes.Repeat([]byte{1}, seal.KeySize), make([]byte, seal.KeySize))
	if err != nil {
		s.t.Fatal(err)
	}
	s.worker.Lock()
	defer s.worker.Unlock()
	s.settings.Sealer = sealer
	s.front = worker.NewFront(s.settings, nil, s.now, func(oplog.Line) {})
	s.objects = worker.NewObjects(s.front)
}

// Drop forgets what an object's storage holds, and the row in D1.
func (s *Server) Drop(user string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.stored, user)
	s.D1.Exec(s.t, `DELETE FROM users WHERE user_id = ?`, user)
}

// NewKey makes a key at OpenRouter so long ago, and returns it and its hash.
func (s *Server) NewKey(name string, ago time.Duration) (key, hash string) {
	s.t.Helper()
	s.mu.Lock()
	s.age = ago
	s.mu.Unlock()
	keys := s.settings.OpenRouter(s.OpenRouter, s.now)
	secret, hash, err := keys.Create(openrouter.NewKey{Name: name, Limit: new(account.Credit)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.age = 0
	s.mu.Unlock()
	return secret.Reveal(), hash
}

// Instead has further requests answered by f, unless it returns false. Nil ends
// that.
func (s *Server) Instead(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = f
}

// Asked returns method, path and body of each request so far.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.calls = append(s.calls, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	instead := s.instead
	s.mu.Unlock()
	if instead != nil && instead(w, r) {
		return
	}
	a := s.answer(edge.Request{
		Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Authorization: r.Header.Get("Authorization"), Body: string(body),
	})
	for _, h := range a.Header {
		w.Header().Set(h[0], h[1])
	}
	w.WriteHeader(a.Status)
	_, _ = io.WriteString(w, a.Body) // a client that left is no failure here
}

// answer has the Worker answer, or the object that it hands the request to.
func (s *Server) answer(r edge.Request) answer.Answer {
	c := newCall()
	s.worker.Lock()
	s.front.Route(c, r, func(object string) { s.objects.Serve(c, s.platform(object, c), r) })
	s.worker.Unlock()
	a, err := c.wait()
	if err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.Path, err)
	}
	return a
}

// platform is what one construction of an object lives on.
type platform struct {
	*Server
	name   string
	number int32
	held   *durabletest.Storage
	call   *call
}

// platform begins an object anew, for one call.
func (s *Server) platform(name string, c *call) worker.Platform {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.constructed++
	held := s.stored[name]
	if held == nil {
		held = durabletest.NewStorage("", nil)
		s.stored[name] = held
	}
	admin, _ := worker.Daily()
	c.untilIdle = name != admin
	return platform{s, name, s.constructed, held, c}
}

func (p platform) Name() string                  { return p.name }
func (p platform) Number() int32                 { return p.number }
func (p platform) Storage() durable.Storage      { return p.held }
func (p platform) DB() users.DB                  { return p.D1 }
func (p platform) OpenRouter() http.RoundTripper { return p.Server.OpenRouter }
func (p platform) Sockets() durable.Sockets      { return nil }
func (p platform) Idle()                         { p.call.idle() }
func (p platform) Close()                        {}

// Call has another object answer an internal call.
func (p platform) Call(name, what string) (string, error) {
	c := newCall()
	p.worker.Lock()
	p.objects.AnswerCall(c, p.Server.platform(name, c), what)
	p.worker.Unlock()
	a, err := c.wait()
	return a.Body, err
}

// call is a call that waits for its answer and, so that what is done in the
// background is done too, until the object is idle.
type call struct {
	untilIdle bool
	answered  chan struct{}
	idled     chan struct{}
	answer    answer.Answer
	err       error
}

func newCall() *call {
	return &call{answered: make(chan struct{}, 1), idled: make(chan struct{}, 1)}
}

// Respond implements edge.Call.
func (c *call) Respond(a answer.Answer) {
	c.answer = a
	c.answered <- struct{}{}
}

// Done implements edge.Call.
func (c *call) Done(err error) {
	c.err = err
	c.answered <- struct{}{}
}

// WantKeys implements edge.Call: the operators' token needs none.
func (c *call) WantKeys(url string) { c.Done(fmt.Errorf("the keys at %q are wanted", url)) }

func (c *call) idle() {
	select {
	case c.idled <- struct{}{}:
	default: // again
	}
}

// idleLimit is how long a call may take until nothing is going on any more.
const idleLimit = 30 * time.Second

func (c *call) wait() (answer.Answer, error) {
	limit := time.After(idleLimit)
	select {
	case <-c.answered:
	case <-limit:
		return answer.Answer{}, errors.New("no answer")
	}
	if c.untilIdle {
		select {
		case <-c.idled:
		case <-limit:
			return c.answer, errors.New("the object does not come to rest")
		}
	}
	return c.answer, c.err
}
