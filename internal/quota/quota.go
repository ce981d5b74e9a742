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
	HardCap     bool            // no key may hold more than what remains of the quota
}

// Spent tells whether a quota with this much left is used up.
func (p Policy) Spent(remaining account.Credits) bool { return remaining <= p.RenewAt }

// RenewIn is how long a quota that began then has to wait until it may be
// renewed; 0 or less: it may be renewed now.
func (p Policy) RenewIn(began, now time.Time) time.Duration {
	return began.Add(p.RenewAfter).Sub(now)
}

// Charge is what was spent on a key between two readings of what is left on
// it. A limit that an operator raised in between is no refund.
func Charge(before, after account.Credits) account.Credits { return max(before-after, 0) }

// Keeps tells whether a key with this much left stays, where this much remains
// of the quota after the charge. Under HardCap a key that holds all that
// remains stays, since no new one could hold more.
func (p Policy) Keeps(left, remaining account.Credits) bool {
	return left > p.RotateBelow || p.HardCap && left >= remaining
}

// NewKeyLimit is the limit of a new key, where this much remains of the quota.
// It is never below 0: OpenRouter would refuse that.
func (p Policy) NewKeyLimit(remaining account.Credits) account.Credits {
	if p.HardCap {
		return max(min(p.KeyLimit, remaining), 0)
	}
	return p.KeyLimit
}
