package class

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/class/classtest"
	"latchkey/internal/openroutertest"
)

// What a command leaves that dies at any of its calls, before it took effect or
// after: the same command goes on, and what is on disk then is what was at that call.
func TestWhateverEndsAChangeTheSameCommandFinishesIt(t *testing.T) {
	limit, end := 3*account.Credit, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		act   act
		check func(f *fixture)
	}{
		"replace, revoke": {replace(true, p0, p1), func(f *fixture) { f.provided(2) }},
		"replace": {replace(false, p0), func(f *fixture) {
			// Whoever ended it just before its end does not know that it was done.
			if n := len(f.liveOf(p0)); n < 2 || n > 3 || len(f.Live()) != n+1 {
				f.Errorf("%d keys, %d of them theirs", len(f.Live()), n)
			}
			if open := f.peek().in(asked, replacing); len(open) > 0 {
				f.Errorf("open: %+v", open)
			}
		}},
		"remove": {remove(p0), func(f *fixture) {
			f.provided(1)
			if posts := f.Calls()[openroutertest.OpCreate]; posts != 2 {
				f.Errorf("%d keys were made", posts)
			}
		}},
		"extend, revoke": {extend(Extension{Limit: &limit, ExpiresAt: &end}, true), func(f *fixture) {
			f.provided(2)
			for _, key := range f.Live() {
				if !key.ExpiresAt.Equal(end) || key.Limit.Credits() != 3 {
					f.Errorf("%+v", key)
				}
			}
		}},
		"extend": {extend(Extension{Limit: &limit}, false), func(f *fixture) {
			f.provided(2)
			for _, key := range f.Live() {
				if key.Limit.Credits() != 3 {
					f.Errorf("%+v", key)
				}
			}
		}},
		"set": {set(limit, p0, p1), func(f *fixture) {
			f.provided(2)
			if f.liveOf(p0)[0].Limit.Credits() != 3 || f.liveOf(p1)[0].Limit.Credits() != 3 {
				f.Errorf("%+v", f.Live())
			}
		}},
		"pause": {pause(true, p0, p1), func(f *fixture) {
			if !f.liveOf(p0)[0].Disabled || !f.liveOf(p1)[0].Disabled {
				f.Errorf("%+v", f.Live())
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			deaths := 0
			for n := 1; ; n++ {
				reached := false
				for _, applied := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { reached = diesAtCall(t, n, applied, c.act, c.check) || reached })
				}
				if !reached {
					break
				}
				deaths++
			}
			if deaths < 2 {
				t.Errorf("it died at %d calls", deaths)
			}
		})
	}
}

// diesAtCall lets something die at its nth call, and do it again. It tells whether
// there are so many calls.
func diesAtCall(t *testing.T, n int, applied bool, act act, check func(*fixture)) (reached bool) {
	f := newFixture(t)
	if _, err := f.provide(t.Context(), 2, 1); err != nil {
		t.Fatal(err)
	}
	ctx, die := context.WithCancel(t.Context())
	defer die()
	saved := filepath.Join(classtest.MemoryDir(t), "saved")
	calls := 0
	f.wrap = func(r *http.Request) (*http.Response, error) {
		if calls++; calls == n {
			if err := os.CopyFS(saved, os.DirFS(f.out)); err != nil {
				t.Error(err)
			}
			if applied {
				if _, err := f.Server.RoundTrip(r); err != nil {
					t.Error(err)
				}
			}
			die()
		}
		if calls >= n {
			return nil, io.ErrUnexpectedEOF
		}
		return f.Server.RoundTrip(r)
	}
	_, err := f.act(ctx, act, 1)
	if calls < n {
		return false
	}
	if err == nil {
		t.Errorf("call %d: it lived", n)
	}
	f.wrap = nil
	if err := errors.Join(os.RemoveAll(f.out), os.CopyFS(f.out, os.DirFS(saved)), private(f.out)); err != nil {
		t.Fatal(err)
	}
	// Somebody may provision the class first. It goes on too, or is refused since the
	// terms are others by now.
	if applied {
		if _, err := f.provide(t.Context(), 2, 1); err != nil {
			if _, ok := errors.AsType[*Unsuitable](err); !ok {
				t.Error(err)
			}
		}
	}
	if change, err := f.act(t.Context(), act, 1); err != nil {
		t.Errorf("call %d, applied %t: %s, %v", n, applied, states(change), err)
	}
	check(f)
	if t.Failed() {
		t.Fatalf("call %d, applied %t", n, applied)
	}
	return true
}

// private gives a folder and its files the modes that they had.
func private(folder string) error {
	entries, err := os.ReadDir(folder)
	errs := []error{err, os.Chmod(folder, 0o700)}
	for _, e := range entries {
		errs = append(errs, os.Chmod(filepath.Join(folder, e.Name()), 0o600))
	}
	return errors.Join(errs...)
}
