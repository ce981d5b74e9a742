// Package oplog is the log: one JSON object a line for every operation, with
// stable field names, made to be read and filtered with `wrangler tail`. A line
// holds no key, no token and no secret.
package oplog

import (
	"encoding/json"

	"latchkey/internal/account"
)

// Line is one line. Fields that mean nothing for an event are left out.
type Line struct {
	Evt     string `json:"evt"`               // what kind of line: see the constants
	User    string `json:"user,omitempty"`    // user id
	Op      string `json:"op,omitempty"`      // what was asked for: me, refresh; in the background: d1, delete, orphan, repair
	Outcome string `json:"outcome,omitempty"` // an outcome of the contract, a problem's code, or done, again
	Status  int    `json:"status,omitempty"`  // of the answer
	Millis  int64  `json:"ms"`

	RemainingLimit *account.Credits `json:"remaining_limit,omitempty"`
	UsageLimit     *account.Credits `json:"usage_limit,omitempty"`
	Hash           string           `json:"hash,omitempty"`    // of the key, its first 8 digits
	Waiting        int              `json:"waiting,omitempty"` // requests behind this one
	Shared         int              `json:"shared,omitempty"`  // requests that got this answer, where more than one

	Calls []Call `json:"calls,omitempty"`

	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`

	Tries int    `json:"tries,omitempty"` // of a background job so far
	Stuck bool   `json:"stuck,omitempty"` // a background job that has failed for a day
	Err   string `json:"err,omitempty"`

	State any `json:"state,omitempty"` // what an object holds, as the admin API shows it
}

// Call is one call to OpenRouter or D1.
type Call struct {
	Method string `json:"method"` // GET, POST, DELETE; D1
	Status int    `json:"status"` // 0: no answer
	Millis int64  `json:"ms"`
}

// The kinds of lines.
const (
	Request    = "request"    // the Worker: a request, answered here or handed to the user's object
	Key        = "key"        // the object: the answer to me or refresh
	Admin      = "admin"      // the object or the office: what an operator asked for
	State      = "state"      // the object: what it holds, since an operator asked
	Background = "background" // the object: one try of a background job
	Settings   = "settings"   // the Worker: settings that are missing or bad
	Panic      = "panic"      // a mistake in the program, and where
)

// ShortHash is as much of a hash as a line shows.
func ShortHash(hash string) string { return hash[:min(len(hash), 8)] }

// String is the line as JSON.
func (l Line) String() string {
	encoded, err := json.Marshal(l)
	if err != nil { // no field of a Line can fail to encode
		return `{"evt":"panic","err":"a log line could not be encoded"}`
	}
	return string(encoded)
}
