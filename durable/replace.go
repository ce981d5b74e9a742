package durable

import (
	"errors"
	"fmt"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
)

// This file ends keys.

// deleteAndCreate replaces a key that was just found to be used up. Where the
// DELETE surely had no effect, the key goes on working and is handed out.
func (f flow) deleteAndCreate() (Outcome, error) {
	outcome, err := f.replace()
	failure, refused := errors.AsType[*openrouter.Error](err)
	st := f.store.snapshot()
	// With an op, that the DELETE failed could not be written.
	deleting := st.Pending != nil && st.Pending.Kind == PendingDelete && st.Pending.Op == ""
	if !refused || failure.Uncertain || !deleting || !f.rules().usable(st) {
		return outcome, err
	}
	f.line.Err = err.Error()
	// Dying before this write leaves the DELETE to the alarm.
	return Kept, f.store.apply(func(st *State) *account.Entry {
		st.Ending = f.settings.SettleAfter > 0 && !st.Pending.Final // a DELETE disables nothing
		st.Pending = nil                                            // the next reading tries again
		return nil
	})
}

// replace ends the present key, if there is one, and creates a new one once that is
// certain: never two that work, whatever that costs in waiting.
func (f flow) replace() (Outcome, error) {
	if err := f.finishDeletion(); err != nil {
		return "", err
	}
	if p := f.store.snapshot().Pending; p != nil && p.Op != "" {
		// The next key was ordered before the DELETE. That the present one has ended is
		// written with the outcome of the POST: dying before repeats the DELETE.
		after := f.store.snapshot().clone()
		f.ended(after)
		if made, allowed := f.newKey(account.Rotate, after); allowed {
			return f.send(&creation{p.Op, made, f.ended})
		}
	}
	return f.rotate(f.ended)
}

// finishDeletion sends the DELETE that is pending, if one is. It may have been
// sent before: 404 confirms as well as 200. Under SETTLE_AFTER the key is only
// disabled, for now.
func (f flow) finishDeletion() error {
	pending := f.store.snapshot().Pending
	if pending == nil {
		return nil
	}
	if pending.Kind != PendingDelete {
		return fmt.Errorf("%w: pending %q", errUnknownKind, pending.Kind)
	}
	end := f.keys.Delete
	if f.settings.SettleAfter > 0 && !pending.Final {
		end = f.keys.Disable
	}
	if failed := end(pending.Hash); failed != nil {
		return errors.Join(failed, f.store.apply(func(st *State) *account.Entry {
			st.Pending.Op = "" // the POST was not sent
			st.postponePending(f.now())
			return nil
		}))
	}
	return nil
}

// finishPending ends what is pending, and writes down that it did. In a request
// of the user, send does so, together with what comes next.
func (f flow) finishPending() error {
	pending := f.store.snapshot().Pending
	switch {
	case pending == nil:
		return nil
	case pending.Kind == PendingAssign:
		_, err := f.assign()
		return err
	}
	if err := f.finishDeletion(); err != nil {
		return err
	}
	return f.store.apply(func(st *State) *account.Entry {
		f.ended(st)
		st.Pending = nil
		return nil
	})
}

// ended forgets a key whose end was confirmed. Under SETTLE_AFTER it is charged
// once more first.
func (f flow) ended(st *State) {
	if st.Pending != nil && !st.Pending.Final && f.settings.SettleAfter > 0 {
		st.queueSettle(SettleKey, f.now(), f.now().Add(f.settings.SettleAfter))
	}
	st.dropKey()
}

// vanished forgets a key that a reading called gone. That may have been a mistake
// of the moment, so it is deleted once more, later.
func (f flow) vanished(st *State) {
	st.Tasks.queueDelete(st.Record.Hash, f.now(), f.firstRetryAt())
	st.dropKey()
}
