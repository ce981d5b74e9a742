package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/users"
)

// platform is what the runtime gives to one construction of an object.
type platform interface {
	Name() string  // the user's id, or adminName
	Number() int32 // that no other construction has
	Storage() durable.Storage
	DB() users.DB
	OpenRouter() http.RoundTripper
	// Call has the object of that name answer an internal call, and returns the body
	// of its answer.
	Call(name, call string) (string, error)
	// Idle tells that nothing is going on in the object until it is called again.
	Idle()
	// Close cuts off an object that the runtime has collected.
	Close()
}

// objects are the Durable Objects that are in memory: the active ones, which have
// something going on, and some that are idle, whose state need not be read again.
type objects struct {
	front *front
	kept  map[int32]*object // by number
}

type object struct {
	user     *durable.Object
	platform platform
	idle     bool
}

// maxKept is how many objects may be in memory while some of them are idle. They take
// about 1 MiB then.
const maxKept = 512

// open returns the object of a user, which is active from now on.
func (o *objects) open(p platform) *durable.Object {
	kept := o.kept[p.Number()]
	if kept == nil {
		o.makeRoom()
		kept = &object{platform: p}
		kept.user = durable.New(p.Name(), durable.Runtime{
			Settings: o.front.settings, Storage: p.Storage(), DB: p.DB(), Transport: p.OpenRouter(), Now: o.front.now, NewOp: newOp, Log: o.front.log,
			Idle: func() {
				kept.idle = true
				p.Idle()
			},
		})
		o.kept[p.Number()] = kept
	}
	kept.idle = false
	return kept.user
}

// makeRoom lets go of idle objects where there are too many. An active one is not let
// go: what it works on would be worked on twice.
func (o *objects) makeRoom() {
	for number, each := range o.kept {
		if len(o.kept) < maxKept {
			return
		}
		if each.idle {
			delete(o.kept, number)
		}
	}
}

// closed lets go of an object that the runtime has collected, perhaps in the middle of
// something.
func (o *objects) closed(number int32) {
	if each := o.kept[number]; each != nil {
		delete(o.kept, number)
		each.platform.Close()
	}
}

// serve answers a request that the Worker has forwarded. It is looked at anew:
// an object takes nobody's word for whose request it is.
func (o *objects) serve(c edge.Call, p platform, r edge.Request) {
	_, to, err := o.front.serve(r)
	if wanted, ok := errors.AsType[*auth.KeysWanted](err); ok {
		c.WantKeys(wanted.URL) // the Worker may run elsewhere, and its keys are there
		return
	}
	reply := func(a answer.Answer) { c.Respond(o.front.finish(a, r)) }
	switch {
	case err != nil: // since the Worker looked a token has expired, or the settings were changed
		c.Respond(o.front.refuse(r, err, oplog.Line{}))
	case to == nil || to.object != p.Name():
		c.Done(errors.New("the request is not for this object"))
	case to.object == adminName:
		go o.administer(p, to.admin, reply)
	default:
		o.open(p).Ask(to.user, reply)
	}
}

// alarm is answered once the work is done.
func (o *objects) alarm(c edge.Call, p platform) {
	if o.front.bad != nil {
		c.Done(errors.New("the settings are bad"))
		return
	}
	o.open(p).Alarm(c.Done)
}

// internalCall is what the Worker or an object asks of an object, for which no client
// asked.
type internalCall struct {
	Kind callKind `json:"kind"`
	Hash string   `json:"hash,omitempty"` // knows
}

type callKind string

const (
	callReconcile callKind = "reconcile" // of the admin service: to look for keys that nobody owns
	callKnows     callKind = "knows"     // of a user's object: whether it knows the key of a hash
)

func (c internalCall) String() string {
	encoded, err := json.Marshal(c)
	if err != nil {
		panic(err) // a call is plain data
	}
	return string(encoded)
}

// answerCall answers an internal call.
func (o *objects) answerCall(c edge.Call, p platform, encoded string) {
	if o.front.bad != nil {
		c.Done(errors.New("the settings are bad"))
		return
	}
	var call internalCall
	if err := json.Unmarshal([]byte(encoded), &call); err != nil {
		c.Done(fmt.Errorf("an internal call: %w", err))
		return
	}
	admin := p.Name() == adminName
	switch {
	case call.Kind == callReconcile && admin:
		go o.administer(p, adminRequest{Action: adminReconcile}, c.Respond)
	case call.Kind == callKnows && !admin:
		o.open(p).Ask(durable.Request{Action: durable.Owns, Hash: call.Hash}, c.Respond)
	default:
		c.Done(fmt.Errorf("an internal call that this object does not answer: %q", call.Kind))
	}
}

// knows asks a user's object whether it knows a key.
func knows(p platform, user, hash string) (bool, error) {
	body, err := p.Call(user, internalCall{Kind: callKnows, Hash: hash}.String())
	if err != nil {
		return false, err
	}
	var told struct {
		Known *bool `json:"known"`
	}
	if err := json.Unmarshal([]byte(body), &told); err != nil {
		return false, err
	}
	if told.Known == nil {
		return false, errors.New("the user's object did not say")
	}
	return *told.Known, nil
}

// newOp returns 128 random bits in hex.
func newOp() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
