package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{5, 1, 3}, 3},
		{[]float64{4, 1, 3, 2}, 2.5},
		{nil, math.NaN()},
		{[]float64{1, math.NaN(), 2}, math.NaN()},
	} {
		if got := median(c.values); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestRatio(t *testing.T) {
	b := &bench{results: map[string]map[string][]result{"steady": {
		"latchkey": {{requests: 1, rate: 200}, {requests: 1, rate: 900}, {requests: 1, rate: 300}},
		"plain":    {{requests: 1, rate: 100}, {requests: 1, rate: 300}, {requests: 1, rate: 300}},
	}}}
	// Of each round, and not that of the medians, which would be 1.
	if got := b.ratio("steady", "latchkey", "plain", rate); got != 2 {
		t.Errorf("the ratio is %v, want 2", got)
	}
	if got := b.ratio("steady", "latchkey", "floor", rate); !math.IsNaN(got) {
		t.Errorf("the ratio to what did not run is %v", got)
	}
}

func TestFirstAnswer(t *testing.T) {
	b := &bench{cold: map[string][]coldStart{
		"latchkey": {{blank: 250e6, ready: 390e6, first: 40e6}, {blank: 300e6, ready: 280e6, first: 60e6}, {blank: 270e6, ready: 310e6, first: 50e6}},
		"plain":    {{blank: 250e6, ready: 249e6, first: 10e6}},
		"no /proc": {{blank: 0, ready: 0, first: 10e6}},
	}}
	for subject, want := range map[string][2]float64{"latchkey": {30, 50}, "plain": {0, 10}, "no /proc": {math.NaN(), 10}, "nobody": {math.NaN(), math.NaN()}} {
		loading, first := b.firstAnswer(subject)
		if fmt.Sprint(loading, first) != fmt.Sprint(want[0], want[1]) {
			t.Errorf("%s loads for %v ms and answers after %v, want %v", subject, loading, first, want)
		}
	}
}

func TestTheLogTellsOfKeptKeysAndMemory(t *testing.T) {
	c := &subject{state: filepath.Join(t.TempDir(), "some")}
	log := `{"level":"warn","message":"workerd's own"}
{"level":"log","message":"{\"evt\":\"memory\",\"bytes\":1000}"}
{"level":"log","message":"{\"evt\":\"key\",\"outcome\":\"kept\",\"calls\":[{\"method\":\"GET\"},{\"method\":\"D1\"}]}"}
{"level":"log","message":"{\"evt\":\"key\",\"outcome\":\"rotated\",\"calls\":[{\"method\":\"D1\"}]}"}
{"level":"log","message":"{\"evt\":\"memory\",\"bytes\":2000}"}
`
	if err := os.WriteFile(c.log(), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.read(); err != nil || got != (told{kept: 1, statements: 1, memory: 2000}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestPart(t *testing.T) {
	users := newUsers("u", 10)
	var all []user
	for round := range 3 {
		all = append(all, part(users, round, 3)...)
	}
	if !slices.Equal(all, users) {
		t.Errorf("the parts are %v", all)
	}
}

// latchkey is measured as it is deployed.
func TestCompatibilityIsThatOfWrangler(t *testing.T) {
	config, err := os.ReadFile(filepath.Join("..", "..", "wrangler.toml"))
	if err != nil {
		t.Fatal(err)
	}
	driver, err := os.ReadFile("workerd.mjs")
	if err != nil {
		t.Fatal(err)
	}
	date := regexp.MustCompile(`(?m)^compatibility_date = ("[^"]+")$`).FindSubmatch(config)
	if date == nil || !strings.Contains(string(driver), "compatibilityDate: "+string(date[1])) {
		t.Errorf("workerd.mjs has another date than %q", date)
	}
	flags := `["` + strings.Join(subjects()[0].flags, `", "`) + `"]`
	if !strings.Contains(string(config), "\ncompatibility_flags = "+flags+"\n") {
		t.Errorf("wrangler.toml has other flags than %s", flags)
	}
}

func TestReplaceTable(t *testing.T) {
	const page = "# Title\n<!-- bench -->\nold\n<!-- /bench -->\nend\n"
	for _, c := range []struct{ text, want string }{
		{page, "# Title\n<!-- bench -->\n| new |\n<!-- /bench -->\nend\n"},
		{strings.Replace(page, "old\n", "", 1), "# Title\n<!-- bench -->\n| new |\n<!-- /bench -->\nend\n"},
		{"# Title\n", ""},
		{"<!-- bench -->\n", ""},
		{"<!-- /bench -->\n<!-- bench -->\n", ""},
		{page + page, ""},
	} {
		got, err := replaceTable(c.text, "bench", "| new |\n")
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q becomes %q, %v", c.text, got, err)
		}
	}
}

func TestTargetMet(t *testing.T) {
	for _, c := range []struct {
		target target
		want   string
	}{
		{target{want: 1.5, got: 1.5}, "met"},
		{target{want: 1.5, got: 1.49}, "MISSED"},
		{target{want: 1.3, got: 1.3, atMost: true}, "met"},
		{target{want: 1.3, got: 1.31, atMost: true}, "MISSED"},
	} {
		if got := c.target.verdict(); got != c.want {
			t.Errorf("%+v is %s", c.target, got)
		}
	}
}
