package durable_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/problem"
)

// TestHowOftenStorageIsWritten: a commit waits for a disk, in production for several.
// So there is one before each call that a crash must not forget, one for what came of
// the last one, and one once D1 has it all.
func TestHowOftenStorageIsWritten(t *testing.T) {
	used := func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.6) }
	moved := func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.2) }
	spent := func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.95); w.asked(durable.Me) }
	for _, c := range []struct {
		name           string
		adjust         func(*simulation)
		before         func(*simulation)
		want           durable.Action
		outcome        string
		answer, behind int // writes before the answer, and those that follow at once
		alarms         int // how often the alarm is set or taken back
	}{
		{"first key", nil, nil, durable.Me, "provisioned", 2, 1, 2},
		{"first key under a guardrail", guarded, nil, durable.Me, "provisioned", 3, 1, 2},
		{"kept key", nil, func(w *simulation) { w.asked(durable.Me) }, durable.Me, "kept", 0, 0, 0},
		{"kept key that was used", nil, moved, durable.Me, "kept", 1, 1, 2},
		{"rotation", nil, used, durable.Me, "rotated", 2, 1, 2},
		{"rotation under SETTLE_AFTER", settling, used, durable.Me, "rotated", 2, 1, 1},
		{"rotation under ROTATION_OVERLAP", overlapping, used, durable.Me, "rotated", 2, 1, 1},
		{"rotation of a key that is gone", nil, func(w *simulation) { w.withdraw(w.asked(durable.Me).Hash) }, durable.Me, "rotated", 2, 1, 1},
		{"refresh", nil, moved, durable.Refresh, "rotated", 2, 1, 2},
		{"refresh under ROTATION_OVERLAP", overlapping, moved, durable.Refresh, "rotated", 2, 1, 2},
		{"renewal", smallQuota, spent, durable.Me, "renewed", 2, 2, 2},
		{"renewal under ROTATION_OVERLAP", func(w *simulation) { smallQuota(w); overlapping(w) }, spent, durable.Me, "renewed", 2, 2, 2},
		{"renewal on a reading", func(w *simulation) { smallQuota(w); w.settings.Policy.HardCap = true }, func(w *simulation) {
			w.asked(durable.Me)
			w.spend(ada, 0.95)
		}, durable.Me, "renewed", 2, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newSimulation(1)
				w.kept = true
				if c.adjust != nil {
					c.adjust(w)
				}
				if c.before != nil {
					c.before(w)
				}
				w.now = w.now.Add(time.Minute) // what came before is over
				h := w.instance(ada)
				h.writes, h.alarms = 0, 0
				got := w.ask(ada, c.want)
				for got.Status == 0 {
					w.step(0)
				}
				answer := h.writes
				w.finish()
				if got.Outcome != c.outcome || answer != c.answer || h.writes-answer != c.behind || h.alarms != c.alarms {
					t.Errorf("%s after %d writes, then %d; %d alarms", got.Outcome, answer, h.writes-answer, h.alarms)
				}
				w.drain()
				w.checkRest()
				w.report(t, c.name)
			})
		})
	}
}

// TestAFirstKeyIsOrderedWhileD1IsAsked: what D1 takes and what a commit takes are not
// waited for one after the other.
func TestAFirstKeyIsOrderedWhileD1IsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		got := w.ask(ada, durable.Me)
		if calls, writes := len(w.waiting), w.instance(ada).writes; calls != 1 || w.waiting[0].method != "D1" || writes != 1 {
			t.Errorf("%d calls are waited for, and %d writes were made", calls, writes)
		}
		w.drain()
		w.expect(got, "provisioned")
		w.checkRest()
		w.report(t, t.Name())
	})
}

// TestAnOrderIsTakenBackWhereD1GivesNoAnswer: no key is looked for, and D1 is asked
// again before the next one is made.
func TestAnOrderIsTakenBackWhereD1GivesNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		oldRow(w)
		w.fail("D1", notSent)
		w.expect(w.asked(durable.Me), problem.UpstreamUnavailable)
		w.expect(w.asked(durable.Me), problem.UpstreamUnavailable)
		if writes := w.instance(ada).writes; writes != 2 {
			t.Errorf("%d writes, want one to order and one to take back", writes)
		}
		w.decide = nil
		w.expect(w.asked(durable.Me), "kept")
		if ops := opsOf(w); !slices.Equal(ops, []string{"get"}) {
			t.Errorf("calls %v", ops)
		}
		w.checkRest()
		w.report(t, t.Name())
	})
}

// TestADeletionThatFailsLeavesNoKeyToLookFor: its POST was not sent.
func TestADeletionThatFailsLeavesNoKeyToLookFor(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.spend(ada, 0.6)
		w.server.ResetCalls()
		w.fail("DELETE", status500)
		w.ask(ada, durable.Me)
		w.finish()
		w.decide = nil
		w.asked(durable.Me)
		if ops := opsOf(w); !slices.Equal(ops, []string{"get", "delete", "delete", "create"}) {
			t.Errorf("calls %v", ops)
		}
	})
}

// TestAKeyThatWasDeletedIsNotHandedOutWhereThatCannotBeWritten: of a rotation that has
// come that far it is known that the key is gone, and in storage it is only to go.
func TestAKeyThatWasDeletedIsNotHandedOutWhereThatCannotBeWritten(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.spend(ada, 0.6)
		w.decide = func(c *call) fault {
			if c.method != "POST" {
				return well
			}
			w.instance(ada).readOnly = true
			return refused403
		}
		got := w.ask(ada, durable.Me)
		if w.finish(); got.Status != 502 {
			t.Errorf("got %d %s", got.Status, got.Outcome)
		}
		w.instance(ada).readOnly, w.decide = false, nil
		w.crash(ada)
		w.expect(w.asked(durable.Me), "rotated")
	})
}
