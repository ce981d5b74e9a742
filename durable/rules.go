package durable

import (
	"errors"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/problem"
	"latchkey/internal/settings"
)

// rules decide what becomes of a user's key, from the settings, what is asked for
// and the time. They change nothing and ask nobody.
type rules struct {
	settings *settings.Settings
	action   Action
	now      time.Time
}

// condition is how good a key is.
type condition int

const (
	good     condition = iota // it stays
	worn                      // it is to be replaced, and may be handed out until it is
	unusable                  // it may not be handed out
)

// condition says how good the record's key is. Whatever is a reason to replace a key
// stands here and nowhere else. uncapped: a reading has just said that it has no limit.
func (r rules) condition(st *State, uncapped bool) condition {
	switch {
	case st.Disabled, r.expired(st), !uncapped && r.holdsTooMuch(st):
		return unusable
	case r.runsOut(st), !uncapped && !r.settings.Policy.Keeps(st.Record.UsageLimit, st.available()):
		return worn
	}
	return good
}

// expired tells whether the record's key is past its end.
func (r rules) expired(st *State) bool {
	return !st.ExpiresAt.IsZero() && !r.now.Before(st.ExpiresAt)
}

// runsOut tells whether the record's key has less than a tenth of its life left.
func (r rules) runsOut(st *State) bool {
	return !st.ExpiresAt.IsZero() && r.now.Add(r.settings.KeyTTL/10).After(st.ExpiresAt)
}

// holdsTooMuch tells whether the record's key holds more than there is for it:
// under HARD_CAP no key may, whoever changed what remains.
func (r rules) holdsTooMuch(st *State) bool {
	return r.settings.Policy.HardCap && st.Record.UsageLimit > st.available()
}

// usable tells whether the present key may be handed out where it could not be
// read or replaced: to a user who asked for a key, and not for another one.
func (r rules) usable(st *State) bool {
	record := st.user()
	return r.action != Refresh && record != nil && record.Hash != "" && r.condition(st, false) != unusable
}

// needsNoReading tells whether the present key may be handed out as it is. A socket
// needs none, and a key that was read lately; in the future is not lately: the clock was
// set back.
func (r rules) needsNoReading(st *State) bool {
	age := r.now.Sub(st.ReadAt)
	lately := r.action == Me && age >= 0 && age < r.settings.MeterInterval
	return (lately || r.action == Connect) && r.condition(st, false) == good
}

// final tells whether a reading of the record's key at that time tells all that is ever charged
// for it: it is not settled, or has run out so long ago that nothing shows up late.
func (r rules) final(st *State, read time.Time) bool {
	after := r.settings.SettleAfter
	return after == 0 || !st.ExpiresAt.IsZero() && !read.Before(st.ExpiresAt.Add(after))
}

// step is what follows on a reading.
type step string

const (
	keep           step = "keep"            // hand the present key out
	refuseDisabled step = "refuse disabled" // an operator disabled it
	renewQuota     step = "renew"           // the quota is spent
	wait           step = "wait"            // it is used up, and there may be no other one yet
	createFirst    step = "create first"    // replace it, and let it go on working for a while
	deleteFirst    step = "delete first"    // replace it
)

// decide says what follows on a reading of the record's key, which the state has
// taken over. spent: the quota was spent before it. final: as the function of that name says.
func (r rules) decide(st *State, key openrouter.Key, spent, final bool) step {
	policy, left, available := r.settings.Policy, st.Record.UsageLimit, st.available()
	anyKey, found := r.action != Refresh, r.condition(st, key.Uncapped)
	switch {
	case key.Disabled && !st.Ending:
		return refuseDisabled
	case spent || policy.HardCap && policy.Spent(st.Record.RemainingLimit):
		return renewQuota
	case anyKey && found == good:
		return keep
	}
	// What the present key may still have cost counts until it is settled.
	reserve := max(left, 0)
	mustGo := found == unusable
	worthIt := func(reserved account.Credits) bool { // another key holds more, or has to replace this one anyhow
		room := available - reserved
		return !st.Tasks.full() && policy.Allows(room) && (!anyKey || !policy.HardCap || policy.NewKeyLimit(room) > left)
	}
	if anyKey && !mustGo && r.settings.RotationOverlap > 0 && worthIt(reserve) {
		return createFirst
	}
	if final {
		reserve = 0
	}
	_, settling := st.Tasks.nextSettled(0)
	switch {
	case worthIt(reserve) || mustGo && !st.Tasks.full():
		return deleteFirst
	case anyKey && !mustGo && (!policy.HardCap || left > policy.RenewAt):
		return keep // better than none
	case anyKey && !settling && !st.Tasks.full():
		return deleteFirst // to be settled: there is nothing else to wait for
	}
	return wait
}

// newLimit is the limit of a new key, and false where there may be none: too little
// remains of the quota, or may.
func (r rules) newLimit(kind account.Kind, st *State) (limit account.Credits, allowed bool) {
	policy := r.settings.Policy
	available := policy.TotalLimit
	if kind == account.Rotate {
		available = st.available()
		if st.Record.Hash != "" { // it goes on working beside the new one
			available -= max(st.Record.UsageLimit, 0)
		}
	}
	return policy.NewKeyLimit(available), policy.Allows(available)
}

// expiry is when a key that is made now expires; zero: never.
func (r rules) expiry() time.Time {
	if r.settings.KeyTTL == 0 {
		return time.Time{}
	}
	return r.now.UTC().Add(r.settings.KeyTTL + time.Second - 1).Truncate(time.Second) // OpenRouter counts in seconds
}

// assignable tells whether a new key that waits for its guardrail may still be
// handed out.
func (r rules) assignable(st *State, made *NewKey) bool {
	if !made.ExpiresAt.IsZero() && !r.now.Before(made.ExpiresAt) {
		return false
	}
	limit, allowed := r.newLimit(made.Kind, st)
	return !r.settings.Policy.HardCap || allowed && made.Limit <= limit
}

// renewsAt is when a quota may begin anew; zero where that is at any time. One that begins
// in the future waits no longer than others.
func (r rules) renewsAt(st *State) time.Time {
	if r.settings.Policy.RenewAfter == 0 {
		return time.Time{}
	}
	return earliest(st.quotaBegan(r.now), r.now).Add(r.settings.Policy.RenewAfter)
}

// exhausted is the answer where there may be no key for so long.
func (r rules) exhausted(st *State, detail string, left time.Duration) error {
	p := problem.New(problem.QuotaExhausted, detail)
	p.RetryAfter, p.RenewsAt = left, r.renewsAt(st)
	return p
}

// noRoom is the answer where there may be no other key before one is settled.
func (r rules) noRoom(st *State) error {
	next, some := st.Tasks.nextSettled(r.settings.SettleAfter)
	left := next.Sub(r.now)
	if !some {
		left = r.settings.SettleAfter
	}
	if left <= 0 { // OpenRouter has not told yet what it cost
		left = defaultRetryAfter
	}
	if st.Tasks.full() {
		return unavailable("Too many keys of this user are still to be settled or deleted.", left,
			errors.New("durable: too many keys are still to be got rid of"))
	}
	if !some {
		return r.exhausted(st, "What is left on the present key may be all that remains of the quota.", left)
	}
	return r.exhausted(st, "What remains of the quota may be spent already. It is known once the last keys are settled.", left)
}
