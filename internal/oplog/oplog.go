// Package oplog is the log: one JSON object a line for every operation, with
// stable field names, made to be read and filtered with `wrangler tail`. A line
// holds no key, no token and no secret.
//
// An operation is logged once: by the object, where the object answered it, and by
// the Worker, where it never reached one. Events, ops and outcomes stand in
// events.go, those that internal/edge/log.mjs writes too.
package oplog

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/go-faster/jx"

	"latchkey/internal/account"
)

// Line is one line. Fields that mean nothing for an event are left out.
type Line struct {
	Evt     Event   `json:"evt"`
	User    string  `json:"user,omitempty"` // user id
	Op      Op      `json:"op,omitempty"`
	Outcome Outcome `json:"outcome,omitempty"`
	Status  int     `json:"status,omitempty"` // of the answer
	Millis  int64   `json:"ms"`

	RemainingLimit *account.Credits `json:"remaining_limit,omitempty"`
	UsageLimit     *account.Credits `json:"usage_limit,omitempty"`
	Hash           string           `json:"hash,omitempty"`    // of the key, its first 8 digits
	Waiting        int              `json:"waiting,omitempty"` // requests behind this one
	Shared         int              `json:"shared,omitempty"`  // requests that got this answer, where more than one

	Calls []Call `json:"calls,omitempty"`

	Method string `json:"method,omitempty"` // of a request that reached no user's object
	Path   string `json:"path,omitempty"`   // its path's pattern; empty: nothing is there

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

// ShortHash is as much of a hash as a line shows.
func ShortHash(hash string) string { return hash[:min(len(hash), 8)] }

// String is the line as JSON: what json.Marshal would write, in a fourth of the
// time. Every request logs one. What a terminal would obey, or would not show, is
// escaped: see [printable].
func (l Line) String() string {
	var e jx.Encoder
	e.Grow(256)
	text := func(name, value string) {
		if value != "" {
			e.FieldStart(name)
			e.StrEscape(value)
		}
	}
	number := func(name string, value int) {
		if value != 0 {
			e.FieldStart(name)
			e.Int(value)
		}
	}
	credits := func(name string, value *account.Credits) {
		if value != nil {
			e.FieldStart(name)
			value.Encode(&e)
		}
	}
	e.ObjStart()
	e.FieldStart("evt")
	e.StrEscape(string(l.Evt))
	text("user", l.User)
	text("op", string(l.Op))
	text("outcome", string(l.Outcome))
	number("status", l.Status)
	e.FieldStart("ms")
	e.Int64(l.Millis)
	credits("remaining_limit", l.RemainingLimit)
	credits("usage_limit", l.UsageLimit)
	text("hash", l.Hash)
	number("waiting", l.Waiting)
	number("shared", l.Shared)
	if len(l.Calls) > 0 {
		e.FieldStart("calls")
		e.ArrStart()
		for _, call := range l.Calls {
			e.ObjStart()
			e.FieldStart("method")
			e.StrEscape(call.Method)
			e.FieldStart("status")
			e.Int(call.Status)
			e.FieldStart("ms")
			e.Int64(call.Millis)
			e.ObjEnd()
		}
		e.ArrEnd()
	}
	text("method", l.Method)
	text("path", l.Path)
	number("tries", l.Tries)
	if l.Stuck {
		e.FieldStart("stuck")
		e.Bool(true)
	}
	text("err", l.Err)
	if l.State != nil {
		state, err := json.Marshal(l.State)
		if err != nil { // it is plain data
			state = []byte(`"it could not be encoded"`)
		}
		e.FieldStart("state")
		e.Raw(state)
	}
	e.ObjEnd()
	return printable(e.String())
}

// printable escapes what JSON leaves as it is and a terminal obeys, hides or turns
// the text around at: control characters (DEL, U+009B), invisible ones (U+202E,
// U+200B) and separators of lines. In JSON they stand in strings alone.
// internal/edge/log.mjs does the same in JavaScript.
func printable(line string) string {
	for i := range len(line) {
		if line[i] >= 0x7f { // few lines have any
			return escape(line)
		}
	}
	return line
}

func escape(line string) string {
	var escaped strings.Builder
	for _, r := range line {
		if !obeyed(r) {
			escaped.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&escaped, `\u%04x`, unit)
		}
	}
	return escaped.String()
}

func obeyed(r rune) bool {
	return r >= 0x7f && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Point is a data point for Workers Analytics Engine: one for each operation.
type Point struct {
	Indexes []string  `json:"indexes"` // the user
	Blobs   []string  `json:"blobs"`   // evt, op, outcome, user, path
	Doubles []float64 `json:"doubles"` // ms, status, remaining_limit, waiting, shared, then ms in GET, POST, PATCH, DELETE, D1
}

// maxIndexBytes is what Analytics Engine takes.
const maxIndexBytes = 96

// absent stands for a number that an operation does not have.
const absent = -1

// Point is the line as a data point.
func (l Line) Point() Point {
	p := Point{
		Indexes: []string{strings.ToValidUTF8(l.User[:min(len(l.User), maxIndexBytes)], "")},
		Blobs:   []string{string(l.Evt), string(l.Op), string(l.Outcome), l.User, l.Path},
		Doubles: []float64{float64(l.Millis), float64(l.Status), absent, float64(l.Waiting), float64(max(l.Shared, 1))},
	}
	if l.RemainingLimit != nil {
		p.Doubles[2] = l.RemainingLimit.Float64()
	}
	for _, method := range []string{"GET", "POST", "PATCH", "DELETE", "D1"} {
		spent := float64(absent)
		for _, call := range l.Calls {
			if call.Method == method {
				spent = max(spent, 0) + float64(call.Millis)
			}
		}
		p.Doubles = append(p.Doubles, spent)
	}
	return p
}

// String is the point as JSON.
func (p Point) String() string {
	encoded, err := json.Marshal(p)
	if err != nil {
		panic(err) // a point is plain data
	}
	return string(encoded)
}
