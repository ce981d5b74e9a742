package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"latchkey/internal/class"
	"latchkey/internal/openroutertest"
)

// docBlock is a block of a page that is to be run: a command with what it prints, or
// lines for a shell.
var docBlock = regexp.MustCompile("(?ms)^```(console\n\\$ latchkey ([^\n]*)\n.*?|sh\n(.*?))^```$")

// The page for instructors is one term of a class. What it says is run here, line by
// line, and what it shows is what is printed; -update writes it.
func TestAClassFromTheRosterToTheEndOfTerm(t *testing.T) {
	const page = "../../docs/class.md"
	path, err := filepath.Abs(page)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := newAccount(t, nil)
	t.Chdir(t.TempDir())
	ran, most := 0, 0 // live keys at a time
	here := strings.NewReplacer("http://127.0.0.1:8788/api/v1", f.url, "not-a-real-key", provisioningKey)
	now := docBlock.ReplaceAllStringFunc(string(text), func(block string) string {
		parts := docBlock.FindStringSubmatch(block)
		line, script := parts[2], parts[3]
		most = max(most, len(f.Live()))
		ran++
		switch {
		case line != "":
			args := strings.Fields(line)
			if args[0] != "guardrails" && !strings.HasPrefix(line, "class handout") {
				args = append(args, "--parallel", "1") // the stand-in makes the same keys in the same order
			}
			p := f.run(0, args...)
			return "```console\n$ latchkey " + line + "\n" + p.stderr + p.out + "```"
		case strings.Contains(script, "go build"), strings.Contains(script, "go run"): // of a clone
		default:
			shell := exec.Command("bash", "-euo", "pipefail", "-c", here.Replace(script))
			var stderr bytes.Buffer
			shell.Stderr = &stderr
			if err := shell.Run(); err != nil {
				t.Errorf("%s: %v: %s", script, err, stderr.String())
			}
		}
		return block
	})
	if ran < 20 || most != 6 || len(f.Live()) != 0 {
		t.Errorf("%d blocks were run, with up to %d live keys; %d are left", ran, most, len(f.Live()))
	}
	if *update {
		if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if now != string(text) {
		t.Errorf("%s differs from what is printed: run with -update and look at the difference. It is now\n%s", page, now)
	}
}

// of a class of n people, provisioned.
func (f *accountFixture) class(n int) (file, out string) {
	f.Helper()
	file, out = aClass(f.T, n)
	f.run(0, "provision", file, "--limit", "2", "--out", out, "--parallel", "1")
	return file, out
}

func TestClassCommandsRefuseWhatIsNoUsage(t *testing.T) {
	f := newAccount(t, nil)
	_, out := f.class(2)
	f.ResetCalls()
	for code, lines := range map[int][]string{
		exitUsage: {
			"class set --limit 2", "class set p0@example.org", "class set p0@example.org --limit 0", "class set p0@example.org --limit 3",
			"class nonsense", "class status now", "class status --sort nonsense", "class status --parallel 0",
			"class replace", "class replace p0@example.org", "class remove", "class remove --replaced", "class pause", "class resume --settle -1s --yes",
			"class extend", "class extend --reset hourly", "class extend --expires 2020-01-01", "class extend --limit 3", "class handout now",
			"guardrails show", "guardrails list it",
		},
		exitNotFound: {
			"class set bob@example.org --limit 3 --yes", "class status --manifest nowhere", "class pause --manifest nowhere --yes", "class handout --manifest nowhere",
		},
	} {
		for _, line := range lines {
			args := strings.Fields(line)
			if !strings.Contains(line, "--manifest") && strings.HasPrefix(line, "class ") {
				args = append(args, "--manifest", out)
			}
			if p := f.run(code, args...); p.stderr == "" {
				t.Errorf("%q: %v", line, p)
			}
		}
	}
	if calls := f.CallLog(); len(calls) > 0 {
		t.Errorf("OpenRouter was asked: %v", calls)
	}
}

func TestAClassIsNamedByItsManifestOrItsFolder(t *testing.T) {
	f := newAccount(t, nil)
	_, out := f.class(1)
	for _, path := range []string{out, out + "/", filepath.Join(out, class.ManifestName)} {
		f.run(0, "class", "status", "--manifest", path)
		f.run(0, "keys", "disable", "--yes", f.Keys()[0].Hash)
		f.run(0, "class", "resume", "--yes", "--manifest", path)
	}
	f.run(0, "keys", "delete", "--yes", "--manifest", out, f.Keys()[0].Hash)
	f.run(0, "provision", "--revoke", out, "--yes")
}

func TestAHandoutIsPrivateAndHasNoFormulas(t *testing.T) {
	f := newAccount(t, nil)
	dir := t.TempDir()
	file, out := filepath.Join(dir, "class.csv"), filepath.Join(dir, "keys")
	if err := os.WriteFile(file, []byte("name,email\n=HYPERLINK(1),ada@example.edu\nBob;=1+1,bob@example.edu\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.run(0, "provision", file, "--limit", "2", "--out", out)
	f.run(0, "class", "handout", "--manifest", out)
	path := filepath.Join(out, "handout.csv")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys := keyFiles(t, out)
	want := "\ufeffname,email,key\n'=HYPERLINK(1),ada@example.edu," + keys["ada@example.edu.key"] + "\nBob;'=1+1,bob@example.edu," + keys["bob@example.edu.key"] + "\n"
	if string(text) != want {
		t.Errorf("%s", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	f.run(exitUsage, "class", "handout", "--manifest", out) // it is there already
	if err := errors.Join(os.Remove(path), os.Remove(filepath.Join(out, "bob@example.edu.key"))); err != nil {
		t.Fatal(err)
	}
	if p := f.run(exitFailed, "class", "handout", "--manifest", out); !strings.Contains(p.stderr, "1 person is not in it: `latchkey class replace`") {
		t.Error(p)
	}
}

// An apostrophe before an address would make a mail merge send the key to another mailbox.
func TestAnAddressThatIsAFormulaIsInNoHandout(t *testing.T) {
	f := newAccount(t, nil)
	dir := t.TempDir()
	file, out := filepath.Join(dir, "class.csv"), filepath.Join(dir, "keys")
	if err := os.WriteFile(file, []byte("name,email\nAda,ada@example.edu\nBob,+bob@example.edu\nZoë,=zoe@example.edu\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.run(0, "provision", file, "--limit", "2", "--out", out)
	p := f.run(exitFailed, "class", "handout", "--manifest", out)
	for _, said := range []string{`Bob: a spreadsheet takes the address "+bob@example.edu" for a formula`, `Zoë: a spreadsheet takes the address "=zoe@example.edu"`, "has the keys of 1 person", "2 people are not in it"} {
		if !strings.Contains(p.stderr, said) {
			t.Errorf("%q is not in %v", said, p)
		}
	}
	text, err := os.ReadFile(filepath.Join(out, "handout.csv"))
	if want := "\ufeffname,email,key\nAda,ada@example.edu," + keyFiles(t, out)["ada@example.edu.key"] + "\n"; err != nil || string(text) != want {
		t.Errorf("%v: %s", err, text)
	}
}

func TestNothingIsMadeUnderAGuardrailThatIsNotThere(t *testing.T) {
	f := newAccount(t, nil)
	file, out := aClass(t, 1)
	f.run(exitNotFound, "provision", file, "--limit", "2", "--out", out, "--guardrail", "none")
	f.run(exitNotFound, "provision", file, "--limit", "2", "--out", out, "--guardrail", "none", "--dry-run")
	f.run(exitNotFound, "guardrails", "show", "none")
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) || f.Calls()[openroutertest.OpCreate] > 0 {
		t.Errorf("%v, %v", err, f.CallLog())
	}
}

func TestARosterIsReadAsTheFlagsSay(t *testing.T) {
	f := newAccount(t, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "liste.csv")
	if err := os.WriteFile(file, []byte("K\xfcrzel;Anschrift;Wer;Euro\nz\xe9a;zoe@example.edu;Zo\xeb;3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "keys")
	if p := f.run(exitUsage, "provision", file, "--limit", "2", "--out", out); !strings.Contains(p.stderr, "line 1: is not UTF-8") || !strings.Contains(p.stderr, "--encoding") {
		t.Error(p)
	}
	if p := f.run(exitUsage, "provision", file, "--limit", "2", "--out", out, "--encoding", "windows-1252"); !strings.Contains(p.stderr, `"Kürzel", "Anschrift", "Wer", "Euro"`) {
		t.Error(p)
	}
	f.run(0, "provision", file, "--limit", "2", "--out", out, "--encoding", "windows-1252", "--delimiter", "semicolon",
		"--id-column", "Kürzel", "--email-column", "Anschrift", "--name-column", "Wer", "--limit-column", "Euro")
	p := f.run(0, "class", "status", "--csv", "--manifest", out)
	if !strings.Contains(p.out, "zéa,Zoë,zoe@example.edu,active,3,,0,3,") {
		t.Error(p)
	}
}

func TestGuardrailsAreShownInEveryForm(t *testing.T) {
	f := newAccount(t, nil)
	id := f.AddGuardrail("small", "openai/gpt-4o-mini", "m/s")
	for line, want := range map[string]string{
		"list --csv":       "name,id,limit,reset,models,providers\nsmall," + id + ",none,never,\"openai/gpt-4o-mini, m/s\",all\n",
		"show --csv " + id: "name,id,limit,reset,models,providers\nsmall," + id + ",none,never,\"openai/gpt-4o-mini, m/s\",all\n",
	} {
		if p := f.run(0, strings.Fields("guardrails "+line)...); p.out != want {
			t.Errorf("%s: %s", line, p.out)
		}
	}
	for _, line := range []string{"list --json", "show --json " + id} {
		if p := f.run(0, strings.Fields("guardrails "+line)...); !json.Valid([]byte(p.out)) || !strings.Contains(p.out, `"allowed_models"`) {
			t.Errorf("%s: %s", line, p.out)
		}
	}
	if got := allowed(nil, []string{"a", "b"}); got != "all but a, b" {
		t.Error(got)
	}
}

func TestStatusIsSorted(t *testing.T) {
	f := newAccount(t, nil)
	_, out := f.class(3)
	for i, credits := range []float64{0.5, 1.5, 0.25} {
		if err := f.Spend(f.Keys()[i].Secret, credits); err != nil {
			t.Fatal(err)
		}
	}
	for by, want := range map[string]string{"": "012", "used": "201", "-used": "102", "left": "102", "-person": "210", "email": "012", "expires": "012"} {
		p := f.run(0, "class", "status", "--csv", "--manifest", out, "--sort="+by)
		got := ""
		for _, row := range strings.Split(strings.TrimSpace(p.out), "\n")[1:] {
			got += row[1:2]
		}
		if got != want {
			t.Errorf("%q: %s\n%s", by, got, p.out)
		}
	}
}

func TestReplaceTellsOfAnOldKeyOnlyIfThereIsOne(t *testing.T) {
	f := newAccount(t, nil)
	_, out := f.class(2)
	const told = "goes on working"
	f.run(0, "class", "remove", "p0@example.org", "--yes", "--manifest", out)
	if p := f.run(0, "class", "replace", "p0@example.org", "--yes", "--manifest", out); strings.Contains(p.stderr, told) {
		t.Error(p)
	}
	if p := f.run(0, "class", "replace", "p1@example.org", "--yes", "--manifest", out); !strings.Contains(p.stderr, told) {
		t.Error(p)
	}
}

func TestStatusOfAClassThatEnds(t *testing.T) {
	f := newAccount(t, nil)
	_, out := f.class(2)
	steps := []struct{ command, said, out string }{
		{"class remove p0@example.org --yes --manifest", "latchkey: 1 key: 1 active; 0 credits used, of limits of 2\n", "PERSON"},
		{"class remove p1@example.org --yes --manifest", "latchkey: nobody in the class has a key\n", ""},
		{"class replace p0@example.org --yes --manifest", "latchkey: 1 key: 1 active; 0 credits used, of limits of 2\n", "PERSON"},
		{"provision --yes --revoke", "latchkey: the class in " + out + " was revoked\nlatchkey: 1 key: 1 deleted; 0 credits used, of limits of 0\n", "PERSON"},
	}
	for _, step := range steps {
		f.run(0, append(strings.Fields(step.command), out)...)
		if p := f.run(0, "class", "status", "--manifest", out); p.stderr != step.said || step.out == "" && p.out != "" || !strings.HasPrefix(p.out, step.out) {
			t.Errorf("after %s: %v", step.command, p)
		}
	}
}
