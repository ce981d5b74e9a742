//go:build js && wasm

// Package edge is where Go meets the Workers runtime, and the only package that
// imports syscall/js: promises, fetch, D1, storage, requests and responses.
// edge.mjs is its other half.
//
// One Go program serves every request and every object of an isolate. These
// rules keep that safe; each was seen to break when it was not kept:
//
//   - The program boots synchronously, inside a handler or constructor, and no
//     request waits for the boot of another.
//   - The Worker's call into Go is synchronous and leaves nothing of a request
//     in Go when its client goes away.
//   - In an object a goroutine may wait, for a promise of its own: that wakes it
//     in its own object's I/O context. So nothing may wake one user's code from
//     another's: no Go timers, and no lock, channel or sync.Once that users share
//     across a wait. Deadlines are JavaScript's.
//   - A promise is waited for through one registered function and a table. A
//     js.Func for each would never be released.
//   - Nothing that grows with requests or users stays in Go. What an object that
//     was reset left waiting is ended when the runtime collects it.
//   - If the program ends all the same, what is in flight fails and the next call
//     boots another; it starts from storage.
//   - What crosses is a string or a number wherever it can be.
package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall/js"
	"time"

	"github.com/syumai/workers/cloudflare"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
	"latchkey/internal/users"
)

// host holds what edge.mjs does for us, and what we export to it.
var host = js.Global().Get("context").Get("binding")

// result is how a promise ended.
type result struct {
	value js.Value
	err   error
}

// waiter waits for a promise on behalf of an object.
type waiter struct {
	object int
	done   chan result
}

var (
	waiters = map[int]waiter{}
	lastID  int
)

// errGone is what an object that was collected gets for whatever it waits for.
var errGone = errors.New("edge: the object is gone")

// wait suspends the goroutine until the promise that start returns is settled.
func wait(object int, start func() js.Value) (js.Value, error) {
	promise, err := try(start)
	if err != nil {
		return js.Value{}, err
	}
	lastID++
	id := lastID
	w := waiter{object, make(chan result, 1)}
	waiters[id] = w
	host.Call("started", id, promise)
	r := <-w.done
	return r.value, r.err
}

// settled is called by edge.mjs when a promise is settled.
func settled(_ js.Value, args []js.Value) any {
	id := args[0].Int()
	w, ok := waiters[id]
	if !ok {
		return nil // its object is gone
	}
	delete(waiters, id)
	r := result{value: args[2]}
	if failure := args[1].String(); failure != "" {
		r.err = errors.New(failure)
	}
	w.done <- r
	return nil
}

// abandon ends all that an object waits for: it was collected, so that nothing
// of it will ever be settled.
func abandon(object int) {
	for id, w := range waiters {
		if w.object == object {
			delete(waiters, id)
			w.done <- result{err: errGone}
		}
	}
}

// try turns a JavaScript exception into an error.
func try(call func() js.Value) (value js.Value, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			thrown, ok := cause.(js.Error)
			if !ok {
				panic(cause)
			}
			err = errors.New(thrown.Get("message").String())
		}
	}()
	return call(), nil
}

// Getenv returns a variable or secret as text, "" where it is not set.
func Getenv(name string) string {
	switch value := cloudflare.GetBinding(name); value.Type() {
	case js.TypeUndefined, js.TypeNull:
		return ""
	case js.TypeString:
		return value.String()
	default: // a number or boolean in wrangler.toml
		return js.Global().Get("String").Invoke(value).String()
	}
}

// Bound tells whether there is a binding of that name.
func Bound(name string) bool { return cloudflare.GetBinding(name).Truthy() }

// Log writes a line, and a data point of it where the binding METRICS is there.
func Log(line oplog.Line) {
	host.Call("log", line.String())
	if !Bound("METRICS") {
		return
	}
	point, err := json.Marshal(line.Point())
	if err != nil {
		panic(err) // a point is plain data
	}
	host.Call("measure", cloudflare.GetBinding("METRICS"), string(point))
}

// Respond makes a Response of an answer.
func Respond(a answer.Answer) js.Value {
	headers, err := json.Marshal(append([][2]string{}, a.Header...)) // [] rather than null
	if err != nil {
		panic(err) // strings always encode
	}
	return host.Call("respond", a.Status, string(headers), a.Body)
}

// Forward hands a request to the object of that name, by the binding of its
// namespace, and returns the promise of its Response.
func Forward(namespace, name, request, origin string) js.Value {
	return host.Call("forward", cloudflare.GetBinding(namespace), name, request, origin)
}

// Export makes functions callable from edge.mjs. One that panics returns null,
// and everybody else goes on.
func Export(functions map[string]func(args []js.Value) any) {
	host.Set("settled", js.FuncOf(settled))
	for name, f := range functions {
		host.Set(name, js.FuncOf(func(_ js.Value, args []js.Value) (result any) {
			defer func() {
				if cause := recover(); cause != nil {
					Log(oplog.Line{Evt: oplog.Panic, Op: name, Err: fmt.Sprintf("%v\n%s", cause, debug.Stack())})
					result = nil
				}
			}()
			return f(args)
		}))
	}
}

// Answer settles what edge.mjs asked under that number. The empty failure is none.
func Answer(number int, failure string, value any) { host.Call("answer", number, failure, value) }

// Object is what a living Durable Object has: its storage, and promises that
// are waited for in its name.
type Object struct {
	number  int
	storage js.Value
	closed  bool
}

// NewObject returns the object of that number and with that ctx.storage.
func NewObject(number int, storage js.Value) *Object {
	return &Object{number: number, storage: storage}
}

// Close cuts off an object that was collected.
func (o *Object) Close() {
	o.closed = true
	abandon(o.number)
}

func (o *Object) wait(start func() js.Value) (js.Value, error) {
	if o.closed {
		return js.Value{}, errGone
	}
	return wait(o.number, start)
}

// Ask hands a request to another object, and returns the body of its answer.
func (o *Object) Ask(namespace, name, request string) (string, error) {
	body, err := o.wait(func() js.Value {
		return host.Call("ask", cloudflare.GetBinding(namespace), name, request)
	})
	if err != nil {
		return "", err
	}
	return body.String(), nil
}

func (o *Object) try(call func() js.Value) (js.Value, error) {
	if o.closed {
		return js.Value{}, errGone
	}
	return try(call)
}

// Storage is the object's own storage; it implements durable.Storage.
type Storage struct{ *Object }

// Load implements durable.Storage.
func (s Storage) Load() (string, error) {
	state, err := s.try(func() js.Value { return host.Call("load", s.storage) })
	if err != nil {
		return "", err
	}
	return state.String(), nil
}

// Write implements durable.Storage.
func (s Storage) Write(state string, entry *account.Entry, alarm *time.Time) error {
	var seq int64
	var line string
	if entry != nil {
		encoded, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		seq, line = entry.Seq, string(encoded)
	}
	ring := js.Undefined()
	switch {
	case alarm == nil:
	case alarm.IsZero():
		ring = js.ValueOf(0)
	default:
		ring = js.ValueOf(alarm.UnixMilli())
	}
	_, err := s.try(func() js.Value { return host.Call("write", s.storage, state, seq, line, ring) })
	return err
}

// Entries implements durable.Storage.
func (s Storage) Entries(seq int64, limit int) ([]account.Entry, error) {
	found, err := s.try(func() js.Value { return host.Call("entries", s.storage, seq, limit) })
	if err != nil {
		return nil, err
	}
	var entries []account.Entry
	return entries, json.Unmarshal([]byte(found.String()), &entries)
}

// Transport sends requests with fetch; it implements http.RoundTripper. The
// deadline covers the body of the answer, which has arrived when RoundTrip
// returns. Of the answer's headers it gives Retry-After alone.
type Transport struct {
	*Object
	Deadline time.Duration
}

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	headers := make(map[string]string, len(request.Header))
	for name := range request.Header {
		headers[name] = request.Header.Get(name)
	}
	encoded, err := json.Marshal(headers)
	if err != nil {
		return nil, err
	}
	var body []byte
	if request.Body != nil {
		if body, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
	}
	got, err := t.wait(func() js.Value {
		return host.Call("fetch", request.Method, request.URL.String(), string(encoded), string(body), t.Deadline.Milliseconds())
	})
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(got.String(), "\n", 3)
	status, err := strconv.Atoi(parts[0])
	if err != nil {
		return nil, fmt.Errorf("edge: fetch: status: %w", err)
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Retry-After": {parts[1]}}, Body: io.NopCloser(strings.NewReader(parts[2])), Request: request,
	}, nil
}

// DB runs statements on a D1 binding; it implements users.DB.
type DB struct {
	*Object
	Binding  string
	Deadline time.Duration
}

// Batch implements users.DB.
func (d DB) Batch(statements []users.Statement) ([]json.RawMessage, error) {
	encoded, err := json.Marshal(statements)
	if err != nil {
		return nil, err
	}
	got, err := d.wait(func() js.Value {
		return host.Call("batch", cloudflare.GetBinding(d.Binding), string(encoded), d.Deadline.Milliseconds())
	})
	if err != nil {
		return nil, err
	}
	var rows []json.RawMessage
	return rows, json.Unmarshal([]byte(got.String()), &rows)
}
