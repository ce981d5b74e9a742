package worker

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

// Platform is what the runtime gives to one construction of an object.
type Platform interface {
	Name() string  // the user's id, or adminName
	Number() int32 // that no other construction has
	Storage() durable.Storage
	DB() users.DB
	OpenRouter() http.RoundTripper
	Sockets() durable.Sockets
	// Call has the object of that name answer an internal call, and returns the body
	// of its answer.
	Call(name, call string) (string, error)
	// Idle tells that nothing is going on in the object until it is called again.
	Idle()
	// Close cuts off an object that the runtime has collected.
	Close()
}

// Objects are the Durable Objects that are in memory: the active ones, which have
// something going on, and some that are idle, whose state need not be read again.
type Objects struct {
	front *Front
	kept  map[int32]*object // by number
}

type object struct {
	user     *durable.Object
	platform Platform
	idle     bool
}

// maxKept is how many objects may be in memory while some of them are idle. They take
// about 1 MiB then.
const maxKept = 512

// NewObjects returns objects that have nothing in memory. They take requests as the
// front does.
func NewObjects(f *Front) *Objects { return &Objects{front: f, kept: map[int32]*object{}} }

// Kept is how many objects are in memory.
func (o *Objects) Kept() int { return len(o.kept) }

// open returns the object of a user, which is active from now on.
func (o *Objects) open(p Platform) *durable.Object {
	kept := o.kept[p.Number()]
	if kept == nil {
		o.makeRoom()
		kept = &object{platform: p}
		kept.user = durable.New(p.Name(), durable.Runtime{
			Settings: o.front.settings, Storage: p.Storage(), DB: p.DB(), Transport: p.OpenRouter(), Sockets: p.Sockets(), Now: o.front.now, NewID: newID, Log: o.front.log,
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
func (o *Objects) makeRoom() {
	for number, each := range o.kept {
		if len(o.kept) < maxKept {
			return
		}
		if each.idle {
			delete(o.kept, number)
		}
	}
}

// Closed lets go of an object that the runtime has collected, perhaps in the middle of
// something.
func (o *Objects) Closed(number int32) {
	if each := o.kept[number]; each != nil {
		delete(o.kept, number)
		each.platform.Close()
	}
}

// Serve answers a request that the Worker has forwarded. It is looked at anew:
// an object takes nobody's word for whose request it is.
func (o *Objects) Serve(c edge.Call, p Platform, r edge.Request) {
	_, to, err := o.front.serve(r)
	if wanted, ok := errors.AsType[*auth.KeysWanted](err); ok {
		o.front.wantKeys(c, wanted) // the Worker may run elsewhere, and its keys are there
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

// Alarm does what an object was to be woken for; it is answered once the work is done.
func (o *Objects) Alarm(c edge.Call, p Platform) {
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
	callReseal    callKind = "reseal"    // of a user's object: to seal its keys anew
)

// Daily is the internal call that the cron trigger makes, and the object that answers
// it.
func Daily() (object, call string) { return adminName, internalCall{Kind: callReconcile}.String() }

func (c internalCall) String() string {
	encoded, err := json.Marshal(c)
	if err != nil {
		panic(err) // a call is plain data
	}
	return string(encoded)
}

// AnswerCall answers an internal call.
func (o *Objects) AnswerCall(c edge.Call, p Platform, encoded string) {
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
	case call.Kind == callReseal && !admin:
		o.open(p).Ask(durable.Request{Action: durable.Reseal}, c.Respond)
	default:
		c.Done(fmt.Errorf("an internal call that this object does not answer: %q", call.Kind))
	}
}

// knows asks a user's object whether it knows a key.
func knows(p Platform, user, hash string) (bool, error) {
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

// sealAnew has a user's object seal its keys anew.
func sealAnew(p Platform, user string) error {
	body, err := p.Call(user, internalCall{Kind: callReseal}.String())
	if err != nil {
		return err
	}
	var told struct {
		Resealed *bool `json:"resealed"`
	}
	if err := json.Unmarshal([]byte(body), &told); err != nil {
		return err
	}
	if told.Resealed == nil {
		return errors.New("the user's object could not seal its keys anew")
	}
	return nil
}

// newID returns 128 random bits in hex.
func newID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
