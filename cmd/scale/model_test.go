package main

import (
	"math"
	"testing"
	"time"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within*want {
		t.Errorf("%s: %v, want %v within %v %%", what, got, want, within*100)
	}
}

// Where the arithmetic is simple, the model comes to the same.
func TestEachWallBoundsWhatItShould(t *testing.T) {
	const ms = time.Millisecond
	kept := []kind{{part: 1, calls: 1}}
	for _, c := range []struct {
		name string
		p    params
		rate float64 // answers a second
		p50  time.Duration
	}{
		{"nothing but OpenRouter", params{connections: 30, users: 100, kinds: kept, openRouter: 150 * ms}, 200, 150 * ms},
		{"three calls, one after the other", params{connections: 30, users: 100, kinds: []kind{{part: 1, calls: 3}}, openRouter: 100 * ms}, 100, 300 * ms},
		{"a thread", params{connections: 200, users: 100, kinds: []kind{{part: 1, calls: 1, cpu: 2 * ms}}, openRouter: 100 * ms}, 500, 400 * ms},
		{"two threads", params{connections: 200, users: 100, isolates: 2, kinds: []kind{{part: 1, calls: 1, cpu: 2 * ms}}, openRouter: 100 * ms}, 1000, 200 * ms},
		{"D1's writer, asked before and after", params{connections: 32, users: math.MaxInt, kinds: []kind{{part: 1, lookup: true, calls: 1, write: true}}, openRouter: 150 * ms, d1Busy: 20 * ms}, 25, 1280 * ms},
		{"two databases", params{connections: 32, users: math.MaxInt, databases: 2, kinds: []kind{{part: 1, lookup: true, calls: 1, write: true}}, openRouter: 150 * ms, d1Busy: 20 * ms}, 50, 640 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.p.span, c.p.seed = 100*time.Second, 1
			r := run(c.p)
			near(t, "answers a second", r.rate, c.rate, 0.03)
			near(t, "p50, s", r.p50.Seconds(), c.p50.Seconds(), 0.05)
		})
	}
}

func TestOpenRouterRefusesWhatIsAboveItsLimit(t *testing.T) {
	r := run(params{rate: 200, users: 100, kinds: []kind{{part: 1, calls: 1}}, openRouter: 150 * time.Millisecond, openRouterLimit: 50, span: time.Minute, seed: 1})
	near(t, "part refused", r.refused, 0.75, 0.03)
	near(t, "answers a second", r.rate, 200, 0.03)
}

func TestChangesOfAUserAreWrittenOncePerInterval(t *testing.T) {
	p := params{
		connections: 1, users: 1, kinds: []kind{{part: 1, calls: 1, write: true}}, openRouter: 100 * time.Millisecond,
		d1Busy: 50 * time.Millisecond, d1Interval: 5 * time.Second, span: 100 * time.Second,
	}
	near(t, "part of the time that D1 is busy", run(p).writer, 0.01, 0.05)
	p.d1Interval = 0
	near(t, "the same without an interval", run(p).writer, 0.5, 0.05)
}

func TestD1LagsWhereItsWriterIsNotEnough(t *testing.T) {
	p := params{rate: 100, users: math.MaxInt, kinds: []kind{{part: 1, calls: 1, write: true}}, openRouter: 100 * time.Millisecond, span: 100 * time.Second, seed: 1}
	p.d1Busy = 5 * time.Millisecond
	if r := run(p); r.lag > time.Second {
		t.Errorf("at half of what the writer can, D1 lags by %v", r.lag)
	}
	p.d1Busy = 20 * time.Millisecond
	if r := run(p); r.lag < 30*time.Second || r.writer < 0.99 {
		t.Errorf("at twice of what the writer can, D1 lags by %v, and its writer is busy for %v", r.lag, r.writer)
	}
}

func TestObjectsLeaveMemory(t *testing.T) {
	p := params{rate: 100, users: math.MaxInt, kinds: []kind{{part: 1, calls: 1}}, openRouter: time.Second, idle: 9 * time.Second, span: 100 * time.Second, seed: 1}
	near(t, "objects", float64(run(p).objects), 1000, 0.1)
}

func TestTheSameSeedSaysTheSame(t *testing.T) {
	p := production(1e6)
	if a, b := run(p), run(p); a != b {
		t.Errorf("%+v and %+v", a, b)
	}
}

// What was measured where a few users ran into small walls, the model says within
// 15 %.
func TestTheModelSaysWhatWasMeasured(t *testing.T) {
	all, err := check("testdata/measured.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		near(t, c.wall+", "+c.measure, c.modelled, c.measured, 0.15)
	}
}

func TestPartsOfTheMixAreAllRequests(t *testing.T) {
	for name, kinds := range map[string][]kind{"as deployed": kinds(), "read once an hour": readSeldom()} {
		sum := 0.0
		for _, k := range kinds {
			sum += k.part
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("%s: the parts add up to %v", name, sum)
		}
	}
}
