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

// The lines of docs/speed.md between which the table stands.
const tableBegins, tableEnds = "<!-- bench -->\n", "<!-- /bench -->\n"

// replaceTable puts a table in place of the one in a text.
func replaceTable(text, table string) (string, error) {
	before, rest, begins := strings.Cut(text, tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends || strings.Contains(after, tableBegins) {
		return "", fmt.Errorf("there have to be one line %q and, after it, one line %q", strings.TrimSpace(tableBegins), strings.TrimSpace(tableEnds))
	}
	return before + tableBegins + table + tableEnds + after, nil
}

// markdown is the table for docs/speed.md, with what it was measured on.
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
	machine, err := machine(b.root)
	if err != nil {
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
