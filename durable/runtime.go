package durable

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/oplog"
	"latchkey/internal/settings"
	"latchkey/internal/users"
)

// Storage is the object's own storage. A write that returned without an error
// is durable before anything that is sent after it leaves; a write by an object
// that is no longer the current one fails.
type Storage interface {
	// Load returns the state last written, or "" where there is none.
	Load() (string, error)
	// Write stores, as one transaction, the state, a ledger entry unless it is
	// nil, and when the alarm is to ring: nil leaves it as it is, and the zero
	// time is never.
	Write(state string, entry *account.Entry, alarm *time.Time) error
	// Entries returns the ledger entries after seq, oldest first, at most limit.
	Entries(seq int64, limit int) ([]account.Entry, error)
	// Latest returns the ledger entries before a seq, newest first, at most limit; 0:
	// from the newest.
	Latest(before int64, limit int) ([]account.Entry, error)
}

// Runtime is what an object gets from around it.
type Runtime struct {
	Settings  settings.Settings
	Storage   Storage
	DB        users.DB
	Transport http.RoundTripper // to OpenRouter
	Sockets   Sockets           // nil: nobody has one
	Now       func() time.Time
	NewID     func() string // an id that nothing else has
	Log       func(oplog.Line)
	Idle      func() // called whenever nothing is going on any more
}

// panicked logs a mistake in the program and where it is.
func panicked(r *Runtime, user string, cause any) error {
	r.Log(oplog.Line{Evt: oplog.Panic, User: user, Err: fmt.Sprintf("%v\n%s", cause, debug.Stack())})
	return fmt.Errorf("durable: panic: %v", cause)
}
