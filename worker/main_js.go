//go:build js && wasm

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"latchkey/durable"
	"latchkey/internal/admin"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/settings"
	"latchkey/internal/users"
)

// d1Deadline bounds a statement's wait: only background work and the very first
// request of a user wait for D1 at all.
const d1Deadline = 10 * time.Second

// objectsBinding is the namespace of the users' objects, and the admin service.
const objectsBinding = "USERS"

func main() {
	set, err := settings.Parse(edge.Getenv, edge.Bound)
	f := &front{settings: set, bad: err, log: edge.Log}
	if err != nil {
		edge.Log(oplog.Line{Evt: oplog.Settings, Outcome: "misconfigured", Err: err.Error()})
	} else {
		f.verifier = auth.NewVerifier(set.Tokens, time.Now)
	}
	o := &objects{front: f, living: map[int32]*living{}}
	edge.Serve(edge.Handlers{
		Route: f.route, Failed: f.routeFailed, KeysRead: f.keysRead, Scheduled: f.scheduled, Object: o.serve, Ask: o.ask, Alarm: o.alarm, Closed: o.closed,
		Kept: func() int { return len(o.living) },
	})
}

func (f *front) route(c edge.Call, asked edge.Request) {
	a, onward := f.serve(read(asked))
	switch {
	case onward == nil:
		c.Respond(a)
	case onward.keys != nil:
		c.WantKeys(onward.keys.URL)
	default:
		edge.Forward(objectsBinding, onward.object)
	}
}

func read(r edge.Request) request {
	return request{r.Method, r.Path, r.Query, r.Authorization, r.Origin, r.HTTPS, r.Body, r.TooLarge}
}

// errand is what is asked of an object without a client: one of these.
type errand struct {
	Daily bool   `json:"daily,omitempty"` // of the admin service: to look for keys that nobody owns
	Owns  string `json:"owns,omitempty"`  // of a user's object: whether it knows the key of this hash
}

func (e errand) String() string {
	encoded, err := json.Marshal(e)
	if err != nil {
		panic(err) // an errand is plain data
	}
	return string(encoded)
}

func (f *front) scheduled() { edge.Ask(objectsBinding, adminName, errand{Daily: true}.String()) }

func (f *front) routeFailed(c edge.Call, asked edge.Request, code, cause string) {
	c.Respond(f.failed(read(asked), code, cause))
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

// serve answers a request that the Worker has forwarded. It is looked at anew:
// an object takes nobody's word for whose request it is.
func (o *objects) serve(c edge.Call, e *edge.Object, asked edge.Request) {
	r := read(asked)
	reply := func(a answer.Answer) { c.Respond(o.finish(a, r)) }
	_, onward, err := o.handle(r, &oplog.Line{})
	wanted := (*auth.KeysWanted)(nil)
	switch {
	case errors.As(err, &wanted): // the Worker may run elsewhere, and its keys are there
		c.WantKeys(wanted.URL)
	case err != nil: // since the Worker looked a token has expired, or the settings were changed
		reply(problem.From(err).Answer())
	case onward == nil || onward.object != e.Name:
		c.Done(errors.New("the request is not for this object"))
	case onward.admin != nil:
		go o.admin(e, *onward.admin, reply)
	default:
		o.object(e).Ask(onward.request, reply)
	}
}

// ask answers an errand.
func (o *objects) ask(c edge.Call, e *edge.Object, asked string) {
	var what errand
	err := json.Unmarshal([]byte(asked), &what)
	switch {
	case err != nil || o.bad != nil:
		c.Done(errors.New("the settings or the errand are bad"))
	case what.Daily && e.Name == adminName:
		go o.admin(e, adminRequest{Reconcile: &adminapi.ReconcileOptions{}}, c.Respond)
	default:
		o.object(e).Ask(durable.Request{Action: durable.Owns, Hash: what.Owns}, c.Respond)
	}
}

// admin does what is asked of the admin service.
func (o *objects) admin(e *edge.Object, what adminRequest, reply func(answer.Answer)) {
	began := time.Now()
	line := oplog.Line{Evt: oplog.Admin, Op: "list", Outcome: "done"}
	desk := admin.Service{
		Keys: openrouter.Client{
			BaseURL: o.settings.OpenRouterURL, ProvisioningKey: o.settings.ProvisioningKey, Workspace: o.settings.Workspace, Now: time.Now,
			Transport: edge.Transport{Object: e, Deadline: o.settings.OpenRouterTimeout},
		},
		Table:  users.Table{DB: edge.DB{Object: e, Binding: "DB", Deadline: d1Deadline}},
		Prefix: o.settings.KeyNamePrefix,
		Knows:  func(user, hash string) (bool, error) { return knows(e, user, hash) },
		Now:    time.Now,
	}
	var body any
	var err error
	if what.Reconcile != nil {
		line.Op = "reconcile"
		body, err = reconcile(desk, *what.Reconcile, &line)
	} else {
		body, err = desk.List(*what.List)
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

// reconcile says in the line what an operator has to see, as an error too.
func reconcile(desk admin.Service, options adminapi.ReconcileOptions, line *oplog.Line) (admin.Report, error) {
	report, err := desk.Reconcile(options)
	line.State = report
	if report.Cause != nil {
		line.Err = report.Cause.Error()
	}
	if report.Suspicious && !options.DryRun && !options.Force {
		line.Outcome = "suspicious"
		line.Err = fmt.Sprintf("%d of %d keys of ours belong to nobody here: so many look like another deployment's, and none is deleted", len(report.Orphans), report.Ours)
	}
	return report, err
}

// knows asks a user's object whether it knows a key.
func knows(e *edge.Object, user, hash string) (bool, error) {
	body, err := e.Ask(objectsBinding, user, errand{Owns: hash}.String())
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
