package class

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/openroutertest"
)

// act opens the class, and does something to it.
type act func(ctx context.Context, c *Class, options Options) (Change, error)

func (f *fixture) act(ctx context.Context, act act, parallel int) (Change, error) {
	f.Helper()
	c, err := OpenManifest(f.out)
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	return act(ctx, c, f.options(ctx, parallel))
}

func replace(revoke bool, people ...string) act {
	return func(ctx context.Context, c *Class, options Options) (Change, error) {
		return c.Replace(ctx, people, revoke, options)
	}
}

func remove(people ...string) act {
	return func(ctx context.Context, c *Class, options Options) (Change, error) {
		return c.Remove(ctx, people, false, options)
	}
}

func extend(extension Extension, revoke bool) act {
	return func(ctx context.Context, c *Class, options Options) (Change, error) {
		return c.Extend(ctx, extension, revoke, options)
	}
}

func pause(paused bool, people ...string) act {
	return func(ctx context.Context, c *Class, options Options) (Change, error) {
		return c.Pause(ctx, people, paused, options)
	}
}

func set(limit account.Credits, people ...string) act {
	return func(ctx context.Context, c *Class, options Options) (Change, error) {
		return c.SetLimit(ctx, people, limit, options)
	}
}

// states are what became of keys, as person=state.
func states(change Change) string {
	var all []string
	for _, r := range change.Results {
		all = append(all, r.Person+"="+r.State)
	}
	return strings.Join(all, " ")
}

// liveOf are the keys of a person at OpenRouter, those that are paused too, oldest
// first.
func (f *fixture) liveOf(person string) []openroutertest.Key {
	var keys []openroutertest.Key
	for _, key := range f.Keys() {
		if !key.Deleted && strings.Split(key.Name, ":")[2] == person {
			keys = append(keys, key)
		}
	}
	return keys
}

const p0, p1 = "p0@example.org", "p1@example.org"

func TestAKeyIsReplacedAndTheOldOneTakenBackOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 3, 2); err != nil {
			t.Fatal(err)
		}
		old := f.liveOf(p1)[0]
		change, err := f.act(t.Context(), replace(true, p1), 2)
		if err != nil || states(change) != p1+"=deleted "+p1+"=made" {
			t.Errorf("%s, %v", states(change), err)
		}
		f.provided(3)
		if f.liveOf(p1)[0].Hash == old.Hash {
			t.Error("it is the old key")
		}

		// Without --revoke the old one works on, and is of the class all the same.
		change, err = f.act(t.Context(), replace(false, p1), 2)
		if keys := f.liveOf(p1); err != nil || states(change) != p1+"=replaced "+p1+"=made" || len(keys) != 2 {
			t.Errorf("%s, %v, %d keys", states(change), err, len(keys))
		}
		if _, err := f.provide(t.Context(), 3, 2); err != nil || len(f.Live()) != 4 { // it is no orphan
			t.Errorf("%v, %d keys", err, len(f.Live()))
		}
		c, err := OpenManifest(f.out)
		if err != nil {
			t.Fatal(err)
		}
		change, err = c.Remove(t.Context(), []string{p1}, true, f.options(t.Context(), 2))
		c.Close()
		if err != nil || states(change) != p1+"=deleted" {
			t.Errorf("%s, %v", states(change), err)
		}
		f.provided(3)

		// A class that is revoked takes the replaced ones with it.
		if _, err := f.act(t.Context(), replace(false, p0), 2); err != nil {
			t.Fatal(err)
		}
		if c, err = OpenManifest(f.out); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, refused, err := c.Revoke(t.Context(), f.options(t.Context(), 2)); err != nil || len(refused) > 0 || len(f.Live()) > 0 {
			t.Errorf("%v, %v, %d live keys", refused, err, len(f.Live()))
		}
		if _, err := c.Replace(t.Context(), []string{p0}, false, f.options(t.Context(), 1)); err == nil {
			t.Error("a key is replaced in a class that was revoked")
		}
	})
}

func TestAReplacementThatWasNotTakenBackMakesNoThirdKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 2, 1); err != nil {
			t.Fatal(err)
		}
		f.Fail(openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 400}, 1)
		if _, err := f.act(t.Context(), replace(true, p1), 1); err == nil {
			t.Fatal("no error")
		}
		if change, err := f.act(t.Context(), replace(true, p1), 1); err != nil || f.Calls()[openroutertest.OpCreate] != 3 {
			t.Errorf("%s, %v; %d creates", states(change), err, f.Calls()[openroutertest.OpCreate])
		}
		f.provided(2)
	})
}

func TestWhoIsRemovedGetsNoKeyUntilTakenInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 3, 2); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it can be done again
			if change, err := f.act(t.Context(), remove(p1), 2); err != nil || !strings.HasPrefix(states(change), p1+"=") {
				t.Errorf("%s, %v", states(change), err)
			}
			f.provided(2)
		}
		provided, err := f.provide(t.Context(), 3, 2)
		if err != nil || provided.Had != 2 || provided.Made != 0 || provided.Results[1].State != Removed {
			t.Errorf("%+v, %v", provided, err)
		}
		if change, err := f.act(t.Context(), replace(false, p1), 2); err != nil || states(change) != p1+"=made" {
			t.Errorf("%s, %v", states(change), err)
		}
		f.provided(3)
	})
}

// A person whose key was asked for and not answered may have one.
func TestRemovingWaitsForAKeyOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.losePost(1)
		if change, err := f.act(t.Context(), remove(p0), 1); err != nil || states(change) != p0+"=removed" || len(f.Live()) > 0 {
			t.Errorf("%s, %v, %d live keys", states(change), err, len(f.Live()))
		}
		if provided, err := f.provide(t.Context(), 1, 1); err != nil || provided.Results[0].State != Removed || len(f.Live()) > 0 {
			t.Errorf("%+v, %v", provided, err)
		}
	})
}

func TestPauseAndResumeAndALimitOfOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 2, 2); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			change, err := f.act(t.Context(), pause(true, p0, p1), 2)
			if err != nil || states(change) != p0+"=paused "+p1+"=paused" || f.Spend(f.liveOf(p1)[0].Secret, 0.1) == nil {
				t.Errorf("%s, %v", states(change), err)
			}
		}
		// Who is paused stays so with a new key, and with a limit of their own.
		for _, act := range []act{set(5*account.Credit, p1), replace(true, p1)} {
			if _, err := f.act(t.Context(), act, 1); err != nil {
				t.Fatal(err)
			}
			key := f.liveOf(p1)[0]
			if key.Limit == nil || key.Limit.Credits() != 5 || !key.Disabled {
				t.Errorf("%+v", key)
			}
		}
		if change, err := f.act(t.Context(), pause(false, p0, p1), 2); err != nil || states(change) != p0+"=resumed "+p1+"=resumed" {
			t.Errorf("%s, %v", states(change), err)
		}
		f.provided(2)
	})
}

func TestKeysAreUnderTheGuardrailBeforeTheyAreInTheirFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		id := f.AddGuardrail("small models", "openai/gpt-4o-mini")
		f.Fail(openroutertest.OpAssign, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 400}, 1)
		provide := func() error {
			c, err := OpenFolder(f.out)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Provide(t.Context(), people(t, 2), Terms{Limit: 2 * account.Credit, Guardrail: id}, f.options(t.Context(), 1))
			return err
		}
		if err := provide(); err == nil || !strings.Contains(err.Error(), "was given back") || len(f.Live()) > 0 {
			t.Errorf("%v, %d live keys", err, len(f.Live()))
		}
		f.Fail(openroutertest.OpAssign, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 503}, 2)
		if err := provide(); err != nil {
			t.Fatal(err)
		}
		f.provided(2)
		for _, key := range f.Live() {
			if key.GuardrailID != id {
				t.Errorf("%+v", key)
			}
		}
	})
}

func TestAClassInAWorkspaceStaysInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workspace = "0df9e665-d932-5740-b2c7-b52af166bc11"
		f := newFixture(t)
		f.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 1) // an orphan, to be found there
		c, err := OpenFolder(f.out)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Provide(t.Context(), people(t, 2), Terms{Limit: 2 * account.Credit, Workspace: workspace}, f.options(t.Context(), 1))
		c.Close()
		if err != nil {
			t.Fatal(err)
		}
		f.provided(2)
		if _, err := f.act(t.Context(), replace(true, p0), 1); err != nil {
			t.Fatal(err)
		}
		f.provided(2)
		for _, key := range f.Live() {
			if key.WorkspaceID != workspace {
				t.Errorf("%+v", key)
			}
		}
		standings, err := f.peek().Status(t.Context(), f.options(t.Context(), 1))
		if err != nil || len(standings) != 2 || standings[0].State != Active {
			t.Errorf("%+v, %v", standings, err)
		}
	})
}

// ownAndOther provides for one person, and makes a key that is none of the class. It
// returns the person's, and the hash of the other.
func (f *fixture) ownAndOther() (own openroutertest.Key, other string) {
	f.T.Helper()
	if _, err := f.provide(f.T.Context(), 1, 1); err != nil {
		f.T.Fatal(err)
	}
	own = f.Keys()[0]
	_, other, err := f.options(f.T.Context(), 1).Account.Create(openrouter.NewKey{Name: "latchkey:u_42:op", Limit: new(9 * account.Credit)})
	if err != nil {
		f.T.Fatal(err)
	}
	return own, other
}

// A list that shows a name of the class beside the hash of another key, or without one.
func TestAListThatIsWrongCostsNobodyAKey(t *testing.T) {
	for name, wrong := range map[string]bool{"another's hash": true, "no hash": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				own, hash := f.ownAndOther()
				if !wrong {
					hash = ""
				}
				list, err := json.Marshal(map[string]any{"data": []any{map[string]string{"name": own.Name, "hash": hash}}})
				if err != nil {
					t.Fatal(err)
				}
				f.Fail(openroutertest.OpList, openroutertest.Fault{Kind: openroutertest.KindAlter, Patch: list}, 1)
				if _, err := f.provide(t.Context(), 1, 1); err == nil || !strings.Contains(err.Error(), own.Name) {
					t.Errorf("the list was believed: %v", err)
				}
				if len(f.Live()) != 2 {
					t.Errorf("%d live keys, not 2", len(f.Live()))
				}
			})
		})
	}
}

func TestOnlyKeysOfTheClassAreChanged(t *testing.T) {
	for name, act := range map[string]act{
		"pause": pause(true, p0), "set": set(account.Credit, p0), "remove": remove(p0), "replace": replace(true, p0), "extend": extend(Extension{Limit: new(account.Credit)}, false),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				own, other := f.ownAndOther()
				path := filepath.Join(f.out, ManifestName)
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.WriteFile(path, []byte(strings.ReplaceAll(string(text), own.Hash, other)), 0o600), os.Remove(filepath.Join(f.out, p0+".key"))); err != nil {
					t.Fatal(err)
				}
				change, err := f.act(t.Context(), act, 1)
				if err != nil || len(change.Refused) != 1 || !strings.Contains(states(change), Refused) {
					t.Errorf("%s, %v, %v", states(change), change.Refused, err)
				}
				for _, key := range f.Live() {
					if key.Hash == other && !key.Disabled && key.Limit.Credits() == 9 {
						return
					}
				}
				t.Errorf("%+v", f.Live())
			})
		})
	}
}
