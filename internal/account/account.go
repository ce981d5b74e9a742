// Package account holds what latchkey knows of one user: the [Record], the
// [Entry] lines of its ledger, and [Credits], the exact money both count in.
package account

import (
	"time"

	"github.com/go-faster/jx"
)

// Record is the account of one user, and a row of the table `users` in D1;
// [RecordFields] lists its fields. TotalLimit is what the quota began with,
// RemainingLimit what is left of it, and UsageLimit what was left on the key when
// it was last read.
type Record struct {
	UserID         string    `json:"user_id"`
	UserName       string    `json:"user_name"`
	Email          string    `json:"email"`
	Key            string    `json:"key"`  // sealed; empty while there is none that may be handed out
	Hash           string    `json:"hash"` // of the key, its SHA-256 in hex, by which OpenRouter's API finds it; empty while there is none
	TotalLimit     Credits   `json:"total_limit"`
	RemainingLimit Credits   `json:"remaining_limit"`
	UsageLimit     Credits   `json:"usage_limit"`
	Seq            int64     `json:"seq"`        // grows by one with every change of the record
	CreatedAt      time.Time `json:"created_at"` // when this quota began: a renewal drops the record and starts a new one
	UpdatedAt      time.Time `json:"updated_at"`
	Suspended      bool      `json:"suspended,omitempty"`
	Erased         bool      `json:"erased,omitempty"` // only UserID and Seq are left, so that the ledger's numbers go on
}

// RecordFields are the fields of a record, in their order. JSON and D1 go by this
// list: a field that is added is added here, in the struct, and in a migration.
var RecordFields = []Field[Record]{
	{Name: "user_id", Of: func(r *Record) any { return &r.UserID }},
	{Name: "user_name", Of: func(r *Record) any { return &r.UserName }},
	{Name: "email", Of: func(r *Record) any { return &r.Email }},
	{Name: "key", Of: func(r *Record) any { return &r.Key }},
	{Name: "hash", Of: func(r *Record) any { return &r.Hash }},
	{Name: "total_limit", Of: func(r *Record) any { return &r.TotalLimit }},
	{Name: "remaining_limit", Of: func(r *Record) any { return &r.RemainingLimit }},
	{Name: "usage_limit", Of: func(r *Record) any { return &r.UsageLimit }},
	{Name: "seq", Of: func(r *Record) any { return &r.Seq }},
	{Name: "created_at", Of: func(r *Record) any { return &r.CreatedAt }},
	{Name: "updated_at", Of: func(r *Record) any { return &r.UpdatedAt }},
	{Name: "suspended", OmitZero: true, Of: func(r *Record) any { return &r.Suspended }},
	{Name: "erased", OmitZero: true, ObjectOnly: true, Of: func(r *Record) any { return &r.Erased }},
}

// Kind says what a ledger entry records.
type Kind string

// The kinds of ledger entry.
const (
	Provision Kind = "provision" // the first key of a new user
	Charge    Kind = "charge"    // Credits were spent on the key Hash
	Rotate    Kind = "rotate"    // a new key, with Credits as its limit
	Renew     Kind = "renew"     // a new quota of Credits, and a new key
	Adjust    Kind = "adjust"    // an operator took Credits from what remains; below 0: gave
	Suspend   Kind = "suspend"   // an operator suspended the user
	Resume    Kind = "resume"    // an operator took that back
	Erase     Kind = "erase"     // an operator erased the user
)

// Entry is one line of a user's ledger. Seq is the record's Seq after the
// change that the entry records, and RemainingLimit and Hash are the record's.
type Entry struct {
	Seq            int64     `json:"seq"`
	At             time.Time `json:"at"`
	Kind           Kind      `json:"kind"`
	Credits        Credits   `json:"credits"`
	RemainingLimit Credits   `json:"remaining_limit"`
	Hash           string    `json:"hash"`
}

// EntryFields are the fields of a ledger entry, as [RecordFields] are a record's.
var EntryFields = []Field[Entry]{
	{Name: "seq", Of: func(e *Entry) any { return &e.Seq }},
	{Name: "at", Of: func(e *Entry) any { return &e.At }},
	{Name: "kind", Of: func(e *Entry) any { return &e.Kind }},
	{Name: "credits", Of: func(e *Entry) any { return &e.Credits }},
	{Name: "remaining_limit", Of: func(e *Entry) any { return &e.RemainingLimit }},
	{Name: "hash", Of: func(e *Entry) any { return &e.Hash }},
}

// Encode writes what json.Marshal does, in a sixth of the time: a record is
// written with every change.
func (r *Record) Encode(e *jx.Encoder) { encode(e, RecordFields, r) }

// Decode reads what Encode wrote, as json.Unmarshal does.
func (r *Record) Decode(d *jx.Decoder) error { return decode(d, RecordFields, r) }

// Encode writes what json.Marshal does.
func (entry *Entry) Encode(e *jx.Encoder) { encode(e, EntryFields, entry) }
