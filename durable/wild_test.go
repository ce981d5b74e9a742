package durable_test

import (
	"encoding/json"
	"net/http"
	"slices"
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

// This file is about answers, rows, states and clocks that make no sense.
// alter has the next call of an operation answered with a patch over the right answer.
func (w *simulation) alter(op openroutertest.Op, patch string) {
	w.server.Fail(op, openroutertest.Fault{Kind: openroutertest.KindAlter, Patch: json.RawMessage(patch)}, 1)
}

// charged is what the ledger of ada says was charged.
func (w *simulation) charged() (sum account.Credits) {
	for _, e := range w.instance(ada).ledger {
		if e.Kind == account.Charge {
			sum += e.Credits
		}
	}
	return sum
}

// withKey runs a test in a simulation in which ada has a key, and checks that all is well at its end.
func withKey(t *testing.T, test func(t *testing.T, w *simulation, key *reply)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		test(t, w, w.asked(durable.Me))
		w.drain()
		w.checkRest()
		w.report(t, t.Name())
	})
}

// expect demands an outcome or code.
func (w *simulation) expect(got *reply, want string) {
	if got.Outcome+got.Code != want {
		w.violated("got %d %s%s, want %s", got.Status, got.Outcome, got.Code, want)
	}
}

func TestAReadingThatCannotBeIsNone(t *testing.T) {
	for name, patch := range map[string]string{
		"4 million":          `{"data":{"limit":4000000,"limit_remaining":4000000}}`,
		"minus 4 million":    `{"data":{"limit_remaining":-4000000}}`,
		"1e308":              `{"data":{"limit_remaining":1e308}}`,
		"above the limit":    `{"data":{"limit_remaining":2}}`,
		"a text":             `{"data":{"limit_remaining":"0.4"}}`,
		"another key":        `{"data":{"hash":"` + strings.Repeat("0", 64) + `"}}`,
		"a limit below 0":    `{"data":{"limit":-3,"limit_remaining":-4}}`,
		"nothing of a meter": `{"data":{"limit_remaining":null,"limit":null,"hash":null}}`,
	} {
		t.Run(name, func(t *testing.T) {
			withKey(t, func(t *testing.T, w *simulation, key *reply) {
				w.spend(ada, 0.2)
				w.alter(openroutertest.OpGet, patch)
				w.expect(w.asked(durable.Me), "unmetered")
				if w.charged() != 0 {
					t.Errorf("%s were charged", w.charged())
				}
				w.expect(w.asked(durable.Me), "kept")
				if w.charged() != account.Credit/5 {
					t.Errorf("then %s were charged, want 0.2", w.charged())
				}
			})
		})
	}
}

func TestAReadingOlderThanTheLastOneChargesNothing(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.spend(ada, 0.3)
		w.asked(durable.Me)
		w.alter(openroutertest.OpGet, `{"data":{"limit_remaining":1}}`)
		w.expect(w.asked(durable.Me), "kept")
		w.expect(w.asked(durable.Me), "kept")
		if w.charged() != 3*account.Credit/10 {
			t.Errorf("0.3 were spent, and %s charged", w.charged())
		}
	})
}

func TestALimitThatIsChangedIsNoUsage(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.spend(ada, 0.1)
		for _, limit := range []float64{100, 1, 0, 5, 1} {
			w.server.SetLimit(key.Hash, &limit)
			if got := w.asked(durable.Me); limit == 0 {
				break // which empties the key: it is replaced
			} else {
				w.expect(got, "kept")
			}
		}
		if w.charged() != account.Credit/10 {
			t.Errorf("0.1 were spent, and %s charged", w.charged())
		}
	})
}

func TestAnAnswerToAnotherPOSTIsHandedToNobody(t *testing.T) {
	for name, fault := range map[string]openroutertest.Fault{
		"that of another user":  {Kind: openroutertest.KindReplay, Applied: true},
		"and nothing was made":  {Kind: openroutertest.KindReplay},
		"another name":          {Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"data":{"name":"latchkey:eve:op"}}`)},
		"another limit":         {Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"data":{"limit":100}}`)},
		"no limit":              {Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"data":{"limit":null}}`)},
		"another hash":          {Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"data":{"hash":"` + strings.Repeat("0", 64) + `"}}`)},
		"a key that is no text": {Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"key":1}`)},
	} {
		t.Run(name, func(t *testing.T) {
			withKey(t, func(t *testing.T, w *simulation, key *reply) {
				w.server.Fail(openroutertest.OpCreate, fault, 1)
				eve := w.ask("eve", durable.Me)
				w.finish()
				if eve.Status < 500 || eve.Key != "" {
					t.Errorf("eve got %d %s", eve.Status, eve.Outcome)
				}
				w.drain()
				if n := len(w.server.Live()); n != 1 {
					t.Errorf("%d keys live, want ada's alone", n)
				}
				w.asked(durable.Me)
				w.ask("eve", durable.Me)
			})
		})
	}
}

// A user's own previous answer shows a key that is deleted by now.
func TestAnAnswerToTheUsersPreviousPOSTIsHandedToNobody(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.server.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindReplay, Applied: true}, 1)
		w.expect(w.asked(durable.Refresh), problem.UpstreamUnavailable)
		w.expect(w.asked(durable.Me), "rotated")
	})
}

func TestManyRefreshesNeverCostThePresentKey(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		settling(w)
		w.crash(ada) // settings come with a new program
		refused := 0
		for range 80 {
			got := w.ask(ada, durable.Refresh)
			w.finish()
			if got.Status != 200 {
				refused++
				w.expect(got, problem.UpstreamUnavailable)
			}
			got = w.ask(ada, durable.Me)
			w.finish()
			w.expect(got, "kept")
		}
		if refused != 80-64 {
			t.Errorf("%d of 80 refreshes were refused, want those past 64", refused)
		}
	})
}

func TestTenFailedPOSTsCostOneWalk(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.ask("eve", durable.Me)
		w.decide = func(c *call) fault {
			if c.method == "POST" && c.incarnation.instance.user == ada {
				return answerLost
			}
			return well
		}
		w.ask(ada, durable.Refresh)
		w.finish()
		for range 9 {
			w.now = w.now.Add(300 * time.Millisecond)
			w.ask(ada, durable.Me)
			w.finish()
		}
		w.decide = nil
		w.server.ResetCalls()
		w.drain()
		if n := w.server.Calls()[openroutertest.OpList]; n != 1 {
			t.Errorf("%d walks, want 1", n)
		}
		if n := len(w.server.Live()); n != 1 {
			t.Errorf("%d keys live, want eve's", n)
		}
	})
}

func TestAClockThatIsSetBackDelaysNothing(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.settings.MeterInterval = time.Hour
		settling(w)
		w.crash(ada)
		w.spend(ada, 0.1)
		w.ask(ada, durable.Refresh) // leaves a key to settle in 90 s
		w.finish()
		w.now = w.now.Add(-24 * time.Hour)
		w.crash(ada)
		w.spend(ada, 0.1)
		w.server.ResetCalls()
		w.ask(ada, durable.Me)
		w.finish()
		if n := w.server.Calls()[openroutertest.OpGet]; n != 1 {
			t.Errorf("a reading of the future was used again: %d readings", n)
		}
		a := adversary{simulation: w}
		if a.pass(2 * time.Minute); !w.server.Deleted(key.Hash) {
			t.Error("a key that was to be settled in 90 s is not, after two minutes")
		}
	})
}

// The quota began while the clock was a year ahead, or so says an older row.
func TestAQuotaThatBeganInTheFutureWaitsNoLonger(t *testing.T) {
	for name, begin := range map[string]func(w *simulation){
		"the clock": func(w *simulation) {
			w.now = w.now.Add(365 * 24 * time.Hour)
			w.asked(durable.Me)
			w.now = w.now.Add(-365 * 24 * time.Hour)
		},
		"a row": func(w *simulation) {
			oldRow(w)
			w.db.rows[ada][slices.Index(columns, "created_at")] = "9999-12-31T23:59:59Z"
			w.asked(durable.Me)
		},
		"a state": func(w *simulation) {
			w.asked(durable.Me)
			w.crash(ada)
			h := w.instance(ada)
			h.state = strings.Replace(h.state, `"created_at":"2026`, `"created_at":"9999`, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			hostile(t, func(t *testing.T, w *simulation) {
				w.settings.Policy.RenewAfter, w.settings.Policy.TotalLimit = 24*time.Hour, account.Credit
				begin(w)
				remaining := account.Credits(0)
				w.request(ada, durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{RemainingLimit: &remaining}})
				w.finish()
				if got := w.asked(durable.Me); got.Status != http.StatusPaymentRequired {
					w.violated("got %d %s where nothing remains", got.Status, got.body)
				}
				w.crash(ada)
				w.now = w.now.Add(24 * time.Hour)
				w.expect(w.asked(durable.Me), "renewed")
			})
		})
	}
}

func TestAClockThatIsBehindForOneRequestRenewsNothingEarly(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		w.settings.Policy.RenewAfter = 720 * time.Hour
		w.asked(durable.Me)
		w.patch(adminapi.Adjustment{RemainingLimit: new(account.Credits)})
		for _, hop := range []time.Duration{-720 * time.Hour, 720*time.Hour + time.Second} {
			w.now = w.now.Add(hop)
			w.crash(ada)
			if got := w.one(durable.Me); got.Status != http.StatusPaymentRequired {
				w.violated("after %v it is %d %s", hop, got.Status, got.body)
			}
		}
	})
}

// The row is looked at for a minute after an erasure, and not until the clock is there again.
func TestAnErasureWhileTheClockWasAheadComesToRest(t *testing.T) {
	hostile(t, func(t *testing.T, w *simulation) {
		w.asked(durable.Me)
		w.now = w.now.Add(365 * 24 * time.Hour)
		w.one(durable.Erase)
		w.now = w.now.Add(-365 * 24 * time.Hour)
		w.crash(ada)
		w.one(durable.Sync)
		erased := w.now
		before := w.instance(ada).alarms
		for a := (adversary{simulation: w}); w.now.Before(erased.Add(24 * time.Hour)); {
			a.pass(time.Hour)
		}
		if alarms := w.instance(ada).alarms - before; alarms > 5 {
			t.Errorf("%d alarms in a day", alarms)
		}
	})
}

// Ends of a key that time.Parse takes and that JSON cannot hold.
func TestAStateIsReadAgainWhateverEndAReadingTells(t *testing.T) {
	for _, end := range []string{"2027-11-21T12:00:00+24:60", "2027-11-21T12:00:00-24:60", "9999-12-31T23:59:59-23:59"} {
		t.Run(end, func(t *testing.T) {
			withKey(t, func(t *testing.T, w *simulation, key *reply) {
				w.alter(openroutertest.OpGet, `{"data":{"expires_at":"`+end+`"}}`)
				w.asked(durable.Me)
				w.drain()
				w.crash(ada)
				w.expect(w.asked(durable.Me), "kept")
			})
		})
	}
}

// A refresh says that a key may have leaked, and a suspension ends all of them:
// neither waits for the end of an overlap.
func TestAnOverlapEndsWithARefreshOrASuspension(t *testing.T) {
	for _, r := range []durable.Request{
		{Action: durable.Refresh}, {Action: durable.Adjust, Adjustment: adminapi.Adjustment{Suspended: new(true)}},
	} {
		withKey(t, func(t *testing.T, w *simulation, key *reply) {
			overlapping(w)
			w.crash(ada)
			w.spend(ada, 0.6)
			rotated := w.ask(ada, durable.Me)
			w.finish()
			w.expect(rotated, "rotated")
			if n := len(w.server.Live()); n != 2 {
				t.Errorf("%d keys live in the overlap", n)
			}
			w.request(ada, r)
			w.finish()
			for _, live := range w.server.Live() {
				if live.Hash == key.Hash || live.Hash == rotated.Hash {
					t.Errorf("after %s, %s is alive", r.Action, live.Name)
				}
			}
		})
	}
}

func TestARefusedDeletionLeavesTheKeyInUse(t *testing.T) {
	for _, settle := range []bool{false, true} {
		for _, f := range []fault{refused400, refused401, refused403, status429} {
			withKey(t, func(t *testing.T, w *simulation, key *reply) {
				if settle {
					settling(w)
					w.crash(ada)
				}
				w.spend(ada, 0.6)
				w.decide = func(c *call) fault {
					if c.method == "DELETE" || c.method == "PATCH" {
						return f
					}
					return well
				}
				got := w.asked(durable.Me)
				if w.expect(got, "kept"); got.Key != key.Key {
					t.Errorf("%s: another key", f)
				}
				if got := w.ask(ada, durable.Refresh); got.Status == 200 {
					t.Errorf("%s: the refresh got %d", f, got.Status)
				}
				w.finish()
				w.decide = nil
				w.expect(w.asked(durable.Me), "rotated")
			})
		}
	}
}

// What an outage of OpenRouter's management answers is no word about our key.
func TestAnOutageThatAnswers401LeavesTheKeyInUse(t *testing.T) {
	for _, f := range []fault{refused400, refused401, refused403} {
		withKey(t, func(t *testing.T, w *simulation, key *reply) {
			w.decide = func(c *call) fault {
				if c.method == "D1" {
					return well
				}
				return f
			}
			w.expect(w.asked(durable.Me), "unmetered")
			w.decide = nil
		})
	}
}

func TestAKeyPastItsEndIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.settings.KeyTTL = time.Minute
		w.asked(durable.Me)
		w.now = w.now.Add(time.Hour)
		w.fail("GET", status500)
		w.expect(w.asked(durable.Me), problem.UpstreamUnavailable)
		w.decide = nil
		w.expect(w.asked(durable.Me), "rotated")
		w.report(t, "after the outage")
	})
}

func TestTheLedgerTellsEveryCreditThatAnOperatorGrants(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		adjust := func(a adminapi.Adjustment, want ...string) {
			t.Helper()
			before := len(w.instance(ada).ledger)
			w.request(ada, durable.Request{Action: durable.Adjust, Adjustment: a})
			w.drain()
			var got []string
			for _, e := range w.instance(ada).ledger[before:] {
				got = append(got, string(e.Kind)+" "+e.Credits.String()+" "+e.RemainingLimit.String())
			}
			if strings.Join(got, ", ") != strings.Join(want, ", ") {
				t.Errorf("the ledger has %q, want %q", got, want)
			}
		}
		adjust(adminapi.Adjustment{TotalLimit: new(20 * account.Credit)}, "adjust -10 20")
		adjust(adminapi.Adjustment{RemainingLimit: new(5 * account.Credit)}, "adjust 15 5")
		adjust(adminapi.Adjustment{TotalLimit: new(30 * account.Credit), RemainingLimit: new(5 * account.Credit)}, "adjust -10 15", "adjust 10 5")
		adjust(adminapi.Adjustment{TotalLimit: new(account.MaxCredits)}, "adjust -3999970 3999975")
		adjust(adminapi.Adjustment{TotalLimit: new(account.Credits)}, "adjust 4000000 -25")
		adjust(adminapi.Adjustment{TotalLimit: new(account.Credits)})
	})
}

// damagedStates are states that nobody here writes.
var damagedStates = map[string]string{
	"no JSON":            `{"record":`,
	"an empty list":      `[]`,
	"credits in words":   `{"record":{"user_id":"ada","total_limit":"ten","seq":3}}`,
	"1e308 credits":      `{"record":{"user_id":"ada","remaining_limit":1e308,"seq":3}}`,
	"a time of no year":  `{"record":{"user_id":"ada","created_at":"yesterday"}}`,
	"chores of no kind":  `{"chores":7}`,
	"something after it": `{} {}`,
}

func TestADamagedStateIsShownAndCanBeErased(t *testing.T) {
	for name, state := range damagedStates {
		t.Run(name, func(t *testing.T) {
			withKey(t, func(t *testing.T, w *simulation, key *reply) {
				w.crash(ada)
				w.instance(ada).state = state
				for _, want := range []durable.Action{durable.Me, durable.Refresh} {
					w.expect(w.asked(want), problem.Internal)
				}
				w.instance(ada).alarm = w.now
				w.drain() // an alarm does not ring on and on
				eve := w.ask("eve", durable.Me)
				w.drain()
				w.expect(eve, "provisioned")
				if got := w.request(ada, durable.Request{Action: durable.Inspect}); got.Status != 200 || !strings.Contains(got.body, `"damaged":"`) {
					t.Errorf("it is shown as %d %s", got.Status, got.body)
				}
				if got := w.request(ada, durable.Request{Action: durable.Owns, Hash: key.Hash}); got.Status == 200 {
					t.Errorf("whether the key is known: %s", got.body)
				}
				got := w.request(ada, durable.Request{Action: durable.Erase})
				if w.drain(); got.Status != 202 {
					t.Errorf("erased: %d", got.Status)
				}
				if !w.server.Deleted(key.Hash) {
					t.Error("the key is left alive")
				}
				w.instance(ada).ledger = nil // whose numbers go on by more than one
				w.db.ledger[ada] = nil
				w.expect(w.asked(durable.Me), "provisioned")
			})
		})
	}
}
