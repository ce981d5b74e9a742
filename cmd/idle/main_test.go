package main

import "testing"

func TestWhatCannotBeMeasuredIsRefused(t *testing.T) {
	for _, c := range []struct{ count, each int }{{0, 4}, {10, 0}, {10, 51}, {1 << 40, 4}} {
		if err := run(t.Context(), c.count, c.each, 0); err == nil {
			t.Errorf("%d sockets, %d of each user, were measured", c.count, c.each)
		}
	}
}
