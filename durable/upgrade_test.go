package durable_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
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
