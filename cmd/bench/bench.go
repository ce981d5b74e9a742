package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bench is one run.
type bench struct {
	root        string // of the repository
	subjects    []*subject
	loads       []load
	rounds      int
	span        time.Duration
	regulars    []user                         // who have asked before anything is measured
	results     map[string]map[string][]result // by load and subject, one for each round
	cold        map[string][]coldStart         // by subject
	early, late told                           // latchkey's log, after the first keys and at the end of the usual loads
	faults      []fault                        // in the order they were seen
}

// fault is that a subject gave wrong answers to a load. It is a line of what is
// reported and not the end of the run.
type fault struct {
	Load, Subject string // titles
	Wrong, Of     int    // requests
	Why           string // the first wrong answer
}

// warmers is how many of the regulars warm a subject up after a restart. The
// objects of the others stay fresh.
const warmers = 100

// coldRounds is how often a fresh isolate is measured.
const coldRounds = 7

// measure starts the subjects, puts the loads on them, and stops them.
func (b *bench) measure(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "latchkey-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, c := range b.subjects {
		c.state = filepath.Join(dir, c.name)
		if c.upstream, err = newUpstream(); err != nil {
			return err
		}
		defer c.upstream.close()
		defer c.stop()
	}

	if b.has(usual, cold, restarted) {
		if err := b.undelayed(ctx); err != nil {
			return err
		}
	}
	for _, p := range []phase{waiting, billed, walled} {
		if b.has(p) {
			if err := b.delayed(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) has(phases ...phase) bool {
	return slices.ContainsFunc(b.loads, func(l load) bool { return slices.Contains(phases, l.phase) })
}

// undelayed puts the loads on that want OpenRouter and D1 as near as they are.
func (b *bench) undelayed(ctx context.Context) (err error) {
	if err := b.startAll(ctx, conditions{}); err != nil {
		return err
	}
	if err := b.introduce(ctx, usual, cold, restarted); err != nil {
		return err
	}
	if b.early, err = b.latchkeysLog(); err != nil {
		return err
	}
	if err := b.warmUp(ctx); err != nil {
		return err
	}
	if err := b.interleave(ctx, usual); err != nil {
		return err
	}
	b.stopAll()
	if b.late, err = b.latchkeysLog(); err != nil {
		return err
	}
	if b.late != (told{}) && b.late.kept == 0 {
		return errors.New("latchkey's log tells of no kept key: read has to look for other lines")
	}
	for _, l := range b.loads {
		if l.phase == cold {
			if err := b.coldStarts(ctx, l); err != nil {
				return err
			}
		}
	}
	if !b.has(restarted) {
		return nil
	}
	if err := b.startAll(ctx, conditions{}); err != nil {
		return err
	}
	if err := b.warmUp(ctx); err != nil {
		return err
	}
	if err := b.interleave(ctx, restarted); err != nil {
		return err
	}
	b.stopAll()
	return nil
}

// delayed puts the loads of a phase on with its conditions, which are alike for all
// subjects that take part. OpenRouter is as near as it is until everybody has what a load takes
// them to have.
func (b *bench) delayed(ctx context.Context, p phase) error {
	given := p.conditions()
	all := b.subjects
	b.subjects = slices.DeleteFunc(slices.Clone(all), func(c *subject) bool {
		return !slices.ContainsFunc(b.loads, func(l load) bool { return l.phase == p && !slices.Contains(l.without, c.name) })
	})
	defer func() { b.subjects = all }()
	if err := b.startAll(ctx, given); err != nil {
		return err
	}
	if err := b.introduce(ctx, p); err != nil {
		return err
	}
	if err := b.drain(ctx, p); err != nil {
		return err
	}
	for _, c := range b.subjects {
		c.upstream.answerAfter(given.openRouter)
		defer c.upstream.answerAfter(0)
	}
	if err := b.warmUp(ctx); err != nil {
		return err
	}
	if err := b.interleave(ctx, p); err != nil {
		return err
	}
	b.stopAll()
	return nil
}

// latchkeysLog returns what latchkey's log tells so far; nothing where latchkey
// does not take part.
func (b *bench) latchkeysLog() (told, error) {
	for _, c := range b.subjects {
		if c.name != "latchkey" {
			continue
		}
		t, err := c.read()
		if err == nil && t.memory == 0 {
			err = errors.New("latchkey's log tells nothing of its memory: read has to look for other lines")
		}
		return t, err
	}
	return told{}, nil
}

func (b *bench) startAll(ctx context.Context, given conditions) error {
	for _, c := range b.subjects {
		if err := c.start(ctx, b.root, given); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) stopAll() {
	for _, c := range b.subjects {
		c.stop()
	}
}

// introduce has everybody ask for a first key whom a load of these phases takes to
// have one.
func (b *bench) introduce(ctx context.Context, phases ...phase) error {
	for _, c := range b.subjects {
		known := slices.Clone(b.regulars)
		for _, l := range b.loads {
			if slices.Contains(phases, l.phase) && !l.unknown && !slices.Contains(l.without, c.name) {
				known = append(known, l.users...)
			}
		}
		slices.SortFunc(known, func(a, b user) int { return strings.Compare(a.id, b.id) })
		known = slices.Compact(known)
		progress("first keys for %d users of %s", len(known), c.title)
		l := load{title: "getting ready", connections: 32, outcomes: []string{"provisioned", "kept"}} // kept: the regulars, where there were loads before
		if _, err := b.put(ctx, l, c, known, 0); err != nil {
			return err
		}
	}
	return nil
}

// drain has everybody spend a whole quota whom a load of the phase takes to have
// done so: with each reading, all that a key holds.
func (b *bench) drain(ctx context.Context, p phase) error {
	for _, l := range b.loads {
		if l.phase != p || !l.drained {
			continue
		}
		for c := range b.turns(l, 0) {
			progress("%d users of %s spend their quotas", len(l.users), c.title)
			spend := load{title: "spending a quota", connections: min(32, len(l.users)), spend: keyLimit, outcomes: []string{"rotated"}}
			if _, err := b.put(ctx, spend, c, slices.Repeat(l.users, totalLimit/keyLimit), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// What a key holds, and a quota, in credits: the defaults of latchkey's settings,
// which all subjects have.
const keyLimit, totalLimit = 1, 10

// warmUp lets the runtime compile what is used most.
func (b *bench) warmUp(ctx context.Context) error {
	for _, c := range b.subjects {
		progress("warming up %s", c.title)
		l := load{title: "warming up", connections: 32, outcomes: []string{"kept"}}
		if _, err := b.put(ctx, l, c, b.regulars[:warmers], b.span); err != nil {
			return err
		}
	}
	return nil
}

// put puts a load on a subject, and keeps in mind what went wrong.
func (b *bench) put(ctx context.Context, l load, c *subject, users []user, span time.Duration) (result, error) {
	r, err := l.run(ctx, c, users, span)
	if r.wrong > 0 {
		b.faults = append(b.faults, fault{l.title, c.title, r.wrong, r.wrong + r.requests, r.why})
	}
	return r, err
}

// turns are the subjects on which a load is put, in the order of a round:
// nobody always comes first.
func (b *bench) turns(l load, round int) iter.Seq[*subject] {
	return func(yield func(*subject) bool) {
		for i := range b.subjects {
			c := b.subjects[(i+round)%len(b.subjects)]
			if !slices.Contains(l.without, c.name) && !yield(c) {
				return
			}
		}
	}
}

// interleave puts the loads of a phase on the subjects in turns: what slows
// the machine down for a while slows them all.
func (b *bench) interleave(ctx context.Context, phase phase) error {
	for round := range b.rounds {
		for _, l := range b.loads {
			if l.phase != phase {
				continue
			}
			line := fmt.Sprintf("round %d of %d, %s:", round+1, b.rounds, l.name)
			for c := range b.turns(l, round) {
				users, span := l.users, b.span*time.Duration(max(l.long, 1))
				if l.once {
					users, span = part(l.users[:len(l.users)/c.portion], round, b.rounds), 0
				} else if _, err := b.put(ctx, l, c, users[:1+(len(users)-1)/c.portion], 0); err != nil {
					// An object that nobody asked for ten seconds is evicted. So
					// each is asked before the span, too, and is there in it.
					return err
				}
				r, err := b.put(ctx, l, c, users, span)
				if err != nil {
					return err
				}
				if b.results[l.name] == nil {
					b.results[l.name] = map[string][]result{}
				}
				b.results[l.name][c.name] = append(b.results[l.name][c.name], r)
				line += fmt.Sprintf("  %s %.0f/s", c.title, r.rate)
			}
			progress("%s", line)
		}
	}
	return nil
}

// coldStart is how one fresh isolate came to its first answer.
type coldStart struct {
	blank time.Duration // processor time that workerd took to be ready with nothing loaded; 0 where it is not known
	ready time.Duration // and with the subject loaded
	first time.Duration // from sending the first request to having its answer
}

// coldStarts measures the first answer of fresh isolates, also in turns.
// Cloudflare loads an isolate for its first request. workerd loads it when it
// starts: its WebAssembly is compiled before anybody asks. So that time belongs
// to the answer. It is by how much more processor time workerd's main thread takes to
// be ready than that of one that is handed the same files and loads none of them:
// when both are ready differs as much, but by chance too.
func (b *bench) coldStarts(ctx context.Context, l load) error {
	for round := range coldRounds {
		for c := range b.turns(l, round) {
			if err := c.start(ctx, b.root, conditions{blank: true}); err != nil {
				return err
			}
			c.stop()
			one := coldStart{blank: c.ready}
			if err := c.start(ctx, b.root, conditions{}); err != nil {
				return err
			}
			r, err := b.put(ctx, l, c, l.users[round:round+1], 0)
			if err != nil {
				return err
			}
			c.stop()
			if r.requests == 0 {
				continue
			}
			one.ready, one.first = c.ready, r.p50
			b.cold[c.name] = append(b.cold[c.name], one)
		}
		progress("round %d of %d, %s", round+1, coldRounds, l.name)
	}
	return nil
}

// progress tells whoever waits what is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
