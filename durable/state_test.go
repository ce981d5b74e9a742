package durable

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"latchkey/internal/account"
)

// fullState returns a state that has something in each of its fields.
func fullState() State {
	at := time.Date(2026, 11, 24, 1, 2, 3, 4_000_000, time.UTC)
	return State{
		Record: &account.Record{UserID: "a", TotalLimit: 1, CreatedAt: at}, Disabled: true, Ending: true, ReadAt: at,
		KeyLimit: new(account.Credits(6)), ExpiresAt: at,
		Pending: &Pending{Delete: "b", Final: true, Create: "c", Assign: &NewKey{Kind: account.Renew, Key: "g", Hash: "h", Limit: 7, ExpiresAt: at}, Since: at, Tries: 1, Due: at},
		Chores: []Chore{{Delete: "d", Since: at, Due: at}, {Orphan: "e", Since: at, Tries: 2, Due: at},
			{Settle: "f", Live: true, Left: 3, Limit: new(account.Credits(8)), Since: at, Due: at}},
		D1: Lag{Seq: 4, Since: at, Tries: 5, Due: at.Add(time.Nanosecond)}, Alarm: at, At: at,
	}
}

// The state is written and read by hand, so a field may be forgotten.
func TestEveryFieldOfAStateIsEncodedAsJSONHasIt(t *testing.T) {
	full := fullState()
	for _, filled := range []any{full, full.D1} {
		for field, value := range reflect.ValueOf(filled).Fields() {
			if value.IsZero() {
				t.Errorf("this test forgets %s", field.Name)
			}
		}
	}
	for _, st := range []State{full, {}, {D1: Lag{Seq: 1}}} {
		encoded := st.encode()
		if want, err := json.Marshal(st); err != nil || encoded != string(want) {
			t.Errorf("\n got %s\nwant %s, %v", encoded, want, err)
		}
		var decoded State
		if err := decoded.decode(encoded); err != nil || !reflect.DeepEqual(decoded, st) {
			t.Errorf("%s is read as %+v, %v", encoded, decoded, err)
		}
	}
}

func TestAStateThatWasDamagedIsNotRead(t *testing.T) {
	full := fullState()
	whole := full.encode()
	for length := range whole {
		if err := new(State).decode(whole[:length]); err == nil {
			t.Errorf("%s is read", whole[:length])
		}
	}
	for _, damaged := range []string{
		whole + "}", `[]`, `{"record":{"seq":"1"}}`, `{"record":{"created_at":"today"}}`, `{"record":{"total_limit":1e99}}`, `{"d1":{"tries":1.5}}`,
		`{"disabled":1}`, `{"pending":{"tries":"1"}}`, `{"chores":{}}`, `{"alarm":0}`,
	} {
		if err := new(State).decode(damaged); err == nil {
			t.Errorf("%s is read", damaged)
		}
	}
}

func TestAFieldOfALaterVersionIsPassedOver(t *testing.T) {
	var st State
	err := st.decode(`{"new":{"a":[1]},"record":{"new":null,"user_id":"ada"},"d1":{"new":"","seq":3}}`)
	if err != nil || st.Record == nil || st.Record.UserID != "ada" || st.D1.Seq != 3 {
		t.Errorf("got %+v, %v", st, err)
	}
}

// FuzzWhatIsStoredCanBeReadAgain: every state that encodes decodes to the same.
func FuzzWhatIsStoredCanBeReadAgain(f *testing.F) {
	f.Add("ada", "sk", int64(1), int64(1e9), int64(-1), int64(0), int64(1_800_000_000_000))
	f.Add("\"\\\u2028\x00", "ж", int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MinInt64), int64(math.MinInt64), int64(0))
	f.Fuzz(func(t *testing.T, user, hash string, seq, total, remaining, left, millis int64) {
		if !utf8.ValidString(user) || !utf8.ValidString(hash) {
			t.Skip("tokens and rows are Unicode")
		}
		at := time.UnixMilli(millis % 4e12).UTC() // up to the year 2096
		if at.Year() < 0 {
			at = at.Add(-at.Sub(time.Time{}))
		}
		limit := account.Credits(left)
		st := State{
			Record:   &account.Record{UserID: user, Hash: hash, TotalLimit: account.Credits(total), RemainingLimit: account.Credits(remaining), Seq: seq, CreatedAt: at},
			KeyLimit: &limit, ExpiresAt: at, At: at, Pending: &Pending{Assign: &NewKey{Hash: hash, Limit: limit}, Due: at},
			Chores: []Chore{{Settle: hash, Left: account.Credits(left), Limit: &limit, Since: at}},
		}
		var decoded State
		if err := decoded.decode(st.encode()); err != nil || !reflect.DeepEqual(decoded, st) {
			t.Errorf("%s is read as %+v, %v", st.encode(), decoded, err)
		}
	})
}
