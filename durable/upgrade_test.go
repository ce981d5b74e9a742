package durable_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
)

// TestAStateOfThePreviousVersionIsGoneOnWith: what version 1 stored has no limits of
// keys, no time of its own, and drops the text of a key when it is to be deleted.
func TestAStateOfThePreviousVersionIsGoneOnWith(t *testing.T) {
	for _, c := range []struct {
		name    string
		adjust  func(*simulation)
		state   func(w *simulation, key *reply) string // what follows on the record
		want    string
		charged account.Credits
	}{
		{"a key in use", nil, func(*simulation, *reply) string { return `` }, "kept", account.Credit / 5},
		{"in the middle of a rotation", nil, func(w *simulation, key *reply) string {
			return `,"pending":{"delete":"` + key.Hash + `","since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:05Z"}`
		}, "rotated", 0},
		{"with a key to be looked for, and tried before", nil, func(*simulation, *reply) string {
			return `,"chores":[{"orphan":"op0","since":"2026-11-21T12:00:00Z","tries":3,"due":"2026-11-21T12:00:40Z"}]`
		}, "kept", account.Credit / 5},
		{"in the middle of a creation", nil, func(*simulation, *reply) string {
			return `,"pending":{"create":"op0","since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:05Z"}`
		}, "kept", account.Credit / 5},
		{"with a key to be deleted", nil, func(w *simulation, key *reply) string {
			other := w.ask("eve", durable.Me)
			w.finish()
			return `,"chores":[{"delete":"` + other.Hash + `","since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:30Z"}]`
		}, "kept", account.Credit / 5},
		{"in an overlap", overlapping, func(w *simulation, key *reply) string {
			other := w.ask("eve", durable.Me)
			w.finish()
			w.server.SpendUpTo(other.Key, 0.3)
			return `,"chores":[{"settle":"` + other.Hash + `","live":true,"left":1,"limit":1,"since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:30Z"}]`
		}, "kept", account.Credit / 2},
		{"with a key to be settled", settling, func(w *simulation, key *reply) string {
			other := w.ask("eve", durable.Me) // whose key it is does not matter here
			w.finish()
			w.server.SpendUpTo(other.Key, 0.3)
			return `,"chores":[{"settle":"` + other.Hash + `","left":1,"since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:01:30Z"}]`
		}, "kept", account.Credit / 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			withKey(t, func(t *testing.T, w *simulation, key *reply) {
				if c.adjust != nil {
					c.adjust(w)
				}
				w.spend(ada, 0.2)
				rest := c.state(w, key)
				record := *w.state(ada).Record
				if c.want == "rotated" {
					record.Key = ""
				}
				encoded, err := json.Marshal(record)
				if err != nil {
					t.Fatal(err)
				}
				w.crash(ada)
				w.instance(ada).state = `{"record":` + string(encoded) + rest + `,"d1":{"seq":1},"alarm":"2026-11-21T12:00:05Z"}`
				w.instance(ada).alarm = w.now.Add(5 * time.Second)
				got := w.ask(ada, durable.Me)
				w.finish()
				w.expect(got, c.want)
				w.drain()
				if w.charged() != c.charged {
					t.Errorf("%s were charged, want %s", w.charged(), c.charged)
				}
				if eve := w.instances["eve"]; eve != nil { // whose key ada's object deleted
					delete(w.instances, "eve")
				}
				for _, e := range w.instance(ada).ledger {
					w.read[e.Hash] = 0
				}
			})
		})
	}
}

// An erased user of version 1 begins anew, and the numbers go on.
func TestAnErasureOfThePreviousVersionIsGoneOnWith(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.asked(durable.Erase)
		w.drain()
		seq := w.state(ada).Record.Seq
		w.crash(ada)
		w.instance(ada).state = fmt.Sprintf(`{"record":{"user_id":"ada","user_name":"","email":"","key":"","hash":"","total_limit":0,"remaining_limit":0,"usage_limit":0,`+
			`"erased":true,"seq":%d,"created_at":"0001-01-01T00:00:00Z","updated_at":"2026-11-21T12:00:00Z"},"d1":{"seq":%d,"since":"2026-11-21T12:00:00Z"}}`, seq, seq)
		w.expect(w.asked(durable.Me), "provisioned")
		if got := w.state(ada).Record.Seq; got <= seq {
			t.Errorf("seq %d follows on %d", got, seq)
		}
	})
}

// What a later version left to be done is kept, does not hinder what else is to be
// done, and is logged once for each time that the state is read.
func TestAnUnknownKindOfWorkIsLeftAlone(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
		w.kept = true
		a.want(durable.Me)
		w.crash(ada)
		h := w.instance(ada)
		const unknown = `{"since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:00Z","archive":"x"}`
		h.state = strings.Replace(h.state, `"at":`, `"chores":[`+unknown+`],"at":`, 1)
		a.want(durable.Refresh)
		a.spendOn(a.latest(), 0.2)
		a.want(durable.Me)
		a.pass(48 * time.Hour)
		if !strings.Contains(h.state, unknown) {
			t.Errorf("it is not kept: %s", h.state)
		}
		if !h.alarm.IsZero() || !w.inSync(ada) {
			t.Errorf("two days later the alarm is set to %v, and D1 is right: %v", h.alarm, w.inSync(ada))
		}
		told := 0
		for _, l := range w.lines {
			if l.Evt == oplog.Panic {
				t.Errorf("it panics: %s", l)
			}
			if l.Op == oplog.OpUnknown {
				told++
			}
		}
		if told != 1 {
			t.Errorf("it was logged %d times", told)
		}
	})
}

// A call that a later version left hanging may be about the user's key.
func TestAnUnknownKindOfCallKeepsTheKeyBack(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		w.kept = true
		w.one(durable.Me)
		w.crash(ada)
		h := w.instance(ada)
		const unknown = `{"export":"x","since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:00Z"}`
		h.state = strings.Replace(h.state, `"at":`, `"pending":`+unknown+`,"at":`, 1)
		w.server.ResetCalls()
		for range 3 {
			w.expect(w.one(durable.Me), problem.Internal)
			w.now = w.now.Add(time.Hour)
			if h.alarm = w.now; h.ringing {
				t.Error("the alarm rings on")
			}
			w.drain()
		}
		if !strings.Contains(h.state, unknown) || len(w.server.CallLog()) != 0 {
			t.Errorf("%d calls, and the state %s", len(w.server.CallLog()), h.state)
		}
		w.expect(w.one(durable.Erase), "")
		w.drain()
		if n := len(w.server.Live()); n != 0 {
			t.Errorf("%d keys live after the erasure", n)
		}
	})
}

// The call may be about a key of its own, and the user's key is to end all the same.
func TestAnUnknownKindOfCallHindersNoSuspension(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		w.kept = true
		w.one(durable.Me)
		w.crash(ada)
		h := w.instance(ada)
		const unknown = `{"export":{"hash":"` + theirs + `"},"since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:00Z"}`
		h.state = strings.Replace(h.state, `"at":`, `"pending":`+unknown+`,"at":`, 1)
		w.spend(ada, 0.2)
		w.patch(adminapi.Adjustment{Suspended: new(true)})
		w.drain()
		if n := len(w.server.Live()); n != 0 {
			t.Errorf("%d keys live after the suspension", n)
		}
		if got := w.state(ada).Record.RemainingLimit; got != 98*account.Credit/10 {
			t.Errorf("%v remains", got)
		}
		if w.patch(adminapi.Adjustment{Suspended: new(false)}); !strings.Contains(h.state, unknown) {
			t.Errorf("the call is not kept: %s", h.state)
		}
		w.expect(w.one(durable.Me), problem.Internal)
	})
}

// A quota that is spent is not renewed over a call that nobody here knows.
func TestAnUnknownKindOfCallOutlivesTheQuota(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		w.kept = true
		w.one(durable.Me)
		w.patch(adminapi.Adjustment{RemainingLimit: new(account.Credits(0))})
		w.crash(ada)
		h := w.instance(ada)
		const unknown = `{"export":"x","since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:00Z"}`
		h.state = strings.Replace(h.state, `"at":`, `"pending":`+unknown+`,"at":`, 1)
		w.expect(w.one(durable.Me), problem.Internal)
		if !strings.Contains(h.state, unknown) {
			t.Errorf("it is not kept: %s", h.state)
		}
	})
}

// What a later version left to be done may name a key. A reconciliation leaves it.
func TestAKeyOfAnUnknownKindOfWorkIsOwned(t *testing.T) {
	const unknown = `{"since":"2026-11-21T12:00:00Z","due":"2026-11-21T12:00:00Z","archive":"` + theirs + `"}`
	for name, work := range map[string]string{"a task": `"chores":[` + unknown + `]`, "a call": `"pending":` + unknown} {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *simulation) {
				w.kept = true
				w.one(durable.Me)
				w.crash(ada)
				h := w.instance(ada)
				h.state = strings.Replace(h.state, `"at":`, work+`,"at":`, 1)
				if got := w.request(ada, durable.Request{Action: durable.Owns, Hash: theirs}); got.body != `{"known":true}` {
					t.Errorf("%d %s", got.Status, got.body)
				}
			})
		})
	}
}

// theirs is the hash of a key that only work of a later version names.
const theirs = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"
