//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// commandLine builds cmd/latchkey once.
var commandLine = sync.OnceValues(func() (string, error) {
	path := filepath.Join(site.dir, "latchkey")
	build := exec.Command("go", "build", "-o", path, "./cmd/latchkey")
	build.Dir = site.root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building cmd/latchkey: %w\n%s", err, out)
	}
	return path, nil
})

// latchkey is the command line with its secrets in a file, not yet run.
func (w *worker) latchkey(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := commandLine()
	if err != nil {
		t.Fatal(err)
	}
	secrets := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(secrets, []byte("ADMIN_TOKEN="+adminToken+"\nJWT_SECRET_CLOUD="+jwtSecret+"\nOPENROUTER_PROVISIONING_API_KEY="+provisioningKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), path, append([]string{"--secrets", secrets}, args...)...)
	command.Env = []string{"LATCHKEY_URL=" + w.URL, "OPENROUTER_BASE_URL=" + w.server.URL + "/api/v1"}
	return command
}

// cli runs the command line, checks its exit code and that it shows no key and
// no secret, and returns what it printed to stdout.
func (w *worker) cli(t *testing.T, code int, args ...string) string {
	t.Helper()
	command := w.latchkey(t, args...)
	var out, stderr bytes.Buffer
	command.Stdout, command.Stderr = &out, &stderr
	var ended *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if got := command.ProcessState.ExitCode(); got != code {
		t.Fatalf("latchkey %q: exit code %d, want %d\n%s%s", args, got, code, &out, &stderr)
	}
	checkPrinted(t, out.String()+stderr.String())
	return out.String()
}

var longKey = regexp.MustCompile(`sk-or-v1-[0-9a-f]{8,}`)

func checkPrinted(t *testing.T, text string) {
	t.Helper()
	if longKey.MatchString(text) || strings.Contains(text, adminToken) || strings.Contains(text, jwtSecret) || strings.Contains(text, "\x1b") {
		t.Errorf("a key, a secret or a control character was printed: %q", text)
	}
}

// fromJSON decodes what a command printed with --json.
func fromJSON[T any](t *testing.T, text string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

// The users' commands, through the built binary, against workerd.
func TestCommandLine(t *testing.T) {
	w := start(t, administered)
	// An id that a path and a terminal would both like to take for something else.
	u := newUser(t, w)
	u.id, u.name = u.id+"/клас/../ Ada?#%", "Ада \x1b[31m"

	token := strings.TrimSpace(w.cli(t, 0, "token", "--user", u.id, "--name", u.name, "--email", u.email, "--for", "10m"))
	first := u.expect(w.ask(t, "GET", me, bearer(token)), "provisioned", 10, 1)

	show := func() held { return fromJSON[held](t, w.cli(t, 0, "users", "show", u.id, "--json")) }
	ledger := func() string {
		return kinds(fromJSON[[]map[string]any](t, w.cli(t, 0, "users", "ledger", u.id, "--json")))
	}

	s := show()
	if s.Record.ID != u.id || s.Record.Name != u.name || s.Record.Hash != first.Hash || s.Record.Suspended || !strings.Contains(s.Record.Key, "...") {
		t.Errorf("users show: %+v", s)
	}
	eventually(t, time.Minute, "the user in the list", func() (string, bool) {
		out := w.cli(t, 0, "users", "list", "--all", "--limit", "1", "--json")
		listed := fromJSON[[]map[string]any](t, out)
		return out, slices.ContainsFunc(listed, func(row map[string]any) bool { return row["user_id"] == u.id && row["remaining_limit"] == 10.0 })
	})
	if out := w.cli(t, 0, "users", "list", "--q", u.id); !strings.Contains(out, `Ада \x1b[31m`) {
		t.Errorf("users list: %s", out)
	}
	if out := w.cli(t, 0, "users", "list", "--q", "nobody "+u.id, "--csv"); strings.Count(out, "\n") != 1 {
		t.Errorf("users list of nobody: %s", out)
	}

	// What happens from here on is watched.
	watch := w.latchkey(t, "users", "watch", u.id, "--interval", "100ms", "--json")
	seen := &logbook{}
	watch.Stdout, watch.Stderr = seen, seen
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	awaitEvent := func(text string) {
		t.Helper()
		eventually(t, 30*time.Second, "watched: "+text, func() (string, bool) { return seen.String(), strings.Contains(seen.String(), text) })
	}
	awaitEvent(`"event":"state"`)

	u.spend(first, 0.6)
	rotated := u.expect(u.get(), "rotated", 9.4, 1)
	if got, want := ledger(), "provision 1 10, charge 0.6 9.4, rotate 1 9.4"; got != want {
		t.Errorf("users ledger: %s; want %s", got, want)
	}
	// OpenRouter does not tell of today yet, and knows both keys, one of which is deleted.
	activity := fromJSON[map[string]any](t, w.cli(t, 0, "users", "activity", u.id, "--json"))
	if activity["charged_today"] != 0.6 || activity["cost"] != 0.0 || activity["unknown_keys"] != nil || len(activity["keys"].([]any)) != 2 {
		t.Errorf("users activity: %v", activity)
	}
	awaitEvent("charge 0.6, remaining_limit 9.4")
	awaitEvent("rotate 1, remaining_limit 9.4")

	w.cli(t, 0, "users", "set", "--yes", u.id, "--remaining", "5.25", "--total", "12")
	if s := show(); s.Record.Total != 12 || s.Record.Remaining != 5.25 || s.Record.Hash != rotated.Hash {
		t.Errorf("users set: %+v", s)
	}
	if got := ledger(); !strings.Contains(got, "adjust") {
		t.Errorf("users ledger: %s", got)
	}
	awaitEvent("remaining_limit 9.4 -> 5.25")

	// The user first, so that what is unknown is seen not to stop anything.
	if out := w.cli(t, 3, "users", "suspend", "--yes", "nobody-"+u.id, u.id); !strings.Contains(out, "suspended") {
		t.Errorf("users suspend: %s", out)
	}
	problem(t, u.get(), 403, "suspended")
	eventually(t, 30*time.Second, "no live key", func() (string, bool) { return fmt.Sprint(u.live()), len(u.live()) == 0 })
	if s := show(); !s.Record.Suspended || s.Record.Key != "" {
		t.Errorf("users suspend: %+v", s)
	}
	awaitEvent(`"text":"suspended`)
	w.cli(t, 0, "users", "resume", "--yes", u.id)
	awaitEvent(`"text":"resumed`)
	if v, err := u.check(u.get()); err != nil || *v.RemainingLimit != 5.25 {
		t.Errorf("after users resume: %v, %v", v.Outcome, err)
	}

	w.query(t, "DELETE FROM users; DELETE FROM ledger")
	w.cli(t, 0, "users", "sync", "--from-keys")
	eventually(t, 30*time.Second, "the row that D1 had lost", func() (string, bool) {
		rows := w.query(t, "SELECT count(*) AS n FROM users")
		return fmt.Sprint(rows), rows[0]["n"] == 1.0
	})

	w.behind.Store(int64(time.Hour))
	u.operator("POST", "/keys", `{"name":"latchkey:nobody:0123456789abcdef0123456789abcdef","limit":1}`)
	w.behind.Store(0)
	for i, args := range [][]string{{"reconcile", "--dry-run", "--json"}, {"reconcile", "--yes", "--json"}, {"reconcile", "--yes", "--json"}} {
		var report struct {
			DryRun  bool `json:"dry_run"`
			Deleted int
			Orphans []map[string]any
		}
		report.Deleted = -1
		if err := json.Unmarshal([]byte(w.cli(t, 0, args...)), &report); err != nil {
			t.Fatal(err)
		}
		want := []string{"true 1 0", "false 1 1", "false 0 0"}[i]
		if got := fmt.Sprint(report.DryRun, len(report.Orphans), report.Deleted); got != want {
			t.Errorf("%q, run %d: %s, want %s", args, i, got, want)
		}
	}
	if len(u.live()) != 1 {
		t.Errorf("after reconcile: %v", u.live())
	}

	w.cli(t, 2, "users", "erase", u.id) // nobody was asked
	w.cli(t, 0, "users", "erase", "--yes", u.id)
	eventually(t, time.Minute, "the user is gone", func() (string, bool) {
		out := w.cli(t, 0, "users", "list", "--q", u.id, "--json")
		return out, out == "[]\n" && len(u.live()) == 0
	})
	w.cli(t, 3, "users", "show", u.id)
	awaitEvent(`"event":"gone"`)
	if err := watch.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := watch.Wait(); err != nil {
		t.Errorf("Ctrl-C ends users watch with %v", err)
	}
	checkPrinted(t, seen.String())

	w.cli(t, 2, "users", "nonsense")
	refused := w.latchkey(t, "users", "list")
	refused.Env = append(refused.Env, "ADMIN_TOKEN=another-token-that-is-long-enough-0123456789")
	if out, _ := refused.CombinedOutput(); refused.ProcessState.ExitCode() != 4 {
		t.Errorf("with a wrong token: %s", out)
	}
	w.Stop()
	w.cli(t, 5, "users", "list")
	w.again(t, with{secrets: map[string]string{"ADMIN_TOKEN": ""}})
	w.cli(t, 3, "users", "list")
	w.cli(t, 3, "reconcile")
}

// The completion scripts load in the shells that are here.
func TestCompletionScripts(t *testing.T) {
	path, err := commandLine()
	if err != nil {
		t.Fatal(err)
	}
	for shell, args := range map[string][]string{"bash": {"-n"}, "zsh": {"-n"}, "fish": {"--no-execute"}} {
		script, err := exec.Command(path, "completion", shell).Output()
		if err != nil || len(script) == 0 {
			t.Errorf("%s: %v", shell, err)
			continue
		}
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		file := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(file, script, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(shell, append(slices.Clone(args), file)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}
