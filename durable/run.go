package durable

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
	"latchkey/internal/users"
)

// stuckAfter is when a task that keeps failing is called stuck.
const stuckAfter = 24 * time.Hour

// Alarm takes up what was not finished. done is called once nothing more can be
// done for now; the alarm is set again by then if anything is left. After an
// error it is not, and the runtime has to ring again.
func (o *Object) Alarm(done func(error)) {
	first, err := o.store.load()
	if _, unreadable := errors.AsType[*damaged](err); unreadable {
		// To ring again would change nothing. The next request is told, and logged.
		o.runtime.Log(oplog.Line{Evt: oplog.Background, User: o.user, Op: oplog.OpAlarm, Outcome: oplog.Damaged, Err: err.Error()})
		done(nil)
		return
	}
	if err != nil {
		done(err)
		return
	}
	st := o.store.alarmRang()
	if first {
		logUnknown(st, o.user, o.runtime.Log)
	}
	due := st.Pending != nil && st.Pending.Kind != PendingUnknown && !st.Pending.Due.After(o.runtime.Now())
	repairs := due && o.queue.length() == 0
	o.mu.Lock()
	o.alarmWaiters = append(o.alarmWaiters, done)
	if o.active++; repairs {
		o.active++
	}
	o.mu.Unlock()
	if repairs {
		o.queue.add(Request{Action: repair}, func(answer.Answer) {})
	}
	o.runTasks()
	o.end(1)
}

// nextTask returns a task that is due, if there is one that may be run now.
func (o *Object) nextTask() (Task, bool) {
	st := o.store.snapshot()
	request, busy := o.queue.current()
	if st == nil || busy && request.Action == Erase { // which does all of it itself
		return Task{}, false
	}
	now := o.runtime.Now()
	if st.d1Pending() && !st.D1.Due.After(now) {
		return Task{Kind: syncD1}, true
	}
	if p := st.Pending; p != nil && (p.Kind == PendingCreate || p.Kind == PendingAssign && busy) {
		return Task{}, false // on the way to an answer only that is sent
	}
	for _, task := range st.Tasks {
		if task.Kind != UnknownTask && !task.Due.After(now) {
			return task, true
		}
	}
	return Task{}, false
}

// runTasks runs what is due in the background, unless that is going on. No request
// waits for it.
func (o *Object) runTasks() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, some := o.nextTask(); !some || o.runsTasks {
		return
	}
	o.runsTasks = true
	o.active++
	go func() {
		for o.runNextTask() {
		}
		o.end(1)
	}()
}

// runNextTask runs the next task and tells whether there may be more.
func (o *Object) runNextTask() bool {
	o.mu.Lock()
	task, some := o.nextTask()
	o.runsTasks = some
	o.mu.Unlock()
	if !some {
		return false
	}
	if err := o.try(task); err != nil {
		// Nothing can be written, so trying on would go round in circles.
		o.mu.Lock()
		o.runsTasks = false
		o.mu.Unlock()
		return false
	}
	return true
}

// try tries a task once, writes down what came of it and logs it. The error is
// that of the writing.
func (o *Object) try(task Task) error {
	began := o.runtime.Now()
	calls := o.recorder()
	line := oplog.Line{Evt: oplog.Background, User: o.user, Outcome: oplog.Done, Op: oplog.Op(task.Kind), Hash: oplog.ShortHash(task.Hash)}
	write, failed := o.attempt(task, calls)
	now := o.runtime.Now()
	if failed != nil {
		line.Outcome, line.Err = oplog.Again, failed.Error()
	}
	if write == nil {
		write = func(st *State) *account.Entry {
			line.Tries, line.Stuck = postpone(st, task, now)
			return nil
		}
	}
	err := o.store.apply(write)
	if err != nil {
		line.Outcome, line.Err = oplog.Again, errors.Join(failed, err).Error()
	}
	line.Millis, line.Calls = now.Sub(began).Milliseconds(), calls.calls
	o.runtime.Log(line)
	return err
}

// attempt does the work of a task and returns what to write down of it; nil: that
// it failed and is put off. A mistake in the program is a failed try like any
// other.
func (o *Object) attempt(task Task, calls *recorder) (write change, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = o.panicked(cause)
		}
	}()
	keys, s, now := o.client(calls), &o.runtime.Settings, o.runtime.Now
	switch task.Kind {
	case syncD1:
		return syncWithD1(&o.store, users.Table{DB: calls}, now)
	case DeleteKey:
		return unless(keys.Delete(task.Hash), finish(task))
	case DisableKey:
		return unless(keys.Disable(task.Hash), disabled(task, func() time.Time { return now().Add(s.SettleAfter) }))
	case SettleKey:
		return settleKey(keys, task, now)
	case FindOrphan:
		return deleteOrphans(&o.store, keys, s.KeyNamePrefix, now)
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

// finish takes a task off the list.
func finish(task Task) change {
	return func(st *State) *account.Entry {
		st.Tasks = slices.DeleteFunc(st.Tasks, task.same)
		return nil
	}
}

// postpone puts a task off after a failed try.
func postpone(st *State, task Task, now time.Time) (tries int, stuck bool) {
	if task.Kind == syncD1 {
		st.D1.Tries++
		st.D1.Due = now.Add(backoff(st.D1.Tries, maxD1Retry))
		return st.D1.Tries, now.Sub(st.D1.Since) > stuckAfter
	}
	i := slices.IndexFunc(st.Tasks, task.same)
	if i < 0 {
		return 0, false // a renewal has made something else of it
	}
	for other := range st.Tasks { // one walk looks for all orphans
		if t := &st.Tasks[other]; other == i || task.Kind == FindOrphan && t.Kind == FindOrphan {
			t.Tries++
			t.Due = now.Add(backoff(t.Tries, maxTaskRetry))
		}
	}
	return st.Tasks[i].Tries, now.Sub(st.Tasks[i].Since) > stuckAfter
}
