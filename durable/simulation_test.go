package durable_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/durable/durabletest"
	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/openroutertest"
	"latchkey/internal/oplog"
	"latchkey/internal/quota"
	"latchkey/internal/seal"
	"latchkey/internal/settings"
)

// simulation is all that surrounds the objects, in memory and under control: their
// storage and alarms, OpenRouter (the stand-in), D1 and the clock. Whatever an
// object sends out stops until the simulation lets it go on and says how it ends. So
// a run depends on nothing but the decisions made here, and can be repeated.
//
// It lives in a synctest bubble, which tells when every goroutine waits.
type simulation struct {
	now       time.Time
	settings  settings.Settings
	server    *openroutertest.Server
	db        *database
	instances map[string]*instance
	decide    func(*call) fault // how an outward call ends; nil: all is well
	rng       *rand.Rand        // for keys, and for random schedules

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
	unlisted   bool // the runtime does not list the sockets
	kept       bool // idle objects always stay in memory; otherwise every second time
}

// instance is what outlives an object: its storage and its alarm.
type instance struct {
	user    string
	state   string
	ledger  durabletest.Ledger
	alarm   time.Time // zero: not set
	ringing bool      // the alarm rang and its work is not done

	readOnly bool // writes fail
	loads    int  // how often the state was read
	tabs     []*tab

	writes, alarms int // how often each was set

	active *incarnation // nil: none is in memory
	key    string
}

// incarnation is one active object. A dead one can neither write nor send.
type incarnation struct {
	instance *instance
	object   *durable.Object
	dead     bool
	idled    int // how often nothing was going on any more
}

var errDead = errors.New("the object is no longer the current one")

// call is an outward call that waits for its fault.
type call struct {
	incarnation *incarnation
	method      string // GET, LIST, POST, PATCH, DELETE, D1
	path        string
	index       int // among all outward calls of the run
	fault       chan fault
}

var sealer, _ = seal.New(make([]byte, seal.KeySize))

// newSimulation returns a simulation in which all is well.
func newSimulation(seed uint64) *simulation {
	w := &simulation{
		now:       time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		db:        &database{rows: map[string][]any{}, ledger: map[string]map[int64][]any{}},
		instances: map[string]*instance{},
		rng:       rand.New(rand.NewPCG(seed, seed)), withdrawn: map[string]bool{}, read: map[string]account.Credits{},
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

func (w *simulation) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *simulation) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *simulation) violated(format string, args ...any) {
	w.note("VIOLATION: "+format, args...)
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

func (w *simulation) instance(user string) *instance {
	h := w.instances[user]
	if h == nil {
		h = &instance{user: user}
		w.instances[user] = h
	}
	return h
}

// object returns the active object of a user, or a new one.
func (w *simulation) object(user string) *durable.Object {
	h := w.instance(user)
	if h.active == nil {
		b := &incarnation{instance: h}
		b.object = durable.New(user, durable.Runtime{
			Settings: w.settings, Storage: storage{w, b}, DB: port{w, b}, Transport: port{w, b}, Sockets: sockets{w, b}, Now: w.clock,
			NewID: func() string {
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
			// The Worker may keep an idle object in memory, or not.
			Idle: func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				b.idled++
				if h.active == b && !w.kept && b.idled%2 == 0 {
					h.active = nil
				}
			},
		})
		h.active = b
	}
	return h.active.object
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
func (w *simulation) ask(user string, want durable.Action) *reply {
	return w.request(user, durable.Request{
		Action: want, Who: auth.Identity{ID: user, Name: "Name of " + user, Email: user + "@example.org"},
	})
}

// request sends any request, an operator's too.
func (w *simulation) request(user string, r durable.Request) *reply {
	got := &reply{}
	w.note("%s asks for %s", user, r.Action)
	object := w.object(user)
	b := w.instance(user).active
	object.Ask(r, func(a answer.Answer) {
		if b.dead {
			got.Status = http.StatusServiceUnavailable
			return
		}
		if a.Socket != nil {
			got.Status = a.Status
			w.connected(user, a.Socket)
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
func (w *simulation) checkAnswer(user string, got reply) {
	w.instances[user].key = got.Key
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

// crash ends the active object of a user.
func (w *simulation) crash(user string) {
	if b := w.instance(user).active; b != nil {
		w.bury(b)
		w.unwind(b)
	}
}

// bury makes a active object a dead one. The runtime repeats an alarm whose
// work did not end.
func (w *simulation) bury(b *incarnation) {
	h := b.instance
	w.note("%s crashes", h.user)
	b.dead, h.active = true, nil
	for _, t := range h.tabs {
		if t.closed == "" {
			t.closed = "1006"
		}
	}
	if h.ringing {
		h.ringing = false
		if h.alarm.IsZero() || h.alarm.After(w.now) {
			h.alarm = w.now
		}
	}
}

// unwind ends what a dead object waits for. In the runtime it would wait for
// ever; here its goroutines have to end.
func (w *simulation) unwind(dead *incarnation) {
	for {
		w.mu.Lock()
		i := slices.IndexFunc(w.waiting, func(c *call) bool { return c.incarnation == dead })
		var stuck *call
		if i >= 0 {
			stuck = w.waiting[i]
			w.waiting = slices.Delete(w.waiting, i, i+1)
		}
		w.mu.Unlock()
		if stuck == nil {
			return
		}
		stuck.fault <- crashBefore
		synctest.Wait()
	}
}

// ring lets the alarm of a user ring.
func (w *simulation) ring(h *instance) {
	w.note("the alarm of %s rings", h.user)
	h.alarm, h.ringing = time.Time{}, true
	object := w.object(h.user)
	b := h.active
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

// step decides the fault of an outward call that waits, and lets it go on.
func (w *simulation) step(i int) {
	w.mu.Lock()
	c := w.waiting[i]
	w.waiting = append(w.waiting[:i:i], w.waiting[i+1:]...)
	w.mu.Unlock()
	f := well
	if w.decide != nil {
		f = w.decide(c)
	}
	w.note("%d: %s: %s %s: %s", c.index, c.incarnation.instance.user, c.method, c.path, f)
	if f != crashBefore && f != crashAfter {
		c.fault <- f
		synctest.Wait()
		return
	}
	w.bury(c.incarnation) // first, so that nothing after the call is written
	c.fault <- f
	synctest.Wait()
	w.unwind(c.incarnation)
}

// finish lets every outward call go on to its end. No alarm rings.
func (w *simulation) finish() {
	for len(w.waiting) > 0 {
		w.step(0)
	}
}

// lateBy is how long a call that is applied late takes: longer than its
// deadline, and shorter than what is waited for an orphan.
const lateBy = 30 * time.Second

// runLate applies the late calls that are due.
func (w *simulation) runLate() {
	for len(w.late) > 0 && !w.late[0].due.After(w.now) {
		w.note("a late %s is applied", w.late[0].what)
		w.late[0].apply()
		w.late = w.late[1:]
	}
}

// drain lets everything go on to its end, the alarms included.
func (w *simulation) drain() {
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

func (w *simulation) firstAlarm() *instance {
	var first *instance
	for _, h := range w.instances {
		if !h.alarm.IsZero() && !h.ringing &&
			(first == nil || h.alarm.Before(first.alarm) || h.alarm.Equal(first.alarm) && h.user < first.user) {
			first = h
		}
	}
	return first
}

// spend spends credits on the key that the user was handed last, as far as
// OpenRouter lets it.
func (w *simulation) spend(user string, credits float64) {
	if err := w.server.Spend(w.instance(user).key, credits); err == nil {
		w.note("%s spends %v", user, credits)
	}
}
