package percentile

import (
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred[:1], 50, 1},
		{hundred[:1], 99, 1},
		{hundred[:3], 50, 2},
		{hundred[:10], 99, 10},
		{nil, 50, 0},
	} {
		if got := Of(c.sorted, c.p); got != c.want {
			t.Errorf("of %d values the %v %% are %d, want %d", len(c.sorted), c.p, got, c.want)
		}
	}
}
