package durable

import (
	"net/http"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/problem"
)

// operator is what an operator changes of a user: docs/api.md has the API.
type operator struct{ *operation }

// adjust changes limits, and suspends or resumes. Each step is written by
// itself: dying between them leaves the later ones undone, and asking again does
// what is left.
func (o operator) adjust() (answer.Answer, Outcome, error) {
	record := o.store.snapshot().user()
	if record == nil {
		return answer.Answer{}, "", unknownUser()
	}
	if err := o.adjustLimits(); err != nil {
		return answer.Answer{}, "", err
	}
	if want := o.request.Adjustment.Suspended; want != nil && *want != record.Suspended {
		change := o.resume
		if *want {
			change = o.suspend
		}
		if err := change(); err != nil {
			return answer.Answer{}, "", err
		}
	}
	return answer.JSON(http.StatusOK, "application/json", o.view(o.store.snapshot())), done, nil
}

// adjustLimits changes the limits, each by itself, so that the ledger tells every
// credit that was granted or taken: what remains is what it began with, less all
// that the ledger took.
func (o operator) adjustLimits() error {
	total, remaining := o.request.Adjustment.TotalLimit, o.request.Adjustment.RemainingLimit
	if total == nil && remaining == nil {
		return nil
	}
	r := o.store.snapshot().Record
	left := r.RemainingLimit
	if total != nil {
		left += *total - r.TotalLimit
	}
	if remaining != nil {
		left = *remaining
	}
	if left > account.MaxCredits || left < -account.MaxCredits {
		return problem.New(problem.InvalidRequest, "remaining_limit would be beyond "+account.MaxCredits.String()+" credits, above or below 0.")
	}
	if total != nil {
		err := o.grant(func(r *account.Record) {
			r.RemainingLimit += *total - r.TotalLimit
			r.TotalLimit = *total
		})
		if err != nil {
			return err
		}
	}
	if remaining != nil {
		if err := o.grant(func(r *account.Record) { r.RemainingLimit = *remaining }); err != nil {
			return err
		}
	}
	return o.capKey()
}

// grant changes limits, and books what that takes from what remains.
func (o operator) grant(change func(*account.Record)) error {
	return o.store.apply(func(st *State) *account.Entry {
		before := *st.Record
		if change(st.Record); *st.Record == before {
			return nil
		}
		st.abandonAssign(o.now()) // its limit is that of before
		return &account.Entry{Kind: account.Adjust, Credits: before.RemainingLimit - st.Record.RemainingLimit, Hash: before.Hash}
	})
}

// capKey gives the present key up where it holds more than remains, under
// HARD_CAP: its holder need not ask again.
func (o operator) capKey() error {
	tooMuch := func() bool {
		st := o.store.snapshot()
		return st.Record.Hash != "" && st.Pending == nil && !st.Disabled && o.rules().holdsTooMuch(st)
	}
	if !tooMuch() {
		return nil
	}
	if uncapped, err := o.meterKey(); err != nil || uncapped || !tooMuch() {
		return err
	}
	return o.endKey(func(st *State) *account.Entry { return nil })
}

// meterKey charges what was spent on the present key, if OpenRouter tells.
func (o operator) meterKey() (uncapped bool, err error) {
	key, failed := o.keys.Get(o.store.snapshot().Record.Hash)
	if failed != nil {
		o.line.Err = failed.Error()
		return false, nil // what is not known now is not waited for
	}
	return key.Uncapped, o.store.apply(func(st *State) *account.Entry { return st.take(key) })
}

// endKey makes a change and ends all keys of the user with it. It takes effect
// with its write, and does not wait for OpenRouter to be well: dying after the
// write leaves the keys to the alarm.
func (o operator) endKey(with change) error {
	err := o.store.apply(func(st *State) *account.Entry {
		entry := with(st)
		st.abandonAssign(o.now())
		st.Tasks.endOverlaps(o.now())
		switch hash := st.Record.Hash; {
		case hash == "":
		case st.Pending == nil:
			st.Pending = &Pending{Kind: PendingDelete, Hash: hash, Since: o.now(), Due: o.firstRetryAt()}
		case st.Pending.Kind == PendingUnknown: // which stays
			st.Tasks.queueDelete(hash, o.now(), o.now())
			st.dropKey()
		}
		return entry
	})
	if err != nil {
		return err
	}
	if err := flow(o).finishPending(); err != nil {
		o.line.Err = err.Error() // the alarm takes up what it knows
	}
	return nil
}

func (o operator) resume() error {
	return o.store.apply(func(st *State) *account.Entry {
		st.Record.Suspended = false
		return &account.Entry{Kind: account.Resume}
	})
}

// suspend charges what was spent, if OpenRouter tells, and deletes the key.
func (o operator) suspend() error {
	if st := o.store.snapshot(); st.Record.Hash != "" && (st.Pending == nil || st.Pending.Kind == PendingUnknown || st.Pending.Kind == PendingAssign) {
		if _, err := o.meterKey(); err != nil {
			return err
		}
	}
	return o.endKey(func(st *State) *account.Entry {
		st.Record.Suspended, st.Disabled = true, false
		return &account.Entry{Kind: account.Suspend, Hash: st.Record.Hash}
	})
}

// sync has all that this object knows written to D1 again, in the background.
func (o operator) sync() (answer.Answer, Outcome, error) {
	if o.store.snapshot().Record == nil {
		return answer.Answer{}, "", unknownUser()
	}
	if err := o.store.apply(writeD1Anew(o.now())); err != nil {
		return answer.Answer{}, "", err
	}
	return answer.JSON(http.StatusAccepted, "application/json", adminapi.Status{Status: "syncing"}), done, nil
}
