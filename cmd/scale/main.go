// Command scale says what gives way first where there are many users, by a model of
// what the walls are: OpenRouter's rate limit, D1's one writer, an isolate's thread
// and its memory.
//
//	go run ./cmd/scale
//
// First it compares the model with what `make bench BENCH="-loads walls"` measured
// where a few users run into the same walls, made small: -measured names the file.
// Then it takes the model to -users at the peak of a day, and to what could help.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	file := flag.String("measured", "cmd/scale/testdata/measured.json", "rows of make bench")
	users := flag.Float64("users", 10e6, "who ever had a key")
	flag.Parse()
	if err := report(os.Stdout, *file, *users); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func report(to io.Writer, file string, users float64) error {
	checks, err := check(file)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "wall\tmeasure\tmeasured\tmodel\tmodel ÷ measured")
	for _, c := range checks {
		fmt.Fprintf(w, "%s\t%s\t%.3g\t%.3g\t%.2f\n", c.wall, c.measure, c.measured, c.modelled, c.modelled/c.measured)
	}
	w.Flush()
	fmt.Fprintln(to)
	fmt.Fprintln(w, "users\twith\treq/s\tcalls/s to OpenRouter\trefused\tD1's writer busy\tD1 lags, s\tthread busy\tobjects in memory\tD1 is full after, days\tgives way")
	for _, n := range []float64{1e3, 1e5, 1e6, users} {
		line(w, n, "one isolate", production(n))
	}
	for _, h := range helps {
		p := production(users)
		for _, change := range h.changes {
			change(&p)
		}
		line(w, users, h.what, p)
	}
	w.Flush()
	fmt.Fprintln(to)
	for _, wall := range []string{writerWall, threadWall} {
		fmt.Fprintf(to, "%s gives way at %.1f million users.\n", wall, givesWayAt(wall)/1e6)
	}
	return nil
}

func line(w io.Writer, users float64, with string, p params) {
	r := run(p)
	fmt.Fprintf(w, "%.0f\t%s\t%.1f\t%.1f\t%.0f %%\t%.0f %%\t%.1f\t%.0f %%\t%d\t%.0f\t%s\n",
		users, with, r.rate, r.calls, 100*r.refused, 100*r.writer, r.lag.Seconds(), 100*r.thread, r.objects, fullAfter(users, p), strings.Join(broken(r), ", "))
}

// fullAfter is the days until a database has its 10 GB: 0.6 KB for each user's row,
// and the ledger, 174 bytes for each user and day.
func fullAfter(users float64, p params) float64 {
	share := users / float64(max(1, p.databases))
	return max(0, (10e9-600*share)/(174*share))
}

// givesWayAt is how many users it takes for a wall to give way by itself, to a few
// percent: for those that are no databases' there are enough databases.
func givesWayAt(wall string) float64 {
	least, most := 1e4, 1e8
	for most/least > 1.02 {
		middle := math.Sqrt(least * most)
		p := production(middle)
		if wall != writerWall {
			p.databases = 1000
		}
		if slices.Contains(broken(run(p)), wall) {
			most = middle
		} else {
			least = middle
		}
	}
	return least
}

// What production is taken to be: see the assumptions in docs/scale.md. The
// processor's time is workerd's of docs/speed.md, all of its own work included.
const (
	activeUsers  = 0.2 // of all, on a day
	answersADay  = 10  // of an active user
	peakOverMean = 4
	d1Interval   = 4500 * time.Millisecond // the mean over the users
	idle         = 10 * time.Second        // after which an object leaves memory
	maxLag       = 10 * time.Second        // the contract's
	maxObjects   = (128 - 16) << 20 / objectBytes
	// objectBytes is what an object in memory takes of an isolate's 128 MB, beside
	// the program's 16: see docs/scale.md.
	objectBytes = 2 << 10
)

func kinds() []kind {
	return []kind{
		{name: "kept", part: 0.496, cpu: 640 * time.Microsecond, calls: 1},
		{name: "joined, or refused", part: 0.11, cpu: 190 * time.Microsecond},
		{name: "charged", part: 0.35, cpu: 1150 * time.Microsecond, calls: 1, write: true},
		{name: "rotated", part: 0.041, cpu: 4160 * time.Microsecond, calls: 3, write: true},
		{name: "renewed", part: 0.002, cpu: 4160 * time.Microsecond, calls: 1, write: true},
		{name: "first", part: 0.001, cpu: 5550 * time.Microsecond, lookup: true, calls: 1, write: true},
	}
}

// readSeldom are the kinds with METER_INTERVAL="1h", as docs/scale.md has them: most
// requests find a reading that is young enough.
func readSeldom() []kind {
	all := kinds()
	all[0] = kind{name: "kept, not read", part: 0.586, cpu: 190 * time.Microsecond}
	all[2].part = 0.26
	return all
}

// production is the peak of a day of so many users, of whom none run into
// OpenRouter's limit, which is not published.
func production(users float64) params {
	return params{
		rate: users * activeUsers * answersADay / 86400 * peakOverMean, users: int(users * activeUsers), kinds: kinds(),
		openRouter: 150 * time.Millisecond, spread: 50 * time.Millisecond, d1: 45 * time.Millisecond, d1Busy: 5 * time.Millisecond, d1Interval: d1Interval,
		idle: idle, span: 2 * time.Minute, seed: 1,
	}
}

const (
	writerWall     = "D1's writer"
	threadWall     = "the thread"
	memoryWall     = "memory"
	openRouterWall = "OpenRouter's limit"
)

// broken names the walls that a run ran into.
func broken(r result) (walls []string) {
	if r.lag > maxLag {
		walls = append(walls, writerWall)
	}
	if r.thread > 0.8 {
		walls = append(walls, threadWall)
	}
	if r.objects > maxObjects {
		walls = append(walls, memoryWall)
	}
	if r.refused > 0.01 {
		walls = append(walls, openRouterWall)
	}
	if len(walls) == 0 {
		walls = append(walls, "nothing")
	}
	return walls
}

// helps is what could be turned, or built.
var helps = []struct {
	what    string
	changes []func(*params)
}{
	{"4 isolates", []func(*params){isolates(4)}},
	{"4 isolates, METER_INTERVAL=1h", []func(*params){isolates(4), func(p *params) { p.kinds = readSeldom() }}},
	{"4 isolates, D1 written once a minute", []func(*params){isolates(4), func(p *params) { p.d1Interval = time.Minute }}},
	{"4 isolates, 2 databases", []func(*params){isolates(4), databases(2)}},
	{"4 isolates, 4 databases", []func(*params){isolates(4), databases(4)}},
	{"4 isolates, 4 databases, OpenRouter at most 500 calls/s", []func(*params){isolates(4), databases(4), func(p *params) { p.openRouterLimit = 500 }}},
}

func isolates(n int) func(*params)  { return func(p *params) { p.isolates = n } }
func databases(n int) func(*params) { return func(p *params) { p.databases = n } }

// round is how a load of the benchmark went; times are in milliseconds.
type round struct {
	Requests, Refused int
	Rate, P50, P99    float64
	CPU               float64
}

// checked is a figure that was measured, and what the model says of it.
type checked struct {
	wall, measure      string
	measured, modelled float64
}

// check has the model say what was measured.
func check(file string) ([]checked, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var rows struct {
		Rows []struct {
			Load, Subject string
			Rounds        []round
		}
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	found := map[string]round{}
	for _, row := range rows.Rows {
		if wall, is := strings.CutPrefix(row.Load, "walls/"); is && len(row.Rounds) > 0 {
			found[row.Subject+" "+wall] = row.Rounds[0]
		}
	}
	for _, wanted := range []string{"plain alone", "latchkey alone", "latchkey knee", "latchkey thread", "latchkey openrouter", "latchkey d1"} {
		if found[wanted].Requests == 0 {
			return nil, fmt.Errorf("%s lacks a load of walls: %s", file, wanted)
		}
	}
	return compare(found), nil
}

// compare has the model say what was measured. It is given how many asked, and
// OpenRouter's limit; and from what was measured, what one request takes: until an
// answer where it is alone, and by how much that varies; of the processor where that
// is fully used; and of D1 where nobody else asks, which is half of what plain
// JavaScript waits longer.
func compare(measured map[string]round) []checked {
	milliseconds := func(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
	alone, cpu := measured["latchkey alone"].P50, milliseconds(measured["latchkey thread"].CPU)
	d1Busy := milliseconds((measured["plain alone"].P50 - alone) / 2)
	spread := milliseconds(measured["latchkey alone"].P99-alone) / 4 // of an exponential one, 99 % are within 4.6 of it and half within 0.7
	given := params{
		users: 512, kinds: []kind{{part: 1, cpu: cpu, calls: 1}}, openRouter: milliseconds(alone) - cpu - spread*7/10, spread: spread,
		d1Busy: d1Busy, d1Interval: d1Interval, idle: idle, span: 10 * time.Second,
	}
	kept := func(connections int, limit float64) result {
		p := given
		p.connections, p.openRouterLimit = connections, limit
		return run(p)
	}
	knee, thread, limited := kept(96, 0), kept(256, 0), kept(32, 100)
	first := given
	first.connections, first.requests, first.span = 32, measured["latchkey d1"].Requests, time.Hour
	first.users = math.MaxInt // nobody comes twice
	first.kinds = []kind{{part: 1, cpu: cpu, lookup: true, calls: 1, write: true}}
	d1 := run(first)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	return []checked{
		{"three fifths of a thread", "req/s", measured["latchkey knee"].Rate, knee.rate},
		{"three fifths of a thread", "p50, ms", measured["latchkey knee"].P50, ms(knee.p50)},
		{"a thread", "req/s", measured["latchkey thread"].Rate, thread.rate},
		{"a thread", "p50, ms", measured["latchkey thread"].P50, ms(thread.p50)},
		{"OpenRouter's limit", "req/s", measured["latchkey openrouter"].Rate, limited.rate},
		{"OpenRouter's limit", "part refused", float64(measured["latchkey openrouter"].Refused) / float64(measured["latchkey openrouter"].Requests), limited.refused},
		{"D1's writer", "req/s", measured["latchkey d1"].Rate, d1.rate},
		{"D1's writer", "p50, ms", measured["latchkey d1"].P50, ms(d1.p50)},
	}
}
