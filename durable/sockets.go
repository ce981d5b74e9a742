package durable

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

// Sockets are the user's open WebSockets. They are the runtime's, which keeps them
// while the object is out of memory; so what has to be known of one is in its note.
type Sockets interface {
	// List returns the open ones, with ID and Note.
	List() ([]answer.Socket, error)
	// Send sends a message and replaces the note. Nothing happens where it was closed.
	Send(id, message, note string)
	// Close closes a socket. Nothing happens where it was closed.
	Close(id string, code int, reason string)
}

// maxSockets is how many sockets a user may have, so that a client that opens one after
// the other does not fill the memory. Tabs of one browser can share one.
const maxSockets = 50

// CloseBase and the HTTP status that says the same make the code with which a socket is
// closed.
const CloseBase = 4000

// Why an open socket is closed.
const (
	closeUnauthorized = CloseBase + http.StatusUnauthorized
	closeForbidden    = CloseBase + http.StatusForbidden
	closeNotFound     = CloseBase + http.StatusNotFound
	closeTooMany      = CloseBase + http.StatusTooManyRequests
	closeInternal     = CloseBase + http.StatusInternalServerError
)

// note is what is known of a socket.
type note struct {
	Opened  time.Time `json:"opened"`
	Expires time.Time `json:"expires"` // its token is accepted until then
	Version int64     `json:"version"` // of the record that it was told last
	Hash    string    `json:"hash"`    // of the key that it was told last
}

// tell returns what a socket is told of a record, and its note from then on. body is the
// record in JSON.
func (n note) tell(r *account.Record, body string) (message string, next note) {
	event := "quota"
	switch {
	case r.Suspended:
		event = "suspended"
	case n.Hash != r.Hash && r.Hash != "":
		event = "key"
	}
	n.Version, n.Hash = r.Seq, r.Hash
	return `{"event":"` + event + `",` + body[1:], n
}

func (n note) String() string {
	encoded, err := json.Marshal(n)
	if err != nil {
		panic(err) // a note is plain data
	}
	return string(encoded)
}

// socket is an open socket.
type socket struct {
	id string
	note
}

// announcer tells the user's sockets of changes.
type announcer struct {
	user    string
	runtime *Runtime
	store   *store
	opened  *openedKey

	mu   sync.Mutex
	told int64 // the version that all were told
}

// announce tells the sockets what they do not know yet of the record, once nothing is
// under way that would make it untrue. It comes after what is told was written; dying
// before it leaves it to whatever is done next.
func (a *announcer) announce(outcome Outcome) {
	st := a.store.snapshot()
	if st == nil || st.Record == nil || st.Pending != nil && !st.Record.Suspended {
		return
	}
	if a.swapTold(st.Record.Seq) == st.Record.Seq {
		return
	}
	if err := a.tellAll(st, outcome); err != nil {
		a.swapTold(0)
		a.failed(err)
	}
}

// swapTold notes the version that all were told, and returns the one before.
func (a *announcer) swapTold(version int64) (before int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, a.told = a.told, version
	return before
}

// tellAll tells a record to the sockets that do not know it yet.
func (a *announcer) tellAll(st *State, outcome Outcome) error {
	sockets, err := a.sockets()
	sockets = slices.DeleteFunc(sockets, func(s socket) bool { return s.Version >= st.Record.Seq })
	if err != nil || len(sockets) == 0 {
		return err
	}
	if st.Record.Erased {
		for _, each := range sockets {
			a.runtime.Sockets.Close(each.id, closeNotFound, "erased")
		}
		return nil
	}
	record, body, err := a.body(st, outcome)
	if err != nil {
		return err
	}
	for _, each := range sockets {
		message, next := each.tell(record, body)
		a.runtime.Sockets.Send(each.id, message, next.String())
		if record.Suspended {
			a.runtime.Sockets.Close(each.id, closeForbidden, "suspended")
		}
	}
	return nil
}

// body is the record as the sockets may see it, and the same in JSON. A key that nobody
// may use now is left out of both.
func (a *announcer) body(st *State, outcome Outcome) (*account.Record, string, error) {
	shown, record, key := *st, *st.Record, seal.Secret{}
	shown.Record = &record
	rules := rules{&a.runtime.Settings, Connect, a.runtime.Now()}
	if record.Suspended || record.Hash != "" && rules.condition(st, false) == unusable {
		record.Hash = ""
	}
	if record.Hash != "" {
		var err error
		if key, _, err = a.opened.open(a.runtime.Settings.Sealer, a.user, record.Key); err != nil {
			return nil, "", err
		}
	}
	return &record, body(&shown, key, rules, outcome), nil
}

// connected is called once a socket was opened: too many are closed, and the alarm is set
// for the new one's token. Dying before that is written closes the socket.
func (a *announcer) connected() {
	a.prune()
	if err := a.store.reschedule(); err != nil {
		a.failed(err)
	}
}

// prune closes the oldest sockets where there are too many, and those whose token has
// expired. The next write has the alarm ring for those that follow.
func (a *announcer) prune() {
	sockets, err := a.sockets()
	if err != nil {
		a.failed(err)
		return
	}
	now, surplus := a.runtime.Now(), max(len(sockets)-maxSockets, 0)
	for _, each := range sockets[:surplus] {
		a.runtime.Sockets.Close(each.id, closeTooMany, "too_many_sockets")
	}
	for _, each := range sockets[surplus:] {
		if !each.Expires.After(now) {
			a.runtime.Sockets.Close(each.id, closeUnauthorized, "expired_token")
		}
	}
	a.store.expectSockets(firstExpiry(sockets[surplus:], now))
}

// closeAll closes all sockets: nothing can be told of the user.
func (a *announcer) closeAll() {
	sockets, err := a.sockets()
	if err != nil {
		a.failed(err)
		return
	}
	for _, each := range sockets {
		a.runtime.Sockets.Close(each.id, closeInternal, string(problem.Internal))
	}
}

// sockets returns the open sockets, the oldest first. Those of a later version, whose
// notes cannot be read, are closed.
func (a *announcer) sockets() ([]socket, error) {
	if a.runtime.Sockets == nil {
		return nil, nil
	}
	open, err := a.runtime.Sockets.List()
	if err != nil {
		return nil, fmt.Errorf("durable: listing the sockets: %w", err)
	}
	var list []socket
	for _, each := range open {
		known := socket{id: each.ID}
		if err := json.Unmarshal([]byte(each.Note), &known.note); err != nil {
			a.runtime.Sockets.Close(each.ID, closeInternal, string(problem.Internal))
			continue
		}
		list = append(list, known)
	}
	slices.SortStableFunc(list, func(a, b socket) int { return a.Opened.Compare(b.Opened) })
	return list, nil
}

func (a *announcer) failed(err error) {
	a.runtime.Log(oplog.Line{Evt: oplog.Background, User: a.user, Op: oplog.OpAnnounce, Outcome: oplog.Failed, Err: err.Error()})
}

// firstExpiry is when the first token expires that has not; zero: there is none.
func firstExpiry(list []socket, now time.Time) (first time.Time) {
	for _, each := range list {
		if each.Expires.After(now) && (first.IsZero() || each.Expires.Before(first)) {
			first = each.Expires
		}
	}
	return first
}
