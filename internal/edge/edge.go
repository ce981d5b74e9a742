// Package edge is where Go meets the Workers runtime: promises, fetch, D1,
// storage, requests and responses. edge.mjs is its other half. It knows the
// runtime and none of what is done with it: of latchkey's other packages it has
// the types alone that its interfaces are made of.
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
	"strings"

	"latchkey/internal/answer"
)

// Request is what there is to know of an HTTP request. Path and Query are
// percent-encoded; a body that is TooLarge was not read.
type Request struct {
	Method, Path, Query, Authorization, Origin, Body string

	Site      string // scheme and host of the URL: the origin of the Worker's own pages
	HTTPS     bool   // how the client sent it
	TooLarge  bool
	WebSocket bool   // it asks for an upgrade to a WebSocket
	Protocols string // Sec-WebSocket-Protocol of such a request
}

// newRequest returns a request to a URL, which is kept as it was sent. socket is
// empty, or the header Upgrade and the protocols that the client offers.
func newRequest(method, url, authorization, origin, socket string) Request {
	scheme, rest, _ := strings.Cut(url, "://")
	host, rest, _ := strings.Cut(rest, "/")
	path, query, _ := strings.Cut(rest, "?")
	upgrade, protocols, _ := strings.Cut(socket, "\n")
	return Request{
		Method: method, Path: "/" + path, Query: query, Authorization: authorization, Origin: origin,
		Site: scheme + "://" + host, HTTPS: scheme == "https",
		WebSocket: strings.EqualFold(upgrade, "websocket"), Protocols: protocols,
	}
}

// Call is a call from the runtime. It is answered once, by one of these; the
// Worker's before its handler returns.
type Call interface {
	// Respond answers with a response.
	Respond(a answer.Answer)
	// Done answers that what was asked for is done, or why it failed.
	Done(err error)
	// WantKeys answers a request that it is to come again, once the key set at a URL
	// was read for it and handed to KeysRead or, without a URL, a moment later.
	WantKeys(url string)
}

// Failure is why the Worker has no answer from an object.
type Failure string

// The failures; worker.mjs tells them apart.
const (
	Mistake    Failure = "mistake"    // the program made one, and has logged it
	Overloaded Failure = "overloaded" // the runtime has too many requests for the object
	Unreached  Failure = "unreached"  // anything else: it was restarted or moved, or the program ended
)
