package durable

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"latchkey/internal/account"
)

// The state is written by hand, so a field may be forgotten: what is read back
// would lack it.
func TestEveryFieldOfAStateIsEncodedAsJSONHasIt(t *testing.T) {
	at := time.Date(2026, 11, 24, 1, 2, 3, 4_000_000, time.UTC)
	full := State{
		Record: &account.Record{UserID: "a", CreatedAt: at}, Disabled: true, ReadAt: at,
		Pending: &Pending{Delete: "b", Create: "c", Since: at, Tries: 1, Due: at},
		Chores:  []Chore{{Delete: "d", Since: at, Due: at}, {Orphan: "e", Since: at, Tries: 2, Due: at}, {Settle: "f", Left: 3, Since: at, Due: at}},
		D1:      Lag{Seq: 4, Since: at, Tries: 5, Due: at.Add(time.Nanosecond)}, Alarm: at,
	}
	for _, filled := range []any{full, full.D1} {
		for field, value := range reflect.ValueOf(filled).Fields() {
			if value.IsZero() {
				t.Errorf("this test forgets %s", field.Name)
			}
		}
	}
	for _, st := range []State{full, {}, {D1: Lag{Seq: 1}}} {
		if want, err := json.Marshal(st); err != nil || st.encode() != string(want) {
			t.Errorf("\n got %s\nwant %s, %v", st.encode(), want, err)
		}
	}
}
