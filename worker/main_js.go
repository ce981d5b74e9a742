//go:build js && wasm

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"syscall/js"
	"time"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/office"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/settings"
	"latchkey/internal/users"
)

// d1Deadline bounds a statement's wait: only background work and the very first
// request of a user wait for D1 at all.
const d1Deadline = 10 * time.Second

// objectsBinding is the namespace of the users' objects, and the office.
const objectsBinding = "USERS"

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
		"route": f.route, "failed": f.routeFailed, "scheduled": f.scheduled,
		"object": o.ask, "alarm": o.alarm, "close": o.close,
	})
	select {} // the program lives as long as its isolate
}

// route(method, path, query, authorization, origin, body, tooLarge) returns a
// Response or the promise of one.
func (f *front) route(args []js.Value) any {
	a, onward := f.serve(request{
		args[0].String(), args[1].String(), args[2].String(), args[3].String(), args[4].String(), args[5].String(), args[6].Bool(),
	})
	if onward == nil {
		return edge.Respond(a)
	}
	return edge.Forward(objectsBinding, onward.object, encode(onward.request), args[4].String())
}

// scheduled() returns the promise of what the daily reconciliation found.
func (f *front) scheduled([]js.Value) any {
	return edge.Forward(objectsBinding, officeName, encode(officeRequest{Daily: &daily{}}), "")
}

func encode(request any) string {
	encoded, err := json.Marshal(request)
	if err != nil {
		panic(err) // requests are plain data
	}
	return string(encoded)
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

// ask(number, object, name, storage, request, origin) is answered with a Response.
func (o *objects) ask(args []js.Value) any {
	number, name, asked, origin := args[0].Int(), args[2].String(), []byte(args[4].String()), args[5].String()
	reply := func(a answer.Answer) { edge.Answer(number, "", edge.Respond(o.share(a, origin))) }
	var r durable.Request
	var errand officeRequest
	var err error
	if name == officeName {
		err = json.Unmarshal(asked, &errand)
	} else {
		err = json.Unmarshal(asked, &r)
	}
	switch {
	case err != nil || o.bad != nil:
		edge.Answer(number, "the settings or the request are bad", nil)
	case name == officeName:
		go o.office(edge.NewObject(args[1].Int(), args[3]), errand, reply)
	default:
		o.object(args[1:4]).Ask(r, reply)
	}
	return js.Undefined()
}

// office runs an errand of the office.
func (o *objects) office(e *edge.Object, errand officeRequest, reply func(answer.Answer)) {
	began := time.Now()
	line := oplog.Line{Evt: oplog.Admin, Op: "list", Outcome: "done"}
	desk := office.Office{
		Keys: openrouter.Client{
			BaseURL: o.settings.OpenRouterURL, ProvisioningKey: o.settings.ProvisioningKey, Now: time.Now,
			Transport: edge.Transport{Object: e, Deadline: o.settings.OpenRouterTimeout},
		},
		Table: users.Table{DB: edge.DB{Object: e, Binding: "DB", Deadline: d1Deadline}},
		Knows: func(user, hash string) (bool, error) { return knows(e, user, hash) },
		Now:   time.Now,
	}
	var body any
	var err error
	switch {
	case errand.Reconcile != nil:
		line.Op = "reconcile"
		body, err = desk.Reconcile(errand.Reconcile.DryRun)
		line.State = body
	case errand.Daily != nil:
		line.Op = "reconcile"
		body, err = desk.ReconcileDaily()
		line.State = body
	default:
		body, err = desk.List(*errand.List)
	}
	a := answer.Answer{}
	if err != nil {
		p := durable.ClientError(err)
		a, line.Outcome, line.Err = p.Answer(), p.Code, err.Error()
	} else {
		a = answer.JSON(200, "application/json", body)
	}
	line.Status, line.Millis = a.Status, time.Since(began).Milliseconds()
	edge.Log(line)
	reply(a)
}

// knows asks a user's object whether it knows a key.
func knows(e *edge.Object, user, hash string) (bool, error) {
	body, err := e.Ask(objectsBinding, user, encode(durable.Request{Want: durable.Owns, Hash: hash}))
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
