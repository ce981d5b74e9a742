package durable

import (
	"time"

	"latchkey/internal/account"
)

// This file decides on the next key: a user's first one, the next one of the quota, or the
// first one of a new quota.

// provision makes a user's first key.
func (f flow) provision() (Outcome, error) {
	if f.ahead != nil {
		return f.send(f.ahead)
	}
	return f.orderAndSend(func(st *State) (*creation, time.Duration) { return f.order(account.Provision, st), 0 })
}

// rotate makes the next key. present says what becomes of the present one: it is gone by
// now, or it works until it is deleted or settled in the background. Where a key was
// settled meanwhile and nothing remains, the quota is renewed.
func (f flow) rotate(present func(*State)) (Outcome, error) {
	return f.orderAndSend(func(st *State) (*creation, time.Duration) {
		st.abandonAssign(f.now())
		present(st)
		if ordered := f.order(account.Rotate, st); ordered != nil || !f.settings.Policy.Spent(st.Record.RemainingLimit) {
			return ordered, 0
		}
		return f.orderRenewal(st)
	})
}

// renew starts a spent quota anew, where it is time.
func (f flow) renew() (Outcome, error) { return f.orderAndSend(f.orderRenewal) }

// orderAndSend writes the order of a key, and sends it unless it is too early by so much.
func (f flow) orderAndSend(order func(*State) (ordered *creation, early time.Duration)) (Outcome, error) {
	var ordered *creation
	var early time.Duration
	err := f.store.apply(func(st *State) *account.Entry {
		ordered, early = order(st)
		return nil
	})
	if err != nil {
		return "", err
	}
	return f.sendUnlessEarly(ordered, early)
}

// orderRenewal orders the first key of a new quota. Where it is too early for that, by so
// much, it drops the present key instead. Dying before this is written leaves the key to
// the next request; after it, the alarm deletes it.
func (f flow) orderRenewal(st *State) (ordered *creation, early time.Duration) {
	if early = f.settings.Policy.RenewIn(st.quotaBegan(f.now()), f.now()); early <= 0 {
		st.retireKey(f.now())
		return f.order(account.Renew, st), 0
	}
	f.rename(st)
	if f.settings.SettleAfter > 0 && st.Record.Hash != "" { // the quota goes on
		st.queueSettle(DisableKey, f.now(), f.now())
		st.dropKey()
	}
	st.retireKey(f.now())
	return nil, early
}

// sendUnlessEarly sends what was ordered, or says that the quota begins anew later.
func (f flow) sendUnlessEarly(ordered *creation, early time.Duration) (Outcome, error) {
	if early > 0 {
		return "", f.rules().exhausted(f.store.snapshot(), "The quota is spent. It begins anew later.", early)
	}
	return f.send(ordered)
}
