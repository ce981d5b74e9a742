package durable_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/openroutertest"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
)

// hostile runs a test in a world of its own, and shows the end of what happened where it fails.
func hostile(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
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

func (w *world) one(want durable.Action) *reply { got := w.ask(ada, want); w.finish(); return got }

func (w *world) patch(a adminapi.Adjustment) *reply {
	got := w.request(ada, durable.Request{Action: durable.Adjust, Adjustment: a})
	w.finish()
	return got
}

func (w *world) keyOf(hash string) openroutertest.Key {
	for _, k := range w.server.Keys() {
		if k.Hash == hash {
			return k
		}
	}
	return openroutertest.Key{}
}

// KEY_TTL and a guardrail that is away for longer than the key lives.
func TestAKeyThatRanOutWhileItWaitedForItsGuardrailIsNotHandedOut(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		guarded(w)
		w.settings.KeyTTL = time.Minute
		w.fail("ASSIGN", notSent)
		got := w.one(durable.Me)
		w.now = w.now.Add(2 * time.Hour)
		w.decide = nil
		got = w.one(durable.Me)
		if got.Status == 200 {
			if k := w.keyOf(got.Hash); !k.ExpiresAt.After(w.now) {
				t.Errorf("200 %s with a key that expired %s ago: %s", got.Outcome, w.now.Sub(k.ExpiresAt), got.body)
			}
		}
	})
}

// A user who only looks, near the end of a quota: the key is replaced for ever.
func TestAKeyIsNotReplacedByOneThatHoldsNoMore(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		holding(w)
		w.settings.Policy.RenewAfter = 720 * time.Hour
		w.settings.Policy.TotalLimit = 1300 * account.Credit / 1000
		w.settings.RotationOverlap = 60 * time.Second
		w.settings.MeterInterval = 5 * time.Second
		a := &adversary{world: w}
		a.want(durable.Me)
		a.spendOn(a.latest(), 0.6)
		a.pass(10 * time.Second)
		w.server.ResetCalls()
		for range 24 * 60 {
			a.want(durable.Me)
			a.pass(time.Minute)
		}
		if n := w.server.Calls()[openroutertest.OpCreate]; n > 3 {
			t.Errorf("in a day of looking, with nothing spent, %d keys were made; calls %v; ledger %d", n, w.server.Calls(), len(w.home(ada).ledger))
		}
	})
}

// A PATCH whose answer is about another key is taken for a key that is disabled.
func TestADisablingThatIsNotConfirmedIsNoneAndCostsNothing(t *testing.T) {
	for name, lie := range map[string]string{
		"another key":       `{"data":{"hash":"` + strings.Repeat("0", 64) + `","disabled":true}}`,
		"not disabled":      `{"data":{"disabled":false}}`,
		"an error in a 200": `{"error":{"code":500,"message":"Internal"}}`,
		"204":               ``,
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *world) {
				holding(w)
				w.settings.Policy.TotalLimit = 2 * account.Credit
				w.server.SetUsageLag(60 * time.Second)
				w.answer = func(method string, r *http.Request) *http.Response {
					if method == "PATCH" {
						if lie == "" {
							return respond(204, "")
						}
						return respond(200, lie)
					}
					return nil
				}
				a := &adversary{world: w}
				for range 12 {
					a.want(durable.Me)
					a.want(durable.Refresh)
					a.pass(89 * time.Second)
					for _, k := range a.keys {
						a.spendOn(k, 1)
					}
					a.pass(5 * time.Second)
				}
				a.pass(time.Hour)
				if cost := w.cost(); cost > w.settings.Policy.TotalLimit {
					t.Errorf("a quota of %s cost %s", w.settings.Policy.TotalLimit, cost)
				}
			})
		})
	}
}

// DELETE answered 200 with an error inside.
func TestADeletionThatIsNotConfirmedIsNone(t *testing.T) {
	for _, lie := range []string{`{"error":{"code":500,"message":"Internal"}}`, `{"deleted":false}`, `garbage`} {
		t.Run(lie, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *world) {
				a := &adversary{world: w}
				a.want(durable.Me)
				w.answer = func(method string, r *http.Request) *http.Response {
					if method == "DELETE" {
						return respond(200, lie)
					}
					return nil
				}
				a.want(durable.Refresh)
				w.answer = nil
				a.pass(time.Hour)
				a.want(durable.Me)
				if n := len(w.server.Live()); n != 1 {
					t.Errorf("%d live keys at rest", n)
				}
			})
		})
	}
}

// A list that ignores its offset.
func TestAListThatDoesNotGoOnEndsTheWalk(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		w.one(durable.Me)
		var rows []string
		for i := range 100 {
			rows = append(rows, fmt.Sprintf(`{"hash":"%064x","name":"x","created_at":"%s"}`, i, w.now.Format(time.RFC3339)))
		}
		page := `{"data":[` + strings.Join(rows, ",") + `]}`
		n := 0
		w.answer = func(method string, r *http.Request) *http.Response {
			if method == "LIST" {
				n++
				return respond(200, page)
			}
			return nil
		}
		w.fail("POST", answerLost)
		w.one(durable.Refresh)
		w.decide = nil
		a := &adversary{world: w}
		a.pass(time.Hour)
		if n > 100 {
			t.Errorf("%d LIST calls within an hour for one orphan", n)
		}
	})
}

// A list that has the orphan's name beside the hash of the present key.
func TestASearchNeverDeletesAKeyThatIsKnown(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
		overlapping(w)
		a.want(durable.Me)
		a.spendOn(a.latest(), 0.6)
		w.fail("POST", notSent)
		got := a.want(durable.Me) // kept: the POST failed
		w.decide = nil
		op := ""
		for _, c := range w.state(ada).Tasks {
			op = c.Op
		}
		w.answer = func(method string, r *http.Request) *http.Response {
			if method == "LIST" {
				b, _ := json.Marshal(map[string]any{"data": []any{map[string]any{"hash": got.Hash, "name": "latchkey:ada:" + op, "created_at": w.now.Format(time.RFC3339)}}})
				return respond(200, string(b))
			}
			return nil
		}
		a.spendOn(a.latest(), 0.4)
		a.pass(time.Minute)
		if k := w.keyOf(got.Hash); k.Deleted {
			st := w.state(ada)
			t.Errorf("the search for an orphan deleted the record's own key, with 0.4 on it not charged; the record still holds %.8s, remaining %s", st.Record.Hash, st.Record.RemainingLimit)
		}
	})
}

// A list that has the orphan under a hash that is none.
func TestALostKeyThatIsListedWithoutItsHashIsLookedForAgain(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
		a.want(durable.Me)
		w.fail("POST", answerLost)
		a.want(durable.Refresh)
		w.decide = nil
		lost := w.state(ada).Tasks
		if len(lost) != 1 {
			t.Fatalf("%v is to be done, not one search for a lost key", lost)
		}
		op := lost[0].Op
		n := 0
		w.answer = func(method string, r *http.Request) *http.Response {
			if method == "LIST" && n == 0 {
				n++
				return respond(200, `{"data":[{"hash":null,"name":"latchkey:ada:`+op+`","created_at":"2026-11-21T12:00:00Z"}]}`)
			}
			return nil
		}
		a.want(durable.Me)
		a.pass(time.Hour)
		if n := len(w.server.Live()); n != 1 {
			t.Errorf("%d live keys at rest: an orphan whose hash was not told was taken for deleted", n)
		}
	})
}

// A refresh whose POST fails, and the next request is a GET: the leaked key of an overlap goes on.
func TestARefreshWhosePOSTFailsEndsTheOverlapToo(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
		w.settings.RotationOverlap = time.Hour
		a.want(durable.Me)
		first := a.latest()
		a.spendOn(first, 0.6)
		a.want(durable.Me)
		w.fail("POST", status500)
		a.want(durable.Refresh)
		w.decide = nil
		a.want(durable.Me)
		a.pass(10 * time.Minute)
		for _, k := range w.server.Live() {
			if k.Secret == first {
				t.Errorf("10 minutes after a refresh, the key of the overlap still works")
			}
		}
	})
}

// HARD_CAP is switched on while a key waits for its guardrail.
func TestAHardCapThatIsSwitchedOnHoldsForAKeyThatWaitsForItsGuardrail(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
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

// An operator enables a key again that waits to be settled.
func TestAKeyThatIsEnabledAgainWhileItWaitsToBeSettledIsDisabledAgain(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
		holding(w)
		w.settings.Policy.TotalLimit = 2 * account.Credit
		w.server.SetUsageLag(60 * time.Second)
		a.want(durable.Me)
		old := a.latest()
		a.want(durable.Refresh)
		for _, k := range w.server.Keys() {
			if k.Secret == old {
				w.server.SetDisabled(k.Hash, false)
			}
		}
		a.pass(80 * time.Second)
		a.spendOn(old, 1)
		a.pass(20 * time.Second) // settled by now
		for range 5 {
			a.want(durable.Me)
			a.spendOn(a.latest(), 1)
			a.pass(5 * time.Minute)
		}
		if cost := w.cost(); cost > w.settings.Policy.TotalLimit {
			t.Errorf("a quota of %s cost %s", w.settings.Policy.TotalLimit, cost)
		}
	})
}

// A reading that was answered before the key was final, and arrived after.
func TestASlowReadingIsAsOldAsItsRequest(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
		holding(w)
		w.settings.SettleAfter = 10 * time.Second
		w.server.SetUsageLag(10 * time.Second)
		w.settings.Policy.TotalLimit = 2 * account.Credit
		w.settings.KeyTTL = time.Minute
		for range 6 {
			got := a.want(durable.Me)
			if got.Status != 200 {
				a.pass(time.Minute)
				continue
			}
			k := w.keyOf(got.Hash)
			a.pass(k.ExpiresAt.Sub(w.now) - time.Second)
			a.spendOn(a.latest(), 1) // shows 9 s after the key's end
			a.pass(6 * time.Second)  // 5 s after its end
			slow := false
			w.slow = func(method string) {
				if method == "GET" && !slow {
					slow = true
					w.mu.Lock()
					w.now = w.now.Add(6 * time.Second)
					w.mu.Unlock()
				}
			}
			a.want(durable.Me)
			w.slow = nil
		}
		a.pass(time.Hour)
		if cost := w.cost(); cost > w.settings.Policy.TotalLimit {
			t.Errorf("a quota of %s cost %s", w.settings.Policy.TotalLimit, cost)
		}
	})
}

// OpenRouter stores names in another form.
func TestNamesInAnotherFormLeaveNoKeysBehind(t *testing.T) {
	for _, user := range []string{"e\u0301va", "a\tb", " ada "} {
		t.Run(user, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *world) {
				w.server.SetNameForm(openroutertest.NamesNormal)
				var got *reply
				for range 20 {
					got = w.ask(user, durable.Me)
					w.drain()
					w.now = w.now.Add(time.Minute)
				}
				if live := len(w.server.Live()); got.Status == 200 && live != 1 || got.Status != 200 && live != 0 {
					t.Errorf("after 20 requests: %d %s, and %d live keys at rest", got.Status, got.Code, live)
				}
			})
		})
	}
}

// The clock of two machines differs, and the object moves between them.
func TestAClockThatHopsSettlesNothingEarly(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
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

// A POST whose answer says that the key is disabled.
func TestANewKeyThatIsDisabledIsHandedToNobody(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		w.server.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"data":{"disabled":true}}`)}, 1)
		got := w.one(durable.Me)
		if got.Status == 200 {
			t.Errorf("200 %s with a key that the answer calls disabled", got.Outcome)
		}
	})
}

// What a later version left to be done is kept, does not hinder what else is to be
// done, and is logged once for each time that the state is read.
func TestAnUnknownKindOfWorkIsLeftAlone(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
		w.kept = true
		a.want(durable.Me)
		w.crash(ada)
		h := w.home(ada)
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
	hostile(t, func(t *testing.T, w *world) {
		w.kept = true
		w.one(durable.Me)
		w.crash(ada)
		h := w.home(ada)
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

// A new key waits for its guardrail beside the present one for longer than it lives:
// it is given up, and the present one is looked at like any other.
func TestAKeyThatRanOutBesideThePresentOneIsGivenUp(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
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

// An operator disabled the user's key at OpenRouter, and lowers what remains here:
// the user gets a new key.
func TestALimitThatIsLoweredDoesNotReplaceADisabledKey(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		w.settings.Policy.HardCap = true
		got := w.one(durable.Me)
		w.server.SetDisabled(got.Hash, true)
		w.patch(adminapi.Adjustment{RemainingLimit: new(account.Credit / 2)})
		again := w.one(durable.Me)
		if again.Status == 200 {
			t.Errorf("the disabled key was replaced: %d %s", again.Status, again.Outcome)
		}
	})
}

// A PATCH that took effect and was answered 429, as a gateway does: the user is locked out.
func TestADisablingThatWasRefusedAndTookEffectLocksNobodyOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
	}{{"429", 429}, {"403", 403}} {
		t.Run(c.name, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *world) {
				holding(w)
				a := &adversary{world: w}
				a.want(durable.Me)
				a.spendOn(a.latest(), 0.6)
				w.server.Fail(openroutertest.OpUpdate, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: c.status, Applied: true}, 1)
				first := a.want(durable.Me)
				var got *reply
				for range 10 {
					a.pass(time.Hour)
					got = a.want(durable.Me)
				}
				if got.Status != 200 {
					t.Errorf("first %d %s; for the next 10 hours %d %s", first.Status, first.Outcome, got.Status, got.Code)
				}
			})
		})
	}
}

// A POST that was carried out and answered with a redirect (303: "see the result there").
func TestAPOSTThatIsNotRefusedForCertainLeavesNoKeyBehind(t *testing.T) {
	for _, status := range []int{303, 409} {
		hostile(t, func(t *testing.T, w *world) {
			a := &adversary{world: w}
			a.want(durable.Me)
			first := true
			w.answer = func(method string, r *http.Request) *http.Response {
				if method != "POST" || !first {
					return nil
				}
				first = false
				if response, err := w.server.RoundTrip(r); err == nil {
					response.Body.Close()
				}
				return respond(status, "")
			}
			a.want(durable.Refresh)
			a.want(durable.Me)
			a.pass(24 * time.Hour)
			if n := len(w.server.Live()); n != 1 {
				t.Errorf("%d: %d live keys at rest", status, n)
			}
		})
	}
}

// A damaged row that still tells the key: erasing the user is to delete that key.
func TestErasingADamagedRowDeletesItsKey(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		oldRow(w)
		w.db.rows[ada][9] = "garbage" // created_at
		if got := w.one(durable.Me); got.Status != 500 {
			t.Fatalf("%d", got.Status)
		}
		w.one(durable.Erase)
		w.drain()
		if n := len(w.server.Live()); n != 0 {
			t.Errorf("%d live keys of the erased user; the row held the key, unsealed", n)
		}
	})
}

// Guardrail away, and many tabs: what is due in the background starves; the key of an overlap outlives it.
func TestManyTabsDoNotKeepAnOverlapAlive(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		a := &adversary{world: w}
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

// A row of D1 plants a key that is none of ours; OpenRouter cannot be read.
func TestAnUnsealedKeyOfARowIsHandedOutOnlyOnceItWasRead(t *testing.T) {
	hostile(t, func(t *testing.T, w *world) {
		oldRow(w)
		w.db.rows[ada][3] = "sk-evil"
		w.fail("GET", status500)
		got := w.ask(ada, durable.Me)
		w.finish()
		if got.Key == "sk-evil" {
			t.Errorf("%d %s with the key that was planted: %s", got.Status, got.Outcome, got.Key)
		}
		w.violations = nil
	})
}

// The settings of [env.production], an ordinary user, no faults: near the end of
// the quota a little is left on the present key and a little beside it, and from
// then on every answer is 402, also after RENEW_AFTER, for ever.
func TestAQuotaWithLittleLeftEndsInNoLockout(t *testing.T) {
	for _, overlap := range []time.Duration{0, time.Minute} {
		t.Run(overlap.String(), func(t *testing.T) {
			hostile(t, func(t *testing.T, w *world) {
				holding(w)
				w.settings.Policy.RenewAfter = 720 * time.Hour
				w.settings.RotationOverlap = overlap
				w.settings.MeterInterval = 5 * time.Second
				a := &adversary{world: w}
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
	for seed := range uint64(n) {
		hostile(t, func(t *testing.T, w *world) {
			holding(w)
			w.settings.Policy.RenewAfter = 720 * time.Hour
			w.settings.RotationOverlap = time.Minute
			a := &adversary{world: w}
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
	hostile(t, func(t *testing.T, w *world) {
		holding(w)
		w.settings.MeterInterval = 5 * time.Second
		w.settings.Policy.TotalLimit = 2 * account.Credit
		a := &adversary{world: w}
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
	living(t, func(t *testing.T, w *world, key *reply) {
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
		w := newWorld(1)
		w.settings.KeyTTL = time.Hour
		first := w.asked(durable.Me)
		w.crash(ada)
		w.home(ada).state, w.home(ada).alarm = "", time.Time{} // the object was lost
		w.expect(w.asked(durable.Me), "kept")
		w.now = w.now.Add(2 * time.Hour)
		if got := w.asked(durable.Me); got.Outcome != "rotated" || got.Key == first.Key {
			t.Errorf("past its end: %s", got.Outcome)
		}
		w.report(t, "after the loss")
	})
}

func TestAnErasureThatCannotBeWrittenLeavesADamagedUserDamaged(t *testing.T) {
	living(t, func(t *testing.T, w *world, key *reply) {
		w.crash(ada)
		stored := w.home(ada).state
		w.home(ada).state, w.home(ada).readOnly = `{"record":`, true
		w.expect(w.asked(durable.Erase), problem.Internal)
		w.expect(w.asked(durable.Me), problem.Internal)
		w.crash(ada)
		w.home(ada).state, w.home(ada).readOnly = stored, false
	})
}

// A refresh may find that a new key waits for its guardrail: then that is the new
// key, and the old one has no overlap.
func TestARefreshThatFinishesARotationEndsTheOldKey(t *testing.T) {
	living(t, func(t *testing.T, w *world, key *reply) {
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
