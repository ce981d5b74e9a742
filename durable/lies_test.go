package durable_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/openroutertest"
)

// This file is about answers of OpenRouter and rows of D1 that mislead.

// A PATCH whose answer is about another key is taken for a key that is disabled.
func TestADisablingThatIsNotConfirmedIsNoneAndCostsNothing(t *testing.T) {
	for name, lie := range map[string]string{
		"another key":       `{"data":{"hash":"` + strings.Repeat("0", 64) + `","disabled":true}}`,
		"not disabled":      `{"data":{"disabled":false}}`,
		"an error in a 200": `{"error":{"code":500,"message":"Internal"}}`,
		"204":               ``,
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *simulation) {
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
				a := &adversary{simulation: w}
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
			hostile(t, func(t *testing.T, w *simulation) {
				a := &adversary{simulation: w}
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
	hostile(t, func(t *testing.T, w *simulation) {
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
		a := &adversary{simulation: w}
		a.pass(time.Hour)
		if n > 100 {
			t.Errorf("%d LIST calls within an hour for one orphan", n)
		}
	})
}

// A list that has the orphan's name beside the hash of the present key.
func TestASearchNeverDeletesAKeyThatIsKnown(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
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

// A list that has ada's lost key under the hash of bob's.
func TestASearchNeverDeletesTheKeyOfAnother(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		bob := w.ask("bob", durable.Me)
		w.finish()
		w.fail("POST", answerLost)
		w.one(durable.Me)
		w.decide = nil
		name := "latchkey:ada:" + w.state(ada).Tasks[0].Op
		lists := 0
		w.answer = func(method string, r *http.Request) *http.Response {
			if method == "LIST" && lists < 3 {
				lists++
				return respond(200, `{"data":[{"hash":"`+bob.Hash+`","name":"`+name+`","created_at":"2026-11-21T12:00:00Z"}]}`)
			}
			return nil
		}
		w.drain()
		if w.keyOf(bob.Hash).Deleted {
			t.Error("bob's key was deleted")
		}
		if live := len(w.server.Live()); lists < 3 || live != 1 {
			t.Errorf("after %d wrong lists and a right one there are %d live keys, not bob's alone", lists, live)
		}
	})
}

// A lost key whose reading is 404 for a moment, or makes no sense for good, is deleted.
func TestALostKeyIsDeletedWhateverItsReadingSays(t *testing.T) {
	for name, spoil := range map[string]func(w *simulation){
		"404 once": func(w *simulation) {
			told := false
			w.answer = func(method string, r *http.Request) *http.Response {
				if method == "GET" && !told {
					told = true
					return respond(404, `{"error":{"code":404,"message":"Not found"}}`)
				}
				return nil
			}
		},
		"a limit out of bounds": func(w *simulation) { w.server.SetLimit(w.server.Live()[0].Hash, new(20_000.0)) },
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *simulation) {
				w.fail("POST", answerLost)
				w.one(durable.Me)
				w.decide = nil
				spoil(w)
				w.drain()
				if live := len(w.server.Live()); live > 0 {
					t.Errorf("it lives, and %v is to be done", w.state(ada).Tasks)
				}
			})
		})
	}
}

// A list that has the orphan under a hash that is none, for longer than is waited for one
// that is not listed.
func TestALostKeyThatIsListedWithoutItsHashIsLookedForAgain(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
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
			if method == "LIST" && n < 8 {
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
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
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

// An operator enables a key again that waits to be settled.
func TestAKeyThatIsEnabledAgainWhileItWaitsToBeSettledIsDisabledAgain(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
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
	hostile(t, func(t *testing.T, w *simulation) {
		a := &adversary{simulation: w}
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
			hostile(t, func(t *testing.T, w *simulation) {
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

// A POST whose answer says that the key is disabled.
func TestANewKeyThatIsDisabledIsHandedToNobody(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		w.server.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"data":{"disabled":true}}`)}, 1)
		got := w.one(durable.Me)
		if got.Status == 200 {
			t.Errorf("200 %s with a key that the answer calls disabled", got.Outcome)
		}
	})
}

// An operator disabled the user's key at OpenRouter, and lowers what remains here:
// the user gets a new key.
func TestALimitThatIsLoweredDoesNotReplaceADisabledKey(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
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
			hostile(t, func(t *testing.T, w *simulation) {
				holding(w)
				a := &adversary{simulation: w}
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
		hostile(t, func(t *testing.T, w *simulation) {
			a := &adversary{simulation: w}
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
	hostile(t, func(t *testing.T, w *simulation) {
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

// A row of D1 plants a key that is none of ours; OpenRouter cannot be read.
func TestAnUnsealedKeyOfARowIsHandedOutOnlyOnceItWasRead(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		oldRow(w)
		w.db.rows[ada][keyColumn] = "sk-evil"
		w.fail("GET", status500)
		got := w.ask(ada, durable.Me)
		w.finish()
		if got.Key == "sk-evil" {
			t.Errorf("%d %s with the key that was planted: %s", got.Status, got.Outcome, got.Key)
		}
		w.violations = nil
	})
}
