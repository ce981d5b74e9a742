package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documented is where the commands about users stand with what they print.
const documented = "../../docs/cli-users.md"

var shownCommand = regexp.MustCompile("(?m)^```console\n\\$ latchkey ((?:users|reconcile|token) .*|reconcile|reseal)\n((?s:.*?))```$")

// recorded are the commands that run in tests of their own, which have what they print
// in testdata.
var recorded = map[string]string{
	"users watch u_42": "users-watch.golden", "users activity u_80": "users-activity-model.golden", "users activity u_80 --by key": "users-activity-key.golden",
}

// What the documentation shows is what is printed: its commands run here one
// after the other, against one fake, and -update writes what they print.
func TestDocumentedOutput(t *testing.T) {
	text, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.damage(t, "u_9", "not JSON")
	ran := map[string]bool{}
	now := shownCommand.ReplaceAllStringFunc(string(text), func(block string) string {
		line := shownCommand.FindStringSubmatch(block)[1]
		args := strings.Fields(line)
		command := strings.Join(args[:min(2, len(args))], " ")
		ran[command] = true
		if name := recorded[line]; name != "" {
			golden, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Error(err)
			}
			return "```console\n$ latchkey " + line + "\n" + string(golden) + "```"
		}
		p := f.run(t, args...)
		return "```console\n$ latchkey " + line + "\n" + p.out + p.stderr + "```"
	})
	if *update {
		if err := os.WriteFile(documented, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if now != string(text) {
		t.Errorf("%s differs from what is printed: run with -update and look at the difference", documented)
	}
	for _, command := range []string{"users list", "users show", "users ledger", "users activity", "users suspend", "users resume", "users set", "users erase", "users watch", "users sync", "reconcile --dry-run", "reconcile", "reconcile --yes", "reseal", "token --user"} {
		if !ran[command] {
			t.Errorf("%s is not documented", command)
		}
	}
}

// The page about the account shows what the golden files hold, line by line: each
// of its commands runs in a test of its own, with keys of its own.
func TestDocumentedOutputOfTheAccount(t *testing.T) {
	printed := map[string]bool{"…": true} // a table that goes on
	goldens, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range goldens {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			printed[strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "DIR/", "")] = true
		}
	}
	text, err := os.ReadFile("../../docs/cli-openrouter.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```console\n\\$ latchkey (.*?)\n(.*?)```$").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 15 {
		t.Fatalf("%d commands are documented", len(blocks))
	}
	for _, block := range blocks {
		for line := range strings.Lines(block[2]) {
			if line = strings.TrimSuffix(line, "\n"); !printed[line] {
				t.Errorf("latchkey %s: nothing prints %q", block[1], line)
			}
		}
	}
}
