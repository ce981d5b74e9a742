// Package account holds what latchkey knows of one user: the [Record], the
// [Entry] lines of its ledger, and [Credits], the exact money both count in.
package account

import (
	"time"

	"github.com/go-faster/jx"
)

// Record is the account of one user. Its fields are the columns of the table
// `users`; TotalLimit is what the quota began with, RemainingLimit what is left
// of it, and UsageLimit what was left on the key when it was last read.
type Record struct {
	UserID         string    `json:"user_id"`
	UserName       string    `json:"user_name"`
	Email          string    `json:"email"`
	Key            string    `json:"key"`  // sealed; empty while there is none that may be handed out
	Hash           string    `json:"hash"` // hex SHA-256 of the key, OpenRouter's name for it; empty while there is none
	TotalLimit     Credits   `json:"total_limit"`
	RemainingLimit Credits   `json:"remaining_limit"`
	UsageLimit     Credits   `json:"usage_limit"`
	Suspended      bool      `json:"suspended,omitempty"`
	Erased         bool      `json:"erased,omitempty"` // only UserID and Seq are left, so that the ledger's numbers go on
	Seq            int64     `json:"seq"`              // grows by one with every change of the record
	CreatedAt      time.Time `json:"created_at"`       // when this quota began: a renewal drops the record and starts a new one
	UpdatedAt      time.Time `json:"updated_at"`
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

// Encode writes what json.Marshal does, in a sixth of the time: a record is
// written with every change.
func (r *Record) Encode(e *jx.Encoder) {
	e.ObjStart()
	for _, f := range [...]struct{ name, value string }{
		{"user_id", r.UserID}, {"user_name", r.UserName}, {"email", r.Email}, {"key", r.Key}, {"hash", r.Hash},
	} {
		e.FieldStart(f.name)
		e.StrEscape(f.value)
	}
	for _, f := range [...]struct {
		name  string
		value Credits
	}{{"total_limit", r.TotalLimit}, {"remaining_limit", r.RemainingLimit}, {"usage_limit", r.UsageLimit}} {
		e.FieldStart(f.name)
		f.value.Encode(e)
	}
	for _, f := range [...]struct {
		name  string
		value bool
	}{{"suspended", r.Suspended}, {"erased", r.Erased}} {
		if f.value {
			e.FieldStart(f.name)
			e.Bool(true)
		}
	}
	e.FieldStart("seq")
	e.Int64(r.Seq)
	e.FieldStart("created_at")
	EncodeTime(e, r.CreatedAt)
	e.FieldStart("updated_at")
	EncodeTime(e, r.UpdatedAt)
	e.ObjEnd()
}

// Decode reads what Encode wrote, as json.Unmarshal does.
func (r *Record) Decode(d *jx.Decoder) error { return d.ObjBytes(r.field) }

func (r *Record) field(d *jx.Decoder, name []byte) (err error) {
	switch string(name) {
	case "user_id":
		r.UserID, err = d.Str()
	case "user_name":
		r.UserName, err = d.Str()
	case "email":
		r.Email, err = d.Str()
	case "key":
		r.Key, err = d.Str()
	case "hash":
		r.Hash, err = d.Str()
	case "total_limit":
		err = r.TotalLimit.Decode(d)
	case "remaining_limit":
		err = r.RemainingLimit.Decode(d)
	case "usage_limit":
		err = r.UsageLimit.Decode(d)
	case "suspended":
		r.Suspended, err = d.Bool()
	case "erased":
		r.Erased, err = d.Bool()
	case "seq":
		r.Seq, err = d.Int64()
	case "created_at":
		r.CreatedAt, err = DecodeTime(d)
	case "updated_at":
		r.UpdatedAt, err = DecodeTime(d)
	default:
		err = d.Skip()
	}
	return err
}

// Encode writes what json.Marshal does.
func (entry *Entry) Encode(e *jx.Encoder) {
	e.ObjStart()
	e.FieldStart("seq")
	e.Int64(entry.Seq)
	e.FieldStart("at")
	EncodeTime(e, entry.At)
	e.FieldStart("kind")
	e.StrEscape(string(entry.Kind))
	e.FieldStart("credits")
	entry.Credits.Encode(e)
	e.FieldStart("remaining_limit")
	entry.RemainingLimit.Encode(e)
	e.FieldStart("hash")
	e.StrEscape(entry.Hash)
	e.ObjEnd()
}

// EncodeTime writes a time as json.Marshal does.
func EncodeTime(e *jx.Encoder, t time.Time) {
	var b [len(time.RFC3339Nano) + 2]byte
	e.Raw(append(t.AppendFormat(append(b[:0], '"'), time.RFC3339Nano), '"'))
}

// DecodeTime reads a time as json.Unmarshal does.
func DecodeTime(d *jx.Decoder) (time.Time, error) {
	text, err := d.Str()
	if err != nil {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339, text)
}
