package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// documented is where the commands about users stand with what they print.
const documented = "../../docs/cli-users.md"

var shownCommand = regexp.MustCompile("(?m)^```console\n\\$ latchkey ((?:users|reconcile|token) .*|reconcile)\n((?s:.*?))```$")

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
		if command == "users watch" {
			return block // it comes from testdata, see below
		}
		p := f.run(t, args...)
		return "```console\n$ latchkey " + line + "\n" + p.out + p.stderr + "```"
	})
	watched, err := os.ReadFile("testdata/users-watch.golden")
	if err != nil {
		t.Fatal(err)
	}
	watch := regexp.MustCompile("(?m)^(```console\n\\$ latchkey users watch u_42\n)(?s:.*?)```$")
	now = watch.ReplaceAllStringFunc(now, func(block string) string {
		return watch.FindStringSubmatch(block)[1] + string(watched) + "```"
	})
	if *update {
		if err := os.WriteFile(documented, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if now != string(text) {
		t.Errorf("%s differs from what is printed: run with -update and look at the difference", documented)
	}
	for _, command := range []string{"users list", "users show", "users ledger", "users suspend", "users resume", "users set", "users erase", "users watch", "users sync", "reconcile --dry-run", "reconcile", "reconcile --yes", "token --user"} {
		if !ran[command] {
			t.Errorf("%s is not documented", command)
		}
	}
}
