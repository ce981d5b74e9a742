//go:build e2e

package e2e

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	or "latchkey/internal/openroutertest"
)

// Under HARD_CAP and SETTLE_AFTER nothing that a user does costs more than the
// quota, though the meter is late.
func TestTheQuotaHolds(t *testing.T) {
	const settle, renew = 6, 3600 // seconds
	w := startQuiet(t, with{
		vars:    map[string]string{"TOTAL_LIMIT": "2", "HARD_CAP": "true", "SETTLE_AFTER": "6s", "RENEW_AFTER": "1h"},
		secrets: administered.secrets,
	})
	w.openrouter.SetUsageLag(4 * time.Second)

	t.Run("meanwhile", func(t *testing.T) { // until these are done
		t.Run("one who spends all and asks for more", func(t *testing.T) {
			t.Parallel()
			u := newUser(t, w)
			rng := rand.New(rand.NewPCG(1, 2))
			keys := map[string]bool{}
			refused := 0
			for began := time.Now(); time.Since(began) < 25*time.Second; {
				ask := u.get
				if rng.IntN(2) == 0 {
					ask = u.refresh
				}
				if a := ask(); a.status == 402 {
					retryAfter(t, problem(t, a, 402, "quota_exhausted"), 1, renew)
					if !strings.Contains(a.body, `"renews_at":"`) {
						t.Fatalf("it does not tell when the quota begins anew: %v", a)
					}
					refused++
				} else {
					v, err := u.check(a)
					if err != nil {
						t.Fatal(err)
					}
					keys[v.Key] = true
				}
				if rng.IntN(3) > 0 {
					for key := range keys {
						_, _ = w.openrouter.SpendUpTo(key, 1) // as much as it lets the user
					}
				}
				if cost := u.cost().Credits(); cost > 2 {
					t.Fatalf("%v credits were spent, of 2, with %d keys", cost, len(keys))
				}
				time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond) // as users do
			}
			if cost := u.cost().Credits(); cost < 1.9 || len(keys) < 2 || refused == 0 {
				t.Errorf("%v credits were spent, of 2, with %d keys, and %d requests refused", cost, len(keys), refused)
			}
		})
		t.Run("one who spends a part gets the rest once it is known", func(t *testing.T) {
			t.Parallel()
			u := newUser(t, w)
			first := u.provisioned()
			u.spend(first, 0.7)
			second := u.expect(u.refresh(), "rotated", 2, 1)
			retryAfter(t, problem(t, u.refresh(), 402, "quota_exhausted"), 1, settle)
			if v := u.expect(u.get(), "kept", 2, 1); v.Key != second.Key {
				t.Error("a refresh that was refused has cost the key")
			}
			u.expect(u.becomes(u.refresh, 200), "rotated", 1.3, 0.3)
			// The key was settled before the refresh; its DELETE may have waited for that.
			eventually(t, 20*time.Second, "the first key deleted", func() (string, bool) {
				return first.Hash, w.openrouter.Deleted(first.Hash)
			})
			var last answer
			eventually(t, 20*time.Second, "a key with as much as a key may hold", func() (string, bool) {
				last = u.get()
				return last.String(), strings.Contains(last.body, `"usage_limit":1,`)
			})
			u.settles(u.expect(last, "rotated", 1.3, 1))
			if got, want := u.ledger(), "provision 1 2, rotate 1 2, charge 0.7 1.3, rotate 0.3 1.3, rotate 1 1.3"; got != want {
				t.Errorf("the ledger is %s, want %s", got, want)
			}
		})
	})

	// Whether one more refresh is possible is asked before the key is given up.
	t.Run("one who refreshes very often keeps a key", func(t *testing.T) {
		u := newUser(t, w)
		u.provisioned()
		w.admin(t, "PATCH", u.path(), `{"remaining_limit":100}`, 200, nil)
		w.openrouter.Fail(or.OpDelete, or.Fault{Kind: or.KindStatus}, 0) // however slow this machine is
		t.Cleanup(w.openrouter.ClearFaults)
		refused := 0
		for range 70 {
			if a := u.refresh(); a.status != 200 {
				retryAfter(t, problem(t, a, 503, "upstream_unavailable"), 1, settle)
				refused++
			}
			v, err := u.check(u.get())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.openrouter.Spend(v.Key, 0.001); err != nil {
				t.Fatalf("after %d refused: the key does not work: %v", refused, err)
			}
		}
		if refused == 0 {
			t.Error("none was refused")
		}
	})
}

// becomes asks until the answer has a status, and returns it.
func (u *user) becomes(ask func() answer, status int) (a answer) {
	u.t.Helper()
	eventually(u.t, 30*time.Second, "another status", func() (string, bool) {
		a = ask()
		return a.String(), a.status == status
	})
	return a
}
