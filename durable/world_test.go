package durable_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/openroutertest"
	"latchkey/internal/oplog"
	"latchkey/internal/quota"
	"latchkey/internal/seal"
	"latchkey/internal/settings"
	"latchkey/internal/users"
)

// world is all that surrounds the objects, in memory and under control: their
// storage and alarms, OpenRouter (the stand-in), D1 and the clock. Whatever an
// object sends out stops until the world lets it go on and says how it ends. So
// a run depends on nothing but the decisions made here, and can be repeated.
//
// It lives in a synctest bubble, which tells when every goroutine waits.
type world struct {
	now      time.Time
	settings settings.Settings
	server   *openroutertest.Server
	db       *database
	homes    map[string]*home
	decide   func(*call) fate // how an outward call ends; nil: all is well
	rng      *rand.Rand       // for keys, and for random schedules

	mu      sync.Mutex
	waiting []*call // outward calls that have stopped
	late    []lateCall
	calls   int // outward calls so far
	ops     int
	trace   []string // what happened, for a failure's message
	lines   []oplog.Line

	answer func(method string, r *http.Request) *http.Response // an answer of the test's own; nil, or one that is nil: none
	slow   func(method string)                                 // called once OpenRouter has answered, before the object hears of it

	withdrawn  map[string]bool            // hashes an operator deleted at OpenRouter
	read       map[string]account.Credits // by hash: the usage that a reading delivered
	violations []string
	kept       bool // objects at rest always stay in memory; otherwise every second time
}

// home is what outlives an object: its storage and its alarm.
type home struct {
	user    string
	state   string
	ledger  []account.Entry
	alarm   time.Time // zero: not set
	ringing bool      // the alarm rang and its work is not done

	readOnly bool // writes fail

	writes, alarms int // how often each was set

	living *body // nil: nobody is at home
	key    string
}

// body is one living object. A dead one can neither write nor send.
type body struct {
	home   *home
	object *durable.Object
	dead   bool
	rests  int // how often it came to rest
}

var errDead = errors.New("the object is no longer the current one")

// call is an outward call that waits for its fate.
type call struct {
	body   *body
	method string // GET, LIST, POST, PATCH, DELETE, D1
	path   string
	index  int // among all outward calls of the run
	fate   chan fate
}

// lateCall is a call whose client gave up before it is applied.
type lateCall struct {
	due   time.Time
	what  string
	apply func()
}

// fate is how an outward call ends.
type fate string

const (
	well        fate = "well"
	crashBefore fate = "crash before"
	crashAfter  fate = "crash after"
	answerLost  fate = "applied, answer lost" // or timed out and applied
	notSent     fate = "not applied, no answer"
	tooLate     fate = "no answer, applied later"
	refused400  fate = "400"
	refused401  fate = "401"
	refused403  fate = "403"
	status404   fate = "404"
	status429   fate = "429, not applied"
	applied429  fate = "applied, 429"
	status500   fate = "500, not applied"
	applied500  fate = "applied, 500"
	html        fate = "HTML, not applied"
	appliedHTML fate = "applied, HTML"
	cutShort    fate = "applied, cut short"
	gone        fate = "the key was withdrawn before"
)

// fail has every call of a method end in one way, and all others well.
func (w *world) fail(method string, f fate) {
	w.decide = func(c *call) fate {
		if c.method == method {
			return f
		}
		return well
	}
}

// fates that an outward call may meet.
var (
	crashes     = []fate{crashBefore, crashAfter}
	callFates   = []fate{crashBefore, crashAfter, answerLost, notSent, tooLate, refused400, refused401, refused403, status404, status429, applied429, status500, applied500, html, appliedHTML, cutShort, gone}
	tableFates  = []fate{crashBefore, crashAfter, answerLost, notSent, tooLate}
	standInFail = map[fate]openroutertest.Fault{
		refused400:  {Kind: openroutertest.KindStatus, Status: 400},
		refused401:  {Kind: openroutertest.KindStatus, Status: 401},
		refused403:  {Kind: openroutertest.KindStatus, Status: 403},
		status429:   {Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "7"},
		applied429:  {Kind: openroutertest.KindStatus, Status: 429, Applied: true},
		status500:   {Kind: openroutertest.KindStatus, Status: 500},
		applied500:  {Kind: openroutertest.KindStatus, Status: 500, Applied: true},
		html:        {Kind: openroutertest.KindHTML},
		appliedHTML: {Kind: openroutertest.KindHTML, Status: 200, Applied: true},
		cutShort:    {Kind: openroutertest.KindCut, Applied: true},
	}
)

func fatesOf(method string) []fate {
	switch method {
	case "D1":
		return tableFates
	case "DELETE", "PATCH": // whose 429 is taken for proof that they had no effect
		return slices.DeleteFunc(slices.Clone(callFates), func(f fate) bool { return f == applied429 })
	}
	return callFates
}

var sealer, _ = seal.New(make([]byte, seal.KeySize))

// newWorld returns a world in which all is well.
func newWorld(seed uint64) *world {
	w := &world{
		now:   time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		db:    &database{rows: map[string][]any{}, ledger: map[string]map[int64][]any{}},
		homes: map[string]*home{},
		rng:   rand.New(rand.NewPCG(seed, seed)), withdrawn: map[string]bool{}, read: map[string]account.Credits{},
	}
	w.settings = settings.Settings{
		Policy: quota.Policy{
			TotalLimit: 10 * account.Credit, KeyLimit: account.Credit, RotateBelow: account.Credit / 2, RenewAt: account.Credit / 10,
		},
		OpenRouterURL: "http://openrouter.test/api/v1", OpenRouterTimeout: 10 * time.Second,
		ProvisioningKey: seal.NewSecret("sk-or-v1-not-a-real-provisioning-key"), Sealer: sealer, KeyNamePrefix: "latchkey",
	}
	var secret [32]byte
	w.server = openroutertest.New(openroutertest.Options{
		ProvisioningKey: w.settings.ProvisioningKey.Reveal(), Now: w.clock,
		Rand: randomReader{w.rng, secret[:]},
	})
	return w
}

type randomReader struct {
	rng *rand.Rand
	_   []byte
}

func (r randomReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.rng.Uint32())
	}
	return len(p), nil
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) violated(format string, args ...any) {
	w.note("VIOLATION: "+format, args...)
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

func (w *world) home(user string) *home {
	h := w.homes[user]
	if h == nil {
		h = &home{user: user}
		w.homes[user] = h
	}
	return h
}

// object returns the living object of a user, or a new one.
func (w *world) object(user string) *durable.Object {
	h := w.home(user)
	if h.living == nil {
		b := &body{home: h}
		b.object = durable.New(user, durable.Runtime{
			Settings: w.settings, Storage: storage{w, b}, DB: port{w, b}, Transport: port{w, b}, Now: w.clock,
			NewOp: func() string {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.ops++
				return fmt.Sprintf("op%d", w.ops)
			},
			Log: func(line oplog.Line) {
				w.note("  log %s", line)
				w.mu.Lock()
				defer w.mu.Unlock()
				w.lines = append(w.lines, line)
			},
			// The Worker may keep an object at rest in memory, or not.
			Idle: func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				b.rests++
				if h.living == b && !w.kept && b.rests%2 == 0 {
					h.living = nil
				}
			},
		})
		h.living = b
	}
	return h.living.object
}

// reply is what a client got.
type reply struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Outcome string `json:"outcome"`
	Key     string `json:"openrouter_api_key"`
	Hash    string `json:"hash"`
	ID      string `json:"id"`

	body string
}

// ask sends a request. The reply is filled in when it comes; a client whose
// object dies gets 503, as worker.mjs has it.
func (w *world) ask(user string, want durable.Action) *reply {
	return w.request(user, durable.Request{
		Action: want, Who: auth.Identity{ID: user, Name: "Name of " + user, Email: user + "@example.org"},
	})
}

// request sends any request, an operator's too.
func (w *world) request(user string, r durable.Request) *reply {
	got := &reply{}
	w.note("%s asks for %s", user, r.Action)
	object := w.object(user)
	b := w.home(user).living
	object.Ask(r, func(a answer.Answer) {
		if b.dead {
			got.Status = http.StatusServiceUnavailable
			return
		}
		if err := json.Unmarshal([]byte(a.Body), got); err != nil && a.Status != http.StatusNoContent {
			w.violated("%s got no JSON: %s", user, a.Body)
		}
		got.Status, got.body = a.Status, a.Body
		w.note("%s got %d %s%s %.8s", user, a.Status, got.Outcome, got.Code, got.Hash)
		if got.Status == http.StatusOK && got.Key != "" {
			w.checkAnswer(user, *got)
		}
	})
	synctest.Wait()
	return got
}

// checkAnswer: every 200 carries a key of the user's own that is alive.
func (w *world) checkAnswer(user string, got reply) {
	w.homes[user].key = got.Key
	if got.ID != user {
		w.violated("%s got the answer of %s", user, got.ID)
	}
	for _, key := range w.server.Keys() {
		if key.Secret != got.Key {
			continue
		}
		if !strings.HasPrefix(key.Name, "latchkey:"+user+":") {
			w.violated("%s got the key %s", user, key.Name)
		}
		if key.Deleted && !w.withdrawn[key.Hash] {
			w.violated("%s got the key %s, which is deleted", user, key.Name)
		}
		return
	}
	w.violated("%s got a key that OpenRouter does not know", user)
}

// crash ends the living object of a user.
func (w *world) crash(user string) {
	if b := w.home(user).living; b != nil {
		w.bury(b)
		w.unwind(b)
	}
}

// bury makes a living object a dead one. The runtime repeats an alarm whose
// work did not end.
func (w *world) bury(b *body) {
	h := b.home
	w.note("%s crashes", h.user)
	b.dead, h.living = true, nil
	if h.ringing {
		h.ringing = false
		if h.alarm.IsZero() || h.alarm.After(w.now) {
			h.alarm = w.now
		}
	}
}

// unwind ends what a dead object waits for. In the runtime it would wait for
// ever; here its goroutines have to end.
func (w *world) unwind(dead *body) {
	for {
		w.mu.Lock()
		i := slices.IndexFunc(w.waiting, func(c *call) bool { return c.body == dead })
		var stuck *call
		if i >= 0 {
			stuck = w.waiting[i]
			w.waiting = slices.Delete(w.waiting, i, i+1)
		}
		w.mu.Unlock()
		if stuck == nil {
			return
		}
		stuck.fate <- crashBefore
		synctest.Wait()
	}
}

// ring lets the alarm of a user ring.
func (w *world) ring(h *home) {
	w.note("the alarm of %s rings", h.user)
	h.alarm, h.ringing = time.Time{}, true
	object := w.object(h.user)
	b := h.living
	object.Alarm(func(err error) {
		if b.dead {
			return
		}
		h.ringing = false
		if err != nil { // as worker.mjs has it
			h.alarm = w.clock().Add(time.Minute)
		}
	})
	synctest.Wait()
}

// step decides the fate of an outward call that waits, and lets it go on.
func (w *world) step(i int) {
	w.mu.Lock()
	c := w.waiting[i]
	w.waiting = append(w.waiting[:i:i], w.waiting[i+1:]...)
	w.mu.Unlock()
	f := well
	if w.decide != nil {
		f = w.decide(c)
	}
	w.note("%d: %s: %s %s: %s", c.index, c.body.home.user, c.method, c.path, f)
	if f != crashBefore && f != crashAfter {
		c.fate <- f
		synctest.Wait()
		return
	}
	w.bury(c.body) // first, so that nothing after the call is written
	c.fate <- f
	synctest.Wait()
	w.unwind(c.body)
}

// finish lets every outward call go on to its end. No alarm rings.
func (w *world) finish() {
	for len(w.waiting) > 0 {
		w.step(0)
	}
}

// lateBy is how long a call that is applied late takes: longer than its
// deadline, and shorter than what is waited for an orphan.
const lateBy = 30 * time.Second

// runLate applies the late calls that are due.
func (w *world) runLate() {
	for len(w.late) > 0 && !w.late[0].due.After(w.now) {
		w.note("a late %s is applied", w.late[0].what)
		w.late[0].apply()
		w.late = w.late[1:]
	}
}

// drain lets everything go on to its end, the alarms included.
func (w *world) drain() {
	const enough = 5000
	for range enough {
		synctest.Wait()
		w.runLate()
		if len(w.waiting) > 0 {
			w.step(0)
			continue
		}
		next := w.firstAlarm()
		switch {
		case next != nil && (len(w.late) == 0 || !w.late[0].due.Before(next.alarm)):
			if next.alarm.After(w.now) {
				w.now = next.alarm
			}
			w.runLate()
			w.ring(next)
		case len(w.late) > 0:
			w.now = w.late[0].due
		default:
			return
		}
	}
	w.violated("it never comes to rest")
}

func (w *world) firstAlarm() *home {
	var first *home
	for _, h := range w.homes {
		if !h.alarm.IsZero() && !h.ringing &&
			(first == nil || h.alarm.Before(first.alarm) || h.alarm.Equal(first.alarm) && h.user < first.user) {
			first = h
		}
	}
	return first
}

// spend spends credits on the key that the user was handed last, as far as
// OpenRouter lets it.
func (w *world) spend(user string, credits float64) {
	if err := w.server.Spend(w.home(user).key, credits); err == nil {
		w.note("%s spends %v", user, credits)
	}
}

// storage is a home's storage as one living object sees it.
type storage struct {
	*world
	body *body
}

func (s storage) Load() (string, error) {
	if s.body.dead {
		return "", errDead
	}
	return s.body.home.state, nil
}

func (s storage) Write(state string, entry *account.Entry, alarm *time.Time) error {
	h := s.body.home
	if s.body.dead || h.readOnly {
		return errDead
	}
	s.note("  %s writes %s", h.user, state)
	if strings.Contains(state, "sk-or-") {
		s.violated("%s has an unsealed key in storage", h.user)
	}
	h.state = state
	h.writes++
	if entry != nil {
		s.note("  %s books %s %s", h.user, entry.Kind, entry.Credits)
		if n := len(h.ledger); n > 0 && h.ledger[n-1].Seq >= entry.Seq {
			s.violated("the ledger of %s goes from %d to %d", h.user, h.ledger[n-1].Seq, entry.Seq)
		}
		h.ledger = append(h.ledger, *entry)
	}
	if alarm != nil {
		h.alarm = *alarm
		h.alarms++
	}
	return nil
}

func (s storage) Entries(seq int64, limit int) ([]account.Entry, error) {
	if s.body.dead {
		return nil, errDead
	}
	var entries []account.Entry
	for _, e := range s.body.home.ledger {
		if e.Seq > seq && len(entries) < limit {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// port is where the calls of one living object leave: to OpenRouter and to D1.
type port struct {
	*world
	body *body
}

// stop waits for the fate of a call.
func (p port) stop(method, path string) fate {
	if p.body.dead {
		return crashBefore
	}
	c := &call{body: p.body, method: method, path: path, fate: make(chan fate)}
	p.mu.Lock()
	c.index = p.calls
	p.calls++
	p.waiting = append(p.waiting, c)
	p.mu.Unlock()
	return <-c.fate
}

var errNoAnswer = errors.New("no answer")

// RoundTrip implements http.RoundTripper.
func (p port) RoundTrip(request *http.Request) (*http.Response, error) {
	method := request.Method
	switch {
	case strings.HasSuffix(request.URL.Path, "/assignments/keys"):
		method = "ASSIGN"
	case strings.HasSuffix(request.URL.Path, "/keys") && method == http.MethodGet:
		method = "LIST"
	}
	f := p.stop(method, request.URL.Path)
	hash := request.URL.Path[strings.LastIndex(request.URL.Path, "/")+1:]
	switch f {
	case crashBefore:
		return nil, errDead
	case notSent:
		return nil, errNoAnswer
	case tooLate:
		sent := copyOf(request)
		p.late = append(p.late, lateCall{p.now.Add(lateBy), method, func() {
			if response, err := p.server.RoundTrip(sent); err == nil {
				response.Body.Close()
			}
		}})
		return nil, errNoAnswer
	case status404:
		if method == "POST" || method == "LIST" || method == "ASSIGN" { // about a key it would be a lie; gone makes it true
			return respond(404, `{"error":{"code":404,"message":"Not found"}}`), nil
		}
	case gone:
		if method != "POST" && method != "LIST" && method != "ASSIGN" {
			p.withdraw(hash)
		}
	}
	if fault, ok := standInFail[f]; ok {
		p.server.Fail(operation[method], fault, 1)
	}
	if p.answer != nil {
		if response := p.answer(method, request); response != nil {
			return response, nil
		}
	}
	response, err := p.server.RoundTrip(request)
	if p.slow != nil {
		p.slow(method)
	}
	switch {
	case f == crashAfter:
		return nil, errDead
	case f == answerLost:
		return nil, errNoAnswer
	case err == nil && f == well && method == "GET" && response.StatusCode == http.StatusOK:
		body, _ := io.ReadAll(response.Body)
		response.Body = io.NopCloser(bytes.NewReader(body))
		var told struct {
			Data struct {
				Usage account.Credits  `json:"usage"`
				Limit *account.Credits `json:"limit"`
			} `json:"data"`
		}
		if json.Unmarshal(body, &told) == nil && told.Data.Limit != nil {
			p.read[hash] = told.Data.Usage
		}
	}
	return response, err
}

// withdraw deletes a key at OpenRouter behind our back.
func (w *world) withdraw(hash string) {
	w.withdrawn[hash] = true
	request, _ := http.NewRequest(http.MethodDelete, w.settings.OpenRouterURL+"/keys/"+hash, nil)
	request.Header.Set("Authorization", "Bearer "+w.settings.ProvisioningKey.Reveal())
	if response, err := w.server.RoundTrip(request); err == nil {
		response.Body.Close()
	}
}

var operation = map[string]openroutertest.Op{
	"GET": openroutertest.OpGet, "LIST": openroutertest.OpList, "POST": openroutertest.OpCreate, "DELETE": openroutertest.OpDelete, "PATCH": openroutertest.OpUpdate, "ASSIGN": openroutertest.OpAssign,
}

func copyOf(request *http.Request) *http.Request {
	clone := request.Clone(request.Context())
	if request.Body != nil {
		body, _ := io.ReadAll(request.Body)
		clone.Body = io.NopCloser(bytes.NewReader(body))
	}
	return clone
}

func respond(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// Batch implements users.DB.
func (p port) Batch(statements []users.Statement) ([]json.RawMessage, error) {
	switch f := p.stop("D1", statements[0].SQL[:6]); f {
	case crashBefore:
		return nil, errDead
	case notSent:
		return nil, errNoAnswer
	case well:
		return p.db.batch(statements), nil
	case crashAfter:
		p.db.batch(statements)
		return nil, errDead
	case tooLate:
		p.late = append(p.late, lateCall{p.now.Add(lateBy), "D1", func() { p.db.batch(statements) }})
		return nil, errNoAnswer
	default:
		p.db.batch(statements)
		return nil, errNoAnswer
	}
}

// database is D1, as far as package users uses it. Its own tests run the SQL on
// a real SQLite; this one heeds the clauses that guard against late writes only where
// the SQL has them.
type database struct {
	rows   map[string][]any           // by user
	ledger map[string]map[int64][]any // by user and seq
}

// columns of a row, in the order in which package users writes them.
var columns = []string{"user_id", "user_name", "email", "key", "hash", "total_limit", "remaining_limit", "usage_limit", "seq", "created_at", "updated_at", "suspended"}

func (d *database) batch(statements []users.Statement) []json.RawMessage {
	results := make([]json.RawMessage, len(statements))
	for i, s := range statements {
		results[i] = json.RawMessage(`[]`)
		switch {
		case strings.HasPrefix(s.SQL, "SELECT"):
			if row, ok := d.rows[s.Args[0].(string)]; ok {
				named := map[string]any{}
				for j, column := range columns {
					named[column] = row[j]
				}
				results[i], _ = json.Marshal([]any{named})
			}
		case strings.HasPrefix(s.SQL, "INSERT INTO users"):
			user, seq := s.Args[0].(string), s.Args[8].(int64)
			guarded := strings.Contains(s.SQL, "WHERE excluded.seq >= users.seq")
			if old, ok := d.rows[user]; !ok || !guarded || seq >= old[8].(int64) {
				d.rows[user] = s.Args
			}
		case strings.HasPrefix(s.SQL, "INSERT INTO ledger"):
			for args := s.Args; len(args) > 0; args = args[7:] {
				user, seq := args[0].(string), args[1].(int64)
				if d.ledger[user] == nil {
					d.ledger[user] = map[int64][]any{}
				}
				if d.ledger[user][seq] == nil {
					d.ledger[user][seq] = args[:7]
				}
			}
		case strings.HasPrefix(s.SQL, "DELETE FROM users"):
			user, guarded := s.Args[0].(string), strings.HasSuffix(s.SQL, " AND seq < ?")
			if row, ok := d.rows[user]; ok && (!guarded || row[8].(int64) < s.Args[1].(int64)) {
				delete(d.rows, user)
			}
		default:
			panic("a statement that the simulation does not know: " + s.SQL)
		}
	}
	return results
}
