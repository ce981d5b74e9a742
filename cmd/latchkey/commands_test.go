package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Every command, in every form. Each has a server of its own, so that they do
// not depend on each other.
func TestPrintedForms(t *testing.T) {
	for name, line := range map[string]string{
		"users-list":         "users list",
		"users-list-page":    "users list --limit 2",
		"users-list-q":       "users list --q example.org",
		"users-show":         "users show u_42",
		"users-show-busy":    "users show u_7",
		"users-ledger":       "users ledger u_42",
		"users-ledger-empty": "users ledger u_7",
		"users-suspend":      "users suspend --yes u_42 u_7",
		"users-resume":       "users resume --yes u_42",
		"users-set":          "users set u_42 --remaining 5 --yes",
		"users-erase":        "users erase --yes u_42 u_7",
		"users-show-damaged": "users show u_9",
		"users-list-damaged": "users list --q u_9",
		"reconcile":          "reconcile --yes",
		"reconcile-dry-run":  "reconcile --dry-run",
	} {
		for form, flag := range map[string]string{"": "", "-json": " --json", "-csv": " --csv"} {
			t.Run(name+form, func(t *testing.T) {
				f := newFixture(t)
				if strings.HasSuffix(name, "-damaged") {
					f.damage(t, "u_9", "\x1b[31mno JSON")
				}
				p := f.run(t, strings.Fields(line+flag)...).want(t, exitOK)
				if flag == " --json" && !json.Valid([]byte(p.out)) {
					t.Errorf("no JSON: %s", p.out)
				}
				golden(t, name+form, p.out+p.stderr)
			})
		}
	}
}

func TestHelp(t *testing.T) {
	f := newFixture(t)
	for _, command := range []string{
		"users", "users list", "users show", "users ledger", "users activity", "users suspend", "users resume", "users set", "users erase", "users watch", "users sync", "reconcile", "token", "version",
	} {
		p := f.run(t, append(strings.Fields(command), "--help")...).want(t, exitOK)
		if !strings.Contains(p.out, "Examples:") {
			t.Errorf("%s has no examples", command)
		}
		// The default of --url is this server's.
		golden(t, "help-"+strings.ReplaceAll(command, " ", "-"), strings.ReplaceAll(p.out, f.URL, "http://127.0.0.1:8787"))
	}
}

func TestWrongUsage(t *testing.T) {
	f := newFixture(t)
	for _, args := range [][]string{
		{"users", "nonsense"}, {"users", "list", "u_42"}, {"users", "list", "--limit", "0"}, {"users", "list", "--limit", "201"},
		{"users", "list", "--limit", "many"}, {"users", "list", "--nonsense"},
		{"users", "show"}, {"users", "show", "u_42", "u_7"}, {"users", "show", ""}, {"users", "show", "."}, {"users", "show", ".."}, {"users", "show", "\xff"},
		{"users", "ledger"}, {"users", "suspend"}, {"users", "resume"}, {"users", "suspend", "u_42", ".."},
		{"users", "set"}, {"users", "set", "u_42"}, {"users", "set", "u_42", "--total", "much"}, {"users", "set", "u_42", "--remaining", "-1"},
		{"users", "set", "u_42", "--total", ""}, {"users", "set", "u_42", "--total", "NaN"},
		{"users", "erase"}, {"users", "erase", "--yes"},
		// Nobody is there to be asked.
		{"users", "erase", "u_42"}, {"users", "suspend", "u_42"}, {"users", "resume", "u_42"}, {"users", "set", "u_42", "--total", "1"},
		{"users", "activity"}, {"users", "activity", "u_42", "u_7"}, {"users", "activity", "u_42", "--by", "provider"}, {"users", "activity", "u_42"}, // no management key
		{"users", "list", "--sort", "nonsense"}, {"users", "watch"}, {"users", "watch", "u_42", "--interval", "0s"}, {"users", "watch", "u_42", "--interval", "soon"},
		{"reconcile", "now"}, {"users", "sync"}, {"users", "sync", "--from-keys", "u_42"}, {"users", "sync", "--from-keys", "--prefix", "Latchkey:"},
		{"token"}, {"token", "u_42"}, {"token", "--user", "u_42", "--for", "0s"}, {"token", "--user", strings.Repeat("x", 257)}, {"token", "--user", "\xff"},
		{"users", "list", "--url", "127.0.0.1:8787"}, {"users", "list", "--url", "ftp://example.org"},
		{"users", "list", "--url", "http://latchkey.example"}, {"reconcile", "--url", "http://10.0.0.1"}, {"users", "list", "--proxy", "none"},
		{"users", "list", "--url", "http://me:secret@127.0.0.1"}, {"users", "list", "--url", "http://127.0.0.1/?x=1"},
	} {
		p := f.run(t, args...).want(t, exitUsage)
		if p.out != "" || p.stderr == "" {
			t.Errorf("%q: %v", args, p)
		}
	}
	if asked := f.Asked(); len(asked) > 0 {
		t.Errorf("the latchkey was asked all the same: %q", asked)
	}
}

func TestExitCodesOfAnswers(t *testing.T) {
	f := newFixture(t)
	commands := [][]string{
		{"users", "list"}, {"users", "show", "u_42"}, {"users", "ledger", "u_42"}, {"users", "suspend", "--yes", "u_42"}, {"users", "resume", "--yes", "u_42"},
		{"users", "set", "--yes", "u_42", "--total", "1"}, {"users", "set", "--yes", "u_42", "--remaining", "1"}, {"users", "erase", "--yes", "u_42"}, {"users", "watch", "u_42"}, {"reconcile"},
	}
	for status, code := range map[int]int{
		400: exitFailed, 404: exitNotFound, 401: exitRefused, 403: exitRefused, 409: exitFailed, 429: exitUnavailable,
		500: exitUnavailable, 502: exitUnavailable, 503: exitUnavailable, 302: exitFailed,
	} {
		for _, args := range commands {
			f.answerWith(func(w http.ResponseWriter) bool {
				w.Header().Set("Retry-After", "7")
				problemDocument(w, status, "some_code", "What went \x1b[31mwrong.")
				return true
			})
			p := f.run(t, args...).want(t, code)
			if p.out != "" || !strings.Contains(p.stderr, strconv.Itoa(status)) {
				t.Errorf("%d to %q: %v", status, args, p)
			}
			if again := strings.Contains(p.stderr, "7 s"); again != (code == exitUnavailable) {
				t.Errorf("%d to %q: %v", status, args, p)
			}
		}
	}
	f.Close()
	for _, args := range commands {
		f.run(t, args...).want(t, exitUnavailable)
	}
}

func TestAnswersOfSomethingElse(t *testing.T) {
	f := newFixture(t)
	for _, page := range []string{"<html>Welcome</html>", "", "[]"} {
		f.answerWith(func(w http.ResponseWriter) bool {
			fmt.Fprint(w, page)
			return true
		})
		for _, args := range [][]string{{"users", "list"}, {"users", "show", "u_42"}, {"reconcile"}} {
			p := f.run(t, args...).want(t, exitFailed)
			if !strings.Contains(p.stderr, "is it a latchkey?") {
				t.Errorf("%q: %v", args, p)
			}
		}
	}
	f.answerWith(func(w http.ResponseWriter) bool { panic(http.ErrAbortHandler) })
	f.run(t, "users", "list").want(t, exitUnavailable)
}

func TestWrongTokenAndNoAdminAPI(t *testing.T) {
	f := newFixture(t)
	env := f.env()
	env["ADMIN_TOKEN"] = "another-token-that-is-long-enough-0123456789"
	p := latchkey(t.Context(), env, "users", "list").want(t, exitRefused)
	if !strings.Contains(p.stderr, "ADMIN_TOKEN") || strings.Contains(p.stderr, env["ADMIN_TOKEN"]) {
		t.Error(p)
	}
	f.answerWith(func(w http.ResponseWriter) bool {
		problemDocument(w, 404, "not_found", "There is nothing at this path.")
		return true
	})
	if p := f.run(t, "users", "list").want(t, exitNotFound); !strings.Contains(p.stderr, "the admin API is off") {
		t.Error(p)
	}
	f.run(t, "users", "show", "u_42").want(t, exitNotFound)
	f.run(t, "reconcile").want(t, exitNotFound)
}

func TestSecretsFile(t *testing.T) {
	f := newFixture(t)
	path := filepath.Join(t.TempDir(), "secrets")
	content := "# of the tests\nADMIN_TOKEN=" + adminToken + "\nJWT_SECRET_CLOUD=\"" + jwtSecret + "\"\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"LATCHKEY_URL": f.URL}
	for mode, code := range map[os.FileMode]int{
		0o600: exitOK, 0o400: exitOK, 0o644: exitUsage, 0o640: exitUsage, 0o604: exitUsage, 0o660: exitUsage, 0o700: exitUsage,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"users", "list"}, {"token", "--user", "u_42"}, {"reconcile", "--dry-run"}} {
			p := latchkey(t.Context(), env, append([]string{"--secrets", path}, args...)...).want(t, code)
			checkPrinted(t, p, false)
			if code == exitUsage && !strings.Contains(p.stderr, fmt.Sprintf("has mode %04o", mode)) {
				t.Error(p)
			}
		}
	}
	latchkey(t.Context(), env, "users", "list").want(t, exitUsage)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	latchkey(t.Context(), map[string]string{"LATCHKEY_URL": f.URL, "LATCHKEY_SECRETS": path}, "users", "list").want(t, exitOK)
	dir := t.TempDir()
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := errors.Join(os.Chmod(path, 0o600), syscall.Mkfifo(fifo, 0o600), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	for file, why := range map[string]string{
		filepath.Join(dir, "none"): "no such file", fifo: "a FIFO", link: "a link", dir: "a directory", "/dev/zero": "a device",
	} {
		if p := latchkey(t.Context(), env, "users", "list", "--secrets", file).want(t, exitUsage); !strings.Contains(p.stderr, why) || !strings.Contains(p.stderr, "--secrets (or LATCHKEY_SECRETS): ") {
			t.Error(p)
		}
	}
	if asked := f.Asked(); len(asked) != 5 {
		t.Errorf("asked %q", asked)
	}
}

func TestTheNearestIsSuggested(t *testing.T) {
	for line, want := range map[string]string{
		"user list":              `unknown command "user" for "latchkey"; did you mean users?`,
		"users lst":              `unknown command "lst" for "latchkey users"; did you mean list?`,
		"keys delet 00000000":    `did you mean delete?`,
		"help usres":             `unknown command "usres" for "latchkey"; did you mean users?`,
		"users lsit":             "did you mean list or set?",
		"help users lst":         `unknown command "lst" for "latchkey users"; did you mean list?`,
		"completion bsh":         `unknown command "bsh" for "latchkey completion"; did you mean bash or zsh?`,
		"users list --limt 5":    "unknown flag: --limt; did you mean --limit?",
		"users list --jsn":       "did you mean --json?",
		"provision x --dry_run":  "did you mean --dry-run?",
		"users nonsense":         `unknown command "nonsense" for "latchkey users"`,
		"users list --nonsense":  "unknown flag: --nonsense",
		"users list -z":          "unknown shorthand flag: 'z' in -z",
		"users list --limit=two": `invalid argument "two"`,
	} {
		p := latchkey(t.Context(), nil, strings.Fields(line)...).want(t, exitUsage)
		if !strings.Contains(p.stderr, want) || !strings.Contains(want, "mean") && strings.Contains(p.stderr, "mean") {
			t.Errorf("%s: %v", line, p)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if p := latchkey(t.Context(), nil, "completion", shell).want(t, exitOK); !strings.Contains(p.out, "latchkey") {
			t.Errorf("%s: %v", shell, p)
		}
	}
	p := latchkey(t.Context(), nil, "__complete", "users", "").want(t, exitOK)
	for _, name := range []string{"list", "show", "ledger", "activity", "suspend", "resume", "set", "erase", "watch"} {
		if !strings.Contains(p.out, "\n"+name+"\t") && !strings.HasPrefix(p.out, name+"\t") {
			t.Errorf("%s is not offered: %s", name, p.out)
		}
	}
	for _, args := range [][]string{{"users", "show", ""}, {"token", ""}} {
		// 4: nothing to offer, and no names of files either.
		if p := latchkey(t.Context(), nil, append([]string{"__complete"}, args...)...); !strings.Contains(p.out, ":4\n") {
			t.Errorf("%q: %v", args, p)
		}
	}
}

func TestAnExampleOfAManagementKeyGoesToAStandInAlone(t *testing.T) {
	for _, key := range []string{"sk-or-v1-stand-in-1", "sk-or-v1-…", "not-a-real-key"} {
		env := map[string]string{managementName: key, "OPENROUTER_BASE_URL": "https://openrouter.invalid/api/v1"}
		p := latchkey(t.Context(), env, "credits")
		if p.code != exitUsage || !strings.Contains(p.stderr, "--openrouter http://127.0.0.1:8788/api/v1") || strings.Contains(p.stderr, key) {
			t.Errorf("%s: %v", key, p)
		}
	}
}
