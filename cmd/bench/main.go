// Command bench measures latchkey beside other ways to do the same job: on
// workerd without wrangler, each with a stand-in for OpenRouter of its own, under
// the same loads, in turns. What it reports are ratios of what it saw in one run.
//
//	make bench
//
// It prints tables, writes what it measured into build/bench/rows.json and, where
// all of a table was asked for, puts that into its page (see tables). A missed target
// is no failure, since machines are noisy; a wrong answer of latchkey's is. Other
// subjects' wrong answers are a line of the table.
//
//	go run ./cmd/bench -compare old.json new.json
//
// says what moved between two runs.
package main

import (
	"cmp"
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
	"latchkey/internal/workerdrun"
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
	which := flag.String("loads", "", `loads, comma-separated; empty: all but "flat", "waiting", "bill" and "walls" ("touched" wants "first" before it)`)
	inspector := flag.Int("inspector", 0, "port of the first subject's inspector, for a profiler")
	file := flag.String("rows", "", "file that what was measured is written to; empty: build/bench/rows.json of the repository")
	vars := flag.String("vars", "", "settings of latchkey, as METER_INTERVAL=1h, comma-separated; no page is changed then")
	comparing := flag.Bool("compare", false, "measure nothing, and say what moved between two such files: -compare old.json new.json")
	flag.Parse()
	if *comparing {
		return compareFiles(flag.Args())
	}
	root, err := localdev.Root()
	if err != nil {
		return err
	}

	b := &bench{
		root: root, rounds: *rounds, span: *span, regulars: newUsers("regular", 300),
		results: map[string]map[string][]result{}, cold: map[string][]coldStart{},
	}
	all := subjects()
	if all[0].vars, err = parseVars(*vars); err != nil {
		return err
	}
	if b.subjects, err = named(*only, all, func(c *subject) string { return c.name }); err != nil {
		return err
	}
	offered := append(loads(b.regulars, newUsers("newcomer", *once)), waitingLoads()...)
	offered = append(append(offered, billLoads()...), wallLoads(b.regulars)...)
	if *which == "" {
		offered = slices.DeleteFunc(offered, func(l load) bool { return l.extra })
	}
	if b.loads, err = named(*which, offered, func(l load) string { return l.name }); err != nil {
		return err
	}
	b.subjects[0].inspector = *inspector

	// A table is renewed where all of it is measured.
	var renewed []table
	for _, t := range tables {
		if *only == "" && *vars == "" && *which == t.loads {
			renewed = append(renewed, t)
			if err := t.replace(root, nil); err != nil { // now, rather than after ten minutes
				return err
			}
		}
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	measured, err := b.rows()
	if err != nil {
		return err
	}
	if err := measured.write(cmp.Or(*file, filepath.Join(root, "build", "bench", "rows.json"))); err != nil {
		return err
	}
	b.print(os.Stdout)
	if b.has(billed) {
		b.writeCounts(os.Stdout)
		b.writeDollars(os.Stdout)
	}
	for _, t := range renewed {
		if err := t.replace(root, b); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(b.faults, func(f fault) bool { return f.Subject == b.title("latchkey") }) {
		return errors.New("latchkey gave wrong answers: see above")
	}
	return nil
}

// parseVars reads NAME=value,NAME=value.
func parseVars(text string) (map[string]string, error) {
	vars := map[string]string{}
	if text == "" {
		return vars, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(one, "=")
		if !found {
			return nil, fmt.Errorf("-vars: %q is not NAME=value", one)
		}
		vars[name] = value
	}
	return vars, nil
}

// compareFiles says what moved between two files of rows.
func compareFiles(paths []string) error {
	if len(paths) != 2 {
		return errors.New("-compare takes two files: that of before, and that of after")
	}
	before, err := readRows(paths[0])
	if err != nil {
		return err
	}
	after, err := readRows(paths[1])
	if err != nil {
		return err
	}
	printCompared(os.Stdout, before, after)
	return nil
}

// named returns those of which a comma-separated list holds the name, or what it
// begins with up to a slash; all of them where it is empty.
func named[T any](list string, all []T, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var found []T
	for wanted := range strings.SplitSeq(list, ",") {
		before := len(found)
		for _, one := range all {
			if name(one) == wanted || strings.HasPrefix(name(one), wanted+"/") {
				found = append(found, one)
			}
		}
		if len(found) == before {
			return nil, fmt.Errorf("there is no %q", wanted)
		}
	}
	return found, nil
}

func subjects() []*subject {
	return []*subject{
		{name: "latchkey", title: "latchkey", entry: workerdrun.Entry, flags: workerdrun.Flags(), later: 6 * time.Second, portion: 1},
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
			users: stormy, spend: 0.6, outcomes: []string{"rotated", "renewed"}, without: []string{"floor"}},
		{name: "tabs", title: "200 tabs of one user", label: "200 tabs of\none user", connections: 200, users: regulars[:1], outcomes: kept},
		{name: "flat", title: fmt.Sprintf("%d users in turns, 20 times", len(newcomers)), connections: 32, users: slices.Repeat(newcomers, 20), once: true, outcomes: kept, extra: true},
		{name: "first", title: "first keys", label: "first keys", connections: 32, users: newcomers, once: true, outcomes: []string{"provisioned"}, without: []string{"floor"}, unknown: true},
		{name: "cold", title: "first answer of a fresh isolate", connections: 1, users: regulars, outcomes: kept, phase: cold},
		{name: "touched", title: fmt.Sprintf("%d users touched once", len(newcomers)), label: "touched\nonce", connections: 32,
			users: newcomers, once: true, outcomes: kept, phase: restarted, unknown: true},
		{name: "object", title: "fresh object in a warm isolate", connections: 1,
			users: regulars[warmers:], once: true, outcomes: kept, phase: restarted, without: []string{"serve"}},
	}
}
