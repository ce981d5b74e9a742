//go:build js && wasm

// Command worker is the one wasm program of an isolate: it hangs package worker on the
// runtime, by package edge.
package main

import (
	"net/http"
	"time"

	"latchkey/durable"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/settings"
	"latchkey/internal/users"
	"latchkey/worker"
)

// The bindings of wrangler.toml.
const (
	usersBinding   = "USERS" // the namespace of the users' objects, and of the admin service
	dbBinding      = "DB"
	metricsBinding = "METRICS" // every line of the log is a data point too, where it is there
)

// d1Deadline bounds a statement's wait: only background work and the very first
// request of a user wait for D1 at all.
const d1Deadline = 10 * time.Second

func main() {
	log := func(line oplog.Line) { edge.Log(line.String()) }
	if edge.Bound(metricsBinding) {
		log = func(line oplog.Line) {
			edge.Log(line.String())
			edge.Measure(line.Point().String())
		}
	}
	set, err := settings.Parse(edge.Getenv, edge.Bound)
	worker.Misspelt(edge.Names(), log)
	front := worker.NewFront(set, err, time.Now, log)
	objects := worker.NewObjects(front)
	on := func(e *edge.Object) worker.Platform { return onEdge{e, set.OpenRouterTimeout} }
	edge.Serve(edge.Handlers{
		Route: func(c edge.Call, r edge.Request) {
			front.Route(c, r, func(object string) { edge.Forward(usersBinding, object) })
		},
		Failed:   front.Failed,
		KeysRead: front.KeysRead,
		Scheduled: func() {
			object, call := worker.Daily()
			edge.Ask(usersBinding, object, call)
		},
		Object: func(c edge.Call, e *edge.Object, r edge.Request) { objects.Serve(c, on(e), r) },
		Ask:    func(c edge.Call, e *edge.Object, call string) { objects.AnswerCall(c, on(e), call) },
		Alarm:  func(c edge.Call, e *edge.Object) { objects.Alarm(c, on(e)) },
		Closed: objects.Closed,
		Kept:   objects.Kept,
		Panicked: func(during, cause string) {
			log(oplog.Line{Evt: oplog.Panic, Op: oplog.Op(during), Err: cause})
		},
	})
}

// onEdge is the platform that internal/edge gives an object.
type onEdge struct {
	*edge.Object
	openRouterTimeout time.Duration
}

func (p onEdge) Storage() durable.Storage { return edge.Storage{Object: p.Object} }

func (p onEdge) DB() users.DB {
	return edge.DB{Object: p.Object, Binding: dbBinding, Deadline: d1Deadline}
}

func (p onEdge) OpenRouter() http.RoundTripper {
	return edge.Transport{Object: p.Object, Deadline: p.openRouterTimeout}
}

func (p onEdge) Sockets() durable.Sockets { return edge.Sockets{Object: p.Object} }

func (p onEdge) Call(name, call string) (string, error) { return p.Ask(usersBinding, name, call) }
