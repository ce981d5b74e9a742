//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	or "latchkey/internal/openroutertest"
)

// Under ROTATION_OVERLAP the new key comes first, and the old one goes on working
// for a while.
func TestRotationOverlap(t *testing.T) {
	const overlap = 8 * time.Second
	w := startQuiet(t, with{vars: map[string]string{"ROTATION_OVERLAP": overlap.String()}})
	rotated := func(u *user) (old, v view) {
		u.t.Helper()
		old = u.provisioned()
		u.spend(old, 0.6)
		v = u.expect(u.get(), "rotated", 9.4, 1)
		u.called("GET POST")
		u.spend(old, 0.1)
		return old, v
	}
	t.Run("the old key works until it is over, and is charged", func(t *testing.T) {
		t.Parallel()
		u := newUser(t, w)
		old, v := rotated(u)
		began := time.Now()
		eventually(t, 2*overlap, "the end of the old key", func() (string, bool) {
			err := w.openrouter.Spend(old.Key, 0.0001)
			return "", err == or.ErrKeyDisabled || err == or.ErrKeyNotFound
		})
		if took := time.Since(began); took < overlap-time.Second {
			t.Errorf("the old key worked for %v", took)
		}
		u.settles(v)
		eventually(t, 20*time.Second, "the old key's end", func() (string, bool) { return u.methods(), u.methods() == "PATCH GET DELETE" })
		left := 10*nano - int64(u.cost())
		u.adds(u.expect(u.get(), "kept", float64(left)/nano, 1))
	})
	for _, fault := range []or.Fault{{Kind: or.KindStatus}, {Kind: or.KindStatus, Status: 401}, {Kind: or.KindDrop, Applied: true}} {
		u := newUser(t, w)
		old := u.provisioned()
		u.spend(old, 0.6)
		w.openrouter.Fail(or.OpCreate, fault, 2)
		for range 2 {
			if v := u.expect(u.get(), "kept", 9.4, 0.4); v.Key != old.Key {
				t.Error("the key is another one")
			}
		}
		u.called("GET POST GET POST")
		v := u.expect(u.get(), "rotated", 9.4, 1)
		t.Run(fmt.Sprintf("no POST works: %s", nameOf(fault)), func(t *testing.T) {
			t.Parallel()
			u.t = t
			u.settles(v)
		})
	}
	t.Run("a refresh ends the old key too, at once", func(t *testing.T) {
		t.Parallel()
		u := newUser(t, w)
		began := time.Now()
		old, _ := rotated(u)
		v := u.expect(u.refresh(), "rotated", 9.4, 1)
		eventually(t, overlap, "the old key's end", func() (string, bool) { return u.methods(), len(u.live()) == 1 })
		if took := time.Since(began); took >= overlap {
			t.Errorf("that took %v", took)
		}
		u.settles(v)
		eventually(t, 20*time.Second, "what it cost", func() (string, bool) { return u.methods(), w.openrouter.Deleted(old.Hash) })
		u.adds(u.expect(u.get(), "kept", 9.3, 1))
	})
}
