package account

import (
	"fmt"
	"time"

	"github.com/go-faster/jx"
)

// Field is a field of a struct T.
type Field[T any] struct {
	Name       string       // in JSON, and of its column in D1
	OmitZero   bool         // JSON leaves it out where it is false
	ObjectOnly bool         // it has no column
	Of         func(*T) any // a *string, *Kind, *Credits, *int64, *bool or *time.Time to it
}

// encode writes the fields of a struct as json.Marshal does.
func encode[T any](e *jx.Encoder, fields []Field[T], from *T) {
	e.ObjStart()
	for i := range fields {
		field := &fields[i]
		at := field.Of(from)
		if omit, ok := at.(*bool); ok && field.OmitZero && !*omit {
			continue
		}
		e.FieldStart(field.Name)
		switch value := at.(type) {
		case *string:
			e.StrEscape(*value)
		case *Kind:
			e.StrEscape(string(*value))
		case *Credits:
			value.Encode(e)
		case *int64:
			e.Int64(*value)
		case *bool:
			e.Bool(*value)
		case *time.Time:
			EncodeTime(e, *value)
		default:
			panic("account: no such kind of field: " + field.Name)
		}
	}
	e.ObjEnd()
}

// decode reads the fields of a struct as json.Unmarshal does.
func decode[T any](d *jx.Decoder, fields []Field[T], into *T) error {
	return d.ObjBytes(func(d *jx.Decoder, name []byte) (err error) {
		for i := range fields {
			field := &fields[i]
			if string(name) != field.Name {
				continue
			}
			switch value := field.Of(into).(type) {
			case *string:
				*value, err = d.Str()
			case *Kind:
				var text string
				text, err = d.Str()
				*value = Kind(text)
			case *Credits:
				err = value.Decode(d)
			case *int64:
				*value, err = d.Int64()
			case *bool:
				*value, err = d.Bool()
			case *time.Time:
				*value, err = DecodeTime(d)
			default:
				panic("account: no such kind of field: " + field.Name)
			}
			return err
		}
		return d.Skip()
	})
}

// ParseTime reads a time of RFC 3339 as UTC. One that JSON could not hold is an error:
// time.Parse takes a zone like +24:60, which it then refuses in its own form, and years
// that end outside 0 to 9999 once they are UTC.
func ParseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if t = t.UTC(); err == nil && (t.Year() < 0 || t.Year() > 9999) {
		return time.Time{}, fmt.Errorf("account: %q is in year %d", text, t.Year())
	}
	return t, err
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
