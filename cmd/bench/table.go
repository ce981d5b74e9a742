package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// table is what is put into a page.
type table struct {
	loads string // what -loads has to be for all of it to be measured
	page  string // relative to the repository
	mark  string // it stands between the lines <!-- mark --> and <!-- /mark -->
	write func(*bench) (string, error)
}

var tables = []table{
	{"", "docs/speed.md", "bench", (*bench).markdown},
	{"waiting", "docs/speed.md", "waiting", (*bench).waitingTable},
	{"bill", "docs/scale.md", "bill", (*bench).billTable},
}

// replace puts the table of a run in place of the one in its page; where there is
// no run yet, it only tells whether the page has a place for it.
func (t table) replace(root string, b *bench) error {
	path := filepath.Join(root, t.page)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if b == nil {
		_, err = replaceTable(string(text), t.mark, "")
	} else {
		var content, updated string
		if content, err = t.write(b); err != nil {
			return err
		}
		if updated, err = replaceTable(string(text), t.mark, content); err == nil {
			return os.WriteFile(path, []byte(updated), 0o644)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.page, err)
	}
	return nil
}

// replaceTable puts a table in place of the one in a text.
func replaceTable(text, mark, table string) (string, error) {
	first, last := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->\n"
	before, rest, begins := strings.Cut(text, first)
	_, after, ends := strings.Cut(rest, last)
	if !begins || !ends || strings.Contains(after, first) {
		return "", fmt.Errorf("there have to be one line %q and, after it, one line %q", strings.TrimSpace(first), strings.TrimSpace(last))
	}
	return before + first + table + last + after, nil
}

// markdown is the table of all usual loads, with what it was measured on. The
// picture beside it is drawn with it.
func (b *bench) markdown() (string, error) {
	var m strings.Builder
	fmt.Fprint(&m, "| load | req/s | p50, ms | p99, ms | CPU, ms | req/s ÷ plain JavaScript's | ÷ floor's | ÷ workers.Serve's | p99 ÷ plain JavaScript's | CPU ÷ plain JavaScript's |\n")
	fmt.Fprint(&m, "|---|---|---|---|---|---|---|---|---|---|\n")
	for _, l := range b.loads {
		if l.phase == cold {
			continue // what there is to say of it stands among the targets
		}
		fmt.Fprintf(&m, "| %s |", l.title)
		for _, of := range []measure{rate, p50, p99, cpu} {
			fmt.Fprintf(&m, " %s |", number(b.typical(l.name, "latchkey", of)))
		}
		for _, other := range []string{"plain", "floor", "serve"} {
			fmt.Fprintf(&m, " %s |", number(b.ratio(l.name, "latchkey", other, rate)))
		}
		fmt.Fprintf(&m, " %s | %s |\n", number(b.ratio(l.name, "latchkey", "plain", p99)), number(b.ratio(l.name, "latchkey", "plain", cpu)))
	}
	fmt.Fprint(&m, "\n| target | | measured | |\n|---|---|---|---|\n")
	for _, t := range b.targets() {
		fmt.Fprintf(&m, "| %s | %s | %s | %s |\n", t.what, t.wanted(), number(t.got), t.verdict())
	}
	for _, f := range b.faults {
		fmt.Fprintf(&m, "\n%s, %s: %d of %d answers were wrong.\n", f.Subject, f.Load, f.Wrong, f.Of)
	}
	machine, err := machine(b.root)
	if err != nil {
		return "", err
	}
	if err := b.writeChart(filepath.Join(b.root, "docs", "bench.svg")); err != nil {
		return "", err
	}
	fmt.Fprintf(&m, "\nMeasured on %s: medians of %d rounds, %s for each load and subject.\n", machine, b.rounds, b.span)
	return m.String(), nil
}

// machine says what was measured on, and when.
func machine(root string) (string, error) {
	processor := runtime.GOARCH
	info, _ := os.ReadFile("/proc/cpuinfo") // there may be none
	if model := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(info); model != nil {
		processor = string(model[1])
	}
	manifest, err := os.ReadFile(filepath.Join(root, "node_modules/workerd/package.json"))
	if err != nil {
		return "", err
	}
	var workerd struct{ Version string }
	if err := json.Unmarshal(manifest, &workerd); err != nil {
		return "", fmt.Errorf("workerd's package.json: %w", err)
	}
	return fmt.Sprintf("%d cores (%s) on %s, with %s and workerd %s",
		runtime.NumCPU(), processor, time.Now().Format(time.DateOnly), runtime.Version(), workerd.Version), nil
}
