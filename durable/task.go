package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"latchkey/internal/account"
)

// TaskKind is what a task does.
type TaskKind string

// The kinds of task. All but syncD1 are stored.
const (
	DeleteKey   TaskKind = "delete"  // deletes a key
	DisableKey  TaskKind = "disable" // disables a key that works on, to be settled from then on
	SettleKey   TaskKind = "settle"  // reads a disabled key a last time, charges what was spent, and has it deleted
	FindOrphan  TaskKind = "orphan"  // looks for the key of a POST without an answer, which may exist or not, and deletes it
	UnknownTask TaskKind = "unknown" // a later version has left it: it is kept and left alone
	syncD1      TaskKind = "d1"      // brings D1 up to date
)

// Task is a key to be got rid of in the background, once it is Due.
type Task struct {
	Kind  TaskKind
	Hash  string           // of the key; of an orphan it is not known
	Op    string           // of an orphan: its name holds it
	Left  account.Credits  // on a key to disable or settle, when it was read last: it may still cost that
	Limit *account.Credits // of a key to disable or settle; nil: not known
	Since time.Time
	Tries int // that failed
	Due   time.Time
	Was   time.Time // when a key to settle was due before the clock was set back; zero: it was not since

	stored string // an unknown one, as it was read
}

var errUnknownKind = errors.New("durable: work of a kind that this version does not know")

// same tells whether both are about the same key. A key that was disabled meanwhile
// is to be settled by the same task.
func (t Task) same(other Task) bool {
	return t.Hash == other.Hash && t.Op == other.Op && t.stored == other.stored && (t.Kind == DeleteKey) == (other.Kind == DeleteKey)
}

// settles tells whether the key may still cost something.
func (t Task) settles() bool { return t.Kind == DisableKey || t.Kind == SettleKey }

// storedTask is a task in storage. The first field that is set says of which kind it is.
type storedTask struct {
	Delete string           `json:"delete,omitempty"` // hash
	Orphan string           `json:"orphan,omitempty"` // op
	Settle string           `json:"settle,omitempty"` // hash
	Live   bool             `json:"live,omitempty"`   // the key to settle is yet to be disabled
	Left   account.Credits  `json:"left,omitempty"`
	Limit  *account.Credits `json:"limit,omitempty"`
	Since  time.Time        `json:"since"`
	Tries  int              `json:"tries,omitempty"`
	Due    time.Time        `json:"due"`
	Was    time.Time        `json:"was,omitzero"`
}

// MarshalJSON implements json.Marshaler.
func (t Task) MarshalJSON() ([]byte, error) {
	s := storedTask{Left: t.Left, Limit: t.Limit, Since: t.Since, Tries: t.Tries, Due: t.Due, Was: t.Was}
	switch t.Kind {
	case DeleteKey:
		s.Delete = t.Hash
	case DisableKey:
		s.Settle, s.Live = t.Hash, true
	case SettleKey:
		s.Settle = t.Hash
	case FindOrphan:
		s.Orphan = t.Op
	case UnknownTask:
		return []byte(t.stored), nil
	default:
		return nil, fmt.Errorf("%w: task %q", errUnknownKind, t.Kind)
	}
	return json.Marshal(s)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Task) UnmarshalJSON(text []byte) error {
	var s storedTask
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*t = Task{Left: s.Left, Limit: s.Limit, Since: s.Since, Tries: s.Tries, Due: s.Due, Was: s.Was}
	switch {
	case s.Delete != "":
		t.Kind, t.Hash = DeleteKey, s.Delete
	case s.Orphan != "":
		t.Kind, t.Op = FindOrphan, s.Orphan
	case s.Settle != "" && s.Live:
		t.Kind, t.Hash = DisableKey, s.Settle
	case s.Settle != "":
		t.Kind, t.Hash = SettleKey, s.Settle
	default:
		t.Kind, t.stored = UnknownTask, string(text)
	}
	return nil
}

// PendingKind is what kind of call is pending.
type PendingKind string

// The kinds of pending call.
const (
	PendingDelete  PendingKind = "delete"  // a DELETE of the key (under SETTLE_AFTER, a PATCH that disables it) may have been sent; with an Op the POST, too
	PendingCreate  PendingKind = "create"  // a POST may have been sent
	PendingAssign  PendingKind = "assign"  // a key is ours, and has to come under the guardrail before anybody gets it
	PendingUnknown PendingKind = "unknown" // a later version has left it: nothing is done with the user's key
)

// Pending is the call of a rotation, renewal or first key that is under way, or
// was when the object died or the call failed. While a deletion is pending, the
// record's key is not handed out.
type Pending struct {
	Kind  PendingKind
	Hash  string  // of the key to delete
	Final bool    // nothing can show up late on the key to delete: it is not settled
	Op    string  // of the POST; beside a deletion of the one that follows on it
	New   *NewKey // to be assigned
	Since time.Time
	Tries int // that failed
	Due   time.Time

	stored string // an unknown one, as it was read
}

// NewKey is a key that was made and that nobody has been handed yet.
type NewKey struct {
	Kind      account.Kind    `json:"kind"` // what its creation amounts to
	Key       string          `json:"key"`  // sealed
	Hash      string          `json:"hash"`
	Limit     account.Credits `json:"limit"`
	ExpiresAt time.Time       `json:"expires_at,omitzero"`
}

// storedPending is a pending call in storage. The first of delete, create and assign
// that is set says of which kind it is.
type storedPending struct {
	Delete string    `json:"delete,omitempty"` // hash
	Final  bool      `json:"final,omitempty"`
	Create string    `json:"create,omitempty"` // op
	Assign *NewKey   `json:"assign,omitempty"`
	Since  time.Time `json:"since"`
	Tries  int       `json:"tries,omitempty"`
	Due    time.Time `json:"due"`
}

// MarshalJSON implements json.Marshaler.
func (p Pending) MarshalJSON() ([]byte, error) {
	s := storedPending{Final: p.Final, Since: p.Since, Tries: p.Tries, Due: p.Due}
	switch p.Kind {
	case PendingDelete:
		s.Delete, s.Create = p.Hash, p.Op
	case PendingCreate:
		s.Create = p.Op
	case PendingAssign:
		s.Assign = p.New
	case PendingUnknown:
		return []byte(p.stored), nil
	default:
		return nil, fmt.Errorf("%w: pending %q", errUnknownKind, p.Kind)
	}
	return json.Marshal(s)
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Pending) UnmarshalJSON(text []byte) error {
	var s storedPending
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*p = Pending{Final: s.Final, Since: s.Since, Tries: s.Tries, Due: s.Due}
	switch {
	case s.Delete != "":
		p.Kind, p.Hash, p.Op = PendingDelete, s.Delete, s.Create
	case s.Create != "":
		p.Kind, p.Op = PendingCreate, s.Create
	case s.Assign != nil && outcomes[s.Assign.Kind] != "":
		p.Kind, p.New = PendingAssign, s.Assign
	default:
		p.Kind, p.stored = PendingUnknown, string(text)
	}
	return nil
}
