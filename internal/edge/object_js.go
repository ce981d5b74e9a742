//go:build js && wasm

package edge

import "errors"

// Object is what one construction of a Durable Object has: its storage, and
// promises that are waited for in its name.
type Object struct {
	name   string
	number int32
	closed bool
}

// Name is the name by which others ask for the object.
func (o *Object) Name() string { return o.name }

// Number is one that no other construction of an object has.
func (o *Object) Number() int32 { return o.number }

// Idle tells that nothing is going on in the object until it is called again.
func (o *Object) Idle() { idle(o.number) }

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

// Ask has another object answer an internal call, and returns the body of its answer.
func (o *Object) Ask(namespace, name, call string) (string, error) {
	return o.wait(func(id int32) { ask(id, join(namespace, call, name)) })
}

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

//go:wasmexport waiting
func waiting() int32 { return int32(len(waiters)) }
