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

var at = time.Date(2026, 11, 24, 1, 2, 3, 4_000_000, time.UTC)

// fullState returns a state that has something in each of its fields.
func fullState() State {
	return State{
		Record: &account.Record{UserID: "a", TotalLimit: 1, CreatedAt: at}, Disabled: true, Ending: true, ReadAt: at,
		KeyLimit: new(account.Credits(6)), ExpiresAt: at, ErasedSeq: 2, QuotaSeen: at, Unseen: true,
		Pending: &Pending{Kind: PendingDelete, Hash: "b", Final: true, Since: at, Tries: 1, Due: at},
		Tasks: []Task{
			{Kind: DeleteKey, Hash: "d", Since: at, Due: at}, {Kind: FindOrphan, Op: "e", Since: at, Tries: 2, Due: at},
			{Kind: DisableKey, Hash: "f", Left: 3, Limit: new(account.Credits(8)), Since: at, Due: at},
			{Kind: SettleKey, Hash: "i", Left: 3, Since: at, Due: at},
		},
		D1: D1Status{Seq: 4, Since: at, Tries: 5, Due: at.Add(time.Nanosecond), Written: at}, Alarm: at, At: at,
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
	replacing, creating, assigning := full, full, full
	replacing.Pending = &Pending{Kind: PendingDelete, Hash: "b", Op: "c", Since: at, Due: at}
	creating.Pending = &Pending{Kind: PendingCreate, Op: "c", Since: at, Due: at}
	assigning.Pending = &Pending{Kind: PendingAssign, New: &NewKey{Kind: account.Renew, Key: "g", Hash: "h", Limit: 7, ExpiresAt: at}, Since: at, Due: at}
	for _, st := range []State{full, replacing, creating, assigning, {}, {D1: D1Status{Seq: 1}}} {
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

// TestWhatVersionOneStoredIsRead: the forms of all that may be unfinished. What is
// written has the same form, so that the version before can go on with it.
func TestWhatVersionOneStoredIsRead(t *testing.T) {
	const times = `,"since":"2026-11-24T01:02:03.004Z","tries":2,"due":"2026-11-24T01:02:03.004Z"}`
	for stored, want := range map[string]State{
		`{"pending":{"delete":"b","final":true` + times + `}`: {Pending: &Pending{Kind: PendingDelete, Hash: "b", Final: true, Since: at, Tries: 2, Due: at}},
		`{"pending":{"create":"c"` + times + `}`:              {Pending: &Pending{Kind: PendingCreate, Op: "c", Since: at, Tries: 2, Due: at}},
		`{"pending":{"assign":{"kind":"rotate","key":"g","hash":"h","limit":1,"expires_at":"2026-11-24T01:02:03.004Z"}` + times + `}`: {
			Pending: &Pending{Kind: PendingAssign, New: &NewKey{Kind: account.Rotate, Key: "g", Hash: "h", Limit: account.Credit, ExpiresAt: at}, Since: at, Tries: 2, Due: at}},
		`{"chores":[{"delete":"d"` + times + `]}`:                       {Tasks: []Task{{Kind: DeleteKey, Hash: "d", Since: at, Tries: 2, Due: at}}},
		`{"chores":[{"orphan":"e"` + times + `]}`:                       {Tasks: []Task{{Kind: FindOrphan, Op: "e", Since: at, Tries: 2, Due: at}}},
		`{"chores":[{"settle":"f","left":1,"limit":2` + times + `]}`:    {Tasks: []Task{{Kind: SettleKey, Hash: "f", Left: account.Credit, Limit: new(2 * account.Credit), Since: at, Tries: 2, Due: at}}},
		`{"chores":[{"settle":"f","live":true,"left":1` + times + `]}`:  {Tasks: []Task{{Kind: DisableKey, Hash: "f", Left: account.Credit, Since: at, Tries: 2, Due: at}}},
		`{"d1":{"seq":3,"since":"2026-11-24T01:02:03.004Z","tries":2}}`: {D1: D1Status{Seq: 3, Since: at, Tries: 2}},
		`{"record":{"user_id":"ada","user_name":"","email":"","key":"","hash":"","total_limit":0,"remaining_limit":0,"usage_limit":0,"erased":true,"seq":9,"created_at":"0001-01-01T00:00:00Z","updated_at":"2026-11-24T01:02:03.004Z"},"at":"2026-11-24T01:02:03.004Z"}`: {
			Record: &account.Record{UserID: "ada", Erased: true, Seq: 9, UpdatedAt: at}, At: at},
	} {
		var got State
		if err := got.decode(stored); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\nis read as %+v, %v", stored, got, err)
		}
		var before, after any // the order of fields does not matter
		encoded := got.encode()
		if json.Unmarshal([]byte(stored), &before) != nil || json.Unmarshal([]byte(encoded), &after) != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("%s\nis written as %s", stored, encoded)
		}
	}
}

// TestWorkOfALaterVersionIsKept as it is, whatever it says.
func TestWorkOfALaterVersionIsKept(t *testing.T) {
	const stored = `{"pending":{"export":"x","due":"2026-11-24T01:02:03.004Z"},"chores":[{"archive":{"a":[1]}},{"delete":"d","since":"2026-11-24T01:02:03.004Z","due":"2026-11-24T01:02:03.004Z"}]}`
	var st State
	if err := st.decode(stored); err != nil || st.Pending.Kind != PendingUnknown || st.Tasks[0].Kind != UnknownTask || st.Tasks[1].Kind != DeleteKey {
		t.Errorf("it is read as %+v, %v", st, err)
	}
	if encoded := st.clone().encode(); encoded != stored {
		t.Errorf("it is written as %s", encoded)
	}
	if p := schedule(&State{Pending: st.Pending, Tasks: st.Tasks[:1]}, time.Time{}, time.Time{}, time.Time{}, at, 0); p.reason != forNothing {
		t.Errorf("the alarm rings for it: %+v", p)
	}
}

// A kind that somebody forgot to store is a mistake, and is not stored as another.
func TestAKindWithoutAFormIsNotStored(t *testing.T) {
	for _, value := range []any{Task{Kind: syncD1}, Task{}, Pending{}} {
		if encoded, err := json.Marshal(value); err == nil {
			t.Errorf("%+v is stored as %s", value, encoded)
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
			KeyLimit: &limit, ExpiresAt: at, At: at, Pending: &Pending{Kind: PendingAssign, New: &NewKey{Kind: account.Rotate, Hash: hash, Limit: limit}, Due: at},
			Tasks: []Task{{Kind: SettleKey, Hash: "h" + hash, Left: account.Credits(left), Limit: &limit, Since: at}},
		}
		var decoded State
		if err := decoded.decode(st.encode()); err != nil || !reflect.DeepEqual(decoded, st) {
			t.Errorf("%s is read as %+v, %v", st.encode(), decoded, err)
		}
	})
}
