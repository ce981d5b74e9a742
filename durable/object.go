// Package durable is a user's Durable Object: the one place that works on that
// user's key.
//
// It promises that one request at a time works on a user and that those which
// want the same meanwhile share its answer; that whatever is about to be done
// is in storage before the call that does it, so that dying at any point loses
// nothing, charges nothing twice and leaves no key behind; and that what could
// not be finished is taken up by the alarm until it is.
//
// The package knows nothing of JavaScript. It has no timers, and holds its lock
// across no call: package edge says why.
package durable

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
	"latchkey/internal/settings"
	"latchkey/internal/users"
)

// Storage is the object's own storage. A write that returned without an error
// is durable before anything that is sent after it leaves; a write by an object
// that is no longer the current one fails.
type Storage interface {
	// Load returns the state last written, or "" where there is none.
	Load() (string, error)
	// Write stores, as one transaction, the state, a ledger entry unless it is
	// nil, and when the alarm is to ring: nil leaves it as it is, and the zero
	// time is never.
	Write(state string, entry *account.Entry, alarm *time.Time) error
	// Entries returns the ledger entries after seq, oldest first, at most limit.
	Entries(seq int64, limit int) ([]account.Entry, error)
	// Latest returns the ledger entries before seq, or all where it is 0, newest
	// first, at most limit.
	Latest(before int64, limit int) ([]account.Entry, error)
}

// Runtime is what an object gets from around it.
type Runtime struct {
	Settings  settings.Settings
	Storage   Storage
	DB        users.DB
	Transport http.RoundTripper // to OpenRouter
	Now       func() time.Time
	NewOp     func() string // an id that no other creation has
	Log       func(oplog.Line)
	Idle      func() // called whenever nothing is going on any more
}

// Object is one living object. A new one starts from what is in storage.
type Object struct {
	Runtime
	user  string
	share float64 // of 1: a number of the user's own, so that users who began together go on apart

	mu      sync.Mutex    // guards what follows; never held across a call
	queue   []*flight     // the first one is being worked on
	waiting int           // requests in the queue
	looking int           // requests beside the queue
	tending bool          // background work is going on
	bucket  bucket        // of the user's requests
	paused  []func(error) // to be told, by alarms that rang, once all is done for now
	state   *State        // nil: not loaded
	stored  *State        // as storage has it; nil: nothing

	sealed string      // the record's key that was opened last
	key    seal.Secret // and what it holds

	rang      time.Time // what the alarm that rang last was set to
	busySince time.Time // when the writes to D1 began that follow on one another
	projected time.Time // the last one
}

// New returns the object of a user.
func New(user string, r Runtime) *Object {
	hash := fnv.New32a()
	io.WriteString(hash, user) // never fails
	return &Object{Runtime: r, user: user, share: float64(hash.Sum32()%1024) / 1024}
}

// Action is what a request asks for.
type Action string

// What can be asked for: by the user, by an operator, and by the object itself.
const (
	Me        Action = "me"                 // a working key
	Refresh   Action = "refresh"            // a new key
	Inspect   Action = "inspect"            // what the object holds
	Ledger    Action = "ledger"             // a page of its ledger
	OwnLedger Action = "ledger of the user" // a page of it, for the user
	Owns      Action = "owns"               // whether a key is known here
	Adjust    Action = "adjust"             // limits, suspension
	Erase     Action = "erase"              // everything but the ledger
	Sync      Action = "sync"               // row and ledger written to D1 anew, which has lost them
	repair    Action = "repair"             // the end of a call that was cut off
)

// reads tells whether an action changes nothing, and need not wait for what does.
func (a Action) reads() bool { return a == Inspect || a == Ledger || a == OwnLedger || a == Owns }

// Shared tells whether one answer does for all who want it at once.
func (a Action) Shared() bool { return a == Me || a == Refresh || a == repair }

// Request is what is asked of an object. What an action has no use for is empty.
type Request struct {
	Action     Action
	Who        auth.Identity // me, refresh
	Adjustment Adjustment    // adjust
	Hash       string        // owns
	Before     int64         // ledgers: entries before this seq; 0: from the newest on
	Limit      int           // ledgers: at most so many
}

// flight is one piece of work and those who wait for its answer.
type flight struct {
	Request
	waiters []func(answer.Answer)
}

// MaxWaiting is how many requests of one user may wait. A person with a
// hundred tabs on a few devices stays below; a client gone wild does not.
const MaxWaiting = 512

// Ask queues a request. reply is called exactly once, later, with the answer;
// whether it still reaches anybody does not matter to the work. A request of
// the user joins one that wants the same and has no answer yet.
func (o *Object) Ask(r Request, reply func(answer.Answer)) {
	o.mu.Lock()
	if r.Action.reads() {
		o.looking++
		o.mu.Unlock()
		go o.look(r, reply)
		return
	}
	if p := o.keepOut(r.Action); p != nil {
		waiting := o.waiting
		o.mu.Unlock()
		a := p.Answer()
		o.Log(oplog.Line{Evt: r.event(), User: o.user, Op: oplog.Op(r.Action), Outcome: oplog.Outcome(p.Code), Status: a.Status, Waiting: waiting})
		reply(a)
		return
	}
	o.waiting++
	o.enqueue(r, reply)
	o.mu.Unlock()
}

// keepOut says why a request of the user is not even queued; nil: it is. An
// operator is never kept out. The lock is held.
func (o *Object) keepOut(action Action) *problem.Problem {
	switch {
	case !action.Shared():
		return nil
	case o.waiting >= MaxWaiting:
		p := problem.New(problem.Overloaded, "Too many requests of this user are waiting.")
		p.RetryAfter = time.Second
		return p
	}
	return o.limit(action)
}

// look answers a request that changes nothing, beside the queue.
func (o *Object) look(r Request, reply func(answer.Answer)) {
	result, line := o.fly(&flight{Request: r})
	o.Log(line)
	reply(result)
	o.mu.Lock()
	o.looking--
	o.mu.Unlock()
	o.tend()
	o.rest()
}

// event is the kind of log line that tells of a request.
func (r Request) event() oplog.Event {
	if r.Action.Shared() {
		return oplog.Key
	}
	return oplog.Admin
}

// enqueue joins a flight or adds one, and starts the queue where it stands still.
func (o *Object) enqueue(r Request, waiters ...func(answer.Answer)) {
	for _, f := range o.queue {
		if f.Action == r.Action && r.Action.Shared() {
			f.waiters = append(f.waiters, waiters...)
			return
		}
	}
	o.queue = append(o.queue, &flight{r, waiters})
	if len(o.queue) == 1 {
		go o.work()
	}
}

// work empties the queue.
func (o *Object) work() {
	for {
		o.mu.Lock()
		f := o.queue[0]
		o.mu.Unlock()

		result, line := o.fly(f)

		o.mu.Lock()
		o.queue = o.queue[1:]
		o.waiting -= len(f.waiters)
		line.Waiting = o.waiting
		more := len(o.queue) > 0
		o.mu.Unlock()

		if len(f.waiters) > 1 {
			line.Shared = len(f.waiters)
		}
		o.Log(line)
		for _, reply := range f.waiters {
			reply(result)
		}
		o.tend()
		if !more {
			o.rest()
			return
		}
	}
}

// fly does the work of one flight. A mistake in the program ends the flight,
// not the queue: what was written so far is whole.
func (o *Object) fly(f *flight) (result answer.Answer, line oplog.Line) {
	began := o.Now()
	line = oplog.Line{Evt: f.event(), User: o.user, Op: oplog.Op(f.Action)}
	calls := &recorder{now: o.Now, transport: o.Transport, db: o.DB}
	defer func() {
		if cause := recover(); cause != nil {
			result = o.refuse(o.panicked(cause), &line)
		}
		line.Millis = o.Now().Sub(began).Milliseconds()
		line.Calls = calls.calls
	}()
	t := turn{Object: o, Request: f.Request, keys: o.client(calls), table: users.Table{DB: calls}, line: &line}
	a, outcome, err := t.do()
	if err != nil {
		return o.refuse(err, &line), line
	}
	line.Outcome, line.Status = oplog.Outcome(outcome), a.Status
	o.describe(&line)
	return a, line
}

// panicked logs a mistake in the program and where it is.
func (o *Object) panicked(cause any) error {
	o.Log(oplog.Line{Evt: oplog.Panic, User: o.user, Err: fmt.Sprintf("%v\n%s", cause, debug.Stack())})
	return fmt.Errorf("durable: panic: %v", cause)
}

// refuse is the answer to a request that failed.
func (o *Object) refuse(err error, line *oplog.Line) answer.Answer {
	p := ClientError(err)
	a := p.Answer()
	line.Outcome, line.Status, line.Err = oplog.Outcome(p.Code), a.Status, err.Error()
	o.describe(line)
	return a
}

// describe adds what the record holds now.
func (o *Object) describe(line *oplog.Line) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == nil || o.state.user() == nil {
		return
	}
	r := o.state.Record
	line.RemainingLimit, line.UsageLimit, line.Hash = &r.RemainingLimit, &r.UsageLimit, oplog.ShortHash(r.Hash)
}

// defaultRetryAfter is what a client is told where OpenRouter said nothing.
const defaultRetryAfter = 5 * time.Second

// ClientError maps what can go wrong with OpenRouter and D1 to what a client may see.
func ClientError(err error) *problem.Problem {
	var e *openrouter.Error
	if !errors.As(err, &e) {
		return problem.From(err)
	}
	if e.Kind == openrouter.Unavailable {
		return unavailable("OpenRouter cannot be reached just now.", e.RetryAfter, err)
	}
	p := problem.New(problem.UpstreamRefused, "OpenRouter refused, and trying again will not help. The operator has to look into it.")
	p.Cause = err
	return p
}

func unavailable(detail string, retryAfter time.Duration, cause error) *problem.Problem {
	p := problem.New(problem.UpstreamUnavailable, detail)
	p.RetryAfter, p.Cause = retryAfter, cause
	if retryAfter == 0 {
		p.RetryAfter = defaultRetryAfter
	}
	return p
}

// client returns a client of OpenRouter whose calls are recorded.
func (o *Object) client(calls *recorder) openrouter.Client {
	return openrouter.Client{
		BaseURL: o.Settings.OpenRouterURL, ProvisioningKey: o.Settings.ProvisioningKey, Workspace: o.Settings.Workspace,
		Transport: calls, Now: o.Now,
	}
}

// damaged says that what is stored of a user makes no sense. An operator is shown
// so, and can erase the user.
type damaged struct{ cause error }

func (d *damaged) Error() string { return "durable: what is stored makes no sense: " + d.cause.Error() }

// Unwrap returns the cause.
func (d *damaged) Unwrap() error { return d.cause }

// load reads the state from storage, once, and follows the clock where that was
// set back since: what is due so long after something stays so long after it.
func (o *Object) load() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == nil {
		stored, err := o.Storage.Load()
		if err != nil {
			return fmt.Errorf("durable: loading the state: %w", err)
		}
		st := &State{}
		if stored != "" {
			if err := st.decode(stored); err != nil {
				return &damaged{err}
			}
			o.stored = st
		}
		o.state = st
	}
	if back := o.state.At.Sub(o.Now()); back > clockTolerance {
		st := o.state.clone()
		st.setBack(back, o.Settings.SettleAfter, o.Settings.RotationOverlap)
		o.state, o.rang = st, time.Time{}
		o.busySince, o.projected = o.busySince.Add(-back), o.projected.Add(-back)
	}
	return nil
}

// snapshot returns the state as it is now. It must not be changed.
func (o *Object) snapshot() *State {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

// change changes a state, and returns the ledger entry that goes with it, if any.
type change func(*State) *account.Entry

// update changes the state and writes it, in one transaction with the ledger
// entry of the change, if there is one, and the alarm. Where nothing changed,
// nothing is written. A record that changed gets the next seq, and D1 is
// brought up to it later.
//
// Every update comes before the call that it is about. Dying before the write
// leaves everything as it was; dying after it leaves what to do next.
func (o *Object) update(c change) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.Now()
	next := o.state.clone()
	entry := c(next)
	next.At = moment(now)
	nextD1 := o.nextD1() // the change may be that D1 was written
	busy := nextD1.After(now)
	if r := next.Record; r != nil && (o.state.Record == nil || *r != *o.state.Record) {
		r.Seq++
		r.UpdatedAt = moment(now)
		if !o.state.behind() || o.state.Record.Erased { // or a row is only watched
			next.D1.Since, next.D1.Tries, next.D1.Due = now, 0, o.d1Turn(now.Add(time.Second)) // D1 is tried at once
			if busy {
				next.D1.Due = nextD1
			}
		}
		if entry != nil {
			entry.Seq, entry.At, entry.RemainingLimit = r.Seq, r.UpdatedAt, r.RemainingLimit
		}
	}
	next.Alarm = next.wake(now, o.soon())
	switch {
	case o.alarmStays(next.Alarm, busy, now):
		next.Alarm = o.state.Alarm
		if next.behind() && next.D1.Tries == 0 && busy && next.Alarm.After(next.D1.Due) {
			next.D1.Due = next.Alarm // one of the two is enough
		}
	case next.Alarm.IsZero() && busy && o.state.behind():
		next.Alarm = nextD1 // for the change that is to be expected: to set it now costs nothing
	}
	if !next.Alarm.IsZero() && next.Alarm.Equal(o.rang) {
		// It rang early, and may be ringing still: to be set to the same moment
		// meanwhile could be taken for no change, and the alarm be dropped.
		next.Alarm = next.Alarm.Add(time.Millisecond)
	}
	if next.same(o.stored) {
		return nil
	}
	if busy && next.Alarm.After(now) && next.hasCaughtUpWith(o.stored) {
		// That D1 has it all is written with the next change, or once the alarm
		// rings. Dying before brings D1 up to date again, which does no harm.
		o.state = next
		return nil
	}
	var alarm *time.Time
	if !next.Alarm.Equal(o.state.Alarm) {
		alarm = &next.Alarm
	}
	if err := o.Storage.Write(next.encode(), entry, alarm); err != nil {
		return fmt.Errorf("durable: writing the state: %w", err)
	}
	o.state, o.stored = next, next
	return nil
}

// soon is when the alarm takes up what is tried at once, should that come to
// nothing: after half of firstRetry for some users, and all of it for others.
func (o *Object) soon() time.Time {
	return o.Now().Add(firstRetry - time.Duration(o.share*float64(firstRetry)/2))
}

// alarmStays tells whether an alarm that is set can stay as it is, where it would
// be set to wanted now. To move it costs more than to let it ring. So while the
// user is busy it may ring late, as late as a change may reach D1, and stays where
// nothing is left to do: the next change would set it again. The lock is held.
func (o *Object) alarmStays(wanted time.Time, busy bool, now time.Time) bool {
	set := o.state.Alarm
	switch latest := now.Add(maxD1Pause); {
	case !set.After(now):
		return false
	case busy && wanted.IsZero():
		return true
	case busy && wanted.Before(latest):
		wanted = latest
	}
	return !set.After(wanted)
}

// empty tells whether storage holds nothing at all.
func (o *Object) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stored == nil
}

// moment is a time as storage and D1 keep it.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
