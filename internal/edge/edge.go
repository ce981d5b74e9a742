//go:build js && wasm

// Package edge is where Go meets the Workers runtime: promises, fetch, D1,
// storage, requests and responses. edge.mjs is its other half.
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
//   - A promise is waited for by number, in a table. A js.Func for each would
//     never be released.
//   - Nothing that grows with requests or users stays in Go. What an object that
//     was reset left waiting is ended when the runtime collects it.
//   - If the program ends all the same, what is in flight fails and the next call
//     boots another; it starts from storage.
//   - What crosses is a string or a number, by functions that WebAssembly itself
//     imports and exports: by syscall/js a call costs twenty times as much.
package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall/js"
	"time"
	"unsafe"

	"github.com/go-faster/jx"
	"github.com/syumai/workers/cloudflare"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
	"latchkey/internal/users"
)

// Handlers are what edge.mjs calls. None of them may wait; what does wait runs
// in a goroutine, which has run as far as it can when the call returns.
type Handlers struct {
	Route     func(c Call, r Request)
	Failed    func(c Call, r Request, code, cause string)   // an object that could not be asked
	KeysRead  func(set, cacheControl string, failure error) // what WantKeys asked for
	Scheduled func()
	Object    func(c Call, o *Object, r Request)
	Ask       func(c Call, o *Object, errand string) // of another object, or of the Worker
	Alarm     func(c Call, o *Object)
	Closed    func(object int32) // the runtime has collected it
	Kept      func() int         // how many objects are kept in memory
}

// Request is what there is to know of an HTTP request. Path and Query are
// percent-encoded; a body that is TooLarge was not read.
type Request struct {
	Method, Path, Query, Authorization, Origin, Body string

	HTTPS, TooLarge bool
}

var handlers Handlers

// Serve takes calls from now on. It never returns: the program lives as long as
// its isolate.
func Serve(h Handlers) {
	handlers = h
	select {}
}

// Call is a call from edge.mjs that is to be answered once, by its number. That
// of the Worker is [Now]: it is answered before its handler returns.
type Call int32

// Now is the call that is going on.
const Now Call = 0

// Respond answers with a Response.
func (c Call) Respond(a answer.Answer) {
	parts := []string{a.Body}
	for _, h := range a.Header {
		parts = append(parts, h[0], h[1])
	}
	respond(int32(c), int32(a.Status), join(parts...))
}

// Done answers that what was asked for is done, or why it failed.
func (c Call) Done(err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	done(int32(c), failure)
}

// WantKeys answers a request that it is to come again, once the key set at a URL
// was read for it and handed to KeysRead or, without a URL, a moment later.
func (c Call) WantKeys(url string) { wantKeys(int32(c), url) }

// Forward hands the request that is going on, as it came, to the object of that
// name, by the binding of its namespace.
func Forward(namespace, name string) { forward(join(namespace, name)) }

// Ask has an object do an errand, and answers the call that is going on with that.
func Ask(namespace, name, errand string) { ask(int32(Now), join(namespace, errand, name)) }

// What edge.mjs does for us. None of these may throw: an exception would end
// the program. Those that return a length have written so many bytes of text to
// our input; below 0 it is -1 less the length of what went wrong.

//go:wasmimport edge respond
func respond(call, status int32, bodyAndHeaders string)

//go:wasmimport edge done
func done(call int32, failure string)

//go:wasmimport edge wantKeys
func wantKeys(call int32, url string)

//go:wasmimport edge forward
func forward(namespaceAndName string)

//go:wasmimport edge ask
func ask(id int32, namespaceErrandAndName string)

//go:wasmimport edge fetch
func fetch(id, milliseconds int32, methodURLBodyAndHeaders string)

//go:wasmimport edge batch
func batch(id, milliseconds int32, dbAndStatements string)

//go:wasmimport edge load
func load(object int32) (length int32)

//go:wasmimport edge write
func write(object int32, seq, alarm float64, stateAndEntry string) (length int32)

//go:wasmimport edge entries
func entries(object int32, after float64, limit int32) (length int32)

//go:wasmimport edge rest
func rest(object int32)

//go:wasmimport edge log
func log(line string)

//go:wasmimport edge measure
func measure(point string)

// input is where edge.mjs writes the text that it hands over, unless that is
// longer: then it has reserved room for it.
var (
	input    [64 << 10]byte
	reserved []byte
)

//go:wasmexport input
func inputAddress() unsafe.Pointer { return unsafe.Pointer(&input) }

//go:wasmexport inputSize
func inputSize() int32 { return int32(len(input)) }

//go:wasmexport reserve
func reserve(length int32) unsafe.Pointer {
	reserved = make([]byte, length)
	return unsafe.Pointer(&reserved[0])
}

// text returns what edge.mjs has written.
func text(length int32) string {
	if reserved != nil {
		long := unsafe.String(&reserved[0], length) // nobody writes to it again
		reserved = nil
		return long
	}
	return string(input[:length])
}

// told is the result of an import that returns a length.
func told(length int32) (string, error) {
	if length < 0 {
		return "", errors.New(text(-1 - length))
	}
	return text(length), nil
}

// Several texts cross as one, since each costs a call. JSON, URLs and headers
// cannot hold the separator. What can is the last field: a user id, say.
const separator = "\x00"

func join(parts ...string) string { return strings.Join(parts, separator) }

// fields splits what edge.mjs has written into so many parts.
func fields(length int32, count int) []string { return strings.SplitN(text(length), separator, count) }

// turns bounds how often all that can run is let run. More means that a
// goroutine waits for something that edge does not know of.
const turns = 10_000

// enter runs a handler and then every goroutine, until each of them waits for a
// promise. One that panics returns 1, and everybody else goes on.
func enter(name string, handler func()) (mistake int32) {
	// When nothing runs, all but these wait for a promise.
	others := runtime.NumGoroutine() - len(waiters)
	defer func() {
		if cause := recover(); cause != nil {
			Log(oplog.Line{Evt: oplog.Panic, Op: name, Err: fmt.Sprintf("%v\n%s", cause, debug.Stack())})
			mistake = 1
		}
	}()
	handler()
	for range turns {
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
		handlers.Route(Now, r)
	})
}

// sent is the body of the request that comes next.
var sent string

//go:wasmexport body
func body(length int32) { sent = text(length) }

// request returns the request that edge.mjs has written, and the name of the
// object that it was sent to.
func request(length, tooLarge int32) (r Request, name string) {
	f := fields(length, 5)
	r = Request{Method: f[0], Authorization: f[2], Origin: f[3], Body: sent, TooLarge: tooLarge != 0}
	r.Path, r.Query = split(f[1])
	r.HTTPS = strings.HasPrefix(f[1], "https:")
	sent = ""
	return r, f[4]
}

// split returns the path and the query of a URL, as they were sent.
func split(url string) (path, query string) {
	_, rest, _ := strings.Cut(url, "://")
	_, rest, _ = strings.Cut(rest, "/")
	path, query, _ = strings.Cut(rest, "?")
	return "/" + path, query
}

//go:wasmexport failed
func enterFailed(length int32) int32 {
	return enter("failed", func() {
		f := fields(length, 5)
		path, _ := split(f[1])
		r := Request{Method: f[0], Path: path, Origin: f[2], HTTPS: strings.HasPrefix(f[1], "https:")}
		handlers.Failed(Now, r, f[3], f[4])
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
func enterObject(length, call, object, tooLarge int32) int32 {
	return enter("object", func() {
		r, name := request(length, tooLarge)
		handlers.Object(Call(call), &Object{number: object, Name: name}, r)
	})
}

//go:wasmexport ask
func enterAsk(length, call, object int32) int32 {
	return enter("ask", func() {
		f := fields(length, 2)
		handlers.Ask(Call(call), &Object{number: object, Name: f[1]}, f[0])
	})
}

//go:wasmexport alarm
func enterAlarm(length, call, object int32) int32 {
	return enter("alarm", func() { handlers.Alarm(Call(call), &Object{number: object, Name: text(length)}) })
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

//go:wasmexport waiting
func waiting() int32 { return int32(len(waiters)) }

// result is how a promise ended.
type result struct {
	text string
	err  error
}

// waiter waits for a promise on behalf of an object.
type waiter struct {
	object int32
	done   chan result
}

var (
	waiters = map[int32]waiter{}
	lastID  int32
)

// errGone is what an object that was collected gets for whatever it waits for.
var errGone = errors.New("edge: the object is gone")

//go:wasmexport settled
func enterSettled(length, id, failed int32) int32 {
	return enter("settled", func() {
		r := result{text: text(length)}
		if failed != 0 {
			r = result{err: errors.New(r.text)}
		}
		w, ok := waiters[id]
		if !ok {
			return // its object is gone
		}
		delete(waiters, id)
		w.done <- r
	})
}

// abandon ends all that an object waits for: it was collected, so that nothing
// of it will ever be settled.
func abandon(object int32) {
	for id, w := range waiters {
		if w.object == object {
			delete(waiters, id)
			w.done <- result{err: errGone}
		}
	}
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

var metrics = Bound("METRICS")

// Log writes a line, and a data point of it where the binding METRICS is there.
func Log(line oplog.Line) {
	log(line.String())
	if !metrics {
		return
	}
	point, err := json.Marshal(line.Point())
	if err != nil {
		panic(err) // a point is plain data
	}
	measure(string(point))
}

// Object is what a living Durable Object has: its storage, and promises that
// are waited for in its name.
type Object struct {
	Name   string // the user's id
	number int32
	closed bool
}

// Number is one that no other construction of an object has.
func (o *Object) Number() int32 { return o.number }

// Rest tells that nothing is going on in the object until it is called again.
func (o *Object) Rest() { rest(o.number) }

// Close cuts off an object that was collected.
func (o *Object) Close() { o.closed = true }

// wait suspends the goroutine until the promise that start begins is settled.
func (o *Object) wait(start func(id int32)) (string, error) {
	if o.closed {
		return "", errGone
	}
	lastID++
	w := waiter{o.number, make(chan result, 1)}
	waiters[lastID] = w
	start(lastID)
	r := <-w.done
	return r.text, r.err
}

// Ask hands a request to another object, and returns the body of its answer.
func (o *Object) Ask(namespace, name, request string) (string, error) {
	return o.wait(func(id int32) { ask(id, join(namespace, request, name)) })
}

// Storage is the object's own storage; it implements durable.Storage.
type Storage struct{ *Object }

// Load implements durable.Storage.
func (s Storage) Load() (string, error) {
	if s.closed {
		return "", errGone
	}
	return told(load(s.number))
}

// Write implements durable.Storage.
func (s Storage) Write(state string, entry *account.Entry, alarm *time.Time) error {
	if s.closed {
		return errGone
	}
	var seq int64
	var line string
	if entry != nil {
		var e jx.Encoder
		entry.Encode(&e)
		seq, line = entry.Seq, e.String()
	}
	ring := math.NaN() // leaves it
	switch {
	case alarm == nil:
	case alarm.IsZero():
		ring = 0
	default:
		ring = float64(alarm.Add(time.Millisecond - 1).UnixMilli()) // never before it is due
	}
	_, err := told(write(s.number, float64(seq), ring, join(state, line)))
	return err
}

// Entries implements durable.Storage.
func (s Storage) Entries(seq int64, limit int) ([]account.Entry, error) {
	if s.closed {
		return nil, errGone
	}
	found, err := told(entries(s.number, float64(seq), int32(limit)))
	if err != nil {
		return nil, err
	}
	var all []account.Entry
	return all, json.Unmarshal([]byte(found), &all)
}

// Transport sends requests with fetch; it implements http.RoundTripper. The
// deadline covers the body of the answer, which has arrived when RoundTrip
// returns; one of more than 1 MiB, decoded, is an error. Of the answer's headers it
// gives Retry-After alone, at most 100 characters.
type Transport struct {
	*Object
	Deadline time.Duration
}

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	var body []byte
	if request.Body != nil {
		var err error
		if body, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
	}
	parts := []string{request.Method, request.URL.String(), string(body)}
	for name := range request.Header {
		parts = append(parts, name, request.Header.Get(name))
	}
	got, err := t.wait(func(id int32) { fetch(id, int32(t.Deadline.Milliseconds()), join(parts...)) })
	if err != nil {
		return nil, err
	}
	parts = strings.SplitN(got, separator, 3)
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
	got, err := d.wait(func(id int32) { batch(id, int32(d.Deadline.Milliseconds()), join(d.Binding, string(encoded))) })
	if err != nil {
		return nil, err
	}
	var rows []json.RawMessage
	return rows, json.Unmarshal([]byte(got), &rows)
}
