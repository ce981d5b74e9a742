// Package durable is a user's Durable Object: the one place that works on that
// user's key.
//
// It promises that one request at a time works on a user and that those which
// want the same meanwhile share its answer; that whatever is about to be done
// is in storage before the call that does it, so that dying at any point loses
// nothing, charges nothing twice and leaves no key behind; and that what could
// not be finished is taken up by the alarm until it is.
//
// A request goes from [Object.Ask], which limits how many there are (limit.go), through the
// queue (queue.go), and is dispatched (dispatch.go) as an operation (operation.go). What is
// stored is loaded, or imported from D1 (import.go). Then those of the user go to the flow
// (flow.go, replace.go, renew.go, create.go), which asks the rules (rules.go) what to do,
// and are answered (answer.go); those of an operator go to operator.go, erase.go, inspect.go,
// ledger.go and reseal.go. Each change of the state (state.go) is written by the store
// (store.go), which asks the schedule (schedule.go) when the alarm has to ring. Tasks
// (task.go, tasklist.go, background.go, settle.go, orphans.go) are what is done in the
// background, and tried again (retry.go); D1 is brought up to date there, too (d1.go). Open
// sockets are told of each change (sockets.go).
//
// The package knows nothing of JavaScript. It has no timers, and holds its locks
// across no call: package edge says why.
package durable

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"latchkey/internal/answer"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
)

// Object is one active object. A new one starts from what is in storage.
type Object struct {
	runtime    Runtime
	user       string
	store      store
	queue      queue[Request, answer.Answer]
	background background
	announcer  announcer
	activity   activity
	opened     openedKey

	mu           sync.Mutex    // guards what follows; never held across a call
	ownReads     int           // requests of the user beside the queue
	bucket       bucket        // of the user's requests
	alarmWaiters []func(error) // of alarms that rang: called once all is done for now
}

// New returns the object of a user.
func New(user string, r Runtime) *Object {
	o := &Object{runtime: r, user: user}
	o.store = store{storage: r.Storage, settings: &o.runtime.Settings, now: r.Now, jitter: jitterOf(user)}
	o.queue.joins = func(waiting, next Request) bool { return waiting.Action == next.Action && next.Action.Shared() }
	o.queue.work = o.work
	o.activity.onIdle = o.onIdle
	o.background = background{user: user, runtime: &o.runtime, store: &o.store, announcer: &o.announcer, activity: &o.activity, current: o.queue.current}
	o.announcer = announcer{user: user, runtime: &o.runtime, store: &o.store, opened: &o.opened}
	return o
}

// MaxWaiting is how many requests of one user may wait. A person with a
// hundred tabs on a few devices stays below; a client gone wild does not.
const MaxWaiting = 512

// Ask queues a request. reply is called exactly once, later, with the answer;
// whether it still reaches anybody does not matter to the work. A request of
// the user joins one that wants the same and has no answer yet; one that changes
// nothing does not wait for others.
func (o *Object) Ask(r Request, reply func(answer.Answer)) {
	o.activity.begin()
	if p := o.admit(r.Action); p != nil {
		a := p.Answer()
		o.runtime.Log(oplog.Line{
			Evt: r.Action.event(), User: o.user, Op: oplog.Op(r.Action), Outcome: oplog.Outcome(p.Code), Status: a.Status, Waiting: o.queue.length(),
		})
		reply(a)
		o.activity.end(1)
		return
	}
	if r.Action.reads() {
		go o.read(r, reply)
		return
	}
	o.queue.add(r, reply)
}

// admit counts a request in, or says why it is not even queued. An operator is
// always admitted.
func (o *Object) admit(action Action) *problem.Problem {
	o.mu.Lock()
	defer o.mu.Unlock()
	if action.byUser() {
		if o.queue.length()+o.ownReads >= MaxWaiting {
			p := problem.New(problem.Overloaded, "Too many requests of this user are waiting.")
			p.RetryAfter = time.Second
			return p
		}
		if p := o.limit(action); p != nil {
			return p
		}
	}
	if action == OwnLedger {
		o.ownReads++
	}
	return nil
}

// read answers a request that changes nothing, beside the queue.
func (o *Object) read(r Request, reply func(answer.Answer)) {
	op := o.operation(r)
	result := op.run()
	o.runtime.Log(op.line)
	reply(result)
	if r.Action == OwnLedger {
		o.mu.Lock()
		o.ownReads--
		o.mu.Unlock()
	}
	o.background.run()
	o.activity.end(1)
}

// work answers a request of the queue. What it returns besides is called once the answer
// was given.
func (o *Object) work(r Request) (answer.Answer, func(joined, waiting int)) {
	op := o.operation(r)
	result := op.run()
	return result, func(joined, waiting int) {
		if op.line.Waiting = waiting; joined > 1 {
			op.line.Shared = joined
		}
		o.runtime.Log(op.line)
		outcome := Kept
		if r.Action.byUser() && result.Status < http.StatusBadRequest {
			outcome = Outcome(op.line.Outcome)
		}
		o.announcer.announce(outcome)
		if r.Action == Connect {
			o.announcer.connected()
		}
		o.background.run()
		o.activity.end(joined)
	}
}

// onIdle is called once nothing is going on any more. The alarm is set again where it
// has rung, and the runtime is told that the object needs no memory until the next
// request: all it knows is in storage.
func (o *Object) onIdle() {
	o.mu.Lock()
	waiters := o.alarmWaiters
	o.alarmWaiters = nil
	o.mu.Unlock()
	if len(waiters) > 0 {
		err := o.store.reschedule()
		for _, done := range waiters {
			done(err)
		}
	}
	o.runtime.Idle()
}

// load reads what is stored, once. It also prunes the sockets, and logs work of a kind that
// this version does not know, which is kept.
func (o *Object) load() error {
	first, err := o.store.load()
	if err != nil || !first {
		return err
	}
	o.announcer.prune()
	st := o.store.snapshot()
	unknown := st.Pending != nil && st.Pending.Kind == PendingUnknown
	if unknown || slices.ContainsFunc(st.Tasks, func(task Task) bool { return task.Kind == UnknownTask }) {
		o.runtime.Log(oplog.Line{Evt: oplog.Background, User: o.user, Op: oplog.OpUnknown, Outcome: oplog.Failed, Err: errUnknownKind.Error()})
	}
	return nil
}

// Alarm takes up what was not finished. done is called once nothing more can be
// done for now; the alarm is set again by then if anything is left. After an
// error it is not, and the runtime has to ring again.
func (o *Object) Alarm(done func(error)) {
	o.activity.begin()
	defer o.activity.end(1)
	err := o.load()
	if _, unreadable := errors.AsType[*damaged](err); unreadable {
		// To ring again would change nothing. The next request is told, and logged.
		o.runtime.Log(oplog.Line{Evt: oplog.Background, User: o.user, Op: oplog.OpAlarm, Outcome: oplog.Damaged, Err: err.Error()})
		o.announcer.closeAll()
		done(nil)
		return
	}
	if err != nil {
		done(err)
		return
	}
	st := o.store.alarmRang()
	due := st.Pending != nil && st.Pending.Kind != PendingUnknown && !st.Pending.Due.After(o.runtime.Now())
	repairs := due && o.queue.length() == 0
	o.mu.Lock()
	o.alarmWaiters = append(o.alarmWaiters, done)
	o.mu.Unlock()
	if repairs {
		o.activity.begin()
		o.queue.add(Request{Action: repair}, func(answer.Answer) {})
	}
	o.announcer.prune()
	o.background.run()
}

func (o *Object) operation(r Request) *operation {
	return newOperation(r, o.user, &o.runtime, &o.store, &o.opened, o.load)
}
