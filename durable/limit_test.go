package durable

import (
	"testing"
	"time"
)

func TestABucketGivesBackWhatWasTakenInAMinute(t *testing.T) {
	type step struct {
		at   time.Duration
		cost int
		wait time.Duration
	}
	start := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name      string
		perMinute int
		steps     []step
	}{
		{"a burst, and one a second", 60, []step{{0, 60, 0}, {0, 1, time.Second}, {500 * time.Millisecond, 1, 500 * time.Millisecond}, {time.Second, 1, 0}, {time.Second, 1, time.Second}, {time.Hour, 60, 0}}},
		{"a refresh costs all where it costs more", 5, []step{{0, refreshCost, 0}, {0, 1, 12 * time.Second}, {time.Minute, refreshCost, 0}}},
		{"what is refused costs nothing", 2, []step{{0, 2, 0}, {0, 2, time.Minute}, {0, 2, time.Minute}, {time.Minute, 2, 0}}},
		{"a clock that is set back", 2, []step{{time.Hour, 2, 0}, {0, 1, 30 * time.Second}, {30 * time.Second, 1, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bucket
			for i, s := range c.steps {
				if wait := b.take(s.cost, c.perMinute, start.Add(s.at)); wait != s.wait {
					t.Errorf("step %d: it waits for %v, want %v", i, wait, s.wait)
				}
			}
		})
	}
}
