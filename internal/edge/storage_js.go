//go:build js && wasm

package edge

import (
	"encoding/json"
	"math"
	"time"

	"github.com/go-faster/jx"

	"latchkey/internal/account"
)

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
	return decodeEntries(told(entries(s.number, float64(seq), int32(limit))))
}

// Latest implements durable.Storage.
func (s Storage) Latest(before int64, limit int) ([]account.Entry, error) {
	if s.closed {
		return nil, errGone
	}
	return decodeEntries(told(latest(s.number, float64(before), int32(limit))))
}

func decodeEntries(found string, err error) ([]account.Entry, error) {
	if err != nil {
		return nil, err
	}
	var all []account.Entry
	return all, json.Unmarshal([]byte(found), &all)
}
