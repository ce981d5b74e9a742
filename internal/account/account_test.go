package account

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/go-faster/jx"
)

// Both are written by hand, and a record is read by hand, so a field may be forgotten.
func TestEveryFieldIsEncodedAsJSONHasIt(t *testing.T) {
	at := time.Date(2026, 11, 24, 1, 2, 3, 4_000_000, time.UTC)
	record := Record{
		UserID: "ж\n\"\u2028", UserName: "<Ada & \xff>", Email: "c", Key: "v1.d.e", Hash: "f", TotalLimit: 10 * Credit, RemainingLimit: -1,
		UsageLimit: 9_400_000_000, Suspended: true, Erased: true, Seq: 7, CreatedAt: at, UpdatedAt: at.Add(time.Nanosecond),
	}
	entry := Entry{Seq: 8, At: at, Kind: Charge, Credits: 1, RemainingLimit: 2, Hash: "g"}
	for _, full := range []any{record, entry} {
		for field, value := range reflect.ValueOf(full).Fields() {
			if value.IsZero() {
				t.Errorf("this test forgets %s", field.Name)
			}
		}
	}
	for _, value := range []interface{ Encode(*jx.Encoder) }{&record, &Record{}, &entry, &Entry{}} {
		var e jx.Encoder
		value.Encode(&e)
		if want, err := json.Marshal(value); err != nil || e.String() != string(want) {
			t.Errorf("\n got %s\nwant %s, %v", e.String(), want, err)
		}
	}
	for _, r := range []Record{record, {}} {
		var e jx.Encoder
		r.Encode(&e)
		var got, want Record
		if err := json.Unmarshal(e.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		if err := got.Decode(jx.DecodeBytes(e.Bytes())); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v", e.String(), got, err)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	at := time.Date(2026, 11, 24, 1, 2, 3, 4_000_000, time.UTC)
	r := &Record{
		UserID: "u_42", UserName: "Ada Lovelace", Email: "ada@example.org", Key: "v1.0fa1b2c3.c2VhbGVkc2VhbGVkc2VhbGVkc2VhbGVkc2VhbGVkc2VhbGVk", Hash: "0f",
		TotalLimit: 10 * Credit, RemainingLimit: 9_400_000_000, UsageLimit: Credit / 2, Seq: 7, CreatedAt: at, UpdatedAt: at,
	}
	var e jx.Encoder
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Reset()
			r.Encode(&e)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var into Record
			if err := into.Decode(jx.DecodeBytes(e.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}
