//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// Under SETTLE_AFTER a rotated key is disabled, the new one is there at once,
// and what shows up late is charged before the old one is deleted.
func TestSettleChargesWhatShowsUpLate(t *testing.T) {
	w := startQuiet(t, with{vars: map[string]string{"SETTLE_AFTER": "3s"}})
	u := newUser(t, w)
	old := u.provisioned()
	w.behind.Store(int64(time.Hour))
	u.spend(old, 0.6) // an hour ago
	w.behind.Store(0)
	u.spend(old, 0.2) // just now
	w.openrouter.SetUsageLag(30 * time.Minute)
	u.mark()
	v := u.expect(u.get(), "rotated", 9.4, 1)
	u.called("GET PATCH POST")
	for _, key := range w.openrouter.Keys() {
		if key.Hash == old.Hash && (key.Deleted || !key.Disabled) {
			t.Errorf("the old key is %+v", key)
		}
	}
	w.openrouter.SetUsageLag(0)
	eventually(t, 20*time.Second, "the old key's end", func() (string, bool) { return u.methods(), w.openrouter.Deleted(old.Hash) })
	u.called("GET DELETE")
	u.settles(v)
	ledger := u.inD1(u.expect(u.get(), "kept", 9.2, 1), 20*time.Second)
	if got, want := kinds(ledger), "provision 1 10, charge 0.6 9.4, rotate 1 9.4, charge 0.2 9.2"; got != want {
		t.Errorf("the ledger is %s, want %s", got, want)
	}
}
