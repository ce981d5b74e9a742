package main

import (
	"fmt"
	"io"
	"strings"
)

// This file counts what Cloudflare bills, and multiplies it by the prices.

// A billedCase is one kind of answer.
type billedCase struct {
	name, title string
	part        float64 // of all answers, as the model of docs/scale.md has it
	load        load
}

// billedAnswers is how many there are of each kind: enough for what is done for
// some of them only, and few enough to count.
const billedAnswers = 1000

func billedCases() []billedCase {
	users := func(name string, count int) []user { return newUsers("bill-"+name, count) }
	return []billedCase{
		{"kept", "kept, nothing spent", 0.60, load{users: users("kept", billedAnswers), outcomes: []string{"kept"}}},
		{"changing", "kept, a charge", 0.357, load{users: users("changing", billedAnswers), outcomes: []string{"kept"}, spend: 1e-6}},
		{"burst", "the same, of users who ask several times a second", 0, load{users: repeated(users("burst", billedAnswers/20), 20), outcomes: []string{"kept"}, spend: 1e-6}},
		{"rotation", "rotation", 0.042, load{users: users("rotation", billedAnswers), outcomes: []string{"rotated"}, spend: 0.6}},
		{"first", "first key", 0.001, load{users: users("first", billedAnswers), outcomes: []string{"provisioned"}, unknown: true}},
	}
}

// repeated has users come in turns.
func repeated(users []user, times int) (all []user) {
	for range times {
		all = append(all, users...)
	}
	return all
}

func billLoads() []load {
	var all []load
	for _, c := range billedCases() {
		l := c.load
		l.name, l.title = "bill/"+c.name, "bill: "+c.title
		l.phase, l.connections, l.once, l.extra = billed, 32, true, true
		l.without = []string{"floor", "serve"}
		all = append(all, l)
	}
	return all
}

// answersAMonth is how many a user gets, of those who ever had a key: a fifth of
// them are active on a day, and ask ten times.
const answersAMonth = 60

const (
	planPrice = 5.0   // USD a month
	objectGB  = 0.128 // an object's memory is billed as so much
	// eventBytes is Cloudflare's average of an event in the log. Our lines are a
	// twentieth of it; how much Cloudflare adds to them is not published.
	eventBytes = 4840
)

// prices are those of the Workers Paid plan from December 2026 on, in USD;
// docs/scale.md names the page of each, and its date.
var prices = []struct {
	what     string
	count    func(u usage) float64
	unit     float64 // what the price is for
	price    float64
	included float64 // a month
}{
	{"requests", func(u usage) float64 { return float64(u.Answers) }, 1e6, 0.30, 10e6},
	{"object requests", func(u usage) float64 { return float64(u.Objects) }, 1e6, 0.15, 1e6},
	{"object duration", func(u usage) float64 { return u.Seconds * objectGB }, 1e6, 12.50, 0.4e6},
	{"object rows", func(u usage) float64 { return float64(u.ObjectWritten) }, 1e6, 1.00, 50e6},
	{"D1 rows", func(u usage) float64 { return float64(u.D1Written) }, 1e6, 1.00, 50e6},
	{"rows read", func(u usage) float64 { return float64(u.ObjectRead + u.D1Read) }, 1e6, 0.001, 25e9},
	{"log, taken in", func(u usage) float64 { return float64(u.Lines) * eventBytes }, 1e9, 0.25, 50e9},
	{"log, kept for 7 days", func(u usage) float64 { return float64(u.Lines) * eventBytes * 7 / 30 }, 1e9, 0.10, 12e9},
}

// share is a kind of answer, and how many of all answers are of it.
type share struct {
	part float64
	used usage
}

// monthly returns USD a month for so many answers of a mix, the plan included, and
// how much of it the log is when sampling keeps that part of it.
func monthly(answers float64, mix []share, sampling float64) (sum, log float64) {
	sum = planPrice
	for _, p := range prices {
		count := 0.0
		for _, s := range mix {
			count += answers * s.part * p.count(s.used) / float64(s.used.Answers)
		}
		isLog := strings.HasPrefix(p.what, "log")
		if isLog {
			count *= sampling
		}
		cost := max(0, count-p.included) / p.unit * p.price
		sum += cost
		if isLog {
			log += cost
		}
	}
	return sum, log
}

// used adds up what the rounds of a load used.
func (b *bench) used(load, subject string) (all usage) {
	for _, r := range b.results[load][subject] {
		all.add(r.used)
	}
	return all
}

// billTable is what was counted, and what it costs.
func (b *bench) billTable() (string, error) {
	var m strings.Builder
	b.writeCounts(&m)
	b.writeDollars(&m)
	machine, err := machine(b.root)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&m, "\nCounted on %s: %d answers of each kind. OpenRouter answers %s after a call, and D1 after %s.\n", machine, billedAnswers, openRouterAway, d1Away)
	return m.String(), nil
}

// writeCounts writes what 1,000 answers of each kind use.
func (b *bench) writeCounts(to io.Writer) {
	fmt.Fprint(to, "| 1,000 answers | by | object requests | object seconds | object rows read | written | D1 calls | D1 rows read | written | log lines | KB |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range billedCases() {
		for _, s := range b.subjects {
			u := b.used("bill/"+c.name, s.name)
			if u.Answers == 0 {
				continue
			}
			fmt.Fprintf(to, "| %s | %s |", c.title, s.title)
			for _, count := range []float64{float64(u.Objects), u.Seconds, float64(u.ObjectRead), float64(u.ObjectWritten), float64(u.D1Calls), float64(u.D1Read), float64(u.D1Written), float64(u.Lines), float64(u.Bytes) / 1000} {
				fmt.Fprintf(to, " %s |", number(u.per1000(count)))
			}
			fmt.Fprintln(to)
		}
	}
}

// writeDollars writes what a month costs, by the number of users.
func (b *bench) writeDollars(to io.Writer) {
	fmt.Fprint(to, "\n| USD a month, if all answers are | by | 1,000 users | 100,000 | 10 million |\n|---|---|---|---|---|\n")
	line := func(title, by string, mix []share, sampling float64) {
		fmt.Fprintf(to, "| %s | %s |", title, by)
		for _, users := range []float64{1e3, 1e5, 1e7} {
			sum, log := monthly(users*answersAMonth, mix, sampling)
			fmt.Fprintf(to, " %.0f", sum)
			if log >= 0.5 {
				fmt.Fprintf(to, ", %.0f of it for the log", log)
			}
			fmt.Fprint(to, " |")
		}
		fmt.Fprintln(to)
	}
	for _, s := range b.subjects {
		var mix []share
		for _, c := range billedCases() {
			if u := b.used("bill/"+c.name, s.name); u.Answers > 0 {
				line(c.title, s.title, []share{{1, u}}, 1)
				mix = append(mix, share{c.part, u})
			}
		}
		if len(mix) < len(billedCases()) {
			continue // not all was asked for
		}
		line("**the mix**", s.title, mix, 1)
		line("**the mix**, 1 % of the log kept", s.title, mix, 0.01)
	}
}
