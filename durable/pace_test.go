package durable_test

import (
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
)

// TestAWriteThatFailsMovesNoPace: that D1 has a change counts once it is written
// down. Until then the change is due, and the next request has it written again.
func TestAWriteThatFailsMovesNoPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		w.kept = true
		w.asked(durable.Me)
		w.now = w.now.Add(time.Minute)
		w.spend(ada, 0.1)
		w.decide = func(c *call) fate {
			if c.method == "D1" {
				w.home(ada).readOnly = true
				w.now = w.now.Add(100 * time.Millisecond) // which D1 takes
			}
			return well
		}
		w.ask(ada, durable.Me)
		w.finish() // D1 has it, and storage does not know
		batches := 0
		w.home(ada).readOnly = false
		w.decide = func(c *call) fate {
			if c.method == "D1" {
				batches++
			}
			return well
		}
		w.now = w.now.Add(time.Second)
		w.ask(ada, durable.Me)
		w.finish()
		if batches != 1 {
			t.Errorf("the change was written %d times more, want once", batches)
		}
		w.drain()
		w.checkRest()
		w.report(t, "after storage was mended")
	})
}
