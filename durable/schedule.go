package durable

import "time"

// maxD1Interval is the time between two writes of a user's row to D1, which
// writes for all users one after the other. The first change is written at once.
const maxD1Interval = 5 * time.Second

// d1Interval is maxD1Interval, or up to a fifth less.
func (j jitter) d1Interval() time.Duration {
	return maxD1Interval - time.Duration(float64(j)*float64(maxD1Interval)/5)
}

// reason says what the alarm rings for.
type reason string

const (
	forNothing reason = ""
	forPending reason = "pending call"
	forTask    reason = "task"
	forD1      reason = "D1"
	forSocket  reason = "token of a socket"
)

// plan is when an object has to be woken, and when D1 is due.
type plan struct {
	alarm  time.Time // zero: not at all
	reason reason
	d1     time.Time // zero: D1 has it all
}

// schedule plans what a state calls for: each task and call says when it is due, and when
// the alarm rings for it is decided here. alarm is what it is set to, lastAlarm what the
// one that rang last was set to, and expiry when the token of a socket expires; zero: none.
func schedule(st *State, alarm, lastAlarm, expiry, now time.Time, j jitter) plan {
	p := plan{d1: d1Due(st, j)}
	candidate := func(due time.Time, why reason) {
		if !due.After(now) {
			due = j.firstRetryAt(now) // it is being tried
		}
		if p.reason == forNothing || due.Before(p.alarm) {
			p.alarm, p.reason = due, why
		}
	}
	if pending := st.Pending; pending != nil && pending.Kind != PendingUnknown {
		candidate(pending.Due, forPending)
	}
	for _, task := range st.Tasks {
		if task.Kind != UnknownTask {
			candidate(task.Due, forTask)
		}
	}
	if !p.d1.IsZero() {
		candidate(p.d1, forD1)
	}
	if !expiry.IsZero() {
		candidate(expiry, forSocket)
	}
	switch {
	case p.reason == forNothing:
		return p
	case alarm.After(now) && !alarm.After(p.alarm):
		// To move an alarm costs more than to let it ring early.
		p.alarm = alarm
	case p.alarm.Equal(lastAlarm):
		// It rang early, and may be ringing still: to be set to the same time
		// meanwhile could be taken for no change, and the alarm be dropped.
		p.alarm = p.alarm.Add(time.Millisecond)
	}
	if p.d1.After(p.alarm) && st.D1.Tries == 0 {
		p.d1 = p.alarm // once it rings, D1 can be written too
	}
	return p
}

// d1Due is when D1 is to be written; zero: it has the latest record. A first change
// is due at once, and those that follow on it once the interval has passed.
func d1Due(st *State, j jitter) time.Time {
	next := st.D1.Written.Add(j.d1Interval())
	switch {
	case !st.d1Pending():
		return time.Time{}
	case st.D1.Tries > 0:
		return st.D1.Due
	case next.After(st.D1.Since):
		return next
	}
	return st.D1.Since
}
