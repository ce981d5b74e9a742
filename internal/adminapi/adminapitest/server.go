// Package adminapitest is the admin API for tests of its clients, over HTTP and
// without a runtime. What answers is the real thing, and so a client that knows the
// API otherwise fails: each user's [durable.Object], and the admin service, over a
// storage in memory, SQLite in D1's place, and the stand-in for OpenRouter. Only
// the routes are told apart here rather than in the Worker.
//
//	s := adminapitest.New(t, "token", clock)
//	s.Put(adminapitest.User{Record: record, Ledger: entries})
//	client, err := adminclient.New(s.URL, seal.NewSecret("token"), nil)
package adminapitest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/admin"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/openrouter"
	"latchkey/internal/openroutertest"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
	"latchkey/internal/settings"
	"latchkey/internal/users"
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

	mu      sync.Mutex
	stored  map[string]*stored // by user
	age     time.Duration      // by which OpenRouter's clock is behind
	calls   []string
	instead func(w http.ResponseWriter, r *http.Request) bool
	ops     int
}

// stored is an object's storage.
type stored struct {
	mu     sync.Mutex
	state  string
	ledger []account.Entry
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
	s := &Server{t: t, settings: set, now: now, D1: newSQLite(t), stored: map[string]*stored{}}
	s.OpenRouter = openroutertest.New(openroutertest.Options{
		ProvisioningKey: provisioningKey, Rand: rand.NewChaCha8([32]byte{2}),
		Now: func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return now().Add(-s.age)
		},
	})
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
	s.stored[user] = &stored{state: state, ledger: slices.Clone(ledger)}
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
	secret, hash, err := s.keys().Create(openrouter.NewKey{Name: name, Limit: new(account.Credit)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.age = 0
	s.mu.Unlock()
	return secret.Reveal(), hash
}

func (s *Server) keys() openrouter.Client {
	return openrouter.Client{BaseURL: s.settings.OpenRouterURL, ProvisioningKey: s.settings.ProvisioningKey, Transport: s.OpenRouter, Now: s.now}
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
	a, err := s.route(r, body)
	if err != nil {
		a = durable.ClientError(err).Answer()
	}
	for _, h := range a.Header {
		w.Header().Set(h[0], h[1])
	}
	w.WriteHeader(a.Status)
	_, _ = io.WriteString(w, a.Body) // a client that left is no failure here
}

// route answers as the Worker does, for operators.
func (s *Server) route(r *http.Request, body []byte) (answer.Answer, error) {
	if err := auth.Operator(r.Header.Get("Authorization"), s.settings.AdminToken); err != nil {
		return answer.Answer{}, err
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api/admin/")
	parts := strings.Split(rest, "/")
	id := ""
	if len(parts) > 1 {
		id, _ = url.PathUnescape(parts[1]) // the server has parsed it
	}
	unknown := problem.New(problem.NotFound, "There is nothing at this path.")
	switch route := r.Method + " " + strings.Join(append(parts[:1:1], parts[min(2, len(parts)):]...), "/"); {
	case !ok:
		return answer.Answer{}, unknown
	case len(parts) == 1 && route == "GET users":
		return s.list(r.URL.Query())
	case len(parts) == 1 && route == "POST reconcile":
		return s.reconcile(body)
	case id == "":
		return answer.Answer{}, unknown
	case route == "GET users/ledger":
		return s.ledger(id, r.URL.Query())
	case route == "POST users/sync":
		return s.ask(id, durable.Request{Action: durable.Sync})
	case route == "GET users":
		return s.ask(id, durable.Request{Action: durable.Inspect})
	case route == "DELETE users":
		return s.ask(id, durable.Request{Action: durable.Erase})
	case route == "PATCH users":
		var change adminapi.Adjustment
		if err := decode(body, &change); err != nil {
			return answer.Answer{}, err
		}
		return s.ask(id, durable.Request{Action: durable.Adjust, Adjustment: durable.Adjustment(change)})
	}
	return answer.Answer{}, unknown
}

func decode(body []byte, into any) error {
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return problem.New(problem.InvalidRequest, "The body is not the JSON object that is wanted here.")
	}
	return nil
}

func (s *Server) service() admin.Service {
	return admin.Service{
		Keys: s.keys(), Table: users.Table{DB: s.D1}, Prefix: s.settings.KeyNamePrefix, Now: s.now,
		Knows: func(user, hash string) (bool, error) {
			a, err := s.ask(user, durable.Request{Action: durable.Owns, Hash: hash})
			return strings.Contains(a.Body, "true"), err
		},
	}
}

func (s *Server) list(query url.Values) (answer.Answer, error) {
	limit, _ := strconv.Atoi(query.Get("limit"))
	page, err := s.service().List(admin.Query{Limit: limit, Cursor: query.Get("cursor"), Text: query.Get("q")})
	return answer.JSON(http.StatusOK, "application/json", page), err
}

func (s *Server) reconcile(body []byte) (answer.Answer, error) {
	var options adminapi.ReconcileOptions
	if err := decode(body, &options); err != nil {
		return answer.Answer{}, err
	}
	report, err := s.service().Reconcile(options)
	return answer.JSON(http.StatusOK, "application/json", report), err
}

// ledger answers a page of a ledger, whatever limit is asked for of PageLimit
// entries at most, so that a walk has several pages.
func (s *Server) ledger(id string, query url.Values) (answer.Answer, error) {
	s.mu.Lock()
	held := s.stored[id]
	s.mu.Unlock()
	if held == nil {
		return answer.Answer{}, problem.New(problem.NotFound, "There is no such user.")
	}
	before, _ := strconv.ParseInt(query.Get("cursor"), 10, 64)
	entries, err := held.Latest(before, PageLimit)
	if err != nil {
		return answer.Answer{}, err
	}
	page := adminapi.LedgerPage{Entries: append([]account.Entry{}, entries...)}
	if len(entries) == PageLimit {
		page.NextCursor = new(strconv.FormatInt(entries[PageLimit-1].Seq, 10))
	}
	return answer.JSON(http.StatusOK, "application/json", page), nil
}

// PageLimit is how many entries a page of a ledger has at most.
const PageLimit = 2

// idleLimit is how long an object may take until nothing is going on in it.
const idleLimit = 30 * time.Second

// ask has the user's object answer, and waits until nothing is going on in it any
// more: what it does in the background is done then.
func (s *Server) ask(user string, r durable.Request) (answer.Answer, error) {
	s.mu.Lock()
	held := s.stored[user]
	if held == nil {
		held = &stored{}
		s.stored[user] = held
	}
	s.mu.Unlock()
	answered, idle := make(chan answer.Answer, 1), make(chan struct{}, 1)
	object := durable.New(user, durable.Runtime{
		Settings: s.settings, Storage: held, DB: s.D1, Transport: s.OpenRouter, Now: s.now,
		NewOp: s.newOp, Log: func(oplog.Line) {},
		Idle: func() {
			select {
			case idle <- struct{}{}:
			default:
			}
		},
	})
	object.Ask(r, func(a answer.Answer) { answered <- a })
	a := <-answered
	select {
	case <-idle:
	case <-time.After(idleLimit):
		return a, fmt.Errorf("the object of %q does not come to rest", user)
	}
	if state, _ := held.Load(); state == "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.stored, user)
	}
	return a, nil
}

func (s *Server) newOp() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops++
	return fmt.Sprintf("op%d", s.ops)
}

// Load implements durable.Storage.
func (s *stored) Load() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, nil
}

// Write implements durable.Storage.
func (s *stored) Write(state string, entry *account.Entry, _ *time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state = state; entry != nil {
		s.ledger = append(s.ledger, *entry)
	}
	return nil
}

// Entries implements durable.Storage.
func (s *stored) Entries(seq int64, limit int) ([]account.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	later := slices.DeleteFunc(slices.Clone(s.ledger), func(e account.Entry) bool { return e.Seq <= seq })
	return later[:min(limit, len(later))], nil
}

// Latest implements durable.Storage.
func (s *stored) Latest(before int64, limit int) ([]account.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	earlier := slices.DeleteFunc(slices.Clone(s.ledger), func(e account.Entry) bool { return before != 0 && e.Seq >= before })
	slices.Reverse(earlier)
	return earlier[:min(limit, len(earlier))], nil
}
