package durable

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
	"latchkey/internal/seal"
)

// Sockets are the user's open WebSockets. They are the runtime's, which keeps them
// while the object is out of memory; so what has to be known of one is in its note.
type Sockets interface {
	// List returns the open ones, with ID and Note.
	List() []answer.Socket
	// Send sends a message and replaces the note. Nothing happens where it was closed.
	Send(id, message, note string)
	// Close closes a socket. Nothing happens where it was closed.
	Close(id string, code int, reason string)
}

// maxSockets is how many sockets a user may have: a hundred tabs share a few, and a
// client that opens one after the other does not fill the memory.
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
)

// note is what is known of a socket.
type note struct {
	Opened    time.Time `json:"opened"`
	Expires   time.Time `json:"expires"` // its token is accepted until then
	Version   int64     `json:"version"` // of the record that it was told last
	Hash      string    `json:"hash"`    // of the key that it was told last
	Suspended bool      `json:"suspended,omitempty"`
}

// tells notes what a socket is told, and returns the event.
func (n *note) tells(r *account.Record) string {
	event := "quota"
	switch {
	case r.Suspended:
		event = "suspended"
	case n.Suspended:
		event = "resumed"
	case n.Hash != r.Hash && r.Hash != "":
		event = "key"
	}
	n.Version, n.Hash, n.Suspended = r.Seq, r.Hash, r.Suspended
	return event
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

// openSockets returns the open sockets, the oldest first.
func openSockets(s Sockets) []socket {
	var list []socket
	for _, each := range s.List() {
		known := socket{id: each.ID}
		if err := json.Unmarshal([]byte(each.Note), &known.note); err != nil {
			s.Close(each.ID, closeNotFound, "unknown") // of a later version
			continue
		}
		list = append(list, known)
	}
	slices.SortStableFunc(list, func(a, b socket) int { return a.Opened.Compare(b.Opened) })
	return list
}

// message is what a socket is told of an event.
func message(event, body string) string { return `{"event":"` + event + `",` + body[1:] }

// connect makes sure that the user has a working key, and opens a socket that tells of
// it. The key is not read where there is a good one: to connect costs nothing.
func (op *operation) connect() (answer.Answer, Outcome, error) {
	outcome, err := flow{op}.ensure()
	if err != nil {
		return answer.Answer{}, "", err
	}
	body, err := op.body(outcome)
	if err != nil {
		return answer.Answer{}, "", err
	}
	n := note{Opened: op.now(), Expires: op.request.Who.Expires}
	event := n.tells(op.store.snapshot().Record)
	opened := &answer.Socket{ID: op.newOp(), Note: n.String(), Message: message(event, body)}
	return answer.Answer{Status: http.StatusSwitchingProtocols, Socket: opened}, outcome, nil
}

// tell tells the sockets what they do not know yet of the record, once nothing is under
// way that would make it untrue. It comes after what is told was written; dying before it
// leaves it to whatever is done next. opened: there may be a socket more.
func (o *Object) tell(outcome Outcome, opened bool) {
	st := o.store.snapshot()
	if st == nil || st.Record == nil || st.Pending != nil && !st.Record.Suspended {
		return
	}
	o.mu.Lock()
	known := o.told == st.Record.Seq && !opened
	o.told = st.Record.Seq
	o.mu.Unlock()
	if known {
		return
	}
	sockets := o.runtime.Sockets
	list := openSockets(sockets)
	for len(list) > maxSockets {
		sockets.Close(list[0].id, closeTooMany, "too_many_sockets")
		list = list[1:]
	}
	list = slices.DeleteFunc(list, func(s socket) bool { return s.Version >= st.Record.Seq })
	if st.Record.Erased {
		for _, each := range list {
			sockets.Close(each.id, closeNotFound, "erased")
		}
		return
	}
	if len(list) == 0 {
		return
	}
	told, key := *st, seal.Secret{}
	record := *st.Record
	told.Record = &record
	rules := rules{&o.runtime.Settings, Connect, o.runtime.Now()}
	if record.Suspended || st.Disabled || rules.expired(st) {
		record.Hash = "" // the key is not for anybody
	}
	if record.Hash != "" {
		var err error
		if key, _, err = o.opened.open(o.runtime.Settings.Sealer, o.user, record.Key); err != nil {
			o.runtime.Log(oplog.Line{Evt: oplog.Background, User: o.user, Op: oplog.OpTell, Outcome: oplog.Failed, Err: err.Error()})
			return
		}
	}
	body := body(&told, key, rules, outcome)
	for _, each := range list {
		event := each.tells(&record)
		sockets.Send(each.id, message(event, body), each.note.String())
		if record.Suspended {
			sockets.Close(each.id, closeForbidden, "suspended")
		}
	}
}

// closeExpired closes the sockets whose token has expired. The next write has the alarm
// ring for those that follow.
func (o *Object) closeExpired() {
	list, now := openSockets(o.runtime.Sockets), o.runtime.Now()
	for _, each := range list {
		if !each.Expires.After(now) {
			o.runtime.Sockets.Close(each.id, closeUnauthorized, "expired_token")
		}
	}
	o.store.expectSockets(firstExpiry(list, now))
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
