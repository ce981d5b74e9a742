//go:build e2e && clients

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/localdev"
	or "latchkey/internal/openroutertest"
)

// clientFolder is clients/js, built: what `make clients` has done before it runs these
// tests.
func clientFolder(t *testing.T) string {
	t.Helper()
	repository, err := localdev.Root()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(repository, "clients", "js")
	if _, err := os.Stat(filepath.Join(folder, "dist", "index.js")); err != nil {
		t.Fatalf("%v: run make clients", err)
	}
	return folder
}

// The examples of clients/js, with the packages of others that they show, against the
// Worker and its sockets. Their keys are replaced meanwhile.
func TestClientsExamples(t *testing.T) {
	w := start(t, with{})
	u := newUser(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	examples := exec.CommandContext(ctx, filepath.Join(site.root, "node_modules", ".bin", "node"), "--test", "--test-timeout=60000", "build/test/examples.test.js")
	examples.Dir = clientFolder(t)
	examples.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an example ends with its test
	examples.Cancel = func() error { return syscall.Kill(-examples.Process.Pid, syscall.SIGKILL) }
	examples.WaitDelay = 10 * time.Second
	examples.Env = append(os.Environ(), "LATCHKEY_URL="+w.URL, "LATCHKEY_TOKEN="+u.token(), "USER_ID="+u.id, "OPENROUTER_URL="+w.server.URL)
	out, err := examples.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, plainKey.ReplaceAll(out, []byte("sk-or-v1-…")))
	}
	t.Logf("%s", out)
	calls := w.openrouter.Calls()
	if calls[or.OpChat] < 6 || calls[or.OpCreate] < 5 {
		t.Errorf("three examples with two questions each, and four keys replaced, come to %v", calls)
	}
}

var (
	tabUsers = flag.Int("users", 8, "how many users have three tabs each that stream")
	tabsFor  = flag.Duration("for", 6*time.Second, "how long they stream")
)

// load is what tabs/tabs.mjs reports.
type load struct {
	Calls   int
	Refused int
	Failed  map[string]int
	Saved   int
	Changed int
	Read    int
	Unread  map[string]int
	Spent   map[string]int64
}

// Keys are replaced every few seconds while tabs stream completions with them. With an
// overlap no call fails, none is even refused at first, and all that was spent is charged.
func TestClientsNoCallFails(t *testing.T) {
	l, lost := streamed(t, 10*time.Second)
	if l.Refused > 0 || len(l.Failed) > 0 || lost != 0 {
		t.Errorf("%d calls were refused at first, %v failed, and %d nano-credits were not charged", l.Refused, l.Failed, lost)
	}
}

// Without an overlap calls are refused, and the client's repetition saves most of them. It
// is for measuring: how many depends on the machine.
func TestWithoutAnOverlapCallsAreRepeated(t *testing.T) {
	if l, _ := streamed(t, 0); l.Saved == 0 {
		t.Errorf("%d calls were refused at first, and %v failed: the client saves none", l.Refused, l.Failed)
	}
}

// streamed has tabs stream while keys are replaced, and returns what they report, and how
// much of what was spent was not charged, in nano-credits.
func streamed(t *testing.T, overlap time.Duration) (l load, lost int64) {
	t.Helper()
	// All that is read as spent has the key replaced, long before it is used up.
	w := start(t, with{vars: map[string]string{
		"ROTATION_OVERLAP": overlap.String(), "TOTAL_LIMIT": "10000", "KEY_LIMIT": "5", "ROTATE_BELOW": "4.95", "OPENROUTER_TIMEOUT": "30s",
	}})
	users := make([]*user, *tabUsers)
	for i := range users {
		users[i] = newUser(t, w)
		users[i].expect(users[i].get(), "provisioned", 10000, 5)
	}
	l = stream(t, w, users, *tabsFor)
	rotations := w.openrouter.Calls()[or.OpCreate] - len(users)
	var seen int64
	for i, a := range charges(t, w, users, overlap) {
		spent := l.Spent[users[i].id]
		seen += spent
		lost += a.used - a.charged
		if l.failures() == 0 && spent != a.used {
			t.Errorf("the tabs of user %d saw completions for %d nano-credits, and OpenRouter counted %d", i, spent, a.used)
		}
	}
	fmt.Printf("e2e: %d users, three tabs each, %v, overlap %v: %d calls for %.2f credits, %d rotations; %d refused at first, of which %d were saved; %d failed %v; %.2f credits not charged\n",
		len(users), *tabsFor, overlap, l.Calls, float64(seen)/nano, rotations, l.Refused, l.Saved, l.failures(), l.Failed, float64(lost)/nano)
	if rotations == 0 || l.Changed == 0 || len(l.Unread) > 0 {
		t.Errorf("that was no load, or latchkey did not answer: %+v", l)
	}
	return l, lost
}

func (l load) failures() (n int) {
	for _, each := range l.Failed {
		n += each
	}
	return n
}

// stream runs tabs/tabs.mjs.
func stream(t *testing.T, w *worker, users []*user, during time.Duration) (l load) {
	t.Helper()
	type tokens struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	var list []tokens
	for _, u := range users {
		list = append(list, tokens{u.id, u.token()})
	}
	input, err := json.Marshal(map[string]any{
		"client": filepath.Join(clientFolder(t), "dist", "index.js"), "latchkey": w.URL, "openrouter": w.server.URL,
		"users": list, "tabs": 3, "seconds": during.Seconds(),
		"completion": map[string]any{"cost": 0.1, "chunks": 8, "pause_ms": 200}, "reading": 2500,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), during+2*time.Minute)
	defer cancel()
	tabs := exec.CommandContext(ctx, filepath.Join(site.root, "node_modules", ".bin", "node"), filepath.Join(site.root, "internal", "e2e", "tabs", "tabs.mjs"))
	var out, errors bytes.Buffer
	tabs.Stdin, tabs.Stdout, tabs.Stderr = bytes.NewReader(input), &out, &errors
	if err := tabs.Run(); err != nil {
		t.Fatalf("%v: %s; the log ends\n%s", err, plainKey.ReplaceAll(errors.Bytes(), []byte("sk-or-v1-…")), w.log.tail())
	}
	if err := json.Unmarshal(out.Bytes(), &l); err != nil {
		t.Fatalf("%v in %s", err, &out)
	}
	return l
}

// account is what the keys of a user have used, and what was charged, in nano-credits.
type account struct{ used, charged int64 }

// charges waits until all but the present keys are settled, and returns what came of it.
func charges(t *testing.T, w *worker, users []*user, overlap time.Duration) []account {
	t.Helper()
	list := make([]account, len(users))
	for _, u := range users {
		if _, err := u.check(u.get()); err != nil { // the last usage is read, and an old key with it
			t.Fatal(err)
		}
	}
	for i, u := range users {
		eventually(t, overlap+time.Minute, "the end of all old keys", func() (string, bool) {
			keys := slices.DeleteFunc(w.openrouter.Keys(), func(key or.Key) bool { return key.Deleted || !u.owns(key.Name) })
			return fmt.Sprintf("%d are left", len(keys)), len(keys) == 1
		})
		v, err := u.check(u.get())
		if err != nil {
			t.Fatal(err)
		}
		list[i] = account{int64(u.cost()), int64(*v.TotalLimit*nano) - int64(*v.RemainingLimit*nano+0.5)}
	}
	return list
}
