//go:build js && wasm

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	o := &objects{front: f, living: map[int32]*living{}}
	edge.Serve(edge.Handlers{
		Route: f.route, Failed: f.routeFailed, Scheduled: f.scheduled, Object: o.ask, Alarm: o.alarm, Closed: o.closed,
		Kept: func() int { return len(o.living) },
	})
}

func (f *front) route(c edge.Call, method, path, query, authorization, origin, body string, tooLarge bool) {
	a, onward := f.serve(request{method, path, query, authorization, origin, body, tooLarge})
	if onward == nil {
		c.Respond(a)
		return
	}
	edge.Forward(objectsBinding, onward.object, encode(onward.request), origin)
}

// scheduled has the office look for keys that nobody owns.
func (f *front) scheduled() {
	edge.Forward(objectsBinding, officeName, encode(officeRequest{Daily: &daily{}}), "")
}

func encode(request any) string {
	encoded, err := json.Marshal(request)
	if err != nil {
		panic(err) // requests are plain data
	}
	return string(encoded)
}

func (f *front) routeFailed(c edge.Call, method, path, origin, code, cause string) {
	c.Respond(f.failed(request{method: method, path: path, origin: origin}, code, cause))
}

// objects are the Durable Objects that have something going on, and some of
// those that are at rest: their state need not be read again.
type objects struct {
	*front
	living map[int32]*living
}

type living struct {
	*durable.Object
	edge    *edge.Object
	resting bool
}

// maxLiving is how many objects may be kept because of what they hold in memory
// alone. They take about 1 MiB then.
const maxLiving = 512

// ask answers what the front asks of an object.
func (o *objects) ask(c edge.Call, e *edge.Object, asked, origin string) {
	reply := func(a answer.Answer) { c.Respond(o.share(a, origin)) }
	var r durable.Request
	var errand officeRequest
	var err error
	if e.Name == officeName {
		err = json.Unmarshal([]byte(asked), &errand)
	} else {
		err = json.Unmarshal([]byte(asked), &r)
	}
	switch {
	case err != nil || o.bad != nil:
		c.Done(errors.New("the settings or the request are bad"))
	case e.Name == officeName:
		go o.office(e, errand, reply)
	default:
		o.object(e).Ask(r, reply)
	}
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

// alarm is answered once the work is done.
func (o *objects) alarm(c edge.Call, e *edge.Object) {
	if o.bad != nil {
		c.Done(errors.New("the settings are bad"))
		return
	}
	o.object(e).Alarm(c.Done)
}

// object returns the living object of that number.
func (o *objects) object(e *edge.Object) *durable.Object {
	l := o.living[e.Number()]
	if l == nil {
		o.makeRoom()
		l = &living{edge: e}
		l.Object = durable.New(e.Name, durable.Runtime{
			Settings:  o.settings,
			Storage:   edge.Storage{Object: e},
			DB:        edge.DB{Object: e, Binding: "DB", Deadline: d1Deadline},
			Transport: edge.Transport{Object: e, Deadline: o.settings.OpenRouterTimeout},
			Now:       time.Now,
			NewOp:     newOp,
			Log:       edge.Log,
			Idle: func() {
				l.resting = true
				e.Rest()
			},
		})
		o.living[e.Number()] = l
	}
	l.resting = false
	return l.Object
}

// makeRoom lets go of objects that are at rest where there are too many.
func (o *objects) makeRoom() {
	for number, l := range o.living {
		if len(o.living) < maxLiving {
			return
		}
		if l.resting {
			delete(o.living, number)
		}
	}
}

// closed lets go of an object that was reset in the middle of something.
func (o *objects) closed(number int32) {
	if l := o.living[number]; l != nil {
		delete(o.living, number)
		l.edge.Close()
	}
}

// newOp returns 128 random bits in hex.
func newOp() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
