package class

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/openroutertest"
)

const day = 24 * time.Hour

func TestAnExtensionChangesKeysAndANewEndReplacesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 3, 2); err != nil {
			t.Fatal(err)
		}
		if _, err := f.act(t.Context(), set(7*account.Credit, p1), 1); err != nil {
			t.Fatal(err)
		}
		weekly, end := openrouter.Weekly, time.Now().Add(90*day).UTC().Truncate(time.Second)
		change, err := f.act(t.Context(), extend(Extension{Limit: new(3 * account.Credit), Reset: &weekly}, false), 2)
		if err != nil || len(change.Results) != 3 || f.Calls()[openroutertest.OpCreate] != 3 {
			t.Errorf("%s, %v", states(change), err)
		}
		for _, key := range f.Live() {
			if key.Limit.Credits() != 3 || key.LimitReset != weekly || !key.ExpiresAt.IsZero() {
				t.Errorf("%+v", key)
			}
		}
		for range 2 { // the second time there is nothing left to do
			if _, err := f.act(t.Context(), extend(Extension{ExpiresAt: &end}, true), 2); err != nil {
				t.Fatal(err)
			}
			f.provided(3)
			if posts := f.Calls()[openroutertest.OpCreate]; posts != 6 {
				t.Errorf("%d creates", posts)
			}
		}
		for _, key := range f.Live() {
			if key.Limit.Credits() != 3 || key.LimitReset != weekly || !key.ExpiresAt.Equal(end) {
				t.Errorf("%+v", key)
			}
		}
		// Whoever comes later has the same, and the terms of before are no longer those.
		if _, err := f.provide(t.Context(), 4, 1); err == nil {
			t.Error("the terms of before are taken")
		}
		c, err := OpenManifest(f.out)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Provide(t.Context(), people(t, 4), Terms{Limit: 3 * account.Credit, Reset: weekly, ExpiresAt: end}, f.options(t.Context(), 1)); err != nil {
			t.Fatal(err)
		}
		f.provided(4)
	})
}

func TestWhatAReplacementLeftAnExtensionFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 2, 1); err != nil {
			t.Fatal(err)
		}
		f.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 400}, 1)
		if _, err := f.act(t.Context(), replace(true, p1), 1); err == nil {
			t.Fatal("no error")
		}
		if change, err := f.act(t.Context(), extend(Extension{Limit: new(3 * account.Credit)}, false), 1); err != nil || states(change) != p0+"=changed "+p1+"=deleted "+p1+"=made" {
			t.Errorf("%s, %v", states(change), err)
		}
		f.provided(2)
	})
}

func TestAnOldKeyThatIsChangedIsOldAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 2, 1); err != nil {
			t.Fatal(err)
		}
		limit, end := 2*account.Credit, time.Now().Add(90*day).UTC().Truncate(time.Second)
		c, err := OpenManifest(f.out)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.add(entry{State: classExtended, Limit: &limit, ExpiresAt: end}); err != nil { // all that was done
			t.Fatal(err)
		}
		c.Close()
		for _, act := range []act{set(3*account.Credit, p0), extend(Extension{ExpiresAt: &end}, true)} {
			if _, err := f.act(t.Context(), act, 1); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range f.Live() {
			if !key.ExpiresAt.Equal(end) {
				t.Errorf("%+v", key)
			}
		}
		f.provided(2)
	})
}

func TestWhatHasNotBegunIsNotChanged(t *testing.T) {
	f := newFixture(t)
	c, err := OpenFolder(f.out)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, act := range []act{extend(Extension{Limit: new(account.Credit)}, false), replace(true), remove(), pause(true), set(account.Credit)} {
		_, err := act(t.Context(), c, f.options(t.Context(), 1))
		if _, ok := errors.AsType[*Unsuitable](err); !ok {
			t.Errorf("%v", err)
		}
	}
	if len(f.peek().all()) > 0 { // it can be read
		t.Error("something was done")
	}
}
