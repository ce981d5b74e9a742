package durable_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/openroutertest"
	"latchkey/internal/problem"
)

// hostile runs a test in a simulation of its own, and shows the end of what happened where it fails.
func hostile(t *testing.T, f func(t *testing.T, w *simulation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		f(t, w)
		for _, v := range w.violations {
			t.Error(v)
		}
		if t.Failed() {
			n := len(w.trace)
			t.Log(strings.Join(w.trace[max(0, n-60):], "\n"))
		}
		w.answer, w.slow, w.decide = nil, nil, nil
		w.server.ClearFaults()
	})
}

func (w *simulation) one(want durable.Action) *reply { got := w.ask(ada, want); w.finish(); return got }

func (w *simulation) patch(a adminapi.Adjustment) *reply {
	got := w.request(ada, durable.Request{Action: durable.Adjust, Adjustment: a})
	w.finish()
	return got
}

func (w *simulation) keyOf(hash string) openroutertest.Key {
	for _, k := range w.server.Keys() {
		if k.Hash == hash {
			return k
		}
	}
	return openroutertest.Key{}
}

// KEY_TTL and a guardrail that is away for longer than the key lives.
func TestAKeyThatRanOutWhileItWaitedForItsGuardrailIsNotHandedOut(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		guarded(w)
		w.settings.KeyTTL = time.Minute
		w.fail("ASSIGN", notSent)
		w.one(durable.Me)
		w.now = w.now.Add(2 * time.Hour)
		w.decide = nil
		got := w.one(durable.Me)
		if got.Status == 200 {
			if k := w.keyOf(got.Hash); !k.ExpiresAt.After(w.now) {
				t.Errorf("200 %s with a key that expired %s ago: %s", got.Outcome, w.now.Sub(k.ExpiresAt), got.body)
			}
		}
	})
}

// A user who only looks, near the end of a quota: the key is replaced for ever.
func TestAKeyIsNotReplacedByOneThatHoldsNoMore(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		holding(w)
		w.settings.Policy.RenewAfter = 720 * time.Hour
		w.settings.Policy.TotalLimit = 1300 * account.Credit / 1000
		w.settings.RotationOverlap = 60 * time.Second
		w.settings.MeterInterval = 5 * time.Second
		a := &adversary{simulation: w}
		a.want(durable.Me)
		a.spendOn(a.latest(), 0.6)
		a.pass(10 * time.Second)
		w.server.ResetCalls()
		for range 24 * 60 {
			a.want(durable.Me)
			a.pass(time.Minute)
		}
		if n := w.server.Calls()[openroutertest.OpCreate]; n > 3 {
			t.Errorf("in a day of looking, with nothing spent, %d keys were made; calls %v; ledger %d", n, w.server.Calls(), len(w.instance(ada).ledger))
		}
	})
}

// HARD_CAP is switched on while a key waits for its guardrail.
func TestAHardCapThatIsSwitchedOnHoldsForAKeyThatWaitsForItsGuardrail(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
		w.settings.Policy.TotalLimit = 12 * account.Credit / 10
		w.settings.Policy.RenewAfter = time.Hour
		a.want(durable.Me)
		a.spendOn(a.latest(), 0.9)
		guarded(w)
		w.crash(ada)
		w.fail("ASSIGN", notSent)
		a.want(durable.Me)
		w.decide = nil
		w.settings.Policy.HardCap = true
		w.settings.SettleAfter = 90 * time.Second
		w.crash(ada)
		got := a.want(durable.Me)
		a.spendOn(a.latest(), 1)
		a.pass(time.Minute)
		if cost := w.cost(); cost > w.settings.Policy.TotalLimit {
			t.Errorf("%d %s; a quota of %s cost %s after HARD_CAP was on", got.Status, got.Outcome, w.settings.Policy.TotalLimit, cost)
		}
	})
}

// The clock of two machines differs, and the object moves between them.
func TestAClockThatHopsSettlesNothingEarly(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
		holding(w)
		w.settings.Policy.TotalLimit = 2 * account.Credit
		w.settings.MeterInterval = time.Millisecond // each reading is written down
		lag := 90 * time.Second
		w.server.SetUsageLag(lag)
		a.want(durable.Me)
		a.spendOn(a.latest(), 1)
		old := a.latest()
		began := w.now
		a.want(durable.Refresh)
		// 20 s ahead, a request; back, a request; …: OpenRouter's own clock is w.now less the offset.
		for range 6 {
			w.now = w.now.Add(20 * time.Second)
			w.crash(ada)
			a.pass(0)
			a.want(durable.Me)
			w.now = w.now.Add(-20 * time.Second).Add(time.Second)
			w.crash(ada)
			a.want(durable.Me)
			a.pass(0)
		}
		for _, k := range w.server.Keys() {
			if k.Secret == old && k.Deleted {
				t.Errorf("settled and deleted %s after it was given up; SETTLE_AFTER is %s", w.now.Sub(began), w.settings.SettleAfter)
			}
		}
		a.pass(time.Hour)
		for range 3 {
			a.want(durable.Me)
			a.spendOn(a.latest(), 1)
			a.pass(time.Hour)
		}
	})
}

func TestAClockThatIsBehindForOneRequestSettlesNothingEarly(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
		holding(w)
		w.settings.Policy.TotalLimit = 2 * account.Credit
		w.server.SetUsageLag(80 * time.Second)
		a.want(durable.Me)
		a.spendOn(a.latest(), 1)
		a.want(durable.Refresh)
		for _, hop := range []time.Duration{-5 * time.Minute, 5*time.Minute + time.Second} {
			w.now = w.now.Add(hop)
			w.crash(ada)
			a.want(durable.Me)
		}
		for range 5 {
			a.pass(time.Hour)
			a.want(durable.Me)
			a.spendOn(a.latest(), 1)
		}
		if cost := w.cost(); cost > 2*account.Credit {
			t.Errorf("a quota of 2 cost %s", cost)
		}
	})
}

// A new key waits for its guardrail beside the present one for longer than it lives:
// it is given up, and the present one is looked at like any other.
func TestAKeyThatRanOutBesideThePresentOneIsGivenUp(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		guarded(w)
		overlapping(w)
		first := w.one(durable.Me)
		w.crash(ada)
		w.settings.KeyTTL = time.Minute
		w.spend(ada, 0.6)
		w.fail("ASSIGN", notSent)
		w.expect(w.one(durable.Me), "kept")
		w.now = w.now.Add(2 * time.Minute) // and no alarm rings
		w.decide = nil
		got := w.one(durable.Me)
		if w.expect(got, "rotated"); got.Key == first.Key {
			t.Error("the key is the one before")
		}
		w.drain()
		w.checkRest()
	})
}

// Guardrail away, and many tabs: what is due in the background starves; the key of an overlap outlives it.
func TestManyTabsDoNotKeepAnOverlapAlive(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
		guarded(w)
		overlapping(w) // 30 s
		a.want(durable.Me)
		old := a.latest()
		a.spendOn(old, 0.6)
		a.want(durable.Me)
		a.spendOn(a.latest(), 0.6)
		w.fail("ASSIGN", notSent)
		w.ask(ada, durable.Me)
		for range 600 { // there is always one more tab that asks
			w.ask(ada, durable.Refresh)
			for range 3 {
				if len(w.waiting) > 0 {
					w.step(0)
				}
			}
			w.ask(ada, durable.Me)
			for range 3 {
				if len(w.waiting) > 0 {
					w.step(0)
				}
			}
			w.now = w.now.Add(time.Second)
			if h := w.firstAlarm(); h != nil && !h.alarm.After(w.now) {
				w.ring(h)
			}
		}
		for _, k := range w.server.Live() {
			if k.Secret == old {
				t.Errorf("after 10 minutes the key of a 30 s overlap still works")
			}
		}
	})
}

// The settings of [env.production], an ordinary user, no faults: near the end of
// the quota a little is left on the present key and a little beside it, and from
// then on every answer is 402, also after RENEW_AFTER, for ever.
func TestAQuotaWithLittleLeftEndsInNoLockout(t *testing.T) {
	for _, overlap := range []time.Duration{0, time.Minute} {
		t.Run(overlap.String(), func(t *testing.T) {
			hostile(t, func(t *testing.T, w *simulation) {
				holding(w)
				w.settings.Policy.RenewAfter = 720 * time.Hour
				w.settings.RotationOverlap = overlap
				w.settings.MeterInterval = 5 * time.Second
				a := &adversary{simulation: w}
				a.want(durable.Me)
				rest := func() { a.pass(10 * time.Minute); a.want(durable.Me); a.pass(10 * time.Minute) }
				for range 11 { // 8.8
					a.spendOn(a.latest(), 0.8)
					rest()
				}
				a.spendOn(a.latest(), 0.92) // 9.72: 0.08 left on the key, 0.28 of the quota
				rest()
				a.spendOn(a.latest(), 0.11) // 9.83
				rest()
				ok := 0
				for range 60 {
					a.pass(24 * time.Hour)
					if a.want(durable.Me).Status == 200 {
						ok++
					}
				}
				if ok == 0 {
					t.Errorf("60 days of 402, with RENEW_AFTER of 30 days; %d live keys", len(w.server.Live()))
				}
			})
		})
	}
}

// The same ends in another way where the last key was made by the cap alone.
func TestNobodyIsLockedOutBySpendingCents(t *testing.T) {
	stuck, n := 0, 400
	if testing.Short() { // make simulation has them all
		n = 40
	}
	for seed := range uint64(n) {
		hostile(t, func(t *testing.T, w *simulation) {
			holding(w)
			w.settings.Policy.RenewAfter = 720 * time.Hour
			w.settings.RotationOverlap = time.Minute
			a := &adversary{simulation: w}
			a.want(durable.Me)
			x := seed*2654435761 + 12345
			for range 400 { // spends by cents, asks now and then, rests now and then
				x = x*6364136223846793005 + 1442695040888963407
				v := int(x>>40) % 30
				a.spendOn(a.latest(), float64(v)/100)
				a.pass(time.Duration(10+v*7) * time.Second)
				if a.want(durable.Me).Status != 200 {
					break
				}
			}
			a.pass(61 * 24 * time.Hour)
			if got := a.want(durable.Me); got.Status != 200 {
				a.pass(24 * time.Hour)
				if got = a.want(durable.Me); got.Status != 200 {
					stuck++
				}
			}
		})
	}
	if stuck > 0 {
		t.Errorf("of %d ordinary users who spent by cents and stop at the first 402, %d are locked out for good", n, stuck)
	}
}

// METER_INTERVAL under HARD_CAP: a 402, and 200 with the very key that was withheld, in turns;
// that key may have nothing on it.
func TestAReadingThatWithheldAKeyIsNotUsedAgainToHandItOut(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		holding(w)
		w.settings.MeterInterval = 5 * time.Second
		w.settings.Policy.TotalLimit = 2 * account.Credit
		a := &adversary{simulation: w}
		a.want(durable.Me)
		a.spendOn(a.latest(), 0.2)
		a.pass(10 * time.Second)
		a.want(durable.Refresh) // 0.8 unsettled: 1 for the next key
		a.spendOn(a.latest(), 1)
		a.pass(6 * time.Second)
		a.want(durable.Me)
		second := a.want(durable.Me)
		if second.Status == 200 && w.state(ada).Record.UsageLimit <= w.settings.Policy.RenewAt && w.keyOf(second.Hash).Usage >= 1e9 {
			t.Errorf("a key with nothing on it is handed out: %s", second.body)
		}
	})
}

// 204 says that it is done: every key of the user, not the present one alone.
func TestErasingEndsAllKeysOfAUser(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		overlapping(w)
		w.crash(ada)
		w.spend(ada, 0.6)
		w.ask(ada, durable.Me)
		w.finish()
		got := w.request(ada, durable.Request{Action: durable.Erase})
		for got.Status == 0 && len(w.waiting) > 0 {
			w.step(0)
		}
		if n := len(w.server.Live()); got.Status != 204 || n != 0 {
			t.Errorf("%d, and %d keys live", got.Status, n)
		}
	})
}

// D1 does not know when a key ends, and OpenRouter does.
func TestAnImportedKeyKeepsItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.settings.KeyTTL = time.Hour
		first := w.asked(durable.Me)
		w.crash(ada)
		w.instance(ada).state, w.instance(ada).alarm = "", time.Time{} // the object was lost
		w.expect(w.asked(durable.Me), "kept")
		w.now = w.now.Add(2 * time.Hour)
		if got := w.asked(durable.Me); got.Outcome != "rotated" || got.Key == first.Key {
			t.Errorf("past its end: %s", got.Outcome)
		}
		w.report(t, "after the loss")
	})
}

func TestAnErasureThatCannotBeWrittenLeavesADamagedUserDamaged(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.crash(ada)
		stored := w.instance(ada).state
		w.instance(ada).state, w.instance(ada).readOnly = `{"record":`, true
		w.expect(w.asked(durable.Erase), problem.Internal)
		w.expect(w.asked(durable.Me), problem.Internal)
		w.crash(ada)
		w.instance(ada).state, w.instance(ada).readOnly = stored, false
	})
}

// A refresh may find that a new key waits for its guardrail: then that is the new
// key, and the old one has no overlap.
func TestARefreshThatFinishesARotationEndsTheOldKey(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		guarded(w)
		overlapping(w)
		w.crash(ada)
		w.spend(ada, 0.6)
		w.fail("ASSIGN", notSent)
		kept := w.ask(ada, durable.Me)
		w.finish()
		w.expect(kept, "kept")
		w.decide = nil
		refreshed := w.ask(ada, durable.Refresh)
		w.finish()
		w.expect(refreshed, "rotated")
		for _, live := range w.server.Live() {
			if live.Hash == key.Hash {
				t.Error("the old key still works")
			}
		}
	})
}

// A refused DELETE disables nothing: a key that is disabled after it was disabled by an
// operator, and is neither handed out nor replaced.
func TestAnOperatorMayDisableAKeyWhoseDeletionWasRefused(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		first := w.one(durable.Me)
		w.spend(ada, 0.6)
		w.answer = func(method string, r *http.Request) *http.Response {
			if method == "DELETE" {
				return respond(429, `{"error":{"code":429,"message":"Slow down"}}`)
			}
			return nil
		}
		w.expect(w.one(durable.Me), "kept")
		w.answer = nil
		w.server.SetDisabled(first.Hash, true)
		w.expect(w.one(durable.Me), problem.KeyDisabled)
		w.expect(w.one(durable.Refresh), problem.KeyDisabled)
	})
}

// That a disabling of ours was refused explains a disabled key until a reading finds it enabled.
func TestAKeyThatAnOperatorDisablesMuchLaterIsNotReplaced(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		settling(w)
		key := w.one(durable.Me)
		w.spend(ada, 0.6)
		w.fail("PATCH", status429)
		w.expect(w.one(durable.Me), "kept")
		w.decide = nil
		w.server.SetLimit(key.Hash, new(100.0))
		w.expect(w.asked(durable.Me), "kept")
		w.now = w.now.Add(30 * 24 * time.Hour)
		w.expect(w.asked(durable.Me), "kept")
		w.server.SetDisabled(key.Hash, true)
		w.expect(w.asked(durable.Me), problem.KeyDisabled)
	})
}

// The present key works on while the next one waits for its guardrail.
func TestASuspensionChargesWhatWasSpentBesideAKeyThatWaits(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		guarded(w)
		overlapping(w)
		w.one(durable.Me)
		w.spend(ada, 0.6)
		w.fail("ASSIGN", notSent)
		w.expect(w.one(durable.Me), "kept")
		w.spend(ada, 0.3)
		w.patch(adminapi.Adjustment{Suspended: new(true)})
		w.decide = nil
		w.drain()
		if got := w.charged(); got != 9*account.Credit/10 {
			t.Errorf("0.9 was spent, and %s charged", got)
		}
	})
}

// A later version has left it.
func TestANewKeyOfAKindThatIsNotKnownGrantsNothing(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		guarded(w)
		w.one(durable.Me)
		w.spend(ada, 0.6)
		w.fail("ASSIGN", notSent)
		w.one(durable.Me)
		w.decide = nil
		w.crash(ada)
		h := w.instance(ada)
		h.state = strings.Replace(h.state, `"assign":{"kind":"rotate"`, `"assign":{"kind":"later"`, 1)
		if w.one(durable.Me); w.state(ada).Record.RemainingLimit != 94*account.Credit/10 {
			t.Errorf("%s remain of 9.4", w.state(ada).Record.RemainingLimit)
		}
	})
}
