package durable_test

import (
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/openroutertest"
	"latchkey/internal/problem"
	"latchkey/internal/users"
)

// TestAWriteThatFailsMovesNoPace: that D1 has a change counts once it is written
// down. Until then the change is due, and the next request has it written again.
func TestAWriteThatFailsMovesNoPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.kept = true
		w.asked(durable.Me)
		w.now = w.now.Add(time.Minute)
		w.spend(ada, 0.1)
		w.decide = func(c *call) fault {
			if c.method == "D1" {
				w.instance(ada).readOnly = true
				w.now = w.now.Add(100 * time.Millisecond) // which D1 takes
			}
			return well
		}
		w.ask(ada, durable.Me)
		w.finish() // D1 has it, and storage does not know
		w.instance(ada).readOnly = false
		batches := w.countBatches()
		w.now = w.now.Add(time.Second)
		w.ask(ada, durable.Me)
		w.finish()
		if *batches != 1 {
			t.Errorf("the change was written %d times more, want once", *batches)
		}
		w.drain()
		w.checkRest()
		w.report(t, "after storage was mended")
	})
}

// TestABurstIsWrittenToD1Seldom: a single change is written at once; where they
// follow on one another, the row lags by no more than five seconds. Each change
// is one write to storage, and D1 adds no more than the alarm that it is written by.
func TestABurstIsWrittenToD1Seldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.settings.Policy.KeyLimit, w.kept = 5*account.Credit, true
		w.asked(durable.Me)
		w.decide = func(*call) fault { return well }
		w.lines = nil
		h := w.instance(ada)
		h.writes, h.alarms = 0, 0
		const changes, apart = 100, 250 * time.Millisecond
		for range changes {
			w.now = w.now.Add(apart)
			if !h.alarm.IsZero() && !h.alarm.After(w.now) {
				w.ring(h)
			}
			w.change(0.01)
		}
		writes := 0
		for _, line := range w.lines {
			if line.Op == "d1" {
				writes++
			}
		}
		// 25 seconds: one at once, then one each five seconds or less.
		if writes < 5 || writes > 7 {
			t.Errorf("%d changes in %v were written to D1 %d times", changes, changes*apart, writes)
		}
		if h.writes > changes+h.alarms+writes || h.alarms > writes+1 { // it is cleared once, after the first
			t.Errorf("%d changes took %d writes, and the alarm was set %d times for %d writes to D1", changes, h.writes, h.alarms, writes)
		}
		last := w.now
		for !w.inSync(ada) && h.alarm.After(w.now) {
			w.ringNext(h)
		}
		if late := w.now.Sub(last); !w.inSync(ada) || late > 5*time.Second {
			t.Errorf("the row was right %v after the last change, if at all", late)
		}
		w.drain()
		w.checkRest()
		w.report(t, "after the burst")
	})
}

// TestAFullBatchEndsTheWait: as many changes as one batch takes are all of them,
// and the one after it waits for its turn like any other.
func TestAFullBatchEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.kept = true
		w.asked(durable.Me)
		h, batches := w.instance(ada), w.countBatches()
		change := func(later time.Duration) {
			w.now = w.now.Add(later)
			w.change(0.001)
		}
		change(time.Minute) // written at once; from now on the user is busy
		*batches = 0
		for range users.MaxEntries {
			change(time.Millisecond)
		}
		if *batches > 0 {
			t.Fatalf("%d changes were written in %d batches, before it was time", users.MaxEntries, *batches)
		}
		for *batches == 0 && !h.alarm.IsZero() { // it may have been set before anything else was to be done
			w.ringNext(h)
		}
		if change(time.Millisecond); *batches != 1 {
			t.Errorf("%d changes and one more were written in %d batches", users.MaxEntries, *batches)
		}
		w.drain()
		w.checkRest()
		w.report(t, "after the burst")
	})
}

// change spends on Ada's key, and has that read.
func (w *simulation) change(credits float64) {
	w.spend(ada, credits)
	w.ask(ada, durable.Me)
	w.finish()
}

// ringNext lets the time of an alarm come, and what it is for be done.
func (w *simulation) ringNext(h *instance) {
	w.now = h.alarm
	w.ring(h)
	w.finish()
}

// countBatches counts the calls of D1 from now on. All are well.
func (w *simulation) countBatches() *int {
	batches := new(int)
	w.decide = func(c *call) fault {
		if c.method == "D1" {
			*batches++
		}
		return well
	}
	return batches
}

// inSync tells whether D1 has the latest record of a user.
func (w *simulation) inSync(user string) bool {
	row := w.db.rows[user]
	return row != nil && row[seqColumn] == w.state(user).Record.Seq
}

func TestAnObjectIsIdleAfterARequestThatItRefused(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.settings.RateLimit, w.kept = 1, true
		w.crash(ada)
		w.expect(w.asked(durable.Me), "kept")
		b := w.instance(ada).active
		before := b.idled
		w.expect(w.asked(durable.Me), problem.RateLimited)
		if b.idled != before+1 {
			t.Errorf("the runtime was told %d times that the object is idle, after a request that was refused", b.idled-before)
		}
	})
}

func TestARequestPastTheRateLimitAsksNothing(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.settings.RateLimit, w.kept = 12, true
		w.crash(ada)
		w.server.ResetCalls()
		for range 2 {
			w.expect(w.asked(durable.Me), "kept")
		}
		w.expect(w.asked(durable.Refresh), "rotated")
		before := w.server.Calls()
		for _, want := range []durable.Action{durable.Me, durable.Refresh} {
			w.expect(w.asked(want), problem.RateLimited)
		}
		if w.request(ada, durable.Request{Action: durable.Inspect}).Status != 200 {
			t.Error("an operator is kept out")
		}
		eve := w.ask("eve", durable.Me)
		w.finish()
		w.expect(eve, "provisioned")
		if after := w.server.Calls(); after[openroutertest.OpGet] != before[openroutertest.OpGet] {
			t.Errorf("the calls went from %v to %v", before, after)
		}
		w.now = w.now.Add(5 * time.Second)
		w.expect(w.asked(durable.Me), "kept")
	})
}
