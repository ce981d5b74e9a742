// Command bench measures latchkey beside other ways to do the same job: on
// workerd without wrangler, each with a stand-in for OpenRouter of its own, under
// the same loads, in turns. What it reports are ratios of what it saw in one run.
//
//	make bench
//
// It prints tables and, where all of it was asked for, draws docs/bench.svg and
// puts a table into docs/speed.md. A missed target is no failure, since machines
// are noisy; a wrong answer is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"latchkey/internal/localdev"
)

func main() {
	// SIGPIPE: whoever read our output is gone, and Go would end us on the next
	// write, leaving workerd behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := run(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "make bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	rounds := flag.Int("rounds", 3, "how often every load is put on every subject")
	span := flag.Duration("span", 3*time.Second, "for how long, each time")
	once := flag.Int("once", 10_000, "users who come once")
	only := flag.String("only", "", "subjects, comma-separated; empty: all")
	which := flag.String("loads", "", `loads, comma-separated; empty: all but "flat" ("touched" wants "first" before it)`)
	inspector := flag.Int("inspector", 0, "port of the first subject's inspector, for a profiler")
	flag.Parse()
	root, err := localdev.Root()
	if err != nil {
		return err
	}

	b := &bench{
		root: root, rounds: *rounds, span: *span, regulars: newUsers("regular", 300),
		results: map[string]map[string][]result{}, cold: map[string][]coldStart{},
	}
	if b.subjects, err = named(*only, subjects(), func(c *subject) string { return c.name }); err != nil {
		return err
	}
	offered := loads(b.regulars, newUsers("newcomer", *once))
	if *which == "" {
		offered = slices.DeleteFunc(offered, func(l load) bool { return l.extra })
	}
	if b.loads, err = named(*which, offered, func(l load) string { return l.name }); err != nil {
		return err
	}
	b.subjects[0].inspector = *inspector

	all := *only == "" && *which == ""
	page := filepath.Join(root, "docs", "speed.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	if _, err := replaceTable(string(text), ""); all && err != nil { // now, rather than after ten minutes
		return fmt.Errorf("docs/speed.md: %w", err)
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.print(os.Stdout)
	if !all {
		return nil
	}
	if err := b.writeChart(filepath.Join(root, "docs", "bench.svg")); err != nil {
		return err
	}
	table, err := b.markdown()
	if err != nil {
		return err
	}
	if text, err = os.ReadFile(page); err != nil { // it may have changed meanwhile
		return err
	}
	updated, err := replaceTable(string(text), table)
	if err != nil {
		return fmt.Errorf("docs/speed.md: %w", err)
	}
	return os.WriteFile(page, []byte(updated), 0o644)
}

// named returns those of which a comma-separated list holds the name; all of
// them where it is empty.
func named[T any](list string, all []T, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var found []T
	for wanted := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(one T) bool { return name(one) == wanted })
		if i < 0 {
			return nil, fmt.Errorf("there is no %q", wanted)
		}
		found = append(found, all[i])
	}
	return found, nil
}

func subjects() []*subject {
	return []*subject{
		{name: "latchkey", title: "latchkey", entry: "build/deploy/worker.js", flags: []string{"no_nodejs_compat", "no_nodejs_compat_v2"}, later: 6 * time.Second, portion: 1},
		{name: "plain", title: "plain JavaScript", entry: "cmd/bench/plain/worker.mjs", portion: 1},
		{name: "floor", title: "floor", entry: "cmd/bench/floor/worker.mjs", portion: 1, noJob: true},
		{name: "serve", title: "workers.Serve", entry: "build/bench/serve/worker.mjs", portion: 20},
	}
}

func loads(regulars, newcomers []user) []load {
	// The users of the storm are not those of other loads: it leaves some of
	// them at the end of their quota.
	stormy, kept := newUsers("stormy", 300), []string{"kept"}
	return []load{
		{name: "steady", title: "steady: usage unchanged", label: "steady", connections: 32, users: regulars, outcomes: kept},
		{name: "changing", title: "changing: usage moves on every read", label: "changing", connections: 32, users: regulars, long: 4, spend: 1e-6, outcomes: kept}, // what is deferred shall be part of it
		{name: "storm", title: "rotation storm: every read finds a key used up", label: "rotation\nstorm", connections: 32,
			users: stormy, spend: 0.6, outcomes: []string{"rotated", "renewed"}, without: "floor"},
		{name: "tabs", title: "200 tabs of one user", label: "200 tabs of\none user", connections: 200, users: regulars[:1], outcomes: kept},
		{name: "flat", title: fmt.Sprintf("%d users in turns, 20 times", len(newcomers)), connections: 32, users: slices.Repeat(newcomers, 20), once: true, outcomes: kept, extra: true},
		{name: "first", title: "first keys", label: "first keys", connections: 32, users: newcomers, once: true, outcomes: []string{"provisioned"}, without: "floor", unknown: true},
		{name: "cold", title: "first answer of a fresh isolate", connections: 1, users: regulars, outcomes: kept, phase: cold},
		{name: "touched", title: fmt.Sprintf("%d users touched once", len(newcomers)), label: "touched\nonce", connections: 32,
			users: newcomers, once: true, outcomes: kept, phase: restarted, unknown: true},
		{name: "object", title: "fresh object in a warm isolate", connections: 1,
			users: regulars[warmers:], once: true, outcomes: kept, phase: restarted, without: "serve"},
	}
}
