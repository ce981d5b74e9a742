package quota

import (
	"testing"
	"time"

	"latchkey/internal/account"
)

// tenths makes a tenth of a credit readable in a table.
func tenths(n int64) account.Credits { return account.Credits(n) * account.Credit / 10 }

var standard = Policy{TotalLimit: tenths(100), KeyLimit: tenths(10), RotateBelow: tenths(5), RenewAt: tenths(1)}

func TestChargeIsWhatWasSpentAndNeverARefund(t *testing.T) {
	for _, c := range []struct{ before, after, want account.Credits }{
		{tenths(10), tenths(4), tenths(6)},
		{tenths(10), tenths(10), 0},
		{tenths(10), tenths(50), 0},
		{tenths(4), tenths(-2), tenths(6)},
	} {
		if got := Charge(c.before, c.after); got != c.want {
			t.Errorf("Charge(%s, %s) = %s, want %s", c.before, c.after, got, c.want)
		}
	}
}

func TestKeepsAKeyAboveTheThresholdOnly(t *testing.T) {
	capped := standard
	capped.HardCap = true
	for _, c := range []struct {
		name            string
		policy          Policy
		left, remaining account.Credits
		want            bool
	}{
		{"above", standard, tenths(5) + 1, tenths(90), true},
		{"at the threshold", standard, tenths(5), tenths(90), false},
		{"below", standard, tenths(4), tenths(90), false},
		{"below, all that remains, no hard cap", standard, tenths(3), tenths(3), false},
		{"below, all that remains, hard cap", capped, tenths(3), tenths(3), true},
		{"below, more remains, hard cap", capped, tenths(3), tenths(4), false},
	} {
		if got := c.policy.Keeps(c.left, c.remaining); got != c.want {
			t.Errorf("%s: Keeps = %v", c.name, got)
		}
	}
}

func TestNewKeyLimitIsCappedByWhatRemainsUnderHardCap(t *testing.T) {
	capped := standard
	capped.HardCap = true
	for _, c := range []struct {
		policy          Policy
		remaining, want account.Credits
	}{
		{standard, tenths(3), tenths(10)},
		{capped, tenths(90), tenths(10)},
		{capped, tenths(3), tenths(3)},
		{capped, tenths(-2), 0},
	} {
		if got := c.policy.NewKeyLimit(c.remaining); got != c.want {
			t.Errorf("HardCap %v, %s left: limit %s, want %s", c.policy.HardCap, c.remaining, got, c.want)
		}
	}
}

func TestAQuotaIsSpentAtTheThreshold(t *testing.T) {
	for remaining, want := range map[account.Credits]bool{
		tenths(1) + 1: false, tenths(1): true, 0: true, tenths(-3): true,
	} {
		if got := standard.Spent(remaining); got != want {
			t.Errorf("Spent(%s) = %v", remaining, got)
		}
	}
}

func TestRenewalWaitsForRenewAfter(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	monthly := standard
	monthly.RenewAfter = 720 * time.Hour
	for _, c := range []struct {
		policy Policy
		after  time.Duration
		want   time.Duration
	}{
		{standard, 0, 0},
		{monthly, time.Hour, 719 * time.Hour},
		{monthly, 720 * time.Hour, 0},
		{monthly, 721 * time.Hour, -time.Hour},
	} {
		if got := c.policy.RenewIn(began, began.Add(c.after)); got != c.want {
			t.Errorf("RenewAfter %v, %v later: %v, want %v", c.policy.RenewAfter, c.after, got, c.want)
		}
	}
}

// FuzzNothingIsLostOrMinted: whatever the readings, what was charged is what
// went from the quota, and no key under HardCap exceeds what remains.
func FuzzNothingIsLostOrMinted(f *testing.F) {
	f.Add(int64(1e9), int64(4e8), int64(3e8))
	f.Fuzz(func(t *testing.T, before, after, remaining int64) {
		bound := func(n int64) account.Credits { return account.Credits(n % int64(account.MaxCredits)) }
		charge := Charge(bound(before), bound(after))
		if charge < 0 || charge > 0 && bound(after)+charge != bound(before) {
			t.Errorf("Charge(%d, %d) = %d", before, after, charge)
		}
		capped := standard
		capped.HardCap = true
		if limit := capped.NewKeyLimit(bound(remaining)); limit < 0 || limit > max(bound(remaining), 0) || limit > capped.KeyLimit {
			t.Errorf("NewKeyLimit(%d) = %d", remaining, limit)
		}
	})
}
