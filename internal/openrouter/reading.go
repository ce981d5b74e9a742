package openrouter

import (
	"errors"
	"io"

	"github.com/go-faster/jx"

	"latchkey/internal/account"
)

// reading is a key as OpenRouter writes it. What is not used here is skipped.
type reading struct {
	Key
	told bool // limit_remaining is there
}

// MaxReading bounds what a reading may say, in both directions: no key of ours
// holds as much, and what a wild answer could be charged stays small enough to
// be put right by hand.
const MaxReading = 10_000 * account.Credit

// wrong says why a reading of a key cannot be true; "" where it can.
func (r *reading) wrong(hash string) string {
	switch limit := r.Limit; {
	case r.Hash != hash:
		return "the answer is about another key"
	case !r.told:
		return "the answer lacks limit_remaining"
	case r.Uncapped:
		return ""
	case r.Left > MaxReading, r.Left < -MaxReading:
		return "limit_remaining is out of bounds"
	case limit != nil && (*limit < 0 || *limit > MaxReading):
		return "limit is out of bounds"
	case limit != nil && r.Left > *limit:
		return "limit_remaining is above the limit"
	}
	return ""
}

// UnmarshalJSON reads the answer to a get. Every request waits for one, and to
// look at each token once takes a fifth of the time of reflection.
func (r *reading) UnmarshalJSON(body []byte) error {
	d := jx.DecodeBytes(body)
	err := d.ObjBytes(func(d *jx.Decoder, name []byte) error {
		if string(name) != "data" {
			return d.Skip()
		}
		return d.ObjBytes(r.field)
	})
	if err != nil {
		return err
	}
	if d.Skip() != io.EOF {
		return errors.New("there is more than one JSON object")
	}
	return nil
}

func (r *reading) field(d *jx.Decoder, name []byte) (err error) {
	if d.Next() == jx.Null && string(name) != "limit_remaining" {
		return d.Null() // as good as absent
	}
	switch string(name) {
	case "hash":
		r.Hash, err = d.Str()
	case "name":
		r.Name, err = d.Str()
	case "disabled":
		r.Disabled, err = d.Bool()
	case "limit":
		r.Limit = new(account.Credits)
		err = r.Limit.Decode(d)
	case "expires_at":
		var at string
		if at, err = d.Str(); err == nil {
			r.ExpiresAt, err = account.ParseTime(at)
		}
	case "limit_remaining":
		r.told = true
		if r.Uncapped = d.Next() == jx.Null; r.Uncapped {
			return d.Null()
		}
		err = r.Left.Decode(d)
	default:
		return d.Skip()
	}
	return err
}
