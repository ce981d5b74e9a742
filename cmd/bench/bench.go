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

	if err := b.startAll(ctx); err != nil {
		return err
	}
	if err := b.introduce(ctx); err != nil {
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
	if !slices.ContainsFunc(b.loads, func(l load) bool { return l.phase == restarted }) {
		return nil
	}
	if err := b.startAll(ctx); err != nil {
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

func (b *bench) startAll(ctx context.Context) error {
	for _, c := range b.subjects {
		if err := c.start(ctx, b.root, false); err != nil {
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

// introduce has everybody ask for a first key whom a load takes to have one.
func (b *bench) introduce(ctx context.Context) error {
	known := b.regulars
	for _, l := range b.loads {
		if !l.unknown {
			known = append(slices.Clip(known), l.users...)
		}
	}
	slices.SortFunc(known, func(a, b user) int { return strings.Compare(a.id, b.id) })
	known = slices.Compact(known)
	for _, c := range b.subjects {
		progress("first keys for %d users of %s", len(known), c.title)
		l := load{title: "getting ready", connections: 32, outcomes: []string{"provisioned"}}
		if _, err := l.run(ctx, c, known, 0); err != nil {
			return err
		}
	}
	return nil
}

// warmUp lets the runtime compile what is used most.
func (b *bench) warmUp(ctx context.Context) error {
	for _, c := range b.subjects {
		progress("warming up %s", c.title)
		l := load{title: "warming up", connections: 32, outcomes: []string{"kept"}}
		if _, err := l.run(ctx, c, b.regulars[:warmers], b.span); err != nil {
			return err
		}
	}
	return nil
}

// turns are the subjects on which a load is put, in the order of a round:
// nobody always comes first.
func (b *bench) turns(l load, round int) iter.Seq[*subject] {
	return func(yield func(*subject) bool) {
		for i := range b.subjects {
			c := b.subjects[(i+round)%len(b.subjects)]
			if l.without != c.name && !yield(c) {
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
				} else if _, err := l.run(ctx, c, users[:1+(len(users)-1)/c.portion], 0); err != nil {
					// An object that nobody asked for ten seconds is evicted. So
					// each is asked before the span, too, and is there in it.
					return err
				}
				r, err := l.run(ctx, c, users, span)
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
			if err := c.start(ctx, b.root, true); err != nil {
				return err
			}
			c.stop()
			one := coldStart{blank: c.ready}
			if err := c.start(ctx, b.root, false); err != nil {
				return err
			}
			r, err := l.run(ctx, c, l.users[round:round+1], 0)
			if err != nil {
				return err
			}
			c.stop()
			one.ready, one.first = c.ready, r.p50
			b.cold[c.name] = append(b.cold[c.name], one)
		}
		progress("round %d of %d, %s", round+1, coldRounds, l.name)
	}
	return nil
}

// progress tells whoever waits what is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
