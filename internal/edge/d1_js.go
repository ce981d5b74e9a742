//go:build js && wasm

package edge

import (
	"encoding/json"
	"time"

	"latchkey/internal/users"
)

// DB runs statements on a D1 binding; it implements users.DB.
type DB struct {
	*Object
	Binding  string
	Deadline time.Duration
}

// Batch implements users.DB.
func (d DB) Batch(statements []users.Statement, sent func()) ([]json.RawMessage, error) {
	encoded, err := json.Marshal(statements)
	if err != nil {
		return nil, err
	}
	got, err := d.wait(func(id int32) {
		batch(id, int32(d.Deadline.Milliseconds()), join(d.Binding, string(encoded)))
		if sent != nil {
			sent() // the output gate holds back what leaves after a write, and this has left
		}
	})
	if err != nil {
		return nil, err
	}
	var rows []json.RawMessage
	return rows, json.Unmarshal([]byte(got), &rows)
}
