//go:build js && wasm

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"syscall/js"
	"time"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/settings"
)

// d1Deadline bounds a statement's wait: only background work and the very first
// request of a user wait for D1 at all.
const d1Deadline = 10 * time.Second

func main() {
	set, err := settings.Parse(edge.Getenv, edge.Bound)
	f := &front{settings: set, bad: err, log: edge.Log}
	if err != nil {
		edge.Log(oplog.Line{Evt: oplog.Settings, Outcome: "misconfigured", Err: err.Error()})
	} else {
		f.verifier = auth.New(set.JWTSecrets, set.JWTIssuer, set.JWTAudience, time.Now)
	}
	o := &objects{front: f, living: map[int]*living{}}
	edge.Export(map[string]func([]js.Value) any{
		"route": f.route, "failed": f.routeFailed,
		"object": o.ask, "alarm": o.alarm, "close": o.close,
	})
	select {} // the program lives as long as its isolate
}

// route(method, path, authorization, origin, tooLarge) returns a Response or
// the promise of one.
func (f *front) route(args []js.Value) any {
	r := request{args[0].String(), args[1].String(), args[2].String(), args[3].String(), args[4].Bool()}
	a, onward := f.serve(r)
	if onward == nil {
		return edge.Respond(a)
	}
	identity, err := json.Marshal(onward.who)
	if err != nil {
		panic(err) // strings always encode
	}
	return edge.Forward("USERS", onward.who.ID, string(onward.want), string(identity), r.origin)
}

// routeFailed(method, path, origin, code, cause) returns a Response.
func (f *front) routeFailed(args []js.Value) any {
	r := request{method: args[0].String(), path: args[1].String(), origin: args[2].String()}
	return edge.Respond(f.failed(r, args[3].String(), args[4].String()))
}

// objects are the Durable Objects that have something going on. One that is at
// rest is not here, so that nothing in Go grows with the number of users.
type objects struct {
	*front
	living map[int]*living
}

type living struct {
	*durable.Object
	edge *edge.Object
}

// ask(number, object, name, storage, want, identity, origin) is answered with a
// Response.
func (o *objects) ask(args []js.Value) any {
	number, origin := args[0].Int(), args[6].String()
	reply := func(a answer.Answer) { edge.Answer(number, "", edge.Respond(o.share(a, origin))) }
	var who auth.Identity
	if err := json.Unmarshal([]byte(args[5].String()), &who); err != nil || o.bad != nil {
		edge.Answer(number, "settings or identity are bad", nil)
		return js.Undefined()
	}
	o.object(args[1:4]).Ask(durable.Want(args[4].String()), who, reply)
	return js.Undefined()
}

// alarm(number, object, name, storage) is answered once the work is done.
func (o *objects) alarm(args []js.Value) any {
	number := args[0].Int()
	if o.bad != nil {
		edge.Answer(number, "settings are bad", nil)
		return js.Undefined()
	}
	o.object(args[1:4]).Alarm(func(err error) {
		failure := ""
		if err != nil {
			failure = err.Error()
		}
		edge.Answer(number, failure, nil)
	})
	return js.Undefined()
}

// object(object, name, storage) returns the living object of that number.
func (o *objects) object(args []js.Value) *durable.Object {
	number := args[0].Int()
	if l := o.living[number]; l != nil {
		return l.Object
	}
	e := edge.NewObject(number, args[2])
	object := durable.New(args[1].String(), durable.Runtime{
		Settings:  o.settings,
		Storage:   edge.Storage{Object: e},
		DB:        edge.DB{Object: e, Binding: "DB", Deadline: d1Deadline},
		Transport: edge.Transport{Object: e, Deadline: o.settings.OpenRouterTimeout},
		Now:       time.Now,
		NewOp:     newOp,
		Log:       edge.Log,
		Idle:      func() { delete(o.living, number) },
	})
	o.living[number] = &living{object, e}
	return object
}

// close(object) lets go of an object that was reset in the middle of something.
func (o *objects) close(args []js.Value) any {
	number := args[0].Int()
	if l := o.living[number]; l != nil {
		delete(o.living, number)
		l.edge.Close()
	}
	return js.Undefined()
}

// newOp returns 128 random bits in hex.
func newOp() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
