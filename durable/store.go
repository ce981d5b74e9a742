package durable

import (
	"fmt"
	"sync"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/settings"
)

// clockTolerance is by how much the clocks of two machines may differ: an object
// that moved may find itself in its own past.
const clockTolerance = time.Second

// store is what is in the object's storage. It is read once; a change is written
// whole or not at all, and moves what is in memory once it is written.
type store struct {
	storage  Storage
	settings *settings.Settings
	now      func() time.Time
	jitter   jitter

	mu        sync.Mutex // never held while anything is waited for
	state     *State     // nil: not loaded
	stored    *State     // as storage has it; nil: nothing
	lastAlarm time.Time  // what the alarm that rang last was set to
	expiry    time.Time  // when the token of a socket expires next; zero: never
}

// damaged says that what is stored of a user makes no sense. An operator is shown
// so, and can erase the user.
type damaged struct{ cause error }

func (d *damaged) Error() string { return "durable: what is stored makes no sense: " + d.cause.Error() }

// Unwrap returns the cause.
func (d *damaged) Unwrap() error { return d.cause }

// load reads the state from storage, once, and follows the clock where that was
// set back since, and where it is right again: what is due so long after something stays
// so long after it.
// first tells whether it was read now.
func (s *store) load() (first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == nil {
		stored, err := s.storage.Load()
		if err != nil {
			return false, fmt.Errorf("durable: loading the state: %w", err)
		}
		st := &State{}
		if stored != "" {
			if err := st.decode(stored); err != nil {
				return false, &damaged{err}
			}
			s.stored = st
		}
		s.state, first = st, true
	}
	if back := s.state.At.Sub(s.now()); back > clockTolerance {
		st := s.state.clone()
		st.setBack(back, s.settings.SettleAfter, s.settings.RotationOverlap)
		s.state, s.lastAlarm = st, time.Time{}
	}
	if st := s.state.setForward(s.now(), s.settings.SettleAfter); st != nil {
		s.state = st
	}
	return first, nil
}

// snapshot returns the state as it is now; nil: it was not loaded. It must not be
// changed.
func (s *store) snapshot() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// mayBeInD1 tells whether D1 is to be asked for the user: storage holds no record, and
// nobody has asked D1 yet.
func (s *store) mayBeInD1() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored == nil || s.stored.Unseen
}

// apply changes the state and writes it, in one transaction with the ledger entry
// of the change, if there is one, and the alarm. Where nothing changed, nothing is
// written. A record that changed, or whose key was disabled or enabled, gets the next seq:
// the user's devices are told by it, and D1 is brought up to it later.
//
// What is about to be done is written before the call that does it, and what came of a
// call after it. Dying before the write leaves everything as it was; dying after it
// leaves what to do next.
func (s *store) apply(c change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(s.state, c)
}

// reschedule has the alarm ring for what is next. Where it does already, nothing is
// written.
func (s *store) reschedule() error {
	return s.apply(func(*State) *account.Entry { return nil })
}

// reset begins anew: all that storage holds gives way to one change.
func (s *store) reset(c change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(&State{}, c)
}

// write applies a change to a state and writes it. The lock is held.
func (s *store) write(before *State, c change) error {
	now := s.now()
	next := before.clone()
	entry := c(next)
	next.At = timestamp(now)
	next.seeQuota(now)
	if r := next.Record; r != nil && (before.Record == nil || *r != *before.Record || next.Disabled != before.Disabled) {
		r.Seq++
		r.UpdatedAt = timestamp(now)
		if !before.d1Pending() || before.Record.Erased { // an erased row is looked at for a minute, which is no lag
			next.D1.Since, next.D1.Tries = now, 0
		}
		if entry != nil {
			entry.Seq, entry.At, entry.RemainingLimit = r.Seq, r.UpdatedAt, r.RemainingLimit
		}
	}
	p := schedule(next, before.Alarm, s.lastAlarm, s.expiry, now, s.jitter)
	next.Alarm, next.D1.Due = p.alarm, p.d1
	if next.same(s.stored) {
		return nil
	}
	var alarm *time.Time
	if !next.Alarm.Equal(before.Alarm) {
		alarm = &next.Alarm
	}
	if err := s.storage.Write(next.encode(), entry, alarm); err != nil {
		return fmt.Errorf("durable: writing the state: %w", err)
	}
	s.state, s.stored = next, next
	return nil
}

// expectSockets takes over when the token of a socket expires next.
func (s *store) expectSockets(expiry time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expiry = expiry
}

// alarmRang notes that the alarm rang, and is not set any more.
func (s *store) alarmRang() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	rang := *s.state
	s.lastAlarm, rang.Alarm = rang.Alarm, time.Time{}
	s.state = &rang
	return s.state
}

// timestamp is a time as storage and D1 keep it.
func timestamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
