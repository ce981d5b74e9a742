package durable

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/oplog"
	"latchkey/internal/users"
)

// background runs tasks, one at a time, beside the requests.
type background struct {
	user      string
	runtime   *Runtime
	store     *store
	announcer *announcer
	activity  *activity
	current   func() (request Request, busy bool) // what is being worked on

	mu      sync.Mutex
	running bool
}

// next returns a task that is due, if there is one that may be run now.
func (b *background) next() (Task, bool) {
	st := b.store.snapshot()
	request, busy := b.current()
	if st == nil || busy && request.Action == Erase { // which does all of it itself
		return Task{}, false
	}
	now := b.runtime.Now()
	if st.d1Pending() && !st.D1.Due.After(now) {
		return Task{Kind: syncD1}, true
	}
	if p := st.Pending; p != nil && (p.Op != "" || p.Kind == PendingAssign && busy) {
		return Task{}, false // a user waits for this call: other calls would be in its way
	}
	for _, task := range st.Tasks {
		if task.Kind != UnknownTask && !task.Due.After(now) {
			return task, true
		}
	}
	return Task{}, false
}

// run runs what is due, unless that is going on. No request waits for it.
func (b *background) run() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, some := b.next(); !some || b.running {
		return
	}
	b.running = true
	b.activity.begin()
	go func() {
		for b.runNext() {
		}
		b.activity.end(1)
	}()
}

// runNext runs the next task and tells whether there may be more.
func (b *background) runNext() bool {
	b.mu.Lock()
	task, some := b.next()
	b.running = some
	b.mu.Unlock()
	if !some {
		return false
	}
	if err := b.try(task); err != nil {
		// Nothing can be written, so trying on would go round in circles.
		b.mu.Lock()
		b.running = false
		b.mu.Unlock()
		return false
	}
	return true
}

// try tries a task once, writes down what came of it and logs it. The error is
// that of the writing.
func (b *background) try(task Task) error {
	began := b.runtime.Now()
	calls := newRecorder(b.runtime)
	line := oplog.Line{Evt: oplog.Background, User: b.user, Outcome: oplog.Done, Op: oplog.Op(task.Kind), Hash: oplog.ShortHash(task.Hash)}
	write, failed := b.attempt(task, calls)
	now := b.runtime.Now()
	if failed != nil {
		line.Outcome, line.Err = oplog.Again, failed.Error()
	}
	if write == nil {
		write = func(st *State) *account.Entry {
			line.Tries, line.Stuck = postpone(st, task, now)
			return nil
		}
	}
	err := b.store.apply(write)
	if err != nil {
		line.Outcome, line.Err = oplog.Again, errors.Join(failed, err).Error()
	}
	line.Millis, line.Calls = now.Sub(began).Milliseconds(), calls.calls
	b.runtime.Log(line)
	b.announcer.announce(Kept)
	return err
}

// attempt does the work of a task and returns what to write down of it; nil: that
// it failed and is put off. A mistake in the program is a failed try like any
// other.
func (b *background) attempt(task Task, calls *recorder) (write change, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = panicked(b.runtime, b.user, cause)
		}
	}()
	s, now := &b.runtime.Settings, b.runtime.Now
	keys := s.OpenRouter(calls, now)
	switch task.Kind {
	case syncD1:
		return syncWithD1(b.store, users.Table{DB: calls}, now)
	case DeleteKey:
		return unless(keys.Delete(task.Hash), finish(task))
	case DisableKey:
		return unless(keys.Disable(task.Hash), settleLater(task, func() time.Time { return now().Add(s.SettleAfter) }))
	case SettleKey:
		return settleKey(keys, task, now)
	case FindOrphan:
		return deleteOrphans(b.store, keys, s.KeyNamePrefix, now)
	}
	return nil, fmt.Errorf("%w: task %q", errUnknownKind, task.Kind)
}

// unless returns what to write down of a call, unless that failed.
func unless(err error, write change) (change, error) {
	if err != nil {
		return nil, err
	}
	return write, nil
}
