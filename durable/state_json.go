package durable

import (
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/go-faster/jx"

	"latchkey/internal/account"
)

// encode returns what json.Marshal would write. All that may be there while a key
// is just kept is written by hand, which takes a sixth of the time.
func (st *State) encode() string {
	var e jx.Encoder
	e.Grow(1024)
	timestamp := func(name string, at time.Time) {
		if !at.IsZero() {
			e.FieldStart(name)
			account.EncodeTime(&e, at)
		}
	}
	rare := func(name string, value any) {
		encoded, err := json.Marshal(value)
		if err != nil {
			panic(err) // a state is plain data
		}
		e.FieldStart(name)
		e.Raw(encoded)
	}
	e.ObjStart()
	if st.Record != nil {
		e.FieldStart("record")
		st.Record.Encode(&e)
	}
	if st.Disabled {
		e.FieldStart("disabled")
		e.Bool(true)
	}
	timestamp("read_at", st.ReadAt)
	if st.Ending {
		e.FieldStart("ending")
		e.Bool(true)
	}
	if st.KeyLimit != nil {
		e.FieldStart("key_limit")
		st.KeyLimit.Encode(&e)
	}
	timestamp("expires_at", st.ExpiresAt)
	if st.ErasedSeq != 0 {
		e.FieldStart("erased_seq")
		e.Int64(st.ErasedSeq)
	}
	timestamp("quota_seen", st.QuotaSeen)
	if st.Unseen {
		e.FieldStart("unseen")
		e.Bool(true)
	}
	if st.Pending != nil {
		rare("pending", st.Pending)
	}
	if len(st.Tasks) > 0 {
		rare("chores", st.Tasks)
	}
	if st.D1 != (D1Status{}) {
		e.FieldStart("d1")
		e.ObjStart()
		if st.D1.Seq != 0 {
			e.FieldStart("seq")
			e.Int64(st.D1.Seq)
		}
		timestamp("since", st.D1.Since)
		if st.D1.Tries != 0 {
			e.FieldStart("tries")
			e.Int(st.D1.Tries)
		}
		timestamp("due", st.D1.Due)
		timestamp("written", st.D1.Written)
		e.ObjEnd()
	}
	timestamp("alarm", st.Alarm)
	timestamp("at", st.At)
	e.ObjEnd()
	return e.String()
}

// decode reads what encode wrote, as json.Unmarshal does, which takes an isolate
// 5 ms for the first state that it sees.
func (st *State) decode(encoded string) error {
	d := jx.DecodeStr(encoded)
	err := d.ObjBytes(func(d *jx.Decoder, name []byte) (err error) {
		switch string(name) {
		case "record":
			st.Record = &account.Record{}
			err = st.Record.Decode(d)
		case "disabled":
			st.Disabled, err = d.Bool()
		case "read_at":
			st.ReadAt, err = account.DecodeTime(d)
		case "ending":
			st.Ending, err = d.Bool()
		case "key_limit":
			st.KeyLimit = new(account.Credits)
			err = st.KeyLimit.Decode(d)
		case "expires_at":
			st.ExpiresAt, err = account.DecodeTime(d)
		case "erased_seq":
			st.ErasedSeq, err = d.Int64()
		case "quota_seen":
			st.QuotaSeen, err = account.DecodeTime(d)
		case "unseen":
			st.Unseen, err = d.Bool()
		case "pending":
			err = decodeRare(d, &st.Pending)
		case "chores":
			err = decodeRare(d, &st.Tasks)
		case "d1":
			err = d.ObjBytes(st.D1.field)
		case "alarm":
			st.Alarm, err = account.DecodeTime(d)
		case "at":
			st.At, err = account.DecodeTime(d)
		default:
			err = d.Skip()
		}
		return err
	})
	if err == nil && d.Skip() != io.EOF {
		err = errors.New("more than one JSON object")
	}
	return err
}

func (d1 *D1Status) field(d *jx.Decoder, name []byte) (err error) {
	switch string(name) {
	case "seq":
		d1.Seq, err = d.Int64()
	case "since":
		d1.Since, err = account.DecodeTime(d)
	case "tries":
		d1.Tries, err = d.Int()
	case "due":
		d1.Due, err = account.DecodeTime(d)
	case "written":
		d1.Written, err = account.DecodeTime(d)
	default:
		err = d.Skip()
	}
	return err
}

// decodeRare reads what is seldom there.
func decodeRare(d *jx.Decoder, into any) error {
	encoded, err := d.Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(encoded, into)
}
