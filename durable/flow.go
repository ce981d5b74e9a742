package durable

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/users"
)

// Outcome says what became of the user's key.
type Outcome string

// The outcomes that a client is told, and that of what an operator or the alarm asked for.
const (
	Provisioned Outcome = "provisioned"
	Kept        Outcome = "kept"
	Rotated     Outcome = "rotated"
	Renewed     Outcome = "renewed"
	Unmetered   Outcome = "unmetered"
	done        Outcome = "done"
)

// outcomes names what a creation amounts to.
var outcomes = map[account.Kind]Outcome{account.Provision: Provisioned, account.Rotate: Rotated, account.Renew: Renewed}

// turn is one request on its way through the object.
type turn struct {
	*Object
	Request
	keys  openrouter.Client
	table users.Table
	line  *oplog.Line // of this request
}

// do does what is asked for.
func (t turn) do() (answer.Answer, Outcome, error) {
	err := t.load()
	if err == nil {
		err = t.importRow()
	}
	if unreadable, ok := errors.AsType[*damaged](err); ok {
		return t.doDamaged(unreadable)
	}
	if err != nil {
		return answer.Answer{}, "", err
	}
	if t.Action.reads() {
		return t.look()
	}
	if err := t.giveUpCreation(); err != nil {
		return answer.Answer{}, "", err
	}
	switch t.Action {
	case repair:
		return answer.Answer{}, done, t.finishPending()
	case Adjust:
		return t.adjust()
	case Erase:
		return t.erase()
	case Sync:
		return t.sync()
	}
	outcome, err := t.ensure()
	if err != nil {
		return answer.Answer{}, "", err
	}
	body, err := t.body(outcome)
	if err != nil {
		return answer.Answer{}, "", err
	}
	return answer.Encoded(http.StatusOK, "application/json", body), outcome, nil
}

// ensure makes sure that the user has a working key, and says how. README.md has
// the flow as a table.
func (t turn) ensure() (Outcome, error) {
	st, policy := t.snapshot(), t.Settings.Policy
	record := st.user()
	switch {
	case record != nil && record.Suspended:
		return "", problem.New(problem.Suspended, "An operator has suspended this user.")
	case st.Pending != nil && st.Pending.Assign != nil && t.holds(st, *st.Pending.Assign):
		return t.assign()
	case record == nil:
		return t.create(account.Provision, nothing)
	case policy.Spent(record.RemainingLimit) && !st.Disabled:
		return t.renew()
	case st.Pending != nil || record.Hash == "":
		return t.replace()
	case t.Action == Me && t.readLately(st):
		return Kept, t.update(t.rename)
	}
	return t.read()
}

// giveUpCreation ends a creation whose answer never came: the object died over
// it. Its key, if there is one, can be used by nobody and is looked for in the
// background.
func (t turn) giveUpCreation() error {
	if p := t.snapshot().Pending; p == nil || p.Create == "" {
		return nil
	}
	return t.update(func(st *State) *account.Entry {
		// Since when the POST was sent, however long ago: its key is as old.
		st.addOrphan(st.Pending.Create, st.Pending.Since, t.Now(), t.soon())
		st.Pending = nil
		return nil
	})
}

// usable tells whether the present key may be handed out where it could not be
// read or replaced: to a user who asked for a key, and not for another one.
func (t turn) usable(st *State) bool {
	record := st.user()
	return t.Action == Me && record != nil && record.Hash != "" && !st.Disabled && !t.expired(st) && !t.holdsTooMuch(st)
}

// holdsTooMuch tells whether the record's key holds more than there is for it:
// under HARD_CAP no key may, whoever changed what remains.
func (t turn) holdsTooMuch(st *State) bool {
	return t.Settings.Policy.HardCap && st.Record.UsageLimit > st.available()
}

// readLately tells whether the last reading is young enough to be used again. One
// in the future is not: the clock was set back.
func (t turn) readLately(st *State) bool {
	age := t.Now().Sub(st.ReadAt)
	return age >= 0 && age < t.Settings.MeterInterval && !st.Disabled && !t.runsOut(st) &&
		t.Settings.Policy.Keeps(st.Record.UsageLimit, st.available())
}

// rename takes the name and address of the token over into the record. A token
// without them leaves them as they are.
func (t turn) rename(st *State) *account.Entry {
	if t.Who.Name != "" {
		st.Record.UserName = t.Who.Name
	}
	if t.Who.Email != "" {
		st.Record.Email = t.Who.Email
	}
	return nil
}

// expired tells whether the record's key is past its end.
func (t turn) expired(st *State) bool {
	return !st.ExpiresAt.IsZero() && !t.Now().Before(st.ExpiresAt)
}

// runsOut tells whether the record's key has less than a tenth of its life left.
func (t turn) runsOut(st *State) bool {
	return !st.ExpiresAt.IsZero() && t.Now().Add(t.Settings.KeyTTL/10).After(st.ExpiresAt) || t.expired(st)
}

// final tells whether a reading of the record's key at that time tells all that is ever charged
// for it: it is not settled, or has run out so long ago that nothing shows up late.
func (t turn) final(st *State, read time.Time) bool {
	after := t.Settings.SettleAfter
	return after == 0 || !st.ExpiresAt.IsZero() && !read.Before(st.ExpiresAt.Add(after))
}

// read asks OpenRouter what is left on the key, charges what was spent, and
// keeps or replaces the key. One that was disabled when it was read last is not
// handed out before a reading says that this is over, nor is its quota renewed.
func (t turn) read() (Outcome, error) {
	before, asked := t.snapshot(), t.Now()
	key, err := t.keys.Get(before.Record.Hash)
	switch {
	case openrouter.IsGone(err) && t.Settings.Policy.Spent(before.Record.RemainingLimit):
		return t.renew()
	case openrouter.IsGone(err):
		return t.create(account.Rotate, t.vanished)
	case err != nil && t.usable(before):
		t.line.Err = err.Error()
		return Unmetered, t.update(t.rename)
	case err != nil:
		return "", err
	}

	// The charge is final with this write. If we die before it, the next reading
	// finds the same usage again; after it, the usage is charged and usage_limit
	// is what the next reading starts from. A key that is to go is marked in the
	// same write: the DELETE follows, here or by whoever comes next.
	var next step
	err = t.update(func(st *State) *account.Entry {
		t.rename(st)
		spent := t.Settings.Policy.Spent(st.Record.RemainingLimit)
		entry := st.take(key)
		if st.Disabled = key.Disabled; t.Settings.MeterInterval > 0 {
			st.ReadAt = moment(t.Now())
		}
		final := t.final(st, asked)
		if next = t.decide(st, key, spent, final); next == deleteFirst {
			st.Pending = &Pending{Delete: key.Hash, Final: final, Since: t.Now(), Due: t.soon()}
		}
		if t.Action == Refresh { // any of the keys before may be the one that leaked
			st.endOverlaps(t.Now())
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
		return t.renew()
	case wait:
		return "", t.noRoom()
	case createFirst:
		return t.create(account.Rotate, nothing)
	case deleteFirst:
		return t.deleteAndCreate()
	}
	return "", fmt.Errorf("durable: no such step: %q", next)
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
// taken over. spent: the quota was spent before it. final: see there.
func (t turn) decide(st *State, key openrouter.Key, spent, final bool) step {
	policy, left, available := t.Settings.Policy, st.Record.UsageLimit, st.available()
	me := t.Action == Me
	switch {
	case key.Disabled && !st.Ending:
		return refuseDisabled
	case spent || policy.HardCap && policy.Spent(st.Record.RemainingLimit):
		return renewQuota
	case me && !key.Disabled && !t.runsOut(st) && (key.Uncapped || policy.Keeps(left, available)):
		return keep
	}
	// What the present key may still have cost counts until it is settled.
	unsettled := max(left, 0)
	mustGo := !key.Uncapped && t.holdsTooMuch(st) || key.Disabled || t.expired(st)
	worthIt := func(unsettled account.Credits) bool { // another key holds more, or has to replace this one anyhow
		room := available - unsettled
		return !st.full() && policy.Allows(room) && (!me || !policy.HardCap || policy.NewKeyLimit(room) > left)
	}
	if me && !mustGo && t.Settings.RotationOverlap > 0 && worthIt(unsettled) {
		return createFirst
	}
	if final {
		unsettled = 0
	}
	_, settling := st.settled(0)
	switch {
	case worthIt(unsettled) || mustGo && !st.full():
		return deleteFirst
	case me && !mustGo && (!policy.HardCap || left > policy.RenewAt):
		return keep // better than none
	case me && !settling && !st.full():
		return deleteFirst // to be settled: there is nothing else to wait for
	}
	return wait
}

// deleteAndCreate replaces a key that was just found to be used up. Where the
// DELETE surely had no effect, the key goes on working and is handed out.
func (t turn) deleteAndCreate() (Outcome, error) {
	outcome, err := t.replace()
	var failure *openrouter.Error
	st := t.snapshot()
	if !t.usable(st) || !errors.As(err, &failure) || failure.Uncertain || st.Pending == nil || st.Pending.Delete == "" {
		return outcome, err
	}
	t.line.Err = err.Error()
	// Dying before this write leaves the DELETE to the alarm.
	return Kept, t.update(func(st *State) *account.Entry {
		st.Pending = nil // the next reading tries again
		st.Ending = true
		return nil
	})
}

// replace deletes the present key, if there is one, and creates a new one once
// it is gone for certain: never two, whatever that costs in waiting.
func (t turn) replace() (Outcome, error) {
	if err := t.finishDeletion(); err != nil {
		return "", err
	}
	return t.create(account.Rotate, t.ended)
}

// finishDeletion sends the DELETE that is pending, if one is. It may have been
// sent before: 404 confirms as well as 200. Under SETTLE_AFTER the key is only
// disabled, for now.
func (t turn) finishDeletion() error {
	pending := t.snapshot().Pending
	if pending == nil {
		return nil
	}
	end := t.keys.Delete
	if t.Settings.SettleAfter > 0 && !pending.Final {
		end = t.keys.Disable
	}
	if failed := end(pending.Delete); failed != nil {
		return errors.Join(failed, t.update(t.postponePending))
	}
	return nil
}

// postponePending leaves what is pending to the alarm, after a try that failed.
func (t turn) postponePending(st *State) *account.Entry {
	st.Pending.Tries++
	st.Pending.Due = t.Now().Add(backoff(st.Pending.Tries, maxChoreRetry))
	return nil
}

// finishPending ends what is pending, and writes down that it did. In a request
// of the user create does so, together with what comes next.
func (t turn) finishPending() error {
	pending := t.snapshot().Pending
	if pending != nil && pending.Assign != nil {
		_, err := t.assign()
		return err
	}
	if err := t.finishDeletion(); err != nil || pending == nil {
		return err
	}
	return t.update(func(st *State) *account.Entry {
		t.ended(st)
		st.Pending = nil
		return nil
	})
}

// renew starts a spent quota anew, where it is time.
func (t turn) renew() (Outcome, error) {
	left := t.Settings.Policy.RenewIn(t.snapshot().Record.CreatedAt, t.Now())
	if left <= 0 {
		return t.create(account.Renew, t.retire)
	}
	// Dying before this write leaves the key to the next request; after it, the
	// alarm deletes it.
	err := t.update(func(st *State) *account.Entry {
		t.rename(st)
		if t.Settings.SettleAfter > 0 && st.Record.Hash != "" { // the quota goes on
			st.settle(true, t.Now(), t.Now())
			st.dropKey()
		}
		t.retire(st)
		return nil
	})
	if err != nil {
		return "", err
	}
	return "", t.exhausted("The quota is spent. It begins anew later.", left)
}

// exhausted is the answer where there may be no key for so long.
func (t turn) exhausted(detail string, left time.Duration) error {
	p := problem.New(problem.QuotaExhausted, detail)
	p.RetryAfter, p.RenewsAt = left, t.renewsAt(t.snapshot().Record)
	return p
}

// renewsAt is when a quota may begin anew; zero where that is at any time.
func (t turn) renewsAt(r *account.Record) time.Time {
	if t.Settings.Policy.RenewAfter == 0 {
		return time.Time{}
	}
	return r.CreatedAt.Add(t.Settings.Policy.RenewAfter)
}

// noRoom is the answer where there may be no other key before one is settled.
func (t turn) noRoom() error {
	st := t.snapshot()
	next, any := st.settled(t.Settings.SettleAfter)
	left := next.Sub(t.Now())
	if !any {
		left = t.Settings.SettleAfter
	}
	if left <= 0 { // OpenRouter has not told yet what it cost
		left = defaultRetryAfter
	}
	if st.full() {
		return unavailable("Too many keys of this user are still to be settled or deleted.", left,
			errors.New("durable: too many keys are still to be got rid of"))
	}
	if !any {
		return t.exhausted("What is left on the present key may be all that remains of the quota.", left)
	}
	return t.exhausted("What remains of the quota may be spent already. It is known once the last keys are settled.", left)
}
