// Package answer is an HTTP answer in the making: plain data, which the Worker
// and the Durable Object fill in and package edge hands to the runtime.
package answer

import (
	"encoding/json"
	"fmt"
)

// Answer is an HTTP response. Header values are Latin-1, as HTTP has them.
type Answer struct {
	Status int
	Header [][2]string // name and value, in order
	Body   string
	Code   string  // of a problem; empty: it is none
	Socket *Socket // instead of a body, where Status is 101
}

// Socket is the server's end of a WebSocket that the answer opens.
type Socket struct {
	ID      string // that no other socket of the object has
	Note    string // what the object keeps with it
	Message string // the first one
	Code    int    // it is closed at once with this code and Reason, and no object has it; 0: it stays open
	Reason  string
}

// With returns the answer with one more header.
func (a Answer) With(name, value string) Answer {
	// The full slice expression makes append copy: answers share their headers.
	a.Header = append(a.Header[:len(a.Header):len(a.Header)], [2]string{name, value})
	return a
}

// JSON is an answer with a JSON body that no cache may keep. It panics on a
// value that cannot be encoded, which is a mistake in the program.
func JSON(status int, contentType string, body any) Answer {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("answer: %v", err))
	}
	return Encoded(status, contentType, string(encoded))
}

// Encoded is an answer with a body that is JSON already.
func Encoded(status int, contentType, body string) Answer {
	return Answer{Status: status, Header: [][2]string{{"Content-Type", contentType}, {"Cache-Control", "no-store"}}, Body: body}
}
