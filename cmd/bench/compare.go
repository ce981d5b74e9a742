package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// What one round is good to, and the median of several, as a part of the value: a
// machine that others share is no better. Of p99 it is twice as much.
const oneRound, severalRounds = 0.10, 0.04

// compared is a measure of latchkey's beside plain JavaScript's, in two runs.
type compared struct {
	load, measure  string
	before, after  float64 // medians over the rounds
	moved          bool    // beyond noise
	better, unlike bool    // unlike: one of the runs has no plain JavaScript beside it, so these are latchkey's own values
}

// compare says what of latchkey differs between two runs, for each load that is in
// both. A machine differs from one run to the next more than a program does, so
// what is compared is latchkey's value divided by plain JavaScript's of the same
// round. It moved where no round of one run comes near the range of the other's.
func compare(before, after rows) []compared {
	measures := []struct {
		name     string
		of       func(round) float64
		moreGood bool
		noise    float64
	}{
		{"req/s", func(r round) float64 { return r.Rate }, true, 1},
		{"p50", func(r round) float64 { return r.P50 }, false, 1},
		{"p99", func(r round) float64 { return r.P99 }, false, 2},
		{"CPU", func(r round) float64 { return r.CPU }, false, 1},
	}
	var all []compared
	for _, one := range before.Rows {
		if one.Subject != "latchkey" || after.of(one.Load, "latchkey") == nil {
			continue
		}
		unlike := before.of(one.Load, "plain") == nil || after.of(one.Load, "plain") == nil
		for _, m := range measures {
			a, b := values(before, one.Load, unlike, m.of), values(after, one.Load, unlike, m.of)
			if len(a) == 0 || len(b) == 0 {
				continue
			}
			c := compared{load: one.Load, measure: m.name, before: median(a), after: median(b), unlike: unlike}
			noise := m.noise * severalRounds
			if min(len(a), len(b)) == 1 {
				noise = m.noise * oneRound
			}
			c.moved = slices.Max(a)*(1+noise) < slices.Min(b) || slices.Max(b)*(1+noise) < slices.Min(a)
			c.better = c.moved && (c.after > c.before) == m.moreGood
			all = append(all, c)
		}
	}
	return all
}

// values returns a measure of latchkey's in each round: divided by plain
// JavaScript's of that round, or where there is none as it is. Rounds in which
// either is not known are left out.
func values(r rows, load string, unlike bool, of func(round) float64) []float64 {
	ours, theirs := r.of(load, "latchkey"), r.of(load, "plain")
	var all []float64
	for i := range ours {
		value := of(ours[i])
		if !unlike {
			if i >= len(theirs) {
				break
			}
			value /= of(theirs[i])
		}
		if value > 0 && !math.IsInf(value, 0) {
			all = append(all, value)
		}
	}
	return all
}

// printCompared writes what moved, and then what did not.
func printCompared(to io.Writer, before, after rows) {
	fmt.Fprintf(to, "before: %s\nafter:  %s\n\n", before.Machine, after.Machine)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "load\tmeasure\tbefore\tafter\tafter ÷ before\t")
	all := compare(before, after)
	slices.SortStableFunc(all, func(a, b compared) int {
		switch {
		case a.moved == b.moved:
			return 0
		case a.moved:
			return -1
		}
		return 1
	})
	for _, c := range all {
		verdict := "within noise"
		switch {
		case c.better:
			verdict = "BETTER"
		case c.moved:
			verdict = "WORSE"
		}
		of := "÷ plain JavaScript's"
		if c.unlike {
			of = "as it is: plain JavaScript is not in both"
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%s\t%s\n", c.load, c.measure, of, number(c.before), number(c.after), number(c.after/c.before), verdict)
	}
	w.Flush()
	for _, f := range after.Faults {
		fmt.Fprintln(to, f)
	}
}
