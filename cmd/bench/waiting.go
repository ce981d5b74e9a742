package main

import (
	"fmt"
	"strings"
	"time"
)

// This file measures how long a user waits where OpenRouter and D1 are as far away
// as in production: what counts there is how many calls come one after the other.

// A waitingCase is one thing that a user waits for.
type waitingCase struct {
	name, title string
	calls       int     // of OpenRouter before the answer, as the contract wants them
	d1          int     // of D1 before latchkey's answer
	plainD1     int     // and before plain JavaScript's
	goal        float64 // latchkey's p50 at one connection, divided by the sum of these calls; 0: none
	load        load
}

func waitingCases() []waitingCase {
	return []waitingCase{
		{name: "first", title: "first key", calls: 1, d1: 1, plainD1: 2, goal: 1.05, load: load{outcomes: []string{"provisioned"}, unknown: true}},
		{name: "kept", title: "kept key", calls: 1, plainD1: 2, goal: 1.03, load: load{outcomes: []string{"kept"}}},
		{name: "rotation", title: "rotation", calls: 3, plainD1: 2, goal: 1.05, load: load{outcomes: []string{"rotated"}, spend: 0.6}},
		{name: "refresh", title: "refresh", calls: 3, plainD1: 2, load: load{outcomes: []string{"rotated"}, refresh: true}},
		{name: "renewal", title: "renewal", calls: 1, plainD1: 2, load: load{outcomes: []string{"renewed"}, drained: true}},
	}
}

// waitingConnections are how many ask at once, and how many users each then asks for.
var waitingConnections = []struct{ connections, users int }{{1, 60}, {32, 10}}

func (c waitingCase) at(connections int) string {
	return fmt.Sprintf("waiting/%s/%d", c.name, connections)
}

// sum is what an answer takes at least: the calls that it cannot do without.
func (c waitingCase) sum() time.Duration {
	return time.Duration(c.calls)*openRouterAway + time.Duration(c.d1)*d1Away
}

// waitingLoads ask each user once: nobody's answer depends on the one before.
func waitingLoads() []load {
	var all []load
	for _, c := range waitingCases() {
		for _, at := range waitingConnections {
			l := c.load
			l.name, l.title = c.at(at.connections), fmt.Sprintf("waiting: %s", c.title)
			l.phase, l.connections, l.once, l.extra = waiting, at.connections, true, true
			l.users = newUsers(strings.ReplaceAll(l.name, "/", "-"), at.connections*at.users)
			l.without = []string{"serve"}
			if c.name != "kept" {
				l.without = append(l.without, "floor")
			}
			all = append(all, l)
		}
	}
	return all
}

// waitingTable is the table of what a user waits, with what it was measured on.
func (b *bench) waitingTable() (string, error) {
	var m strings.Builder
	fmt.Fprint(&m, "| | connections | calls that have to be, ms | p50, ms | p99, ms | plain JavaScript: p50 | p99 | floor: p50 | p50 ÷ the calls | goal | ahead of plain JavaScript, ms | D1's part of it, ms |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range waitingCases() {
		for _, at := range waitingConnections {
			load := c.at(at.connections)
			sum := milliseconds(c.sum())
			ours, theirs := b.typical(load, "latchkey", p50), b.typical(load, "plain", p50)
			goal := "–"
			if c.goal > 0 && at.connections == 1 {
				t := target{want: c.goal, atMost: true, got: ours / sum}
				goal = t.wanted() + ": " + t.verdict()
			}
			fmt.Fprintf(&m, "| %s | %d | %s | %s | %s | %s | %s | %s | %.3f | %s | %s | %s |\n", c.title, at.connections, number(sum),
				number(ours), number(b.typical(load, "latchkey", p99)), number(theirs), number(b.typical(load, "plain", p99)), number(b.typical(load, "floor", p50)),
				ours/sum, goal, number(theirs-ours), number(milliseconds(time.Duration(c.plainD1-c.d1)*d1Away)))
		}
	}
	machine, err := machine(b.root)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&m, "\nMeasured on %s. OpenRouter answers %s after a call, D1 after %s, both delayed by us, and for both alike; at one connection %d users are asked for, so that p99 is the slowest.\n",
		machine, openRouterAway, d1Away, waitingConnections[0].users)
	return m.String(), nil
}
