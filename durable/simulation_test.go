package durable_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/openroutertest"
	"latchkey/internal/seal"
)

// state decodes what a home has in storage.
func (w *world) state(user string) durable.State {
	var st durable.State
	if stored := w.home(user).state; stored != "" {
		if err := json.Unmarshal([]byte(stored), &st); err != nil {
			w.violated("the state of %s: %v", user, err)
		}
	}
	return st
}

// checkRest checks, once all is at rest, what must always hold.
func (w *world) checkRest() {
	for user, h := range w.homes {
		if h.state == "" {
			continue // nothing was begun; D1 may hold a row that is to be adopted
		}
		st := w.state(user)
		if st.Pending != nil || len(st.Tasks) > 0 || !h.alarm.IsZero() {
			w.violated("%s is not at rest: %s, alarm %v", user, h.state, h.alarm)
		}
		var record account.Record
		if st.Record != nil {
			record = *st.Record
		}
		w.checkKeys(user, record)
		w.checkMoney(h, record)
		w.checkTable(h, record)
	}
}

// checkKeys: at most one live key, and that is the record's.
func (w *world) checkKeys(user string, record account.Record) {
	names := map[string]int{}
	for _, c := range w.server.CallLog() {
		if c.Op == openroutertest.OpCreate {
			names[c.Name]++
		}
	}
	for name, n := range names {
		if n > 1 {
			w.violated("%d POSTs for %s", n, name)
		}
	}
	for _, key := range w.server.Keys() {
		if !key.Deleted && strings.HasPrefix(key.Name, "latchkey:"+user+":") && key.Hash != record.Hash {
			w.violated("%s has a live key that no record owns: %s", user, key.Name)
		}
	}
}

// checkMoney: what remains is what the ledger left of this quota, and nothing is
// charged that was not spent, or twice, or forgotten after it was read.
func (w *world) checkMoney(h *home, record account.Record) {
	charges := map[string]account.Credits{}
	var remaining account.Credits
	var renewed time.Time
	for _, e := range h.ledger {
		switch e.Kind {
		case account.Provision, account.Renew:
			remaining, renewed = w.settings.Policy.TotalLimit, e.At
		case account.Adjust:
			remaining -= e.Credits
		case account.Charge:
			remaining -= e.Credits
			charges[e.Hash] += e.Credits
			if e.Credits <= 0 {
				w.violated("%s was charged %s", h.user, e.Credits)
			}
		}
	}
	if remaining != record.RemainingLimit && !record.Erased {
		w.violated("%s has %s left, and by the ledger %s", h.user, record.RemainingLimit, remaining)
	}
	for _, key := range w.server.Keys() {
		if !strings.HasPrefix(key.Name, "latchkey:"+h.user+":") {
			continue
		}
		charged, spent := charges[key.Hash], account.Credits(key.Usage)
		if charged > spent {
			w.violated("%s spent %s on %s and was charged %s", h.user, spent, key.Name, charged)
		}
		// A key may be read a last time, to be settled, just when its quota ends.
		ended := w.settings.SettleAfter+w.settings.RotationOverlap > 0 && key.CreatedAt.Before(renewed)
		if charged < w.read[key.Hash] && !ended {
			w.violated("%s had spent %s on %s when it was read, and was charged %s", h.user, w.read[key.Hash], key.Name, charged)
		}
	}
}

// checkTable: D1 holds what storage holds.
func (w *world) checkTable(h *home, record account.Record) {
	row := w.db.rows[h.user]
	switch {
	case record.UserID == "" || record.Erased:
		if row != nil {
			w.violated("D1 has a row of %s, and storage has none", h.user)
		}
	case row == nil:
		w.violated("D1 has no row of %s", h.user)
	default:
		w.checkRow(row, record)
	}
	if len(w.db.ledger[h.user]) != len(h.ledger) {
		w.violated("the ledger of %s has %d entries in D1, and %d in storage", h.user, len(w.db.ledger[h.user]), len(h.ledger))
	}
	for _, e := range h.ledger {
		if row := w.db.ledger[h.user][e.Seq]; row == nil || row[3] != string(e.Kind) || row[4] != e.Credits.Float64() ||
			row[5] != e.RemainingLimit.Float64() || row[6] != e.Hash {
			w.violated("D1 has the entry %v, storage %v", row, e)
		}
	}
}

func (w *world) checkRow(row []any, record account.Record) {
	want := []any{record.UserID, record.UserName, record.Email, record.Key, record.Hash, record.TotalLimit.Float64(),
		record.RemainingLimit.Float64(), record.UsageLimit.Float64(), record.Seq}
	if !slices.Equal(row[:len(want)], want) {
		w.violated("D1 has %v, storage %v", row, want)
	}
}

// scenario leads up to a request and says what comes of it where all is well.
type scenario struct {
	name    string
	adjust  func(*world) // settings, rows; may be nil
	before  func(*world) // requests and spending that lead up to it
	want    durable.Action
	change  adminapi.Adjustment // with want adjust
	also    durable.Action      // asked for right after it; may be empty
	outcome string              // or the problem's code
	calls   []string            // at OpenRouter
	later   time.Duration       // what has to pass before the next request can work
}

const ada = "ada"

// asked sends a request and lets everything go on to its end.
func (w *world) asked(want durable.Action) *reply {
	got := w.ask(ada, want)
	w.drain()
	return got
}

func settling(w *world) { w.settings.SettleAfter = 90 * time.Second }

func smallQuota(w *world) { w.settings.Policy.TotalLimit = account.Credit }

var scenarios = []scenario{
	{name: "first key", want: durable.Me, outcome: "provisioned", calls: []string{"create"}},
	{name: "keep, nothing spent", before: func(w *world) { w.asked(durable.Me) }, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "keep", before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.4) }, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "rotate at the threshold", before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.5) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "rotate an overdrawn key", before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.9); w.spend(ada, 0.3) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "refresh", before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.2) },
		want: durable.Refresh, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "refresh without a key", want: durable.Refresh, outcome: "provisioned", calls: []string{"create"}},
	{name: "renew", adjust: smallQuota, before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.95); w.asked(durable.Me); w.spend(ada, 0.3) },
		want: durable.Me, outcome: "renewed", calls: []string{"create", "delete"}},
	{name: "exhausted", adjust: func(w *world) { smallQuota(w); w.settings.Policy.RenewAfter = 24 * time.Hour },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.95); w.asked(durable.Me) },
		want:   durable.Me, outcome: "quota_exhausted", calls: []string{"delete"}, later: 24 * time.Hour},
	{name: "the key is gone", before: func(w *world) {
		got := w.asked(durable.Me)
		w.spend(ada, 0.2)
		w.withdraw(got.Hash)
	}, want: durable.Me, outcome: "rotated", calls: []string{"get", "create", "delete"}},
	{name: "the key is disabled", before: func(w *world) {
		got := w.asked(durable.Me)
		w.spend(ada, 0.7)
		w.server.SetDisabled(got.Hash, true)
	}, want: durable.Me, outcome: "key_disabled", calls: []string{"get"}},
	{name: "the limit is lifted", before: func(w *world) {
		got := w.asked(durable.Me)
		w.server.SetLimit(got.Hash, nil)
		w.spend(ada, 3)
	}, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "the limit is raised", before: func(w *world) {
		got := w.asked(durable.Me)
		five := 5.0
		w.server.SetLimit(got.Hash, &five)
	}, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "hard cap, the last key", adjust: func(w *world) { w.settings.Policy.TotalLimit = 1.2e9; w.settings.Policy.HardCap = true },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.6); w.asked(durable.Me); w.spend(ada, 0.3) },
		want:   durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "settle", adjust: settling, before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.6) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "update", "create", "get", "delete"}},
	{name: "settle what shows up late", adjust: func(w *world) { settling(w); w.server.SetUsageLag(40 * time.Second) },
		before: func(w *world) {
			w.asked(durable.Me)
			w.spend(ada, 0.2)
			w.now = w.now.Add(time.Minute)
			w.spend(ada, 0.3)
		},
		want: durable.Refresh, outcome: "rotated", calls: []string{"get", "update", "create", "get", "delete"}},
	{name: "renew before all is settled", adjust: func(w *world) { smallQuota(w); settling(w) },
		before: func(w *world) {
			w.asked(durable.Me)
			w.spend(ada, 0.95)
			w.ask(ada, durable.Me)
			w.finish()
		},
		want: durable.Me, outcome: "renewed", calls: []string{"create", "delete", "delete"}},
	{name: "suspend", before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.2) },
		want: durable.Adjust, change: adminapi.Adjustment{Suspended: new(true)}, calls: []string{"get", "delete"}},
	{name: "suspend under SETTLE_AFTER", adjust: settling, before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.2) },
		want: durable.Adjust, change: adminapi.Adjustment{Suspended: new(true)}, calls: []string{"get", "update", "get", "delete"}},
	{name: "asked for while suspended", before: func(w *world) {
		w.asked(durable.Me)
		w.request(ada, durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{Suspended: new(true)}})
		w.drain()
	}, want: durable.Me, outcome: "suspended"},
	{name: "raise the total", before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.2); w.asked(durable.Me) },
		want: durable.Adjust, change: adminapi.Adjustment{TotalLimit: new(20 * account.Credit)}},
	{name: "set what remains", before: func(w *world) { w.asked(durable.Me) },
		want: durable.Adjust, change: adminapi.Adjustment{TotalLimit: new(5 * account.Credit), RemainingLimit: new(3 * account.Credit)}},
	{name: "erase", before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.2); w.asked(durable.Me) },
		want: durable.Erase, calls: []string{"delete"}},
	{name: "erase, and come back at once", before: func(w *world) { w.asked(durable.Me) },
		want: durable.Erase, also: durable.Me, calls: []string{"delete", "create"}},
	{name: "erase while the row is on its way to D1", before: func(w *world) { w.ask(ada, durable.Me); w.step(0); w.step(0) },
		want: durable.Erase, calls: []string{"delete"}},
	{name: "erase a user of whom nobody heard", want: durable.Erase, outcome: "not_found"},
	{name: "imported from an older table", adjust: oldRow, want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "imported, a row whose hash is another key's", adjust: func(w *world) { oldRow(w); w.db.rows[ada][4] = strings.Repeat("0", 64) },
		want: durable.Me, outcome: "kept", calls: []string{"get"}},
	{name: "imported, a row with a hash and no key", adjust: func(w *world) { oldRow(w); w.withdraw(w.db.rows[ada][4].(string)); w.db.rows[ada][3] = "" },
		want: durable.Me, outcome: "rotated", calls: []string{"create"}},
	{name: "imported, a row whose key does not open", adjust: func(w *world) {
		oldRow(w)
		w.withdraw(w.db.rows[ada][4].(string))
		w.db.rows[ada][3] = sealer.Seal("eve", seal.NewSecret("sk-or-v1-not-a-real-key"))
	}, want: durable.Me, outcome: "rotated", calls: []string{"create"}},
	{name: "imported while suspended", adjust: func(w *world) { oldRow(w); w.db.rows[ada][11] = int64(1) },
		want: durable.Me, outcome: "suspended", calls: []string{"delete"}},
	{name: "imported and rotated", adjust: func(w *world) { oldRow(w); w.spend(ada, 0.6) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "hard cap, spent at once", adjust: func(w *world) { smallQuota(w); w.settings.Policy.HardCap = true },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.95) },
		want:   durable.Me, outcome: "renewed", calls: []string{"get", "create", "delete"}},
	{name: "hard cap, the key holds more than an operator left", adjust: func(w *world) { w.settings.Policy.HardCap = true },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.1) },
		want:   durable.Adjust, change: adminapi.Adjustment{RemainingLimit: new(account.Credit / 5)}, calls: []string{"get", "delete"}},
	{name: "hard cap, the limit is raised", adjust: func(w *world) { w.settings.Policy.HardCap = true },
		before: func(w *world) {
			got := w.asked(durable.Me)
			w.spend(ada, 0.1)
			w.server.SetLimit(got.Hash, new(100.0))
		},
		want: durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "hard cap, another key would be too much", adjust: func(w *world) { holding(w); w.settings.Policy.TotalLimit = 2 * account.Credit },
		before: func(w *world) { w.asked(durable.Me); w.ask(ada, durable.Refresh); w.finish() },
		want:   durable.Refresh, outcome: "quota_exhausted", calls: []string{"get", "get", "delete"}},
	{name: "hard cap, what is not settled yet", adjust: func(w *world) { holding(w); w.settings.Policy.TotalLimit = 2 * account.Credit },
		before: func(w *world) {
			w.asked(durable.Me)
			w.spend(ada, 0.7)
			w.ask(ada, durable.Refresh)
			w.finish()
			w.spend(ada, 0.95)
		},
		want: durable.Me, outcome: "quota_exhausted", calls: []string{"get", "get", "delete"}},
	{name: "exhausted under SETTLE_AFTER", adjust: func(w *world) { smallQuota(w); holding(w) },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.95) },
		want:   durable.Me, outcome: "quota_exhausted", calls: []string{"get", "update", "get", "delete"}, later: 24 * time.Hour},
	{name: "overlap", adjust: overlapping, before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.6) },
		want: durable.Me, outcome: "rotated", calls: []string{"get", "create", "update", "get", "delete"}},
	{name: "overlap, refreshed", adjust: overlapping, before: func(w *world) {
		w.asked(durable.Me)
		w.spend(ada, 0.6)
		w.ask(ada, durable.Me)
		w.finish()
	}, want: durable.Refresh, outcome: "rotated", calls: []string{"get", "delete", "create", "update", "get", "delete"}},
	{name: "overlap, settled, capped", adjust: func(w *world) { overlapping(w); holding(w) },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.6) },
		want:   durable.Me, outcome: "rotated", calls: []string{"get", "create", "update", "get", "delete"}},
	{name: "overlap, suspended", adjust: overlapping, before: func(w *world) {
		w.asked(durable.Me)
		w.spend(ada, 0.6)
		w.ask(ada, durable.Me)
		w.finish()
	}, want: durable.Adjust, change: adminapi.Adjustment{Suspended: new(true)}, calls: []string{"get", "delete", "update", "get", "delete"}},
	{name: "the key runs out", adjust: func(w *world) { w.settings.KeyTTL = time.Hour },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.1); w.now = w.now.Add(55 * time.Minute) },
		want:   durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "the key has run out", adjust: func(w *world) { w.settings.KeyTTL = time.Hour; overlapping(w) },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.1); w.now = w.now.Add(2 * time.Hour) },
		want:   durable.Me, outcome: "rotated", calls: []string{"get", "delete", "create"}},
	{name: "a guardrail", adjust: guarded, want: durable.Me, outcome: "provisioned", calls: []string{"create", "assign"}},
	{name: "a guardrail, overlapping", adjust: func(w *world) { guarded(w); overlapping(w) },
		before: func(w *world) { w.asked(durable.Me); w.spend(ada, 0.6) },
		want:   durable.Me, outcome: "rotated", calls: []string{"get", "create", "assign", "update", "get", "delete"}},
}

// holding caps a user for certain, whatever the meter shows late.
func holding(w *world) {
	settling(w)
	w.settings.Policy.HardCap, w.settings.Policy.RenewAfter = true, 24*time.Hour
}

func guarded(w *world) { w.settings.Guardrail = w.server.AddGuardrail("class") }

func overlapping(w *world) { w.settings.RotationOverlap = 30 * time.Second }

// oldRow puts a row into D1 as an older program left it: the key unsealed, and
// no object that knows of it.
func oldRow(w *world) {
	other := newWorld(1)
	other.server = w.server
	got := other.asked(durable.Me)
	row := slices.Clone(other.db.rows[ada])
	row[3] = got.Key
	w.db.rows[ada] = row
	w.home(ada).key = got.Key
	w.home(ada).ledger = slices.Clone(other.homes[ada].ledger)
	w.db.ledger = other.db.ledger
	w.server.ResetCalls()
	w.ops = other.ops
}

// plan says which outward calls, counted from the request on, end badly.
type plan map[int]fate

// run runs a scenario under a plan with so many tabs. It returns the world at
// its end, what the tabs got, and the methods of all outward calls from the
// request on, which grow as the plan goes on with further requests.
func (s scenario) run(tabs int, p plan) (w *world, replies []*reply, methods *[]string) {
	w, methods = newWorld(1), &[]string{}
	if s.adjust != nil {
		s.adjust(w)
	}
	if s.before != nil {
		s.before(w)
	}
	w.server.ResetCalls()
	first := w.calls - len(w.waiting) // what has not left yet may still end badly
	w.decide = func(c *call) fate {
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
func (s scenario) ask(w *world) *reply {
	if s.want.Shared() {
		return w.ask(ada, s.want)
	}
	return w.request(ada, durable.Request{Action: s.want, Adjustment: s.change})
}

// recover ends a run: faults stop, and the next request must work. For quotas
// and keys that are out of use on purpose, what must work is what comes after.
func (s scenario) recover(w *world) {
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
func (w *world) release(user string) {
	no := false
	w.request(user, durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{Suspended: &no}})
	w.drain()
}

// report fails the test with what happened in the world.
func (w *world) report(t *testing.T, what string) {
	t.Helper()
	if len(w.violations) > 0 {
		t.Fatalf("%s:\n%s\n\nwhat happened:\n%s", what, strings.Join(w.violations, "\n"), strings.Join(w.trace, "\n"))
	}
}

func opsOf(w *world) []string {
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
// after it included, meets every fate, and every call after that a second crash.
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
				for _, f := range fatesOf(method) {
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
