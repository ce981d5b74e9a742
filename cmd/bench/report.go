package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// A measure is what is compared of two results.
type measure func(result) float64

func rate(r result) float64 { return r.known(r.rate) }
func p50(r result) float64  { return r.known(milliseconds(r.p50)) }
func p99(r result) float64  { return r.known(milliseconds(r.p99)) }
func cpu(r result) float64  { return r.known(milliseconds(r.cpu)) }

// known is the value, or not a number where no answer was right.
func (r result) known(value float64) float64 {
	if r.requests == 0 {
		return math.NaN()
	}
	return value
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// typical is the median over the rounds; not a number where there were none.
func (b *bench) typical(load, subject string, of measure) float64 {
	var all []float64
	for _, r := range b.results[load][subject] {
		all = append(all, of(r))
	}
	return median(all)
}

// ratio compares a subject with another by what both did in the same round,
// and is the median over the rounds; not a number where there were none.
func (b *bench) ratio(load, subject, other string, of measure) float64 {
	ours, theirs := b.results[load][subject], b.results[load][other]
	var all []float64
	for round := range min(len(ours), len(theirs)) {
		all = append(all, of(ours[round])/of(theirs[round]))
	}
	return median(all)
}

// firstAnswer returns the milliseconds that a fresh isolate takes to load, and to its
// first answer. The answer is the median. Loading is a small part of what workerd takes
// to start, which differs by more than that: so it is the least with the subject loaded,
// less the least with nothing.
func (b *bench) firstAnswer(subject string) (loading, first float64) {
	var blank, ready, answer []float64
	for _, one := range b.cold[subject] {
		blank = append(blank, milliseconds(one.blank))
		ready = append(ready, milliseconds(one.ready))
		answer = append(answer, milliseconds(one.first))
	}
	if len(ready) == 0 || slices.Contains(ready, 0) {
		return math.NaN(), median(answer)
	}
	return max(0, slices.Min(ready)-slices.Min(blank)), median(answer)
}

// mebibytes is not a number where there was nothing to measure.
func mebibytes(bytes int) float64 {
	if bytes == 0 {
		return math.NaN()
	}
	return float64(bytes) / (1 << 20)
}

// worst is the largest of what latchkey did in the rounds; not a number where
// there were none.
func (b *bench) worst(load string, of measure) float64 {
	worst := math.NaN()
	for i, r := range b.results[load]["latchkey"] {
		if i == 0 || of(r) > worst {
			worst = of(r)
		}
	}
	return worst
}

// median is not a number where there are no values, or one that is none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 || slices.ContainsFunc(values, math.IsNaN) {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// target is what the project wants of itself.
type target struct {
	what   string
	want   float64
	atMost bool // rather than at least
	got    float64
}

func (t target) met() bool {
	if t.atMost {
		return t.got <= t.want
	}
	return t.got >= t.want
}

func (t target) wanted() string {
	if t.atMost {
		return "≤ " + number(t.want)
	}
	return "≥ " + number(t.want)
}

func (t target) verdict() string {
	if t.met() {
		return "met"
	}
	return "MISSED"
}

// targets returns those about which this run says something.
func (b *bench) targets() []target {
	requests := func(r result) float64 {
		all := 0
		for _, n := range r.calls {
			all += n
		}
		return r.known(float64(all) / float64(r.requests))
	}
	ourLoading, ourFirst := b.firstAnswer("latchkey")
	theirLoading, theirFirst := b.firstAnswer("plain")
	all := []target{
		{"steady: throughput / plain JavaScript's", 1.5, false, b.ratio("steady", "latchkey", "plain", rate)},
		{"steady: throughput / the floor's", 0.85, false, b.ratio("steady", "latchkey", "floor", rate)},
		{"steady: throughput / workers.Serve's", 8, false, b.ratio("steady", "latchkey", "serve", rate)},
		{"steady: p99 / plain JavaScript's", 1, true, b.ratio("steady", "latchkey", "plain", p99)},
		{"changing: throughput / plain JavaScript's", 1.2, false, b.ratio("changing", "latchkey", "plain", rate)},
		{"changing: p99 / plain JavaScript's", 1, true, b.ratio("changing", "latchkey", "plain", p99)},
		{"200 tabs of one user: throughput / plain JavaScript's", 5, false, b.ratio("tabs", "latchkey", "plain", rate)},
		{"200 tabs of one user: GETs in flight at once", 1, true, b.worst("tabs", func(r result) float64 { return float64(r.most) })},
		{"kept key: OpenRouter calls for an answer", 1, true, b.worst("steady", requests)},
		{"kept key: D1 statements before the answer", 0, true, float64(b.late.statements) / float64(b.late.kept)},
		{"memory, MiB", 16, true, mebibytes(b.late.memory)},
		{"flat: memory grown by it, MiB", 1, true, b.worst("flat", func(result) float64 { return mebibytes(b.late.memory) - mebibytes(b.early.memory) })},
		{"fresh isolate, loading and first answer: time / plain JavaScript's", 4, true, (ourLoading + ourFirst) / (theirLoading + theirFirst)},
		{"fresh object, warm isolate: p50 / plain JavaScript's", 1.3, true, b.ratio("object", "latchkey", "plain", p50)},
	}
	return slices.DeleteFunc(all, func(t target) bool { return math.IsNaN(t.got) })
}

// print writes all that was measured, for reading in a terminal.
func (b *bench) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, l := range b.loads {
		if l.phase == cold {
			b.printCold(w, l)
			continue
		}
		fmt.Fprintf(w, "\n%s; connections: %d\n", l.title, l.connections)
		fmt.Fprint(w, "\treq/s\tp50, ms\tp99, ms\tCPU, ms\tlatchkey's:\treq/s\tp99\tCPU\t\n")
		for _, c := range b.subjects {
			if len(b.results[l.name][c.name]) == 0 {
				continue
			}
			fmt.Fprint(w, c.title+"\t")
			for _, of := range []measure{rate, p50, p99, cpu} {
				fmt.Fprint(w, number(b.typical(l.name, c.name, of))+"\t")
			}
			if c.name != "latchkey" {
				for _, of := range []measure{rate, p99, cpu} {
					fmt.Fprint(w, "\t× "+number(b.ratio(l.name, "latchkey", c.name, of)))
				}
				fmt.Fprint(w, "\t")
			}
			fmt.Fprintln(w)
		}
	}
	w.Flush()
	fmt.Fprintln(to)
	w = tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, t := range b.targets() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.what, t.wanted(), number(t.got), t.verdict())
	}
	w.Flush()
	for _, f := range b.faults {
		fmt.Fprintln(to, f)
	}
}

// title is what people call a subject.
func (b *bench) title(name string) string {
	for _, c := range b.subjects {
		if c.name == name {
			return c.title
		}
	}
	return name
}

// String is a line for people.
func (f fault) String() string {
	return fmt.Sprintf("WRONG: %s, %s: %d of %d answers, such as: %s", f.Subject, f.Load, f.Wrong, f.Of, f.Why)
}

func (b *bench) printCold(w io.Writer, l load) {
	fmt.Fprintf(w, "\n%s\n\tloading, ms\tfirst answer, ms\ttogether\tlatchkey's:\tfirst answer\ttogether\t\n", l.title)
	ourLoading, ourFirst := b.firstAnswer("latchkey")
	for _, c := range b.subjects {
		loading, first := b.firstAnswer(c.name)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", c.title, number(loading), number(first), number(loading+first))
		if c.name != "latchkey" {
			fmt.Fprintf(w, "\t× %s\t× %s\t", number(ourFirst/first), number((ourLoading+ourFirst)/(loading+first)))
		}
		fmt.Fprintln(w)
	}
}

// number writes a number as exactly as it is worth.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0): // such as processor time where there is no /proc
		return "–"
	case v >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
