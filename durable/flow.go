package durable

import (
	"fmt"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/problem"
)

// flow is what makes sure that a user has a working key. This file is the table in
// README.md; replace.go ends keys, renew.go decides on the next one, and create.go makes it.
type flow struct{ *operation }

// ensure makes sure that the user has a working key, and says how.
func (f flow) ensure() (Outcome, error) {
	st, rules := f.store.snapshot(), f.rules()
	if record := st.user(); record != nil && record.Suspended {
		return "", problem.New(problem.Suspended, "An operator has suspended this user.")
	}
	if p := st.Pending; p != nil && p.Kind == PendingAssign {
		if rules.assignable(st, p.New) {
			return f.assign()
		}
		// Dying before this write leaves it to the next request; after it, the alarm
		// deletes the key that nobody got.
		if err := f.store.apply(func(st *State) *account.Entry { st.abandonAssign(f.now()); return nil }); err != nil {
			return "", err
		}
		st = f.store.snapshot()
	}
	record := st.user()
	switch {
	case st.Pending != nil && st.Pending.Kind == PendingUnknown:
		return "", fmt.Errorf("%w: a pending call", errUnknownKind)
	case record == nil:
		return f.provision()
	case f.settings.Policy.Spent(record.RemainingLimit) && !st.Disabled:
		return f.renew()
	case st.Pending != nil || record.Hash == "":
		return f.replace()
	case rules.needsNoReading(st):
		return Kept, f.store.apply(f.rename)
	}
	return f.read()
}

// read asks OpenRouter what is left on the key, charges what was spent, and
// keeps or replaces the key. One that was disabled when it was read last is not
// handed out before a reading says that this is over, nor is its quota renewed.
func (f flow) read() (Outcome, error) {
	before, asked := f.store.snapshot(), f.now()
	key, err := f.keys.Get(before.Record.Hash)
	switch {
	case openrouter.IsGone(err) && f.settings.Policy.Spent(before.Record.RemainingLimit):
		return f.renew()
	case openrouter.IsGone(err):
		return f.rotate(f.vanished)
	case err != nil && f.rules().usable(before):
		f.line.Err = err.Error()
		return Unmetered, f.store.apply(f.rename)
	case err != nil:
		return "", err
	}

	// The charge is final with this write. If we die before it, the next reading
	// finds the same usage again; after it, the usage is charged and usage_limit
	// is what the next reading starts from. A key that is to go is marked in the
	// same write, and so is that another one is made: the calls follow, here or by
	// whoever comes next.
	var next step
	var ordered *creation
	var early time.Duration
	err = f.store.apply(func(st *State) *account.Entry {
		f.rename(st)
		rules := f.rules()
		spent := f.settings.Policy.Spent(st.Record.RemainingLimit)
		entry := st.take(key)
		if f.settings.MeterInterval > 0 {
			st.ReadAt = timestamp(rules.now)
		}
		final := rules.final(st, asked)
		switch next = rules.decide(st, key, spent, final); next {
		case keep:
			st.Ending = st.Ending && key.Disabled // or it would explain what an operator does later
		case deleteFirst:
			st.Pending = &Pending{Kind: PendingDelete, Hash: key.Hash, Final: final, Op: f.runtime.NewID(), Since: rules.now, Due: f.firstRetryAt()}
		case createFirst:
			ordered = f.order(account.Rotate, st)
		case renewQuota:
			ordered, early = f.orderRenewal(st)
		}
		if f.request.Action == Refresh { // any of the keys before may be the one that leaked
			st.Tasks.endOverlaps(rules.now)
		}
		return entry
	})
	if err != nil {
		return "", err
	}
	switch next {
	case keep:
		return Kept, nil
	case refuseDisabled:
		return "", problem.New(problem.KeyDisabled, "An operator has disabled this user's key.")
	case renewQuota:
		return f.sendUnlessEarly(ordered, early)
	case wait:
		return "", f.rules().noRoom(f.store.snapshot())
	case createFirst:
		return f.send(ordered)
	case deleteFirst:
		return f.deleteAndCreate()
	}
	return "", fmt.Errorf("durable: no such step: %q", next)
}
