package quota

import (
	"testing"
	"time"

	"latchkey/internal/account"
)

// tenths makes a tenth of a credit readable in a table.
func tenths(n int64) account.Credits { return account.Credits(n) * account.Credit / 10 }

var standard = Policy{TotalLimit: tenths(100), KeyLimit: tenths(10), RotateBelow: tenths(5), RenewAt: tenths(1)}

func TestAReadingChargesWhatWasSpentSinceTheLastOne(t *testing.T) {
	one, hundred, none := tenths(10), tenths(1000), (*account.Credits)(nil)
	for _, c := range []struct {
		name          string
		last, reading Meter
		left, charge  account.Credits
	}{
		{"spent", Meter{&one, tenths(10)}, Meter{&one, tenths(4)}, tenths(4), tenths(6)},
		{"nothing spent", Meter{&one, tenths(7)}, Meter{&one, tenths(7)}, tenths(7), 0},
		{"overdrawn", Meter{&one, tenths(4)}, Meter{&one, tenths(-2)}, tenths(-2), tenths(6)},
		{"older news", Meter{&one, tenths(7)}, Meter{&one, tenths(10)}, tenths(7), 0},
		{"the limit raised", Meter{&one, tenths(7)}, Meter{&hundred, tenths(997)}, tenths(997), 0},
		{"the limit raised, and spent", Meter{&one, tenths(7)}, Meter{&hundred, tenths(990)}, tenths(990), tenths(7)},
		{"the limit lowered", Meter{&hundred, tenths(997)}, Meter{&one, tenths(7)}, tenths(7), 0},
		{"the limit lowered to 0", Meter{&one, tenths(8)}, Meter{new(account.Credits), tenths(-2)}, tenths(-2), 0},
		{"the limit raised, by older news", Meter{&one, tenths(7)}, Meter{&hundred, tenths(1000)}, tenths(997), 0},
		{"no limit known before", Meter{none, tenths(10)}, Meter{&one, tenths(6)}, tenths(6), tenths(4)},
		{"no limit told", Meter{&one, tenths(10)}, Meter{none, tenths(6)}, tenths(6), tenths(4)},
		{"no limit known at all", Meter{none, tenths(10)}, Meter{none, tenths(6)}, tenths(6), tenths(4)},
	} {
		now, charge := c.last.Read(c.reading)
		if now.Left != c.left || charge != c.charge {
			t.Errorf("%s: %s left, %s charged; want %s, %s", c.name, now.Left, charge, c.left, c.charge)
		}
		if again, twice := now.Read(c.reading); twice != 0 || again.Left != now.Left {
			t.Errorf("%s: read again it charges %s", c.name, twice)
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
		{"all that remains, next to nothing, hard cap", capped, tenths(1), tenths(1), false},
		{"more than remains, hard cap", capped, tenths(10), tenths(2), false},
		{"more than remains, no hard cap", standard, tenths(10), tenths(2), true},
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

// A clock that was set back does not make anybody wait longer than that.
func TestRenewalWaitsNoLongerThanRenewAfter(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	monthly := standard
	monthly.RenewAfter = 720 * time.Hour
	if got := monthly.RenewIn(began, began.Add(-24*time.Hour)); got != 720*time.Hour {
		t.Errorf("it waits for %v", got)
	}
}

// FuzzNothingIsLostOrMinted: whatever two readings say, in whatever order they
// come, all that is charged is what the higher usage says; and no key under
// HardCap exceeds what is available.
func FuzzNothingIsLostOrMinted(f *testing.F) {
	f.Add(int64(1e9), int64(4e8), int64(1e9), int64(3e8), int64(2e9))
	f.Fuzz(func(t *testing.T, limit, left, otherLimit, otherLeft, available int64) {
		bound := func(n int64) account.Credits { return account.Credits(n % int64(account.MaxCredits)) }
		meter := func(limit, left int64) (m Meter, used account.Credits) {
			l := max(bound(limit), 0)
			r := min(bound(left), l)
			return Meter{&l, r}, l - r
		}
		fresh := Meter{new(account.Credit), account.Credit}
		first, used := meter(limit, left)
		second, usedThen := meter(otherLimit, otherLeft)
		m, one := fresh.Read(first)
		m, two := m.Read(second)
		m, three := m.Read(first)
		if one < 0 || two < 0 || three != 0 || one+two != max(used, usedThen, 0) || *m.Limit-m.Left != one+two {
			t.Errorf("%v and %v cost %s, %s and %s", first, second, one, two, three)
		}
		capped := standard
		capped.HardCap = true
		if limit := capped.NewKeyLimit(bound(available)); limit < 0 || limit > max(bound(available), 0) || limit > capped.KeyLimit {
			t.Errorf("NewKeyLimit(%d) = %d", available, limit)
		}
	})
}
