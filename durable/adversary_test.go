package durable_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
)

// adversary is a user who tries to get more out of a quota than it has: any key
// that was ever handed out is spent on, up to its limit, in any order with
// reading, refreshing and waiting.
type adversary struct {
	*simulation
	rng  *rand.Rand
	keys []string // handed out so far, the latest last
}

// want asks for a key.
func (a *adversary) want(w durable.Action) *reply {
	got := a.ask(ada, w)
	a.finish()
	if got.Status == 200 && (len(a.keys) == 0 || a.keys[len(a.keys)-1] != got.Key) {
		a.keys = append(a.keys, got.Key)
	}
	return got
}

// spendOn spends on a key what it lets, at most so much.
func (a *adversary) spendOn(key string, credits float64) {
	if spent, err := a.server.SpendUpTo(key, credits); err == nil && spent > 0 {
		a.note("ada spends %v on %.16s", spent.Credits(), key)
	}
}

func (a *adversary) latest() string {
	if len(a.keys) == 0 {
		a.violated("no key was handed out")
		return ""
	}
	return a.keys[len(a.keys)-1]
}

// pass lets time pass; alarms ring when they are due.
func (a *adversary) pass(d time.Duration) {
	until, rings := a.now.Add(d), 0
	for next := a.firstAlarm(); next != nil && !next.alarm.After(until); next = a.firstAlarm() {
		if next.alarm.After(a.now) {
			a.now = next.alarm
		}
		a.runLate()
		a.ring(next)
		a.finish()
		if rings++; rings > 1000 {
			a.violated("the alarm rings again and again")
			break
		}
	}
	a.now = until
	a.runLate()
}

// cost is the most that the keys of one quota cost.
func (w *simulation) cost() (most account.Credits) {
	quota, quotas := 0, map[string]int{}
	for _, e := range w.instances[ada].ledger {
		switch e.Kind {
		case account.Provision, account.Renew:
			quota++
			quotas[e.Hash] = quota
		case account.Rotate:
			quotas[e.Hash] = quota
		}
	}
	spent := map[int]account.Credits{}
	for _, key := range w.server.Keys() {
		n := quotas[key.Hash]
		spent[n] += account.Credits(key.Usage)
		most = max(most, spent[n])
	}
	return most
}

// atRandom does anything, so many times.
func (a *adversary) atRandom(times int) {
	a.want(durable.Me)
	for range times {
		switch n := a.rng.IntN(10); {
		case n < 4:
			a.spendOn(a.latest(), []float64{1, 0.5, 0.1, float64(a.rng.IntN(1000)) / 1000}[a.rng.IntN(4)])
		case n < 5:
			a.spendOn(a.keys[a.rng.IntN(len(a.keys))], 1)
		case n < 7:
			a.want(durable.Refresh)
		case n < 9:
			a.want(durable.Me)
		default:
			a.pass(time.Duration(a.rng.Int64N(int64(a.settings.SettleAfter + a.settings.RotationOverlap + 10*time.Second))))
		}
	}
}

// refreshing empties each key and asks for another one before that shows.
func (a *adversary) refreshing(times int) {
	a.want(durable.Me)
	for range times {
		a.spendOn(a.latest(), 1)
		a.want(durable.Refresh)
	}
	a.spendOn(a.latest(), 1)
}

// spare spends all of the quota but a nano-credit more than a spent one has, and
// waits until that is known.
func (a *adversary) spare() {
	policy := a.settings.Policy
	a.want(durable.Me)
	for left := policy.TotalLimit - policy.RenewAt - 1; left > 0; left -= min(left, policy.KeyLimit*9/10) {
		a.spendOn(a.latest(), min(left, policy.KeyLimit*9/10).Float64())
		a.pass(a.settings.SettleAfter + a.settings.RotationOverlap)
		a.want(durable.Me)
	}
	a.pass(a.settings.SettleAfter + a.settings.RotationOverlap)
}

// sparing does that, and then spends what two keys hold.
func (a *adversary) sparing(int) {
	a.spare()
	for range 2 {
		a.spendOn(a.latest(), 1)
		a.want(durable.Me)
	}
}

// sparingAndRefreshing does that, and then empties keys before that shows.
func (a *adversary) sparingAndRefreshing(times int) {
	a.spare()
	a.refreshing(times)
}

// halving has each key replaced as soon as may be, and spends the rest of it
// during the overlap.
func (a *adversary) halving(times int) {
	a.want(durable.Me)
	for range times {
		key := a.latest()
		a.spendOn(key, 0.5)
		a.want(durable.Me)
		a.spendOn(key, 1)
	}
	a.spendOn(a.latest(), 1)
}

// bounds says what each combination of settings bounds a user to, in credits a
// quota, with the defaults for all else: docs/settings.md has it as a table. METER_INTERVAL
// and RENEW_AFTER change none of it; the latter bounds how many quotas there are.
var bounds = []struct {
	name     string
	hardCap  bool
	settle   bool // SETTLE_AFTER, longer than the meter is late
	overlap  bool
	late     bool    // the meter shows usage late
	bound    float64 // 0: none
	strategy func(*adversary, int)
	times    int
}{
	{"the defaults", false, false, false, false, 11.9, (*adversary).sparing, 0},
	{"the defaults, late", false, false, false, true, 0, (*adversary).refreshing, 100},
	{"HARD_CAP", true, false, false, false, 10, (*adversary).sparing, 0},
	{"HARD_CAP, late", true, false, false, true, 0, (*adversary).refreshing, 100},
	{"SETTLE_AFTER", false, true, false, false, 11.9, (*adversary).sparing, 0},
	{"SETTLE_AFTER, late", false, true, false, true, 74.9, (*adversary).sparingAndRefreshing, 100},
	{"ROTATION_OVERLAP", false, false, true, false, 21, (*adversary).halving, 20},
	{"ROTATION_OVERLAP, late", false, false, true, true, 0, (*adversary).refreshing, 100},
	{"HARD_CAP and ROTATION_OVERLAP", true, false, true, false, 10, (*adversary).sparing, 0},
	{"HARD_CAP and ROTATION_OVERLAP, late", true, false, true, true, 0, (*adversary).refreshing, 100},
	{"HARD_CAP and SETTLE_AFTER", true, true, false, false, 10, (*adversary).sparing, 0},
	{"HARD_CAP and SETTLE_AFTER, late", true, true, false, true, 10, (*adversary).refreshing, 100},
	{"SETTLE_AFTER and ROTATION_OVERLAP", false, true, true, false, 21, (*adversary).halving, 20},
	{"SETTLE_AFTER and ROTATION_OVERLAP, late", false, true, true, true, 74.9, (*adversary).sparingAndRefreshing, 100},
	{"all three", true, true, true, false, 10, (*adversary).sparing, 0},
	{"all three, late", true, true, true, true, 10, (*adversary).refreshing, 100},
}

// TestTheBoundsAreReachedAndNotPassed: the table in docs/settings.md is neither too high
// nor too low.
func TestTheBoundsAreReachedAndNotPassed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute under the race detector")
	}
	for _, c := range bounds {
		t.Run(c.name, func(t *testing.T) {
			play := func(seed uint64, strategy func(*adversary, int), times int) (cost account.Credits) {
				synctest.Test(t, func(t *testing.T) {
					w := newSimulation(seed)
					w.settings.Policy.HardCap = c.hardCap
					if c.settle {
						settling(w)
					}
					if c.overlap {
						overlapping(w)
					}
					if c.late {
						w.server.SetUsageLag(90 * time.Second)
					}
					a := &adversary{simulation: w, rng: rand.New(rand.NewPCG(seed, 2))}
					strategy(a, times)
					cost = w.cost()
					w.drain()
					cost = max(cost, w.cost())
					w.checkRest()
					w.report(t, fmt.Sprintf("%s, seed %d", c.name, seed))
				})
				return cost
			}
			most := play(1, c.strategy, c.times)
			for seed := range uint64(20) {
				most = max(most, play(seed, (*adversary).atRandom, 150))
			}
			bound, _ := account.CreditsOf(c.bound)
			switch {
			case bound == 0 && most < 5*10*account.Credit:
				t.Errorf("it costs %s at most, and is said to have no bound", most)
			case bound > 0 && most > bound:
				t.Errorf("it costs %s, more than %s", most, bound)
			case bound > 0 && most < bound-account.Credit/5:
				t.Errorf("it costs %s at most, and is said to cost up to %s", most, bound)
			}
		})
	}
}

// TestAnAdversaryFindsNoHole: under HARD_CAP with SETTLE_AFTER nobody gets more out
// of a quota than it has, whatever else is set, and whatever fails.
func TestAnAdversaryFindsNoHole(t *testing.T) {
	t.Parallel()
	seed := *firstSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for n := range uint64(*schedules) {
		synctest.Test(t, func(t *testing.T) {
			seed := seed + n
			rng := rand.New(rand.NewPCG(seed, 3))
			w := newSimulation(seed)
			holding(w)
			policy := &w.settings.Policy
			policy.TotalLimit = account.Credits(2+rng.IntN(29)) * account.Credit / 10
			policy.RenewAfter = []time.Duration{0, time.Minute, time.Hour}[rng.IntN(3)]
			w.settings.SettleAfter = time.Duration(1+rng.IntN(90)) * time.Second
			w.server.SetUsageLag(time.Duration(rng.Int64N(int64(w.settings.SettleAfter) + 1)))
			if rng.IntN(2) == 0 {
				w.settings.RotationOverlap = time.Duration(rng.IntN(60)) * time.Second
			}
			if rng.IntN(3) == 0 {
				w.settings.MeterInterval = 30 * time.Second
			}
			if rng.IntN(3) == 0 {
				w.settings.KeyTTL = time.Duration(1+rng.IntN(300)) * time.Second
			}
			if rng.IntN(4) == 0 {
				guarded(w)
			}
			if rng.IntN(2) == 0 {
				faulty := rng.Float64() * 0.2
				w.decide = func(c *call) fault {
					if faults := faultsOf(c.method); rng.Float64() < faulty {
						if f := faults[rng.IntN(len(faults))]; f != gone && f != status404 {
							return f // those two say that a key costs nothing any more
						}
					}
					return well
				}
			}
			a := &adversary{simulation: w, rng: rng}
			for range 100 { // until there is a first key
				if a.want(durable.Me).Status == 200 {
					break
				}
				a.pass(time.Second)
			}
			if len(a.keys) > 0 {
				a.atRandom(120)
			}
			w.decide = nil
			w.drain()
			if cost := w.cost(); cost > policy.TotalLimit {
				w.violated("a quota of %s cost %s", policy.TotalLimit, cost)
			}
			w.checkRest()
			w.report(t, fmt.Sprintf("seed %d", seed))
		})
	}
}
