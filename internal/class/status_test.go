package class

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
)

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 6, 1); err != nil {
			t.Fatal(err)
		}
		keys := f.Live()
		spend := func(i int, credits float64) {
			t.Helper()
			if err := f.Spend(keys[i].Secret, credits); err != nil {
				t.Fatal(err)
			}
		}
		spend(0, 0.25)
		spend(1, 2)
		time.Sleep(40 * day)
		spend(2, 0.5)
		time.Sleep(2 * day)
		spend(3, 1)
		used := time.Now().UTC().Add(-2 * day).Format(time.DateOnly)
		for _, act := range []act{pause(true, "p4@example.org"), replace(false, "p3@example.org"), set(4*account.Credit, "p2@example.org")} {
			if _, err := f.act(t.Context(), act, 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.options(t.Context(), 1).Account.Delete(keys[5].Hash); err != nil {
			t.Fatal(err)
		}
		if err := f.SetDisabled(keys[0].Hash, true); err != nil { // somebody, at OpenRouter
			t.Fatal(err)
		}
		f.said = nil
		standings, err := f.peek().Status(t.Context(), f.options(t.Context(), 2))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range standings {
			line := strings.TrimSuffix(s.Person, "@example.org") + " " + s.State
			if s.Used != nil {
				line += fmt.Sprintf(" %v of %v, left %v, %s", s.Used, s.Limit, s.Left, s.LastUsed)
			}
			got = append(got, line)
		}
		long := "before " + time.Now().UTC().AddDate(0, 0, -30).Format(time.DateOnly)
		want := []string{
			"p0 paused 0.25 of 2, left 1.75, " + long, "p1 exhausted 2 of 2, left 0, " + long, "p2 active 0.5 of 4, left 3.5, " + used,
			"p3 replaced 1 of 2, left 1, " + time.Now().UTC().Format(time.DateOnly), "p3 active 0 of 2, left 2, ", "p4 paused 0 of 2, left 2, ", "p5 gone",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if len(f.said) != 1 || !strings.Contains(f.said[0], "the key of p0@example.org") {
			t.Errorf("said %q", f.said)
		}
	})
}

func TestEveryStateOfAStandingIsAmongThem(t *testing.T) {
	f := newFixture(t)
	r := f.peek().run(f.options(t.Context(), 1))
	left := func(credits account.Credits) *openrouter.Amount { return &openrouter.Amount{Credits: credits} }
	keys := []openrouter.KeyRecord{
		{}, {Remaining: left(account.Credit)}, {Remaining: left(0)}, {Disabled: true}, {ExpiresAt: time.Now().Add(-time.Second)},
	}
	seen := map[string]bool{}
	for _, is := range append(slices.Clone(holding), asked, removed, deleted, absent, revoked) {
		for _, key := range keys {
			for _, there := range []bool{true, false} {
				state := r.standing(entry{State: is}, key, there).State
				seen[state] = true
				if !slices.Contains(States[:], state) {
					t.Errorf("a key that is %s in the manifest is shown as %q, which States does not have", is, state)
				}
			}
		}
	}
	if len(seen) != len(States) {
		t.Errorf("seen are %v, of %v", slices.Sorted(maps.Keys(seen)), States)
	}
}

func TestAHandoutHasTheKeysThatAreInTheirFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 3, 1); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(f.out, p1+".key")); err != nil {
			t.Fatal(err)
		}
		handed, missing := f.peek().Handout()
		if len(handed) != 2 || len(missing) != 1 || handed[0].Name != "Person 0" || handed[0].Email != p0 || handed[0].Key.Reveal() != f.liveOf(p0)[0].Secret {
			t.Errorf("%+v, %v", handed, missing)
		}
		path := filepath.Join(t.TempDir(), "handout.csv")
		if err := WriteHandout(path, "x"); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		if err := WriteHandout(path, "y"); err == nil {
			t.Error("it was written over")
		}
	})
}
