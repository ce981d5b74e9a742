//go:build js && wasm

package edge

import (
	"encoding/json"

	"latchkey/internal/answer"
)

// Sockets are the object's open WebSockets; it implements durable.Sockets. They are the
// runtime's: they outlive the object in memory, with a note that the object keeps there.
type Sockets struct{ *Object }

// List implements durable.Sockets.
func (s Sockets) List() ([]answer.Socket, error) {
	if s.closed {
		return nil, errGone
	}
	listed, err := told(sockets(s.number))
	if err != nil {
		return nil, err
	}
	var list []answer.Socket
	return list, json.Unmarshal([]byte(listed), &list)
}

// Send implements durable.Sockets.
func (s Sockets) Send(id, message, note string) {
	if !s.closed {
		send(s.number, join(id, note, message))
	}
}

// Close implements durable.Sockets.
func (s Sockets) Close(id string, code int, reason string) {
	if !s.closed {
		closeSocket(s.number, int32(code), join(id, reason))
	}
}
