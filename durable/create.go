package durable

import (
	"errors"
	"net/http"
	"slices"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
)

// This file makes keys.

// creation is a key whose POST was ordered in storage and is not sent yet.
type creation struct {
	op   string
	made NewKey
	also func(*State) // what else changes with the next write
}

// nothing else changes: there is no key, or it goes on working.
func nothing(*State) {}

// order orders a key; it returns nil where there may be none. Dying after the order was
// written leaves a key that may exist and that nobody can use: whoever comes next takes
// another id, and the alarm looks for this one.
func (f flow) order(kind account.Kind, st *State) *creation {
	st.Pending, st.Unseen = nil, false
	made, allowed := f.newKey(kind, st)
	if !allowed {
		return nil
	}
	id := f.runtime.NewID()
	st.Pending = &Pending{Kind: PendingCreate, Op: id, Since: f.now(), Due: f.firstRetryAt()}
	return &creation{id, made, nothing}
}

// newKey is the key to be made now; false: there may be none.
func (f flow) newKey(kind account.Kind, st *State) (NewKey, bool) {
	limit, allowed := f.rules().newLimit(kind, st)
	room := len(st.Tasks) <= maxTasks // the key that was just given up may be one task too many
	return NewKey{Kind: kind, Limit: limit, ExpiresAt: f.rules().expiry()}, allowed && room
}

// send sends the POST of a key that was ordered, and makes the key the user's. nil: none
// was, for lack of room.
func (f flow) send(ordered *creation) (Outcome, error) {
	if ordered == nil {
		return f.orPresent(f.rules().noRoom(f.store.snapshot()))
	}
	id, made := ordered.op, ordered.made
	key, hash, failed := f.keys.Create(openrouter.NewKey{
		Name: openrouter.KeyName(f.settings.KeyNamePrefix, f.user, id), Limit: &made.Limit, ExpiresAt: made.ExpiresAt,
	})
	if failed != nil {
		// Never repeated: if it was carried out, a second POST would make a second key.
		err := f.store.apply(func(st *State) *account.Entry {
			ordered.also(st)
			// Only the documented refusals say that nothing was made: anything else, 429
			// too, may come from a gateway that had passed the POST on.
			var e *openrouter.Error
			if !errors.As(failed, &e) || e.Uncertain || !slices.Contains(refusals, e.Status) {
				st.Tasks.queueOrphan(id, f.now(), st.Tasks.searchAt(f.now(), f.firstRetryAt()))
			}
			st.Pending = nil
			return nil
		})
		if err != nil {
			return "", errors.Join(failed, err)
		}
		return f.orPresent(failed)
	}
	made.Key, made.Hash = f.settings.Sealer.Seal(f.user, key), hash
	if f.settings.Guardrail == "" {
		// Dying before this write loses the key's text for good: see order.
		return outcomes[made.Kind], f.store.apply(func(st *State) *account.Entry {
			ordered.also(st)
			return f.accept(made)(st)
		})
	}
	// The same here; dying after it leaves a key that is ours and has no guardrail
	// yet: nobody gets it before it has.
	err := f.store.apply(func(st *State) *account.Entry {
		ordered.also(st)
		st.Pending = &Pending{Kind: PendingAssign, New: &made, Since: f.now(), Due: f.firstRetryAt()}
		return nil
	})
	if err != nil {
		return "", err
	}
	return f.assign()
}

// refusals are the statuses with which OpenRouter refuses to make a key.
var refusals = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden}

// orPresent answers with the present key where making a new one failed and the
// present one still works; otherwise with the failure.
func (f flow) orPresent(failed error) (Outcome, error) {
	if f.rules().usable(f.store.snapshot()) {
		f.line.Err = failed.Error()
		return Kept, nil
	}
	return "", failed
}

// assign puts a new key under the guardrail, and hands it out then. It may be
// repeated. A key that cannot come under it is deleted.
func (f flow) assign() (Outcome, error) {
	made := *f.store.snapshot().Pending.New
	var failed error
	if f.settings.Guardrail != "" {
		failed = f.keys.Assign(f.settings.Guardrail, made.Hash)
	}
	if failed == nil {
		// Dying before this write has it assigned once more.
		return outcomes[made.Kind], f.store.apply(f.accept(made))
	}
	err := f.store.apply(func(st *State) *account.Entry {
		var e *openrouter.Error
		if errors.As(failed, &e) && e.Kind == openrouter.Unavailable {
			st.postponePending(f.now())
		} else {
			st.abandonAssign(f.now())
		}
		return nil
	})
	return f.orPresent(errors.Join(failed, err))
}

// accept makes a new key the user's. Where the present one goes on working, it is
// left to be settled at the end of the overlap.
func (f flow) accept(made NewKey) change {
	return func(st *State) *account.Entry {
		now := f.now()
		entry := &account.Entry{Kind: made.Kind, Credits: made.Limit, Hash: made.Hash}
		switch {
		case made.Kind != account.Rotate:
			f.beginQuota(st)
			if made.Kind == account.Renew {
				entry.Credits = st.Record.TotalLimit
			}
		case st.Record.Hash != "":
			st.queueSettle(DisableKey, now, now.Add(f.settings.RotationOverlap))
		}
		if f.request.Action == Refresh { // any of the keys before may be the one that leaked
			st.Tasks.endOverlaps(now)
		}
		f.rename(st)
		st.dropKey()
		st.Record.Key, st.Record.Hash, st.Record.UsageLimit = made.Key, made.Hash, made.Limit
		st.KeyLimit, st.ExpiresAt = &made.Limit, made.ExpiresAt
		if st.Pending = nil; f.settings.MeterInterval > 0 {
			st.ReadAt = timestamp(now)
		}
		return entry
	}
}

// beginQuota drops the record for that of a new user.
func (f flow) beginQuota(st *State) {
	st.Tasks.cancelSettling(f.now())
	st.ErasedSeq = st.erasedSeq()
	before, total := st.Record, f.settings.Policy.TotalLimit
	st.Record = &account.Record{UserID: f.user, TotalLimit: total, RemainingLimit: total, CreatedAt: timestamp(f.now())}
	if before != nil {
		st.Record.UserName, st.Record.Email, st.Record.Seq = before.UserName, before.Email, before.Seq
	}
}
