package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

// documentation is what tells of the command line: the pages, by their names, and the
// help of the commands.
func documentation(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"../../*.md", "../../docs/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			if page != "../../CHANGELOG.md" { // which tells of what was, too
				texts[page] = string(text)
			}
		}
	}
	var help func(command *cobra.Command)
	help = func(command *cobra.Command) {
		texts["help of "+command.CommandPath()] = command.Example
		for _, c := range command.Commands() {
			help(c)
		}
	}
	help(newApp(nil, nil, func(string) string { return "" }).root())
	return texts
}

var (
	fenced      = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	inline      = regexp.MustCompile("(?s)`([^`]+)`")
	aCommand    = regexp.MustCompile(`(?:^|[(;&|] *)(?:\$ |\./|go run \./cmd/|xargs -d '\\n' )?latchkey ([-a-z][^|>)#;&]*)`)
	redirection = regexp.MustCompile(`(?:>>?|build -o|--secrets|install -m 600 /dev/null) ([a-z._][^ ;)"$|&']*)(?:$|[ )])`)
)

// documentedLines are what a page, or the help, shows to be typed.
func documentedLines(page, text string) []string {
	var lines []string
	if strings.HasPrefix(page, "help of ") {
		for line := range strings.Lines(text) {
			lines = append(lines, strings.TrimSpace(line))
		}
		return lines
	}
	text = fenced.ReplaceAllStringFunc(text, func(block string) string {
		found := fenced.FindStringSubmatch(block)
		for line := range strings.Lines(found[2]) {
			if found[1] == "sh" || found[1] == "fish" || strings.HasPrefix(line, "$ ") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return ""
	})
	for _, span := range inline.FindAllStringSubmatch(text, -1) {
		lines = append(lines, strings.Join(strings.Fields(span[1]), " "))
	}
	return lines
}

// What the pages and the help tell to type are commands and flags that there are.
func TestEveryDocumentedCommandExists(t *testing.T) {
	checked := 0
	for page, text := range documentation(t) {
		for _, line := range documentedLines(page, text) {
			for _, found := range aCommand.FindAllStringSubmatch(line, -1) {
				root := newApp(nil, nil, func(string) string { return "" }).root()
				command, args, err := root.Find(strings.Fields(strings.NewReplacer(`"`, "", "'", "", "[", "", "]", "", "`", " ").Replace(found[1])))
				if err == nil {
					err = command.ParseFlags(args)
				}
				if errors.Is(err, pflag.ErrHelp) {
					err = nil
				}
				if names := command.Flags().Args(); err == nil && command.HasSubCommands() && len(names) > 0 {
					err = errors.New("there is no " + names[0])
				}
				if checked++; err != nil {
					t.Errorf("%s: %s: %v", page, line, err)
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("%d commands were found", checked)
	}
}

// What they have one make in a clone is not committed by a slip: programs, secrets,
// keys, lists of people.
func TestWhatThePagesMakeIsIgnoredByGit(t *testing.T) {
	if _, err := os.Stat("../../.git"); err != nil {
		t.Skip("this is no clone:", err)
	}
	names := []string{".dev.vars", ".dev.vars.staging", "keys/manifest.jsonl", "section-b/manifest.jsonl", "section-b/handout.csv", "class.csv"}
	for page, text := range documentation(t) {
		for _, line := range documentedLines(page, text) {
			line, _, _ = strings.Cut(line, " # ")
			for _, found := range redirection.FindAllStringSubmatch(line, -1) {
				if name := found[1]; !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "~") && !strings.HasPrefix(name, "..") && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	for _, name := range []string{"latchkey", ".admin.env", ".account.env", "demo.key", "ci.key", "users.csv", "spend.csv"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not among %q", name, names)
		}
	}
	for _, name := range names {
		if err := exec.Command("git", "-C", "../..", "check-ignore", "--quiet", name).Run(); err != nil {
			t.Errorf("%s is not ignored: %v", name, err)
		}
	}
}
