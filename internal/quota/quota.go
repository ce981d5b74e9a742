// Package quota is the policy: what a reading of a key costs, whether the key
// stays, and when a spent quota begins anew. It decides and does nothing else.
package quota

import (
	"time"

	"latchkey/internal/account"
)

// Policy holds the limits that an operator sets.
type Policy struct {
	TotalLimit  account.Credits // what a quota begins with
	KeyLimit    account.Credits // the limit of a new key
	RotateBelow account.Credits // a key with this much or less left is replaced
	RenewAt     account.Credits // a quota with this much or less left is spent
	RenewAfter  time.Duration   // how long a quota lasts at the least; 0: a spent one is renewed at once
	HardCap     bool            // all keys of a user together may cost no more than what remains of the quota
}

// Spent tells whether a quota with this much left is used up.
func (p Policy) Spent(remaining account.Credits) bool { return remaining <= p.RenewAt }

// RenewIn is how long a quota that began then has to wait until it may be
// renewed; 0 or less: it may be renewed now. It is never longer than RenewAfter,
// also where the clock has been set back since.
func (p Policy) RenewIn(began, now time.Time) time.Duration {
	return min(began.Add(p.RenewAfter).Sub(now), p.RenewAfter)
}

// Keeps tells whether a key with this much left stays, where this much of the
// quota is available for it: what remains, less what other keys of the user may
// still cost. Under HardCap no key may hold more than that, and one that holds
// all of it stays until it is used up, since no new one could hold more.
func (p Policy) Keeps(left, available account.Credits) bool {
	switch {
	case !p.HardCap:
		return left > p.RotateBelow
	case left == available:
		return left > p.RotateBelow || left > p.RenewAt
	}
	return left > p.RotateBelow && left < available
}

// Allows tells whether there may be another key, where this much is available for it.
func (p Policy) Allows(available account.Credits) bool { return !p.HardCap || available > p.RenewAt }

// NewKeyLimit is the limit of a new key, where this much is available for it.
// It is never below 0: OpenRouter would refuse that.
func (p Policy) NewKeyLimit(available account.Credits) account.Credits {
	if p.HardCap {
		return max(min(p.KeyLimit, available), 0)
	}
	return p.KeyLimit
}

// Meter is what is known of a key: its limit, and what is left of that.
type Meter struct {
	Limit *account.Credits // nil: not known
	Left  account.Credits  // below 0 where the key was overdrawn
}

// Read returns the meter after a reading, and what was spent in between. What
// was spent on a key never falls: a reading that says so is older than the last
// one, and costs nothing, now or later. A limit that was changed is no usage.
func (m Meter) Read(reading Meter) (now Meter, charge account.Credits) {
	if reading.Limit == nil {
		reading.Limit = m.Limit
	}
	if m.Limit == nil {
		m.Limit = reading.Limit
	}
	raised := account.Credits(0)
	if reading.Limit != nil {
		raised = *reading.Limit - *m.Limit
	}
	left := m.Left + raised // if nothing was spent
	now = Meter{reading.Limit, min(left, reading.Left)}
	return now, left - now.Left
}
