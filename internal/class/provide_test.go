package class

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openroutertest"
)

// What a run leaves that dies between two of its steps, while it works for the last
// of three people.
func TestARunAgainMendsWhatDyingLeaves(t *testing.T) {
	const name = "p2@example.org.key"
	for what, c := range map[string]struct {
		spoil  func(t *testing.T, out string, lines []string) []string // returns the manifest's lines
		posts  int                                                     // of the next run
		closed state                                                   // of the attempt
	}{
		"after the key was live": {func(_ *testing.T, _ string, lines []string) []string { return lines }, 0, live},
		"after the file was written": {func(_ *testing.T, _ string, lines []string) []string {
			return lines[:len(lines)-1]
		}, 0, live},
		"within the line that says so": {func(_ *testing.T, _ string, lines []string) []string {
			last := lines[len(lines)-1]
			return append(lines[:len(lines)-1], last[:len(last)/2])
		}, 0, live},
		"but for the end of that line": {func(_ *testing.T, _ string, lines []string) []string {
			last := lines[len(lines)-1]
			return append(lines[:len(lines)-1], strings.TrimSuffix(last, "\n"))
		}, 0, live},
		"before the temporary name was gone": {func(t *testing.T, out string, lines []string) []string {
			if err := os.Link(filepath.Join(out, name), filepath.Join(out, temporary+name)); err != nil {
				t.Fatal(err)
			}
			return lines[:len(lines)-1]
		}, 0, live},
		"before the file had its name": {func(t *testing.T, out string, lines []string) []string {
			if err := os.Rename(filepath.Join(out, name), filepath.Join(out, temporary+name)); err != nil {
				t.Fatal(err)
			}
			return lines[:len(lines)-1]
		}, 1, deleted},
		"while the file was written": {func(t *testing.T, out string, lines []string) []string {
			if err := errors.Join(os.Remove(filepath.Join(out, name)), os.WriteFile(filepath.Join(out, temporary+name), []byte("sk-or"), 0o600)); err != nil {
				t.Fatal(err)
			}
			return lines[:len(lines)-1]
		}, 1, deleted},
		"after the key was made": {func(t *testing.T, out string, lines []string) []string {
			if err := os.Remove(filepath.Join(out, name)); err != nil {
				t.Fatal(err)
			}
			return lines[:len(lines)-1]
		}, 1, deleted},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				if _, err := f.provide(t.Context(), 3, 1); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(f.out, ManifestName)
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
				lines[len(lines)-1] += "\n"
				var last entry
				if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.File != name {
					t.Fatalf("%+v, %v", last, err)
				}
				if err := os.WriteFile(path, []byte(strings.Join(c.spoil(t, f.out, lines), "")), 0o600); err != nil {
					t.Fatal(err)
				}
				f.ResetCalls()
				if _, err := f.provide(t.Context(), 3, 1); err != nil {
					t.Fatal(err)
				}
				f.provided(3)
				if posts := f.Calls()[openroutertest.OpCreate]; posts != c.posts {
					t.Errorf("%d creates, want %d", posts, c.posts)
				}
				if attempt, _ := f.peek().named(last.KeyName); attempt.State != c.closed {
					t.Errorf("the attempt is %s, want %s", attempt.State, c.closed)
				}
			})
		})
	}
}

func TestAnAttemptThatWasNeverSentIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 400}, 1)
		if _, err := f.provide(t.Context(), 1, 1); err == nil { // refused: surely not made
			t.Fatal("no error")
		}
		c, err := OpenFolder(f.out)
		if err != nil {
			t.Fatal(err)
		}
		if attempt, _ := c.of("p0@example.org"); attempt.State != absent {
			t.Errorf("the attempt is %s", attempt.State)
		}
		if err := c.add(entry{State: asked, Person: "p0@example.org", KeyName: "never sent", File: "p0@example.org.key"}); err != nil {
			t.Fatal(err)
		}
		c.Close()
		began := time.Now()
		if _, err := f.provide(t.Context(), 1, 1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != f.settle {
			t.Errorf("looked once more after %v, not %v", took, f.settle)
		}
		f.provided(1)
	})
}

func TestProvideUnderFaults(t *testing.T) {
	status := func(status int, applied bool) openroutertest.Fault {
		return openroutertest.Fault{Kind: openroutertest.KindStatus, Status: status, Applied: applied}
	}
	for name, c := range map[string]struct {
		op    openroutertest.Op
		fault openroutertest.Fault
		times int
	}{
		"busy, for a minute":      {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "60"}, 3},
		"busy, nobody knows when": {openroutertest.OpCreate, status(429, false), 2},
		"busy, and yet done":      {openroutertest.OpCreate, status(429, true), 1},
		"dropped and done":        {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 3},
		"dropped and not done":    {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindDrop}, 3},
		"cut and done":            {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindCut, Applied: true}, 2},
		"cut and not done":        {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindCut}, 2},
		"500 and done":            {openroutertest.OpCreate, status(500, true), 2},
		"500 and not done":        {openroutertest.OpCreate, status(500, false), 2},
		"HTML":                    {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindHTML, Applied: true}, 1},
		"a list that fails":       {openroutertest.OpList, status(503, false), 2},
		"a delete that fails":     {openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				if c.op == openroutertest.OpDelete { // only what was lost is deleted
					f.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 1)
				}
				f.Fail(c.op, c.fault, c.times)
				provided, err := f.provide(t.Context(), 12, 4)
				if err != nil || provided.Made != 12 || provided.Had != 0 {
					t.Errorf("%d made, %d had before; %v", provided.Made, provided.Had, err)
				}
				f.provided(12)
			})
		})
	}
}

// A create that was dropped takes effect only after the first look for its key.
func TestAKeyThatIsMadeLateIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		posts := 0
		f.wrap = func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				posts++
			}
			if r.Method != http.MethodPost || posts != 2 {
				return f.Server.RoundTrip(r)
			}
			posts++
			again := r.Clone(context.Background())
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			again.Body = io.NopCloser(strings.NewReader(string(body)))
			time.AfterFunc(f.settle-time.Second, func() { _, _ = f.Server.RoundTrip(again) }) // nobody hears of it
			return nil, io.ErrUnexpectedEOF
		}
		provided, err := f.provide(t.Context(), 3, 1)
		if err != nil || provided.Orphans != 1 || !slices.ContainsFunc(f.said, func(line string) bool { return strings.Contains(line, "once more") }) {
			t.Errorf("%+v, %v, said %q", provided, err, f.said)
		}
		f.provided(3)
		// That an attempt is closed later than the one after it hides no key.
		if _, err := f.provide(t.Context(), 3, 1); err != nil {
			t.Fatal(err)
		}
		f.provided(3)
		if keys := len(f.Keys()); keys != 4 {
			t.Errorf("%d keys were made", keys)
		}
	})
}

func TestAnInterruptionLosesNothing(t *testing.T) {
	for _, parallel := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			f := newFixture(t)
			posts := make(chan struct{}, 100)
			f.wrap = func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPost {
					if posts <- struct{}{}; len(posts) == 5 {
						interrupt()
					}
				}
				time.Sleep(10 * time.Millisecond) // in which others are under way
				return f.Server.RoundTrip(r)
			}
			if _, err := f.provide(ctx, 20, parallel); !errors.Is(err, ErrInterrupted) {
				t.Errorf("%v", err)
			}
			made := len(f.Keys())
			if made < 5 || made > 5+parallel {
				t.Errorf("%d keys", made)
			}
			f.provided(made)
			provided, err := f.provide(t.Context(), 20, parallel)
			if err != nil || provided.Made != 20-made || provided.Had != made {
				t.Errorf("%d made, %d had before; %v", provided.Made, provided.Had, err)
			}
			f.provided(20)
			if len(f.Keys()) != 20 {
				t.Errorf("%d keys were made", len(f.Keys()))
			}
		})
	}
}

// A key that cannot be kept is given back: a folder is in the place of its file.
func TestAKeyThatCannotBeKeptIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if err := os.MkdirAll(filepath.Join(f.out, temporary+"p0@example.org.key", "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := f.provide(t.Context(), 1, 1); err == nil {
			t.Error("no error")
		}
		if len(f.Live()) != 0 {
			t.Errorf("%d live keys", len(f.Live()))
		}
	})
}

// Two people of one file are in manifests of earlier versions. Both ask for a key before
// either has its file.
func TestOfTwoPeopleOfOneFileOneGivesTheKeyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c, err := OpenFolder(f.out)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.add(entry{State: classBegun, Class: "c", Identity: "id", Limit: new(account.Credit)}); err != nil {
			t.Fatal(err)
		}
		f.wrap = func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second) // in which the other asks
			return f.Server.RoundTrip(r)
		}
		err = c.run(f.options(t.Context(), 2)).provide(t.Context(), []member{{person: "a/b", file: "a-b.key"}, {person: "a-b", file: "a-b.key"}})
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%v", err)
		}
		if made := len(f.Keys()); made != 2 {
			t.Errorf("%d keys were made", made)
		}
		f.provided(1)
	})
}

func TestRevokeDeletesWhatWasNotAnsweredToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 3, 1); err != nil {
			t.Fatal(err)
		}
		f.losePost(4)
		for range 2 { // it can be done again
			c, err := OpenManifest(filepath.Join(f.out, ManifestName))
			if err != nil {
				t.Fatal(err)
			}
			results, refused, err := c.Revoke(t.Context(), f.options(t.Context(), 2))
			c.Close()
			if err != nil || len(refused) != 0 || len(results) != 3 || len(f.Live()) != 0 {
				t.Errorf("%+v, refused %v, %v; %d live keys", results, refused, err, len(f.Live()))
			}
		}
		if _, err := f.provide(t.Context(), 3, 1); err == nil {
			t.Error("a class that was revoked goes on")
		}
	})
}
