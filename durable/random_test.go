package durable_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
)

var (
	schedules = flag.Int("schedules", 200, "random schedules to run")
	soak      = flag.Duration("soak", 0, "run random schedules for so long instead")
	firstSeed = flag.Uint64("seed", 0, "seed of the first random schedule; 0: by the clock")
)

// TestRandomSchedules interleaves many users, tabs, operators, crashes and
// faults at random. A failure prints its seed; -seed=N -schedules=1 repeats it.
func TestRandomSchedules(t *testing.T) {
	t.Parallel()
	seed := *firstSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	began, told, done := time.Now(), time.Now(), 0
	for ; *soak == 0 && done < *schedules || time.Since(began) < *soak; done++ {
		synctest.Test(t, func(t *testing.T) {
			w := runSchedule(seed + uint64(done))
			w.report(t, fmt.Sprintf("seed %d", seed+uint64(done)))
		})
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			fmt.Printf("simulation: %d random schedules in %v, no violation\n", done+1, time.Since(began).Round(time.Second))
		}
	}
	fmt.Printf("simulation: %d random schedules from seed %d on, no violation\n", done, seed)
}

// runSchedule runs one schedule, lets the faults stop, and checks everything.
func runSchedule(seed uint64) *simulation {
	w := newSimulation(seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	policy := &w.settings.Policy
	policy.TotalLimit = account.Credits(1+rng.IntN(3)) * account.Credit
	policy.HardCap = rng.IntN(4) == 0
	if rng.IntN(3) == 0 {
		policy.RenewAfter = time.Minute
	}
	if rng.IntN(3) == 0 {
		w.settings.MeterInterval = 10 * time.Second
	}
	switch rng.IntN(4) {
	case 0:
		overlapping(w)
	case 1:
		w.settings.KeyTTL = time.Minute
	}
	if rng.IntN(4) == 0 {
		guarded(w)
	}
	if rng.IntN(3) == 0 {
		settling(w)
		w.server.SetUsageLag(time.Duration(rng.IntN(60)) * time.Second)
	}
	faulty := rng.Float64() * 0.4
	w.decide = func(c *call) fault {
		if rng.Float64() >= faulty {
			return well
		}
		faults := faultsOf(c.method)
		return faults[rng.IntN(len(faults))]
	}
	userNames := []string{"ada", "боб", "c:c", "d"}[:1+rng.IntN(4)]
	anyUser := func() string { return userNames[rng.IntN(len(userNames))] }
	for range 80 {
		switch n := rng.IntN(100); {
		case n < 20:
			for range 1 + rng.IntN(3) {
				w.ask(anyUser(), durable.Me)
			}
		case n < 23:
			w.ask(anyUser(), durable.Refresh)
		case n < 26:
			w.open(anyUser(), time.Duration(1+rng.IntN(300))*time.Second)
		case n < 60:
			if len(w.waiting) > 0 {
				w.step(rng.IntN(len(w.waiting)))
			}
		case n < 75:
			w.spend(anyUser(), float64(1+rng.IntN(40))/100)
		case n < 90:
			w.now = w.now.Add(time.Duration(rng.IntN(20_000)) * time.Millisecond)
			w.runLate()
			if h := w.firstAlarm(); h != nil && !h.alarm.After(w.now) {
				w.ring(h)
			}
		case n < 94:
			w.crash(anyUser())
		case n < 97:
			w.administer(rng, anyUser())
		default:
			w.operate(rng)
		}
	}
	w.decide = nil
	for _, key := range w.server.Keys() {
		w.server.SetDisabled(key.Hash, false)
	}
	w.drain()
	w.now = w.now.Add(policy.RenewAfter)
	for _, user := range userNames {
		w.release(user)
		for range 2 { // the first may find the key withdrawn, or the quota spent
			got := w.ask(user, durable.Me)
			w.drain()
			// A key that had to go may have to be settled first, and so may one that
			// holds more than a key that was overdrawn left. Both are once it is drained.
			for tries := 0; policy.HardCap && got.Code == "quota_exhausted" && tries < 3; tries++ {
				got = w.ask(user, durable.Me)
				w.drain()
			}
			if got.Status != 200 {
				w.violated("after all faults, %s got %d %s", user, got.Status, got.Code)
			}
			w.now = w.now.Add(policy.RenewAfter + w.settings.MeterInterval)
		}
	}
	w.checkRest()
	return w
}

// operate lets an operator do something to some key at OpenRouter.
func (w *simulation) operate(rng *rand.Rand) {
	keys := w.server.Keys()
	if len(keys) == 0 {
		return
	}
	key := keys[rng.IntN(len(keys))]
	if key.Deleted {
		return
	}
	if rng.IntN(2) == 0 {
		w.note("an operator withdraws %s", key.Name)
		w.withdraw(key.Hash)
		return
	}
	w.note("an operator sets disabled of %s to %v", key.Name, !key.Disabled)
	w.server.SetDisabled(key.Hash, !key.Disabled)
}

// administer lets an operator do something to a user here.
func (w *simulation) administer(rng *rand.Rand, user string) {
	amount := account.Credits(rng.IntN(4)) * account.Credit
	switch rng.IntN(5) {
	case 0:
		w.request(user, durable.Request{Action: durable.Erase})
	case 1:
		w.request(user, durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{TotalLimit: &amount}})
	case 2:
		w.request(user, durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{RemainingLimit: &amount}})
	case 3:
		w.request(user, durable.Request{Action: durable.Inspect})
	default:
		suspended := rng.IntN(2) == 0
		w.request(user, durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{Suspended: &suspended}})
	}
}
