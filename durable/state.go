package durable

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/go-faster/jx"

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
	Ending    bool             `json:"ending,omitempty"`    // a call that was to end the key was refused, and may have disabled it all the same
	KeyLimit  *account.Credits `json:"key_limit,omitempty"` // of the record's key when it was read last or made; nil: not known
	ExpiresAt time.Time        `json:"expires_at,omitzero"` // of the record's key; zero: never

	Pending *Pending `json:"pending,omitempty"`
	Chores  []Chore  `json:"chores,omitempty"`
	D1      Lag      `json:"d1,omitzero"`

	Alarm time.Time `json:"alarm,omitzero"` // what the alarm was set to in this very transaction
	At    time.Time `json:"at,omitzero"`    // when this was written: a clock that shows less was set back
}

// Pending is the call of a rotation, renewal or first key that is under way, or
// was when the object died or the call failed. While a deletion is pending, the
// record's key is not handed out.
type Pending struct {
	Delete string    `json:"delete,omitempty"` // a DELETE of this hash (under SETTLE_AFTER, a PATCH that disables it) may have been sent
	Final  bool      `json:"final,omitempty"`  // nothing can show up late on the key to delete: it is not settled
	Create string    `json:"create,omitempty"` // a POST under this op may have been sent
	Assign *NewKey   `json:"assign,omitempty"` // a key that is ours, and has to come under the guardrail before anybody gets it
	Since  time.Time `json:"since"`
	Tries  int       `json:"tries,omitempty"` // that failed
	Due    time.Time `json:"due"`             // when the alarm takes it up
}

// NewKey is a key that was made and that nobody has been handed yet.
type NewKey struct {
	Kind      account.Kind    `json:"kind"` // what its creation amounts to
	Key       string          `json:"key"`  // sealed
	Hash      string          `json:"hash"`
	Limit     account.Credits `json:"limit"`
	ExpiresAt time.Time       `json:"expires_at,omitzero"`
}

// Chore is a key to be got rid of in the background, once it is Due.
type Chore struct {
	Delete string           `json:"delete,omitempty"` // by its hash
	Orphan string           `json:"orphan,omitempty"` // by its op, which its name holds: it may exist or not
	Settle string           `json:"settle,omitempty"` // by its hash, after it was read and charged a last time
	Live   bool             `json:"live,omitempty"`   // the key to settle is yet to be disabled
	Left   account.Credits  `json:"left,omitempty"`   // on the key to settle, when it was read last: it may still cost that
	Limit  *account.Credits `json:"limit,omitempty"`  // of the key to settle, as KeyLimit
	Since  time.Time        `json:"since"`
	Tries  int              `json:"tries,omitempty"`
	Due    time.Time        `json:"due"`
}

// Lag is how far D1 is behind.
type Lag struct {
	Seq   int64     `json:"seq,omitempty"` // D1 is known to hold the record up to here
	Since time.Time `json:"since,omitzero"`
	Tries int       `json:"tries,omitempty"`
	Due   time.Time `json:"due,omitzero"`
}

const (
	// firstRetry is when the alarm takes up what was not finished. It leaves
	// room for the try that is made at once.
	firstRetry = 5 * time.Second
	// maxChoreRetry and maxLagRetry cap the backoff, which doubles. Nothing is
	// ever given up. D1 is asked more often: it is to be right within a minute
	// of its recovery.
	maxChoreRetry = 10 * time.Minute
	maxLagRetry   = 30 * time.Second
	// maxChores bounds the state, and what is asked of an OpenRouter that keeps
	// failing: past it no more keys are asked for.
	maxChores = 64
	// maxD1Pause caps the pause between two writes of a user's row to D1, which
	// writes for all users one after the other. The pause is three times as long as
	// the user has been busy, or until the user's next turn, so that a single change
	// is written at once and a burst of them seldom. quiet is when a user is busy no
	// more.
	maxD1Pause = 5 * time.Second
	quiet      = 2 * maxD1Pause
	// orphanGrace is how long a POST without an answer may take to show its
	// key: one that is not found after it was never made.
	orphanGrace = 2 * time.Minute
	// orphanMargin is by how much OpenRouter's clock may differ from ours.
	orphanMargin = time.Hour
	// writeGrace is how long a write to D1 that was given up may take to arrive.
	writeGrace = time.Minute
	// clockTolerance is by how much the clocks of two machines may differ: an
	// object that moved may find itself in its own past.
	clockTolerance = time.Second
	// stuckAfter is when a background job that keeps failing is called stuck.
	stuckAfter = 24 * time.Hour
)

// backoff is the pause after so many failed tries.
func backoff(tries int, longest time.Duration) time.Duration {
	return min(firstRetry<<min(tries-1, 10), longest)
}

// user is the record of a user who is known: nil where there never was one, or
// where it was erased.
func (st *State) user() *account.Record {
	if st.Record == nil || st.Record.Erased {
		return nil
	}
	return st.Record
}

// behind tells whether D1 lacks the latest record.
func (st *State) behind() bool { return st.Record != nil && st.D1.Seq < st.Record.Seq }

// wake is when the alarm has to ring for what is unfinished; zero: not at all.
// What is due already is being worked on right now, and taken up then.
func (st *State) wake(now, then time.Time) time.Time {
	var due []time.Time
	if st.Pending != nil {
		due = append(due, st.Pending.Due)
	}
	for _, c := range st.Chores {
		due = append(due, c.Due)
	}
	if st.behind() {
		due = append(due, st.D1.Due)
	}
	if len(due) == 0 {
		return time.Time{}
	}
	first := slices.MinFunc(due, time.Time.Compare)
	if !first.After(now) {
		return then
	}
	return first
}

// meter is what is known of the record's key.
func (st *State) meter() quota.Meter {
	return quota.Meter{Limit: st.KeyLimit, Left: st.Record.UsageLimit}
}

// take takes over a reading of the record's key, and returns the ledger entry of
// what it charges, if it does.
func (st *State) take(key openrouter.Key) *account.Entry {
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

// settle leaves the record's key to be read and charged a last time, once it is
// due; where it is live it is disabled then, and read later.
func (st *State) settle(live bool, now, due time.Time) {
	st.Chores = append(st.Chores, Chore{
		Settle: st.Record.Hash, Live: live, Left: st.Record.UsageLimit, Limit: st.KeyLimit, Since: now, Due: due,
	})
}

// endOverlaps has all keys disabled now that go on working beside the record's.
func (st *State) endOverlaps(now time.Time) {
	for i, c := range st.Chores {
		if c.Live && c.Due.After(now) {
			st.Chores[i].Due = now
		}
	}
}

// unsettled is what the keys that are not settled yet may still cost.
func (st *State) unsettled() (most account.Credits) {
	for _, c := range st.Chores {
		if c.Settle != "" {
			most += max(c.Left, 0)
		}
	}
	return most
}

// available is how much of the quota there is for the record's key.
func (st *State) available() account.Credits { return st.Record.RemainingLimit - st.unsettled() }

// settled is when the next key is settled, which is so long after it was disabled;
// and false where there is none to settle.
func (st *State) settled(after time.Duration) (next time.Time, any bool) {
	for _, c := range st.Chores {
		due := c.Due
		if c.Live {
			due = due.Add(after)
		}
		if c.Settle != "" && (!any || due.Before(next)) {
			next, any = due, true
		}
	}
	return next, any
}

// full tells whether there are as many keys to be got rid of as there may be.
func (st *State) full() bool { return len(st.Chores) >= maxChores }

// addOrphan leaves the key of a POST without an answer to be looked for. One walk
// through the list does for many: those that nobody looked for yet wait for each
// other, and the more others there are the longer.
func (st *State) addOrphan(op string, since, now, soon time.Time) {
	others, due := 0, soon
	for _, c := range st.Chores {
		if c.Orphan == "" {
			continue
		}
		if c.Tries == 0 && c.Due.After(now) {
			st.Chores = append(st.Chores, Chore{Orphan: op, Since: since, Due: c.Due})
			return
		}
		others++
	}
	if others > 0 {
		due = now.Add(backoff(others+1, orphanGrace))
	}
	st.Chores = append(st.Chores, Chore{Orphan: op, Since: since, Due: due})
}

// abandonAssign has a key deleted that waits for its guardrail.
func (st *State) abandonAssign(now time.Time) {
	if p := st.Pending; p != nil && p.Assign != nil {
		st.Chores = append(st.Chores, Chore{Delete: p.Assign.Hash, Since: now, Due: now})
		st.Pending = nil
	}
}

// knows tells whether a key is the record's, or will be got rid of from here.
func (st *State) knows(hash string) bool {
	p := st.Pending
	return st.Record != nil && st.Record.Hash == hash || p != nil && (p.Delete == hash || p.Assign != nil && p.Assign.Hash == hash) ||
		slices.ContainsFunc(st.Chores, func(c Chore) bool { return c.Delete == hash || c.Settle == hash })
}

// setBack moves all that is planned, and since when it is, back by so much. A
// reading is not moved: one that lies in the future is not used again. Nor is a key
// to settle, whose wait begins anew: how much of it has passed is not known.
func (st *State) setBack(by, settleAfter, overlap time.Duration) {
	times := []*time.Time{&st.D1.Since, &st.D1.Due, &st.At}
	if p := st.Pending; p != nil {
		times = append(times, &p.Since, &p.Due)
	}
	now := st.At.Add(-by)
	for i := range st.Chores {
		c := &st.Chores[i]
		times = append(times, &c.Since)
		switch {
		case c.Settle == "" || c.Tries > 0:
			times = append(times, &c.Due)
		case c.Live:
			c.Due = earliest(c.Due, now.Add(overlap))
		default:
			c.Due = earliest(c.Due, now.Add(settleAfter))
		}
	}
	for _, t := range times {
		if !t.IsZero() {
			*t = t.Add(-by)
		}
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// dropKey forgets the record's key, which may not be handed out any more.
func (st *State) dropKey() {
	if st.Record != nil {
		st.Record.Key, st.Record.Hash = "", ""
	}
	st.Disabled, st.Ending, st.ReadAt, st.KeyLimit, st.ExpiresAt = false, false, time.Time{}, nil, time.Time{}
}

// same tells whether two states are the same in all but when they were written. It
// does not know two forms of one moment for the same: that costs a write, and no
// more.
func (st *State) same(other *State) bool {
	return other != nil && sameValue(st.Record, other.Record) && st.Disabled == other.Disabled && st.Ending == other.Ending && st.ReadAt == other.ReadAt &&
		sameValue(st.KeyLimit, other.KeyLimit) && st.ExpiresAt == other.ExpiresAt &&
		sameValue(st.Pending, other.Pending) && slices.Equal(st.Chores, other.Chores) && st.D1 == other.D1 && st.Alarm == other.Alarm
}

// hasCaughtUpWith tells whether two states differ in nothing but that D1 has all
// of this one.
func (st *State) hasCaughtUpWith(other *State) bool {
	if other == nil || st.behind() {
		return false
	}
	before := *st
	before.D1 = other.D1
	return before.same(other)
}

func sameValue[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// encode returns what json.Marshal would write. All that may be there while a key
// is just kept is written by hand, which takes a sixth of the time.
func (st *State) encode() string {
	var e jx.Encoder
	e.Grow(1024)
	moment := func(name string, at time.Time) {
		if !at.IsZero() {
			e.FieldStart(name)
			account.EncodeTime(&e, at)
		}
	}
	rare := func(name string, value any) {
		encoded, err := json.Marshal(value)
		if err != nil {
			panic(err) // a state is plain data
		}
		e.FieldStart(name)
		e.Raw(encoded)
	}
	e.ObjStart()
	if st.Record != nil {
		e.FieldStart("record")
		st.Record.Encode(&e)
	}
	if st.Disabled {
		e.FieldStart("disabled")
		e.Bool(true)
	}
	moment("read_at", st.ReadAt)
	if st.Ending {
		e.FieldStart("ending")
		e.Bool(true)
	}
	if st.KeyLimit != nil {
		e.FieldStart("key_limit")
		st.KeyLimit.Encode(&e)
	}
	moment("expires_at", st.ExpiresAt)
	if st.Pending != nil {
		rare("pending", st.Pending)
	}
	if len(st.Chores) > 0 {
		rare("chores", st.Chores)
	}
	if st.D1 != (Lag{}) {
		e.FieldStart("d1")
		e.ObjStart()
		if st.D1.Seq != 0 {
			e.FieldStart("seq")
			e.Int64(st.D1.Seq)
		}
		moment("since", st.D1.Since)
		if st.D1.Tries != 0 {
			e.FieldStart("tries")
			e.Int(st.D1.Tries)
		}
		moment("due", st.D1.Due)
		e.ObjEnd()
	}
	moment("alarm", st.Alarm)
	moment("at", st.At)
	e.ObjEnd()
	return e.String()
}

// decode reads what encode wrote, as json.Unmarshal does, which takes an isolate
// 5 ms for the first state that it sees.
func (st *State) decode(encoded string) error {
	d := jx.DecodeStr(encoded)
	err := d.ObjBytes(func(d *jx.Decoder, name []byte) (err error) {
		switch string(name) {
		case "record":
			st.Record = &account.Record{}
			err = st.Record.Decode(d)
		case "disabled":
			st.Disabled, err = d.Bool()
		case "read_at":
			st.ReadAt, err = account.DecodeTime(d)
		case "ending":
			st.Ending, err = d.Bool()
		case "key_limit":
			st.KeyLimit = new(account.Credits)
			err = st.KeyLimit.Decode(d)
		case "expires_at":
			st.ExpiresAt, err = account.DecodeTime(d)
		case "pending":
			err = decodeRare(d, &st.Pending)
		case "chores":
			err = decodeRare(d, &st.Chores)
		case "d1":
			err = d.ObjBytes(st.D1.field)
		case "alarm":
			st.Alarm, err = account.DecodeTime(d)
		case "at":
			st.At, err = account.DecodeTime(d)
		default:
			err = d.Skip()
		}
		return err
	})
	if err == nil && d.Skip() != io.EOF {
		err = errors.New("more than one JSON object")
	}
	return err
}

func (l *Lag) field(d *jx.Decoder, name []byte) (err error) {
	switch string(name) {
	case "seq":
		l.Seq, err = d.Int64()
	case "since":
		l.Since, err = account.DecodeTime(d)
	case "tries":
		l.Tries, err = d.Int()
	case "due":
		l.Due, err = account.DecodeTime(d)
	default:
		err = d.Skip()
	}
	return err
}

// decodeRare reads what is seldom there.
func decodeRare(d *jx.Decoder, into any) error {
	encoded, err := d.Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(encoded, into)
}

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
	next.Chores = slices.Clone(st.Chores)
	return &next
}
