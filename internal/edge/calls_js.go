//go:build js && wasm

package edge

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"latchkey/internal/answer"
)

// This file is what the runtime asks of the program, and how it is answered.

// Handlers are what edge.mjs calls. None of them may wait; what does wait runs
// in a goroutine, which has run as far as it can when the call returns.
type Handlers struct {
	Route     func(c Call, r Request)                                // a request to the Worker
	Failed    func(c Call, r Request, failure Failure, cause string) // one that an object was to answer
	KeysRead  func(set, cacheControl string, failure error)          // what WantKeys asked for
	Scheduled func()                                                 // the cron trigger
	Object    func(c Call, o *Object, r Request)                     // a request to an object
	Ask       func(c Call, o *Object, call string)                   // an internal call: of another object, or of the Worker
	Alarm     func(c Call, o *Object)
	Closed    func(object int32)         // the runtime has collected it
	Kept      func() int                 // how many objects are kept in memory
	Panicked  func(during, cause string) // a handler, or what it began
}

var handlers Handlers

// Serve takes calls from now on. It never returns: the program lives as long as
// its isolate.
func Serve(h Handlers) {
	handlers = h
	select {}
}

// call is a Call by its number. That of the Worker is [now].
type call int32

// now is the call that is going on.
const now call = 0

// Respond implements Call.
func (c call) Respond(a answer.Answer) {
	parts := []string{a.Body}
	if s := a.Socket; s != nil {
		parts = []string{s.ID, s.Note, s.Message, s.Reason} // JSON has no separator in it
	}
	for _, h := range a.Header {
		parts = append(parts, h[0], h[1])
	}
	if s := a.Socket; s != nil {
		connect(int32(c), int32(s.Code), join(parts...))
		return
	}
	respond(int32(c), int32(a.Status), join(parts...))
}

// Done implements Call.
func (c call) Done(err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	done(int32(c), failure)
}

// WantKeys implements Call.
func (c call) WantKeys(url string) { wantKeys(int32(c), url) }

// Forward hands the request that is going on, as it came, to the object of that
// name, by the binding of its namespace.
func Forward(namespace, name string) { forward(join(namespace, name)) }

// Ask has an object answer an internal call, and answers the call that is going on
// with that.
func Ask(namespace, name, call string) { ask(int32(now), join(namespace, call, name)) }

// maxYields bounds how often all that can run is let run. More means that a
// goroutine waits for something that edge does not know of.
const maxYields = 10_000

// enter runs a handler and then every goroutine, until each of them waits for a
// promise. One that panics returns 1, and everybody else goes on.
func enter(name string, handler func()) (mistake int32) {
	// When nothing runs, all but these wait for a promise.
	others := runtime.NumGoroutine() - len(waiters)
	defer func() {
		if cause := recover(); cause != nil {
			handlers.Panicked(name, fmt.Sprintf("%v\n%s", cause, debug.Stack()))
			mistake = 1
		}
	}()
	handler()
	for range maxYields {
		if runtime.NumGoroutine()-len(waiters) <= others {
			return 0
		}
		runtime.Gosched()
	}
	panic("edge: a goroutine waits for something other than a promise")
}

//go:wasmexport route
func enterRoute(length, tooLarge int32) int32 {
	return enter("route", func() {
		r, _ := request(length, tooLarge)
		handlers.Route(now, r)
	})
}

// sent is the body of the request that comes next.
var sent string

//go:wasmexport body
func body(length int32) { sent = text(length) }

// request returns the request that edge.mjs has written, and what comes with it.
func request(length, tooLarge int32) (r Request, rest string) {
	f := fields(length, 6)
	r = newRequest(f[0], f[1], f[2], f[3], f[4])
	r.Body, r.TooLarge = sent, tooLarge != 0
	sent = ""
	return r, f[5]
}

//go:wasmexport failed
func enterFailed(length, tooLarge int32) int32 {
	return enter("failed", func() {
		r, why := request(length, tooLarge)
		failure, cause, _ := strings.Cut(why, separator)
		handlers.Failed(now, r, Failure(failure), cause)
	})
}

//go:wasmexport keysRead
func enterKeysRead(length, failed int32) int32 {
	return enter("keysRead", func() {
		if failed != 0 {
			handlers.KeysRead("", "", errors.New(text(length)))
			return
		}
		f := fields(length, 2)
		handlers.KeysRead(f[1], f[0], nil)
	})
}

//go:wasmexport scheduled
func enterScheduled(int32) int32 { return enter("scheduled", handlers.Scheduled) }

//go:wasmexport object
func enterObject(length, number, object, tooLarge int32) int32 {
	return enter("object", func() {
		r, name := request(length, tooLarge)
		handlers.Object(call(number), &Object{number: object, name: name}, r)
	})
}

//go:wasmexport ask
func enterAsk(length, number, object int32) int32 {
	return enter("ask", func() {
		f := fields(length, 2)
		handlers.Ask(call(number), &Object{number: object, name: f[1]}, f[0])
	})
}

//go:wasmexport alarm
func enterAlarm(length, number, object int32) int32 {
	return enter("alarm", func() { handlers.Alarm(call(number), &Object{number: object, name: text(length)}) })
}

//go:wasmexport closed
func enterClosed(_, object int32) int32 {
	return enter("closed", func() {
		handlers.Closed(object)
		abandon(object)
	})
}

//go:wasmexport kept
func kept() int32 { return int32(handlers.Kept()) }
