package durable_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/seal"
)

// TestADeletionThatIsRefusedIsTriedOnAndCalledStuckAfterADay: background work
// that cannot finish stays, backs off to ten minutes, logs one line a try, and
// ends as soon as it can.
func TestADeletionThatIsRefusedIsTriedOnAndCalledStuckAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		smallQuota(w)
		w.asked(durable.Me)
		w.spend(ada, 0.95)
		w.asked(durable.Me)
		until := w.now.Add(30 * time.Hour)
		w.lines = nil
		w.decide = func(c *call) fault {
			if c.method == "DELETE" && w.now.Before(until) {
				return refused403
			}
			return well
		}
		w.asked(durable.Me) // renews, and drains until all is done

		tries, stuck := 0, 0
		for _, line := range w.lines {
			if line.Op != "delete" || line.Outcome != "again" {
				continue
			}
			tries++
			if line.Tries != tries {
				t.Errorf("line %d tells of %d tries", tries, line.Tries)
			}
			if !strings.Contains(line.Err, "403") || len(line.Calls) != 1 {
				t.Errorf("try %d: err %q, calls %v", tries, line.Err, line.Calls)
			}
			if line.Stuck {
				stuck++
			}
		}
		// 5 s doubling to 10 min: 7 tries in the first ten minutes or so, then six an hour.
		if tries < 170 || tries > 195 {
			t.Errorf("%d tries in 30 hours", tries)
		}
		if stuck < 30 || stuck > 40 {
			t.Errorf("%d lines called it stuck, in the last 6 of 30 hours", stuck)
		}
		w.checkRest()
		w.report(t, "after it was let go")
	})
}

// TestD1IsRightWithinAMinuteOfItsRecovery, without a request, however long it
// was out.
func TestD1IsRightWithinAMinuteOfItsRecovery(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, time.Minute, 6 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newSimulation(1)
			w.asked(durable.Me)
			w.spend(ada, 0.2)
			until := w.now.Add(outage)
			var right time.Time
			w.decide = func(c *call) fault {
				if c.method != "D1" {
					return well
				}
				if w.now.Before(until) {
					return notSent
				}
				right = w.now
				return well
			}
			if got := w.asked(durable.Me); got.Status != 200 {
				t.Errorf("D1's outage stopped a known user: %d %s", got.Status, got.Code)
			}
			if late := right.Sub(until); late > time.Minute {
				t.Errorf("out for %v, and right %v after that", outage, late)
			}
			w.checkRest()
			w.report(t, "after D1 was mended")
		})
	}
}

// TestAnAlarmThatRingsEarlyIsSetAgain: the runtime repeats an alarm whose work
// was cut off, by when it may have been set to a later time, which is thereby
// forgotten.
func TestAnAlarmThatRingsEarlyIsSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.settings.Policy.KeyLimit, w.kept = 5*account.Credit, true
		w.asked(durable.Me)
		w.now = w.now.Add(time.Minute) // the next change is written at once
		down := true
		w.decide = func(c *call) fault {
			if down && c.method == "D1" {
				return notSent
			}
			return well
		}
		finish := func(method string) {
			for synctest.Wait(); len(w.waiting) > 0 && w.waiting[0].method == method; synctest.Wait() {
				w.step(0)
			}
		}
		w.spend(ada, 0.01)
		w.ask(ada, durable.Me)
		finish("GET")
		finish("D1") // fails, and is put off

		h := w.instance(ada)
		w.now = h.alarm
		w.ring(h) // too early for D1: the alarm is set to when that is due
		w.now = h.alarm
		w.ask(ada, durable.Me) // waits for its GET
		w.ring(h)
		w.mu.Lock()
		slices.Reverse(w.waiting)
		w.mu.Unlock()
		finish("D1") // fails again: the alarm is set to when it is due next
		if !h.ringing || !h.alarm.After(w.now) {
			t.Fatalf("the alarm rings: %v, and is set to %v; it is %v", h.ringing, h.alarm, w.now)
		}
		w.crash(ada)
		down = false
		w.drain()
		w.checkRest()
		w.report(t, "after the crash")
	})
}

// TestALongLedgerReachesD1InSteps: more entries than one batch takes.
func TestALongLedgerReachesD1InSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.settings.Policy.KeyLimit = 5 * account.Credit
		w.asked(durable.Me)
		until := w.now.Add(time.Hour)
		w.decide = func(c *call) fault {
			if c.method == "D1" && w.now.Before(until) {
				return notSent
			}
			return well
		}
		for range 60 {
			w.change(0.03)
		}
		w.drain()
		if n := len(w.instances[ada].ledger); n != 61 {
			t.Errorf("%d ledger entries, want 61", n)
		}
		w.checkRest()
		w.report(t, "after D1 was mended")
	})
}

// TestAWriteThatFailsChangesNothing: an object that is no longer the current one
// sends nothing, and its client is not told that it worked.
func TestAWriteThatFailsChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.asked(durable.Me)
		w.spend(ada, 0.6)
		w.server.ResetCalls()
		w.instance(ada).readOnly = true
		got := w.asked(durable.Me)
		if ops := opsOf(w); got.Status != 500 || len(ops) != 1 {
			t.Errorf("got %d, calls %v; want 500 after one reading", got.Status, ops)
		}
		w.instance(ada).readOnly = false
		w.crash(ada)
		if got := w.asked(durable.Me); got.Outcome != "rotated" {
			t.Errorf("then got %d %s", got.Status, got.Outcome)
		}
		w.checkRest()
		w.report(t, "after storage was mended")
	})
}

// TestARenewalThatFailsLeavesWhatIsToBeSettled: the quota goes on where an
// operator raises it after that, and so do its charges.
func TestARenewalThatFailsLeavesWhatIsToBeSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		settling(w)
		w.server.SetUsageLag(40 * time.Second)
		do := func(r durable.Request) *reply {
			got := w.request(ada, r)
			w.finish()
			return got
		}
		first := do(durable.Request{Action: durable.Me})
		w.spend(ada, 0.2) // which does not show yet
		do(durable.Request{Action: durable.Refresh})
		do(durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{TotalLimit: new(account.Credits)}})
		w.fail("POST", refused400)
		if got := do(durable.Request{Action: durable.Me}); got.Code != "upstream_refused" {
			t.Fatalf("the renewal got %d %s%s", got.Status, got.Outcome, got.Code)
		}
		do(durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{TotalLimit: new(10 * account.Credit)}})
		w.decide = nil
		w.drain()
		var charged account.Credits
		for _, e := range w.instance(ada).ledger {
			if e.Kind == account.Charge && e.Hash == first.Hash {
				charged += e.Credits
			}
		}
		if charged != account.Credit/5 {
			t.Errorf("0.2 were spent on the first key, and %s charged", charged)
		}
		w.checkRest()
		w.report(t, "after the renewal failed")
	})
}

// TestSyncRebuildsWhatD1Lost: the objects hold all that D1 does.
func TestSyncRebuildsWhatD1Lost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.asked(durable.Me)
		for range 20 {
			w.spend(ada, 0.3)
			w.asked(durable.Me)
		}
		w.db.rows, w.db.ledger = map[string][]any{}, map[string]map[int64][]any{}
		got := w.request(ada, durable.Request{Action: durable.Sync})
		if w.drain(); got.Status != 202 {
			t.Errorf("sync answered %d", got.Status)
		}
		w.checkRest()
		w.report(t, "after the rebuild")
	})
}

// TestARefreshHealsALostEncryptionKey: what was sealed under a key that is gone
// cannot be handed out, and need not be.
func TestARefreshHealsALostEncryptionKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.asked(durable.Me)
		other, err := seal.New(bytes.Repeat([]byte{1}, seal.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		w.crash(ada) // settings change with a new program
		w.settings.Sealer = other
		if got := w.asked(durable.Me); got.Status != 500 || got.Code != "internal" {
			t.Errorf("got %d %s for a key that cannot be opened", got.Status, got.Code)
		}
		if got := w.asked(durable.Refresh); got.Outcome != "rotated" {
			t.Errorf("the refresh got %d %s", got.Status, got.Code)
		}
		w.checkRest()
		w.report(t, "after the refresh")
	})
}

// TestAnAdjustmentThatCouldNotBeReadBackIsRefused: each limit alone is in range,
// and what they add up to is not.
func TestAnAdjustmentThatCouldNotBeReadBackIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.asked(durable.Me)
		most := account.MaxCredits
		adjust := func(a adminapi.Adjustment) *reply {
			got := w.request(ada, durable.Request{Action: durable.Adjust, Adjustment: a})
			w.drain()
			return got
		}
		if got := adjust(adminapi.Adjustment{RemainingLimit: &most}); got.Status != 200 {
			t.Errorf("what remains: %d %s", got.Status, got.Code)
		}
		if got := adjust(adminapi.Adjustment{TotalLimit: &most}); got.Status != 400 {
			t.Errorf("what remains, and the total on top: %d", got.Status)
		}
		if got := w.asked(durable.Me); got.Outcome != "kept" {
			t.Errorf("then %d %s", got.Status, got.Code)
		}
		w.checkRest()
		w.report(t, "after the adjustments")
	})
}

// TestAnOrphanIsFoundHoweverLateItIsLookedFor: its key is as old as its POST,
// and not as the moment at which it is given up.
func TestAnOrphanIsFoundHoweverLateItIsLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.fail("POST", crashAfter)
		w.ask(ada, durable.Me)
		w.finish() // the last one is the POST, over which the object dies
		w.decide = nil
		w.now = w.now.Add(30 * time.Minute) // and no alarm rings
		w.ask("zed", durable.Me)
		w.finish()
		w.now = w.now.Add(90 * time.Minute)
		bob := w.ask("bob", durable.Me)
		w.ask("eve", durable.Me)
		w.drain()
		if bob.Status != 200 || len(w.server.Live()) != 3 {
			t.Errorf("%d keys live, want those of bob, eve and zed", len(w.server.Live()))
		}
	})
}

// The object dies over a first key, and then D1 gives no answer, or one that makes no
// sense: the alarm rings ever more seldom.
func TestAnAlarmThatCannotLoadBacksOff(t *testing.T) {
	for name, prepare := range map[string]func(w *simulation){
		"D1 is away": func(w *simulation) {
			w.decide = func(c *call) fault {
				switch {
				case c.method != "D1":
					return well
				case c.index == 0:
					return crashBefore
				}
				return notSent
			}
		},
		"a row that makes no sense": func(w *simulation) {
			oldRow(w)
			w.db.rows[ada][seqColumn] = int64(-5)
			first := w.calls
			w.decide = func(c *call) fault {
				if c.method == "D1" && c.index == first {
					return crashBefore
				}
				return well
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *simulation) {
				prepare(w)
				w.one(durable.Me)
				h := w.instance(ada)
				rings := 0
				for start := w.now; w.now.Sub(start) < time.Hour && !h.alarm.IsZero() && rings < 100; rings++ {
					w.now = h.alarm
					w.ring(h)
					w.finish()
				}
				if rings > 20 {
					t.Errorf("it rang %d times", rings)
				}
			})
		})
	}
}

// An object that dies over a rotation leaves a key to be looked for whose POST was sent or
// not. However often that was, one that does exist is gone soon.
func TestSearchesAfterCrashesDoNotWaitForEachOther(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		crashOver := func(method string, f fault) {
			w.fail(method, f)
			w.one(durable.Refresh)
			w.decide = nil
			w.one(durable.Me)
		}
		ringUntil := func(end time.Time) {
			for h := w.firstAlarm(); h != nil && !h.alarm.After(end); h = w.firstAlarm() {
				w.now = h.alarm
				w.ring(h)
				w.finish()
			}
			w.now = end
		}
		w.one(durable.Me)
		w.drain()
		for range 6 {
			crashOver("DELETE", crashBefore) // its POST is never sent
			ringUntil(w.now.Add(6 * time.Second))
		}
		crashOver("POST", crashAfter)
		ringUntil(w.now.Add(10 * time.Second))
		if n := len(w.server.Live()); n != 1 {
			t.Errorf("%d keys live", n)
		}
	})
}
