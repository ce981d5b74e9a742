package durable_test

import (
	"fmt"
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

// scenario leads up to a request and says what comes of it where all is well.
type scenario struct {
	name    string
	adjust  func(*simulation) // settings, rows; may be nil
	before  func(*simulation) // requests and spending that lead up to it
	want    durable.Action
	change  adminapi.Adjustment // with want adjust
	also    durable.Action      // asked for right after it; may be empty
	outcome string              // or the problem's code
	calls   []string            // at OpenRouter
	later   time.Duration       // what has to pass before the next request can work
}

const ada = "ada"

// asked sends a request and lets everything go on to its end.
func (w *simulation) asked(want durable.Action) *reply {
	got := w.ask(ada, want)
	w.drain()
	return got
}

func settling(w *simulation) { w.settings.SettleAfter = 90 * time.Second }

func smallQuota(w *simulation) { w.settings.Policy.TotalLimit = account.Credit }

var scenarios = []scenario{
	{name: "first key", want: durable.Me, outcome: "provisioned", calls: []string{"create"}},
	{name: "keep, nothing spent", before: func(w *simulation) { w.asked(durable.Me) }, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "keep", before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.4) }, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "rotate at the threshold", before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.5) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "rotate an overdrawn key", before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.9); w.spend(ada, 0.3) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "refresh", before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.2) },
		want: durable.Refresh, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "refresh without a key", want: durable.Refresh, outcome: "provisioned", calls: []string{"create"}},
	{name: "renew", adjust: smallQuota, before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.95); w.asked(durable.Me); w.spend(ada, 0.3) },
		want: durable.Me, outcome: "renewed", calls: []string{"create", "delete"}},
	{name: "exhausted", adjust: func(w *simulation) { smallQuota(w); w.settings.Policy.RenewAfter = 24 * time.Hour },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.95); w.asked(durable.Me) },
		want:   durable.Me, outcome: "quota_exhausted", calls: []string{"delete"}, later: 24 * time.Hour},
	{name: "the key is gone", before: func(w *simulation) {
		got := w.asked(durable.Me)
		w.spend(ada, 0.2)
		w.withdraw(got.Hash)
	}, want: durable.Me, outcome: "rotated", calls: []string{"get", "create", "delete"}},
	{name: "the key is disabled", before: func(w *simulation) {
		got := w.asked(durable.Me)
		w.spend(ada, 0.7)
		w.server.SetDisabled(got.Hash, true)
	}, want: durable.Me, outcome: "key_disabled", calls: []string{"get"}},
	{name: "the limit is lifted", before: func(w *simulation) {
		got := w.asked(durable.Me)
		w.server.SetLimit(got.Hash, nil)
		w.spend(ada, 3)
	}, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "the limit is raised", before: func(w *simulation) {
		got := w.asked(durable.Me)
		five := 5.0
		w.server.SetLimit(got.Hash, &five)
	}, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "hard cap, the last key", adjust: func(w *simulation) { w.settings.Policy.TotalLimit = 1.2e9; w.settings.Policy.HardCap = true },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.6); w.asked(durable.Me); w.spend(ada, 0.3) },
		want:   durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "settle", adjust: settling, before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.6) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "update", "create", "get", "delete"}},
	{name: "settle what shows up late", adjust: func(w *simulation) { settling(w); w.server.SetUsageLag(40 * time.Second) },
		before: func(w *simulation) {
			w.asked(durable.Me)
			w.spend(ada, 0.2)
			w.now = w.now.Add(time.Minute)
			w.spend(ada, 0.3)
		},
		want: durable.Refresh, outcome: "rotated", calls: []string{"get", "update", "create", "get", "delete"}},
	{name: "renew before all is settled", adjust: func(w *simulation) { smallQuota(w); settling(w) },
		before: func(w *simulation) {
			w.asked(durable.Me)
			w.spend(ada, 0.95)
			w.ask(ada, durable.Me)
			w.finish()
		},
		want: durable.Me, outcome: "renewed", calls: []string{"create", "delete", "delete"}},
	{name: "suspend", before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.2) },
		want: durable.Adjust, change: adminapi.Adjustment{Suspended: new(true)}, calls: []string{"get", "delete"}},
	{name: "suspend under SETTLE_AFTER", adjust: settling, before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.2) },
		want: durable.Adjust, change: adminapi.Adjustment{Suspended: new(true)}, calls: []string{"get", "update", "get", "delete"}},
	{name: "asked for while suspended", before: func(w *simulation) {
		w.asked(durable.Me)
		w.request(ada, durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{Suspended: new(true)}})
		w.drain()
	}, want: durable.Me, outcome: "suspended"},
	{name: "raise the total", before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.2); w.asked(durable.Me) },
		want: durable.Adjust, change: adminapi.Adjustment{TotalLimit: new(20 * account.Credit)}},
	{name: "set what remains", before: func(w *simulation) { w.asked(durable.Me) },
		want: durable.Adjust, change: adminapi.Adjustment{TotalLimit: new(5 * account.Credit), RemainingLimit: new(3 * account.Credit)}},
	{name: "erase", before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.2); w.asked(durable.Me) },
		want: durable.Erase, calls: []string{"delete"}},
	{name: "erase, and come back at once", before: func(w *simulation) { w.asked(durable.Me) },
		want: durable.Erase, also: durable.Me, calls: []string{"delete", "create"}},
	{name: "erase while the row is on its way to D1", before: func(w *simulation) { w.ask(ada, durable.Me); w.step(0); w.step(0) },
		want: durable.Erase, calls: []string{"delete"}},
	{name: "erase a user of whom nobody heard", want: durable.Erase, outcome: "not_found"},
	{name: "imported from an older table", adjust: oldRow, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "imported, a row whose hash is another key's", adjust: func(w *simulation) { oldRow(w); w.db.rows[ada][4] = strings.Repeat("0", 64) },
		want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "imported, a row with a hash and no key", adjust: func(w *simulation) {
		oldRow(w)
		w.withdraw(w.db.rows[ada][hashColumn].(string))
		w.db.rows[ada][keyColumn] = ""
	},
		want: durable.Me, outcome: "rotated", calls: []string{"create"}},
	{name: "imported, a row whose key does not open", adjust: func(w *simulation) {
		oldRow(w)
		w.withdraw(w.db.rows[ada][4].(string))
		w.db.rows[ada][keyColumn] = sealer.Seal("eve", seal.NewSecret("sk-or-v1-not-a-real-key"))
	}, want: durable.Me, outcome: "rotated", calls: []string{"create"}},
	{name: "imported while suspended", adjust: func(w *simulation) { oldRow(w); w.db.rows[ada][11] = int64(1) },
		want: durable.Me, outcome: "suspended", calls: []string{"delete"}},
	{name: "imported and rotated", adjust: func(w *simulation) { oldRow(w); w.spend(ada, 0.6) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "hard cap, spent at once", adjust: func(w *simulation) { smallQuota(w); w.settings.Policy.HardCap = true },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.95) },
		want:   durable.Me, outcome: "renewed", calls: []string{"get", "create", "delete"}},
	{name: "hard cap, the key holds more than an operator left", adjust: func(w *simulation) { w.settings.Policy.HardCap = true },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.1) },
		want:   durable.Adjust, change: adminapi.Adjustment{RemainingLimit: new(account.Credit / 5)}, calls: []string{"get", "delete"}},
	{name: "hard cap, the limit is raised", adjust: func(w *simulation) { w.settings.Policy.HardCap = true },
		before: func(w *simulation) {
			got := w.asked(durable.Me)
			w.spend(ada, 0.1)
			w.server.SetLimit(got.Hash, new(100.0))
		},
		want: durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "hard cap, another key would be too much", adjust: func(w *simulation) { holding(w); w.settings.Policy.TotalLimit = 2 * account.Credit },
		before: func(w *simulation) { w.asked(durable.Me); w.ask(ada, durable.Refresh); w.finish() },
		want:   durable.Refresh, outcome: "quota_exhausted", calls: []string{"get", "get", "delete"}},
	{name: "hard cap, what is not settled yet", adjust: func(w *simulation) { holding(w); w.settings.Policy.TotalLimit = 2 * account.Credit },
		before: func(w *simulation) {
			w.asked(durable.Me)
			w.spend(ada, 0.7)
			w.ask(ada, durable.Refresh)
			w.finish()
			w.spend(ada, 0.95)
		},
		want: durable.Me, outcome: "quota_exhausted", calls: []string{"get", "get", "delete"}},
	{name: "exhausted under SETTLE_AFTER", adjust: func(w *simulation) { smallQuota(w); holding(w) },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.95) },
		want:   durable.Me, outcome: "quota_exhausted", calls: []string{"get", "update", "get", "delete"}, later: 24 * time.Hour},
	{name: "overlap", adjust: overlapping, before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.6) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "create", "update", "get", "delete"}},
	{name: "overlap, refreshed", adjust: overlapping, before: func(w *simulation) {
		w.asked(durable.Me)
		w.spend(ada, 0.6)
		w.ask(ada, durable.Me)
		w.finish()
	}, want: durable.Refresh, outcome: "rotated", calls: []string{"get", "delete", "create", "update", "get", "delete"}},
	{name: "overlap, settled, capped", adjust: func(w *simulation) { overlapping(w); holding(w) },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.6) },
		want:   durable.Me, outcome: "rotated", calls: []string{"get", "create", "update", "get", "delete"}},
	{name: "overlap, suspended", adjust: overlapping, before: func(w *simulation) {
		w.asked(durable.Me)
		w.spend(ada, 0.6)
		w.ask(ada, durable.Me)
		w.finish()
	}, want: durable.Adjust, change: adminapi.Adjustment{Suspended: new(true)}, calls: []string{"get", "delete", "update", "get", "delete"}},
	{name: "the key runs out", adjust: func(w *simulation) { w.settings.KeyTTL = time.Hour },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.1); w.now = w.now.Add(55 * time.Minute) },
		want:   durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "the key has run out", adjust: func(w *simulation) { w.settings.KeyTTL = time.Hour; overlapping(w) },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.1); w.now = w.now.Add(2 * time.Hour) },
		want:   durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "a guardrail", adjust: guarded, want: durable.Me, outcome: "provisioned", calls: []string{"create", "assign"}},
	{name: "a guardrail, overlapping", adjust: func(w *simulation) { guarded(w); overlapping(w) },
		before: func(w *simulation) { w.asked(durable.Me); w.spend(ada, 0.6) },
		want:   durable.Me, outcome: "rotated", calls: []string{"get", "create", "assign", "update", "get", "delete"}},
}

// holding caps a user for certain, whatever the meter shows late.
func holding(w *simulation) {
	settling(w)
	w.settings.Policy.HardCap, w.settings.Policy.RenewAfter = true, 24*time.Hour
}

func guarded(w *simulation) { w.settings.Guardrail = w.server.AddGuardrail("class") }

func overlapping(w *simulation) { w.settings.RotationOverlap = 30 * time.Second }

// oldRow puts a row into D1 as an older program left it: the key unsealed, and
// no object that knows of it.
func oldRow(w *simulation) {
	other := newSimulation(1)
	other.server = w.server
	got := other.asked(durable.Me)
	row := slices.Clone(other.db.rows[ada])
	row[keyColumn] = got.Key
	w.db.rows[ada] = row
	w.instance(ada).key = got.Key
	w.instance(ada).ledger = slices.Clone(other.instances[ada].ledger)
	w.db.ledger = other.db.ledger
	w.server.ResetCalls()
	w.ops = other.ops
}

// plan says which outward calls, counted from the request on, end badly.
type plan map[int]fault

// run runs a scenario under a plan with so many tabs. It returns the simulation at
// its end, what the tabs got, and the methods of all outward calls from the
// request on, which grow as the plan goes on with further requests.
func (s scenario) run(tabs int, p plan) (w *simulation, replies []*reply, methods *[]string) {
	w, methods = newSimulation(1), &[]string{}
	if s.adjust != nil {
		s.adjust(w)
	}
	if s.before != nil {
		s.before(w)
	}
	w.server.ResetCalls()
	first := w.calls - len(w.waiting) // what has not left yet may still end badly
	w.decide = func(c *call) fault {
		*methods = append(*methods, c.method)
		if f, ok := p[c.index-first]; ok {
			return f
		}
		return well
	}
	for range tabs {
		replies = append(replies, s.ask(w))
	}
	if s.also != "" {
		w.ask(ada, s.also)
	}
	w.drain()
	return w, replies, methods
}

// ask sends the scenario's request.
func (s scenario) ask(w *simulation) *reply {
	if s.want.Shared() {
		return w.ask(ada, s.want)
	}
	return w.request(ada, durable.Request{Action: s.want, Adjustment: s.change})
}

// recover ends a run: faults stop, and the next request must work. For quotas
// and keys that are out of use on purpose, what must work is what comes after.
func (s scenario) recover(w *simulation) {
	w.decide = nil
	w.now = w.now.Add(s.later)
	for _, key := range w.server.Keys() {
		w.server.SetDisabled(key.Hash, false)
	}
	w.release(ada)
	if !s.want.Shared() {
		w.asked(durable.Me) // erased or suspended, the user may be anew
	} else if got := w.asked(s.want); got.Status != 200 {
		w.violated("after all faults, a request got %d %s", got.Status, got.Code)
	}
	if got := w.asked(durable.Me); got.Status != 200 {
		w.violated("after all faults, another request got %d %s", got.Status, got.Code)
	}
	w.checkRest()
}

// release takes back what keeps a user from a key: a suspension.
func (w *simulation) release(user string) {
	no := false
	w.request(user, durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{Suspended: &no}})
	w.drain()
}

func opsOf(w *simulation) []string {
	var ops []string
	for _, c := range w.server.CallLog() {
		ops = append(ops, string(c.Op))
	}
	return ops
}

// TestEachScenarioMakesTheCallsOfTheContract: without faults, with one tab and
// with many, exactly the calls that README.md tells are sent, in that order.
func TestEachScenarioMakesTheCallsOfTheContract(t *testing.T) {
	for _, s := range scenarios {
		for _, tabs := range []int{1, 3, 100} {
			t.Run(fmt.Sprintf("%s, %d tabs", s.name, tabs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, replies, _ := s.run(tabs, nil)
					if !s.want.Shared() {
						replies = replies[:1] // the others find it done
					}
					for _, got := range replies {
						if got.Outcome+got.Code != s.outcome {
							w.violated("a tab got %d %s%s, want %s", got.Status, got.Outcome, got.Code, s.outcome)
						}
					}
					if ops := opsOf(w); !slices.Equal(ops, s.calls) {
						w.violated("calls %v, want %v", ops, s.calls)
					}
					w.checkRest()
					s.recover(w)
					w.report(t, s.name)
				})
			})
		}
	}
}

// TestExhaustive: in each scenario every outward call, those of another request
// after it included, meets every fault, and every call after that a second crash.
func TestExhaustive(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("with -short")
	}
	cases := 0
	for _, s := range scenarios {
		for _, tabs := range []int{1, 3} {
			try := func(p plan) []string {
				cases++
				var methods []string
				synctest.Test(t, func(t *testing.T) {
					w, _, called := s.run(tabs, p)
					w.checkRest()
					s.ask(w)
					w.drain()
					methods = *called
					s.recover(w)
					w.report(t, fmt.Sprintf("%s, %d tabs, plan %v", s.name, tabs, p))
				})
				return methods
			}
			for i, method := range try(nil) {
				for _, f := range faultsOf(method) {
					after := try(plan{i: f})
					for j := i + 1; j < len(after); j++ {
						for _, second := range crashes {
							try(plan{i: f, j: second})
						}
					}
				}
			}
		}
	}
	fmt.Printf("simulation: %d cases of %d scenarios enumerated, no violation\n", cases, len(scenarios))
}
