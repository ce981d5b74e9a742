package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/class"
	"latchkey/internal/openroutertest"
)

var people = flag.Int("people", 100, "how many people are in the class that is killed at random")

// TestAClassKilledAtRandom is the promise of provision, and of class replace and
// extend: whenever they are killed, and whatever OpenRouter does meanwhile, run again
// until they end they leave everybody with one key. LATCHKEY_SEED=n replays the times
// and faults as far as a machine can.
func TestAClassKilledAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("LATCHKEY_SEED"); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LATCHKEY_SEED=%d", seed)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	upTo := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}

	binary := filepath.Join(t.TempDir(), "latchkey")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f := newAccount(t, func(standin http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Some take effect only after the program that sent them was killed.
			delay := upTo(15)
			if upTo(10) == 0 {
				delay = 80
			}
			time.Sleep(time.Duration(delay) * time.Millisecond)
			standin.ServeHTTP(w, r)
		})
	})
	run := func(kill bool, args ...string) int {
		t.Helper()
		var output strings.Builder
		cmd := exec.Command(binary, args...)
		cmd.Env = []string{"OPENROUTER_PROVISIONING_API_KEY=" + provisioningKey, "OPENROUTER_BASE_URL=" + f.url}
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if kill {
			time.AfterFunc(time.Duration(20+upTo(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		}
		_ = cmd.Wait() // the exit code tells
		f.holdsNoKey(output.String())
		code := cmd.ProcessState.ExitCode()
		if code != 0 && (code != -1 || !kill) && code != exitUnavailable {
			t.Fatalf("exit code %d: %s", code, output.String())
		}
		return code
	}
	// untilItEnds runs the program again and again, and returns how often it
	// was killed. After so many runs they are let be, so that it ends.
	untilItEnds := func(kills int, faults []openroutertest.Fault, op openroutertest.Op, args ...string) (killed int) {
		t.Helper()
		for n := range kills + 15 {
			f.ClearFaults()
			if len(faults) > 0 && n%3 == 0 {
				f.Fail(op, faults[upTo(len(faults))], 1)
			}
			switch run(n < kills, args...) {
			case 0:
				return killed
			case -1:
				killed++
			}
		}
		t.Fatal("it does not end")
		return 0
	}

	faults := []openroutertest.Fault{
		{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "1"},
		{Kind: openroutertest.KindDrop, Applied: true}, {Kind: openroutertest.KindDrop},
		{Kind: openroutertest.KindCut, Applied: true}, {Kind: openroutertest.KindStatus, Status: 500, Applied: true},
	}
	file, out := aClass(t, *people)
	args := []string{"provision", file, "--limit", "2", "--out", out, "--settle", "300ms"}
	killed := untilItEnds(25, faults, openroutertest.OpCreate, args...)
	f.provided(out, *people)
	t.Logf("killed %d times; %d keys were made, %d of them deleted again", killed, len(f.Keys()), len(f.Keys())-*people)

	f.ClearFaults()
	f.ResetCalls()
	run(false, args...)
	if calls := f.Calls(); calls[openroutertest.OpCreate]+calls[openroutertest.OpDelete] != 0 {
		t.Errorf("one more run makes or deletes keys: %v", calls)
	}

	const expires = "2027-07-31"
	some := []string{}
	for i := range min(10, *people) {
		some = append(some, fmt.Sprintf("p%d@example.org", i))
	}
	of := []string{"--manifest", out, "--settle", "300ms", "--yes", "--revoke"}
	for _, args := range [][]string{
		slices.Concat([]string{"class", "replace"}, some, of),
		slices.Concat([]string{"class", "extend", "--expires", expires}, of),
	} {
		before := len(f.Keys())
		killed = untilItEnds(8, faults, openroutertest.OpCreate, args...)
		f.ClearFaults()
		f.provided(out, *people)
		t.Logf("%s, killed %d times; %d keys were made", args[1], killed, len(f.Keys())-before)
	}
	for _, key := range f.Live() {
		if key.ExpiresAt.Format(time.DateOnly) != expires {
			t.Errorf("%+v", key)
		}
	}

	killed = untilItEnds(25, []openroutertest.Fault{{Kind: openroutertest.KindDrop, Applied: true}}, openroutertest.OpDelete,
		"provision", "--revoke", filepath.Join(out, class.ManifestName), "--yes", "--settle", "300ms")
	if len(f.Live()) != 0 {
		t.Errorf("%d keys are live after --revoke", len(f.Live()))
	}
	t.Logf("revoked, killed %d times", killed)
}
