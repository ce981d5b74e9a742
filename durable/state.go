package durable

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/quota"
)

// State is all that an object keeps besides the ledger: one JSON value, so
// that whatever changes together is written together.
type State struct {
	Record    *account.Record  `json:"record,omitempty"`    // nil until there is a first key
	Disabled  bool             `json:"disabled,omitempty"`  // the last reading said that an operator disabled the key
	ReadAt    time.Time        `json:"read_at,omitzero"`    // the last reading; only kept under METER_INTERVAL
	Ending    bool             `json:"ending,omitempty"`    // a call that was to disable the key was refused, and may have disabled it all the same: not an operator
	KeyLimit  *account.Credits `json:"key_limit,omitempty"` // of the record's key when it was read last or made; nil: not known
	ExpiresAt time.Time        `json:"expires_at,omitzero"` // of the record's key; zero: never

	ErasedSeq int64     `json:"erased_seq,omitempty"` // of the erasure after which the user began anew; 0: none
	QuotaSeen time.Time `json:"quota_seen,omitzero"`  // since when a quota is known that begins in the future; zero: it has begun
	Unseen    bool      `json:"unseen,omitempty"`     // a first key was ordered before D1 had said whether it knows the user: it is asked again

	Pending *Pending `json:"pending,omitempty"`
	Tasks   Tasks    `json:"chores,omitempty"` // keys to be got rid of in the background, under their first name
	D1      D1Status `json:"d1,omitzero"`

	Alarm time.Time `json:"alarm,omitzero"` // what the alarm was set to in this very transaction
	At    time.Time `json:"at,omitzero"`    // when this was written: a clock that shows less was set back
}

// D1Status is how far D1 has come.
type D1Status struct {
	Seq     int64     `json:"seq,omitempty"`    // D1 is known to hold the record up to here
	Since   time.Time `json:"since,omitzero"`   // when the first change came that D1 does not hold; with none, the last write
	Tries   int       `json:"tries,omitempty"`  // that failed
	Due     time.Time `json:"due,omitzero"`     // when it is written next; zero: it holds all
	Written time.Time `json:"written,omitzero"` // the last write
}

// change changes a state and nothing else, and returns the ledger entry that goes
// with it, if any.
type change func(*State) *account.Entry

// user is the record of a user who is known: nil where there never was one, or
// where it was erased.
func (st *State) user() *account.Record {
	if st.Record == nil || st.Record.Erased {
		return nil
	}
	return st.Record
}

// erasedSeq is the number of the last erasure: what the ledger has up to there is
// nobody's. 0: there was none.
func (st *State) erasedSeq() int64 {
	if st.Record != nil && st.Record.Erased {
		return st.Record.Seq
	}
	return st.ErasedSeq
}

// d1Pending tells whether D1 lacks the latest record.
func (st *State) d1Pending() bool { return st.Record != nil && st.D1.Seq < st.Record.Seq }

// seeQuota notes since when a quota is known that begins in the future, as one does that
// began while the clock was ahead. Once its time has come nothing is to be noted.
func (st *State) seeQuota(now time.Time) {
	switch future := st.Record != nil && st.Record.CreatedAt.After(now.Add(clockTolerance)); {
	case !future:
		st.QuotaSeen = time.Time{}
	case st.QuotaSeen.IsZero():
		st.QuotaSeen = timestamp(now)
	}
}

// quotaBegan is when the wait for the next quota began.
func (st *State) quotaBegan(now time.Time) time.Time {
	if st.QuotaSeen.IsZero() || !st.Record.CreatedAt.After(now) {
		return st.Record.CreatedAt
	}
	return st.QuotaSeen
}

// rename takes a name and an address over into the record. A token without them
// leaves them as they are.
func (st *State) rename(name, email string) {
	if name != "" {
		st.Record.UserName = name
	}
	if email != "" {
		st.Record.Email = email
	}
}

// meter is what is known of the record's key.
func (st *State) meter() quota.Meter {
	return quota.Meter{Limit: st.KeyLimit, Left: st.Record.UsageLimit}
}

// take takes over a reading of the record's key, and returns the ledger entry of
// what it charges, if it does.
func (st *State) take(key openrouter.Key) *account.Entry {
	st.Disabled = key.Disabled
	if !key.ExpiresAt.IsZero() {
		st.ExpiresAt = key.ExpiresAt // D1 does not know it
	}
	if key.Uncapped {
		return nil
	}
	meter, spent := st.meter().Read(quota.Meter{Limit: key.Limit, Left: key.Left})
	st.KeyLimit, st.Record.UsageLimit = meter.Limit, meter.Left
	return st.charge(spent, key.Hash)
}

// charge takes off the quota what was spent on a key, and returns the ledger
// entry, if there is one.
func (st *State) charge(spent account.Credits, hash string) *account.Entry {
	if spent == 0 {
		return nil
	}
	st.Record.RemainingLimit -= spent
	return &account.Entry{Kind: account.Charge, Credits: spent, Hash: hash}
}

// available is how much of the quota there is for the record's key.
func (st *State) available() account.Credits { return st.Record.RemainingLimit - st.Tasks.reserved() }

// owns tells whether a key is the record's, or will be got rid of from here, or is
// named in work that this version does not know.
func (st *State) owns(hash string) bool {
	p := st.Pending
	return st.Record != nil && st.Record.Hash == hash ||
		p != nil && (p.Hash == hash || p.New != nil && p.New.Hash == hash || strings.Contains(p.stored, hash)) ||
		slices.ContainsFunc(st.Tasks, func(task Task) bool { return task.Hash == hash || strings.Contains(task.stored, hash) })
}

// queueSettle leaves the record's key to be settled. One that works on is disabled
// first, once that is due.
func (st *State) queueSettle(kind TaskKind, now, due time.Time) {
	st.Tasks = append(st.Tasks, Task{
		Kind: kind, Hash: st.Record.Hash, Left: st.Record.UsageLimit, Limit: st.KeyLimit, Since: now, Due: due,
	})
}

// abandonAssign has a key deleted that waits for its guardrail.
func (st *State) abandonAssign(now time.Time) {
	if p := st.Pending; p != nil && p.Kind == PendingAssign {
		st.Tasks.queueDelete(p.New.Hash, now, now)
		st.Pending = nil
	}
}

// postponePending leaves what is pending to the alarm, after a try that failed.
func (st *State) postponePending(now time.Time) {
	st.Pending.Tries++
	st.Pending.Due = now.Add(backoff(st.Pending.Tries, maxTaskRetry))
}

// dropKey forgets the record's key, which may not be handed out any more.
func (st *State) dropKey() {
	if st.Record != nil {
		st.Record.Key, st.Record.Hash = "", ""
	}
	st.Disabled, st.Ending, st.ReadAt, st.KeyLimit, st.ExpiresAt = false, false, time.Time{}, nil, time.Time{}
}

// retireKey leaves the record's key, if it has one, and a new one that nobody has
// yet to be deleted in the background.
func (st *State) retireKey(now time.Time) {
	st.abandonAssign(now)
	if st.Record != nil && st.Record.Hash != "" {
		st.Tasks.queueDelete(st.Record.Hash, now, now)
	}
	st.dropKey()
	st.Pending = nil
}

// setBack moves all that is planned, and since when it is, back by so much. A
// reading is not moved: one that lies in the future is not used again. Nor is a key
// to settle, whose wait begins anew: how much of it has passed is not known.
func (st *State) setBack(by, settleAfter, overlap time.Duration) {
	times := []*time.Time{&st.D1.Since, &st.D1.Due, &st.D1.Written, &st.At}
	if p := st.Pending; p != nil {
		times = append(times, &p.Since, &p.Due)
	}
	now := st.At.Add(-by)
	for i := range st.Tasks {
		task := &st.Tasks[i]
		times = append(times, &task.Since)
		switch {
		case !task.settles() || task.Tries > 0:
			times = append(times, &task.Due)
		case task.Kind == DisableKey:
			task.Due = earliest(task.Due, now.Add(overlap))
		default:
			if due := now.Add(settleAfter); due.Before(task.Due) {
				task.Was = cmp.Or(task.Was, task.Due)
				task.Due = due
			}
		}
	}
	for _, t := range times {
		if !t.IsZero() {
			*t = t.Add(-by)
		}
	}
}

// setForward returns a state in which keys to settle are due when they were before the
// clock was set back, once it is again where their wait began: then it was behind for a
// while, and what it showed meanwhile is no time that has passed. nil: there is none.
func (st *State) setForward(now time.Time, settleAfter time.Duration) *State {
	right := func(task Task) bool { return !task.Was.IsZero() && !now.Before(task.Was.Add(-settleAfter)) }
	if !slices.ContainsFunc(st.Tasks, right) {
		return nil
	}
	next := st.clone()
	for i, task := range next.Tasks {
		if right(task) {
			next.Tasks[i].Due, next.Tasks[i].Was = task.Was, time.Time{}
		}
	}
	return next
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// same tells whether two states are the same in all but when they were written. It
// does not know two forms of one time for the same: that costs a write, and no
// more.
func (st *State) same(other *State) bool {
	return other != nil && sameValue(st.Record, other.Record) && st.Disabled == other.Disabled && st.Ending == other.Ending && st.Unseen == other.Unseen && st.ReadAt == other.ReadAt &&
		sameValue(st.KeyLimit, other.KeyLimit) && st.ExpiresAt == other.ExpiresAt &&
		st.ErasedSeq == other.ErasedSeq && st.QuotaSeen == other.QuotaSeen &&
		sameValue(st.Pending, other.Pending) && slices.Equal(st.Tasks, other.Tasks) && st.D1 == other.D1 && st.Alarm == other.Alarm
}

func sameValue[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// clone returns a copy that shares nothing that changes.
func (st *State) clone() *State {
	next := *st
	if st.Record != nil {
		record := *st.Record
		next.Record = &record
	}
	if st.Pending != nil {
		pending := *st.Pending
		next.Pending = &pending
	}
	next.Tasks = slices.Clone(st.Tasks)
	return &next
}
