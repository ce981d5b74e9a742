package durable

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-faster/jx"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/openrouter"
	"latchkey/internal/problem"
	"latchkey/internal/quota"
	"latchkey/internal/seal"
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
}

// take does what is asked for.
func (t turn) take() (answer.Answer, Outcome, error) {
	if err := t.load(); err != nil {
		return answer.Answer{}, "", err
	}
	if err := t.adopt(); err != nil {
		return answer.Answer{}, "", err
	}
	if t.Want.reads() {
		return t.look()
	}
	if err := t.giveUpCreation(); err != nil {
		return answer.Answer{}, "", err
	}
	switch t.Want {
	case repair:
		return answer.Answer{}, done, t.finishAndForget()
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
	case record == nil:
		return t.create(account.Provision)
	case record.Suspended:
		return "", problem.New(problem.Suspended, "An operator has suspended this user.")
	case policy.Spent(record.RemainingLimit) && !st.Disabled:
		return t.renew()
	case st.Pending != nil || record.Hash == "":
		return t.replace()
	case t.Want == Me && t.readLately(st):
		return Kept, t.update(t.rename)
	}
	return t.read()
}

// adopt looks, where the object's storage is empty, whether D1 knows the user:
// from an object that was lost, or from an older table.
func (t turn) adopt() error {
	if !t.empty() {
		return nil
	}
	record, found, err := t.table.Find(t.user)
	if err != nil {
		return unavailable("The database cannot be reached just now.", 0, err)
	}
	if !found {
		return nil
	}
	if strings.HasPrefix(record.Key, "sk-") { // unsealed, as older tables have it
		if record.Hash == "" {
			record.Hash = hashOf(record.Key)
		}
		record.Key = t.Settings.Sealer.Seal(t.user, seal.NewSecret(record.Key))
	}
	// Dying before this write leaves it to the next request to look again.
	return t.update(func(st *State) *account.Entry {
		if st.Record != nil || st.Pending != nil {
			return nil // somebody was faster
		}
		st.Record, st.D1.Seq = &record, record.Seq
		if record.Key == "" && record.Hash != "" { // the object was lost while it deleted the key
			st.Pending = &Pending{Delete: record.Hash, Since: t.Now(), Due: t.soon()}
		}
		return nil
	})
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// giveUpCreation ends a creation whose answer never came: the object died over
// it. Its key, if there is one, can be used by nobody and is looked for in the
// background.
func (t turn) giveUpCreation() error {
	if p := t.snapshot().Pending; p == nil || p.Create == "" {
		return nil
	}
	return t.update(func(st *State) *account.Entry {
		since := st.Pending.Since // however long ago: its key is as old
		st.Chores = append(st.Chores, Chore{Orphan: st.Pending.Create, Since: since, Due: t.soon()})
		st.Pending = nil
		return nil
	})
}

// readLately tells whether the last reading is young enough to be used again.
func (t turn) readLately(st *State) bool {
	return !st.Disabled && st.Record.Key != "" && t.Now().Sub(st.ReadAt) < t.Settings.MeterInterval
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

// read asks OpenRouter what is left on the key, charges what was spent, and
// keeps or replaces the key. One that was disabled when it was read last is not
// handed out before a reading says that this is over, nor is its quota renewed.
func (t turn) read() (Outcome, error) {
	st, policy := t.snapshot(), t.Settings.Policy
	record, spent := st.Record, policy.Spent(st.Record.RemainingLimit)
	key, err := t.keys.Get(record.Hash)
	var failure *openrouter.Error
	switch {
	case openrouter.IsGone(err) && spent:
		return t.renew()
	case openrouter.IsGone(err):
		return t.create(account.Rotate)
	case t.Want == Me && !st.Disabled && errors.As(err, &failure) && failure.Kind == openrouter.Unavailable:
		return Unmetered, t.update(t.rename)
	case err != nil:
		return "", err
	}

	remaining := record.RemainingLimit - quota.Charge(record.UsageLimit, key.Left)
	keep := t.Want == Me && (key.Uncapped || policy.Keeps(key.Left, remaining))

	// The charge is final with this write. If we die before it, the next reading
	// finds the same usage again; after it, the usage is charged and usage_limit
	// is what the next reading starts from. A key that is to go is marked in the
	// same write: the DELETE follows, here or by whoever comes next.
	err = t.update(func(st *State) *account.Entry {
		t.rename(st)
		if st.Disabled = key.Disabled; t.Settings.MeterInterval > 0 {
			st.ReadAt = moment(t.Now())
		}
		if !keep && !spent && !key.Disabled {
			st.Pending = &Pending{Delete: record.Hash, Since: t.Now(), Due: t.soon()}
			st.Record.Key = ""
		}
		if !key.Uncapped {
			st.Record.UsageLimit = key.Left
		}
		return st.charge(key, record.UsageLimit)
	})
	switch {
	case err != nil:
		return "", err
	case key.Disabled:
		return "", problem.New(problem.KeyDisabled, "An operator has disabled this user's key.")
	case spent:
		return t.renew()
	case keep:
		return Kept, nil
	}
	return t.replace()
}

// replace deletes the present key, if there is one, and creates a new one once
// it is gone for certain: never two, whatever that costs in waiting.
func (t turn) replace() (Outcome, error) {
	if err := t.finishDeletion(); err != nil {
		return "", err
	}
	return t.create(account.Rotate)
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
	if t.Settings.SettleAfter > 0 {
		end = t.keys.Disable
	}
	if failed := end(pending.Delete); failed != nil {
		// Whether it was deleted is not known, so the key is handed out no more.
		err := t.update(func(st *State) *account.Entry {
			st.Pending.Tries++
			st.Pending.Due = t.Now().Add(backoff(st.Pending.Tries, maxChoreRetry))
			return nil
		})
		return errors.Join(failed, err)
	}
	return nil
}

// finishAndForget ends a pending deletion and writes down that it did. In a
// rotation create does so, together with what comes next.
func (t turn) finishAndForget() error {
	if err := t.finishDeletion(); err != nil || t.snapshot().Pending == nil {
		return err
	}
	return t.update(func(st *State) *account.Entry {
		t.ended(st)
		st.Pending = nil
		return nil
	})
}

// ended forgets a key whose end was confirmed.
func (t turn) ended(st *State) {
	if st.Pending != nil && t.Settings.SettleAfter > 0 {
		st.settle(t.Now(), t.Settings.SettleAfter)
	}
	st.dropKey()
}

// renew starts a spent quota anew, where it is time.
func (t turn) renew() (Outcome, error) {
	wait := t.Settings.Policy.RenewIn(t.snapshot().Record.CreatedAt, t.Now())
	if wait <= 0 {
		return t.create(account.Renew)
	}
	// Dying before this write leaves the key to the next request; after it, the
	// alarm deletes it.
	err := t.update(func(st *State) *account.Entry {
		t.rename(st)
		t.retire(st)
		return nil
	})
	if err != nil {
		return "", err
	}
	p := problem.New(problem.QuotaExhausted, "The quota is spent. It begins anew later.")
	p.RetryAfter = wait
	return "", p
}

// writeOff leaves the keys that were to be settled to be deleted: the quota that
// they would be charged to is over.
func (t turn) writeOff(st *State) {
	for i, c := range st.Chores {
		if c.Settle != "" {
			st.Chores[i] = Chore{Delete: c.Settle, Since: c.Since, Due: t.soon()}
		}
	}
}

// retire leaves the record's key, if it has one, to be deleted in the background.
func (t turn) retire(st *State) {
	if st.Record != nil && st.Record.Hash != "" {
		st.Chores = append(st.Chores, Chore{Delete: st.Record.Hash, Since: t.Now(), Due: t.soon()})
	}
	st.dropKey()
	st.Pending = nil
}

// create makes a key: the first one, the next one, or the first of a new quota.
// The old one is gone by now; only in a renewal it is deleted afterwards.
func (t turn) create(kind account.Kind) (Outcome, error) {
	if len(t.snapshot().Chores) >= maxChores {
		return "", unavailable("OpenRouter has failed too often of late.", 0, errors.New("durable: too many keys are still to be got rid of"))
	}
	policy, op := t.Settings.Policy, t.NewOp()
	limit := policy.NewKeyLimit(policy.TotalLimit)
	// Dying after this write leaves a key that may exist and that nobody can use:
	// whoever comes next takes another op, and the alarm looks for this one.
	err := t.update(func(st *State) *account.Entry {
		switch kind {
		case account.Renew:
			t.retire(st)
		case account.Rotate:
			t.ended(st)
			limit = policy.NewKeyLimit(st.Record.RemainingLimit)
		}
		st.Pending = &Pending{Create: op, Since: t.Now(), Due: t.soon()}
		return nil
	})
	if err != nil {
		return "", err
	}
	key, hash, failed := t.keys.Create(keyName(t.user, op), limit)
	if failed != nil {
		// Never repeated: if it was carried out, a second POST would make a second key.
		err := t.update(func(st *State) *account.Entry {
			// Even 429 may come from a gateway that had passed the POST on.
			var e *openrouter.Error
			if errors.As(failed, &e) && (e.Uncertain || e.Status == http.StatusTooManyRequests) {
				st.Chores = append(st.Chores, Chore{Orphan: op, Since: t.Now(), Due: t.soon()})
			}
			st.Pending = nil
			return nil
		})
		return "", errors.Join(failed, err)
	}
	// Dying before this write loses the key's text for good: see above.
	err = t.update(func(st *State) *account.Entry {
		if kind != account.Rotate {
			t.writeOff(st)
			before := st.Record
			st.Record = &account.Record{
				UserID: t.user, TotalLimit: policy.TotalLimit, RemainingLimit: policy.TotalLimit, CreatedAt: moment(t.Now()),
			}
			if before != nil {
				st.Record.UserName, st.Record.Email, st.Record.Seq = before.UserName, before.Email, before.Seq
			}
		}
		t.rename(st)
		st.Record.Key, st.Record.Hash, st.Record.UsageLimit = t.Settings.Sealer.Seal(t.user, key), hash, limit
		if st.Pending = nil; t.Settings.MeterInterval > 0 {
			st.ReadAt = moment(t.Now())
		}
		entry := &account.Entry{Kind: kind, Credits: limit, Hash: hash}
		if kind == account.Renew {
			entry.Credits = policy.TotalLimit
		}
		return entry
	})
	return outcomes[kind], err
}

// keyName is the name of a key at OpenRouter. It finds the key of a POST whose
// answer was lost.
func keyName(user, op string) string { return "latchkey:" + user + ":" + op }

// body opens the key and returns what the client gets, in JSON.
func (t turn) body(outcome Outcome) (string, error) {
	r := t.snapshot().Record
	key, err := t.open(r)
	if err != nil {
		return "", err
	}
	var e jx.Encoder
	e.Grow(512)
	e.ObjStart()
	for _, f := range [...]struct{ name, value string }{
		{"id", r.UserID}, {"user_name", r.UserName}, {"email", r.Email}, {"openrouter_api_key", key.Reveal()}, {"hash", r.Hash},
	} {
		e.FieldStart(f.name)
		e.StrEscape(f.value)
	}
	for _, f := range [...]struct {
		name  string
		value account.Credits
	}{{"total_limit", r.TotalLimit}, {"remaining_limit", r.RemainingLimit}, {"usage_limit", r.UsageLimit}} {
		e.FieldStart(f.name)
		f.value.Encode(&e)
	}
	e.FieldStart("outcome")
	e.StrEscape(string(outcome))
	e.ObjEnd()
	return e.String(), nil
}

// open returns the key of a record. One that was opened last is at hand as long
// as the object is in memory.
func (t turn) open(r *account.Record) (seal.Secret, error) {
	t.mu.Lock()
	key, sealed := t.key, t.sealed
	t.mu.Unlock()
	if sealed == r.Key && sealed != "" {
		return key, nil
	}
	key, stale, err := t.Settings.Sealer.Open(t.user, r.Key)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("durable: the key of %q: %w", r.Hash, err)
	}
	if stale {
		// Dying before this write leaves it to the next request.
		return key, t.update(func(st *State) *account.Entry {
			st.Record.Key = t.Settings.Sealer.Seal(t.user, key)
			return nil
		})
	}
	t.mu.Lock()
	t.key, t.sealed = key, r.Key
	t.mu.Unlock()
	return key, nil
}
