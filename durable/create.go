package durable

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
)

// This file makes keys, and says what becomes of the one before.

// create makes a key: the first one, the next one, or the first of a new quota.
// part says what becomes of the present key before the POST is sent; it is gone by
// now, or goes on working, and only in a renewal it is deleted afterwards.
func (t turn) create(kind account.Kind, part func(*State)) (Outcome, error) {
	op := t.NewOp()
	made := NewKey{Kind: kind, ExpiresAt: t.expiry()}
	room := false
	// Dying after this write leaves a key that may exist and that nobody can use:
	// whoever comes next takes another op, and the alarm looks for this one.
	err := t.update(func(st *State) *account.Entry {
		st.abandonAssign(t.Now())
		part(st)
		st.Pending = nil
		var allowed bool
		made.Limit, allowed = t.newLimit(kind, st)
		if room = allowed && len(st.Chores) <= maxChores; room { // one more than there may be for the key that was given up
			st.Pending = &Pending{Create: op, Since: t.Now(), Due: t.soon()}
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case !room && kind == account.Rotate && t.Settings.Policy.Spent(t.snapshot().Record.RemainingLimit):
		return t.renew() // a key was settled meanwhile
	case !room:
		return t.orPresent(t.noRoom())
	}
	key, hash, failed := t.keys.Create(openrouter.NewKey{
		Name: openrouter.KeyName(t.Settings.KeyNamePrefix, t.user, op), Limit: &made.Limit, ExpiresAt: made.ExpiresAt,
	})
	if failed != nil {
		// Never repeated: if it was carried out, a second POST would make a second key.
		err := t.update(func(st *State) *account.Entry {
			// Only the documented refusals say that nothing was made: anything else, 429
			// too, may come from a gateway that had passed the POST on.
			var e *openrouter.Error
			if !errors.As(failed, &e) || e.Uncertain || !slices.Contains(refusals, e.Status) {
				st.addOrphan(op, t.Now(), t.Now(), t.soon())
			}
			st.Pending = nil
			return nil
		})
		return t.orPresent(errors.Join(failed, err))
	}
	made.Key, made.Hash = t.Settings.Sealer.Seal(t.user, key), hash
	if t.Settings.Guardrail == "" {
		// Dying before this write loses the key's text for good: see above.
		return outcomes[kind], t.update(t.accept(made))
	}
	// The same here; dying after it leaves a key that is ours and has no guardrail
	// yet: nobody gets it before it has.
	err = t.update(func(st *State) *account.Entry {
		st.Pending = &Pending{Assign: &made, Since: t.Now(), Due: t.soon()}
		return nil
	})
	if err != nil {
		return "", err
	}
	return t.assign()
}

// refusals are the statuses with which OpenRouter refuses to make a key.
var refusals = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden}

// expiry is when a key that is made now expires; zero: never.
func (t turn) expiry() time.Time {
	if t.Settings.KeyTTL == 0 {
		return time.Time{}
	}
	return t.Now().UTC().Add(t.Settings.KeyTTL + time.Second - 1).Truncate(time.Second) // OpenRouter counts in seconds
}

// newLimit is the limit of a new key, and false where there may be none: too little
// remains of the quota, or may.
func (t turn) newLimit(kind account.Kind, st *State) (limit account.Credits, allowed bool) {
	policy := t.Settings.Policy
	available := policy.TotalLimit
	if kind == account.Rotate {
		available = st.available()
		if st.Record.Hash != "" { // it goes on working beside the new one
			available -= max(st.Record.UsageLimit, 0)
		}
	}
	return policy.NewKeyLimit(available), policy.Allows(available)
}

// orPresent answers with the present key where making a new one failed and the
// present one still works; otherwise with the failure.
func (t turn) orPresent(failed error) (Outcome, error) {
	if t.usable(t.snapshot()) {
		t.line.Err = failed.Error()
		return Kept, nil
	}
	return "", failed
}

// holds tells whether a new key that waits for its guardrail may still be handed
// out. If not, it is left to be deleted.
func (t turn) holds(st *State, made NewKey) bool {
	if !made.ExpiresAt.IsZero() && !t.Now().Before(made.ExpiresAt) {
		return false
	}
	limit, allowed := t.newLimit(made.Kind, st)
	return !t.Settings.Policy.HardCap || allowed && made.Limit <= limit
}

// assign puts a new key under the guardrail, and hands it out then. It may be
// repeated. A key that cannot come under it is deleted.
func (t turn) assign() (Outcome, error) {
	made := *t.snapshot().Pending.Assign
	var failed error
	if t.Settings.Guardrail != "" {
		failed = t.keys.Assign(t.Settings.Guardrail, made.Hash)
	}
	if failed == nil {
		// Dying before this write has it assigned once more.
		return outcomes[made.Kind], t.update(t.accept(made))
	}
	err := t.update(func(st *State) *account.Entry {
		var e *openrouter.Error
		if errors.As(failed, &e) && e.Kind == openrouter.Unavailable {
			return t.postponePending(st)
		}
		st.abandonAssign(t.Now())
		return nil
	})
	return t.orPresent(errors.Join(failed, err))
}

// accept makes a new key the user's. Where the present one goes on working, it is
// left to be settled at the end of the overlap.
func (t turn) accept(made NewKey) change {
	return func(st *State) *account.Entry {
		now := t.Now()
		entry := &account.Entry{Kind: made.Kind, Credits: made.Limit, Hash: made.Hash}
		switch {
		case made.Kind != account.Rotate:
			t.beginQuota(st)
			if made.Kind == account.Renew {
				entry.Credits = st.Record.TotalLimit
			}
		case st.Record.Hash != "":
			st.settle(true, now, now.Add(t.Settings.RotationOverlap))
		}
		if t.Action == Refresh { // any of the keys before may be the one that leaked
			st.endOverlaps(now)
		}
		t.rename(st)
		st.dropKey()
		st.Record.Key, st.Record.Hash, st.Record.UsageLimit = made.Key, made.Hash, made.Limit
		st.KeyLimit, st.ExpiresAt = &made.Limit, made.ExpiresAt
		if st.Pending = nil; t.Settings.MeterInterval > 0 {
			st.ReadAt = moment(now)
		}
		return entry
	}
}

// beginQuota drops the record for that of a new user.
func (t turn) beginQuota(st *State) {
	t.writeOff(st)
	before, total := st.Record, t.Settings.Policy.TotalLimit
	st.Record = &account.Record{UserID: t.user, TotalLimit: total, RemainingLimit: total, CreatedAt: moment(t.Now())}
	if before != nil {
		st.Record.UserName, st.Record.Email, st.Record.Seq = before.UserName, before.Email, before.Seq
	}
}

// nothing becomes of the present key: there is none, or it goes on working.
func nothing(*State) {}

// ended forgets a key whose end was confirmed. Under SETTLE_AFTER it is charged
// once more first.
func (t turn) ended(st *State) {
	if st.Pending != nil && !st.Pending.Final && t.Settings.SettleAfter > 0 {
		st.settle(false, t.Now(), t.Now().Add(t.Settings.SettleAfter))
	}
	st.dropKey()
}

// vanished forgets a key that a reading called gone. That may have been a mistake
// of the moment, so it is deleted once more, later.
func (t turn) vanished(st *State) {
	st.Chores = append(st.Chores, Chore{Delete: st.Record.Hash, Since: t.Now(), Due: t.soon()})
	st.dropKey()
}

// retire leaves the record's key, if it has one, and a new one that nobody has yet
// to be deleted in the background.
func (t turn) retire(st *State) {
	st.abandonAssign(t.Now())
	if st.Record != nil && st.Record.Hash != "" {
		st.Chores = append(st.Chores, Chore{Delete: st.Record.Hash, Since: t.Now(), Due: t.Now()})
	}
	st.dropKey()
	st.Pending = nil
}

// writeOff leaves the keys that were to be settled to be deleted: the quota that
// they would be charged to is over.
func (t turn) writeOff(st *State) {
	for i, c := range st.Chores {
		if c.Settle != "" {
			st.Chores[i] = Chore{Delete: c.Settle, Since: c.Since, Due: t.Now()}
		}
	}
}
