package durable

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/users"
)

// This file is what an operator asks of a user's object: docs/operations.md has
// the API.

// Adjustment is what an operator changes; nil leaves a thing as it is.
type Adjustment struct {
	TotalLimit     *account.Credits `json:"total_limit,omitempty"` // what remains moves along with it
	RemainingLimit *account.Credits `json:"remaining_limit,omitempty"`
	Suspended      *bool            `json:"suspended,omitempty"`
}

func unknownUser() error { return problem.New(problem.NotFound, "There is no such user.") }

// look answers what changes nothing.
func (t turn) look() (answer.Answer, Outcome, error) {
	st := t.snapshot()
	switch {
	case t.Action == Owns:
		return answer.JSON(http.StatusOK, "application/json", map[string]bool{"known": st.knows(t.Hash)}), done, nil
	case t.Action == Ledger && st.Record != nil:
		return t.ledger()
	case t.Action == Inspect && st.user() != nil:
		body := t.inspect(st)
		t.Log(oplog.Line{Evt: oplog.State, User: t.user, Hash: oplog.ShortHash(st.Record.Hash), State: body})
		return answer.JSON(http.StatusOK, "application/json", body), done, nil
	}
	return answer.Answer{}, "", unknownUser()
}

// inspection is what an object holds, as an operator may see it.
type inspection struct {
	Record  shown      `json:"record"`
	Pending *Pending   `json:"pending"`
	Chores  []Chore    `json:"background"`
	D1      shownLag   `json:"d1"`
	Alarm   *time.Time `json:"alarm"`
	Damaged string     `json:"damaged,omitempty"` // why what is stored makes no sense; the rest is empty then
}

// shown is a record with no more of its key than tells which one it is.
type shown struct {
	UserID         string          `json:"user_id"`
	UserName       string          `json:"user_name"`
	Email          string          `json:"email"`
	Key            string          `json:"key"`
	Hash           string          `json:"hash"`
	TotalLimit     account.Credits `json:"total_limit"`
	RemainingLimit account.Credits `json:"remaining_limit"`
	UsageLimit     account.Credits `json:"usage_limit"`
	Suspended      bool            `json:"suspended"`
	Seq            int64           `json:"seq"`
	CreatedAt      time.Time       `json:"created_at"`
	UpdatedAt      time.Time       `json:"updated_at"`
}

type shownLag struct {
	Seq    int64     `json:"seq"`
	Behind bool      `json:"behind"`
	Tries  int       `json:"tries"`
	Due    time.Time `json:"due,omitzero"`
}

func (t turn) inspect(st *State) inspection {
	r := st.Record
	body := inspection{
		Record: shown{
			r.UserID, r.UserName, r.Email, t.label(r.Key), r.Hash, r.TotalLimit, r.RemainingLimit, r.UsageLimit,
			r.Suspended, r.Seq, r.CreatedAt, r.UpdatedAt,
		},
		Pending: t.shownPending(st.Pending),
		Chores:  append([]Chore{}, st.Chores...), // [] rather than null
		D1:      shownLag{Seq: st.D1.Seq, Behind: st.behind(), Tries: st.D1.Tries},
	}
	if st.behind() {
		body.D1.Due = st.D1.Due
	}
	if !st.Alarm.IsZero() {
		body.Alarm = &st.Alarm
	}
	return body
}

// shownPending is what is pending, with no more of a new key than tells which one it is.
func (t turn) shownPending(p *Pending) *Pending {
	if p == nil || p.Assign == nil {
		return p
	}
	shown, assign := *p, *p.Assign
	assign.Key = t.label(assign.Key)
	shown.Assign = &assign
	return &shown
}

// label is a sealed key as OpenRouter labels it: sk-or-v1-abc...xyz.
func (t turn) label(sealed string) string {
	const head, tail = len("sk-or-v1-abc"), 3
	if sealed == "" {
		return ""
	}
	key, _, err := t.Settings.Sealer.Open(t.user, sealed)
	if text := key.Reveal(); err == nil && len(text) > 2*(head+tail) {
		return text[:head] + "..." + text[len(text)-tail:]
	}
	return "unreadable"
}

// MaxLedgerPage bounds a page of the ledger.
const MaxLedgerPage = 1000

// ledger answers a page of the ledger, oldest first.
func (t turn) ledger() (answer.Answer, Outcome, error) {
	limit := min(max(t.Limit, 1), MaxLedgerPage)
	entries, err := t.Storage.Entries(t.After, limit)
	if err != nil {
		return answer.Answer{}, "", err
	}
	page := struct {
		Entries []account.Entry `json:"entries"`
		Next    *int64          `json:"next_after"`
	}{Entries: append([]account.Entry{}, entries...)}
	if len(entries) == limit {
		page.Next = &entries[limit-1].Seq
	}
	return answer.JSON(http.StatusOK, "application/json", page), done, nil
}

// adjust changes limits, and suspends or resumes. Each step is written by
// itself: dying between them leaves the later ones undone, and asking again does
// what is left.
func (t turn) adjust() (answer.Answer, Outcome, error) {
	record := t.snapshot().user()
	if record == nil {
		return answer.Answer{}, "", unknownUser()
	}
	if err := t.adjustLimits(); err != nil {
		return answer.Answer{}, "", err
	}
	if want := t.Adjustment.Suspended; want != nil && *want != record.Suspended {
		change := t.resume
		if *want {
			change = t.suspend
		}
		if err := change(); err != nil {
			return answer.Answer{}, "", err
		}
	}
	return answer.JSON(http.StatusOK, "application/json", t.inspect(t.snapshot())), done, nil
}

// adjustLimits changes the limits, each by itself, so that the ledger tells every
// credit that was granted or taken: what remains is what it began with, less all
// that the ledger took.
func (t turn) adjustLimits() error {
	total, remaining := t.Adjustment.TotalLimit, t.Adjustment.RemainingLimit
	if total == nil && remaining == nil {
		return nil
	}
	r := t.snapshot().Record
	left := r.RemainingLimit
	if total != nil {
		left += *total - r.TotalLimit
	}
	if remaining != nil {
		left = *remaining
	}
	if max(left, -left) > account.MaxCredits {
		return problem.New(problem.InvalidRequest, "That would leave more than "+account.MaxCredits.String()+" credits.")
	}
	if total != nil {
		err := t.grant(func(r *account.Record) {
			r.RemainingLimit += *total - r.TotalLimit
			r.TotalLimit = *total
		})
		if err != nil {
			return err
		}
	}
	if remaining != nil {
		if err := t.grant(func(r *account.Record) { r.RemainingLimit = *remaining }); err != nil {
			return err
		}
	}
	return t.capKey()
}

// grant changes limits, and books what that takes from what remains.
func (t turn) grant(change func(*account.Record)) error {
	return t.update(func(st *State) *account.Entry {
		before := *st.Record
		if change(st.Record); *st.Record == before {
			return nil
		}
		st.abandonAssign(t.Now()) // its limit is that of before
		return &account.Entry{Kind: account.Adjust, Credits: before.RemainingLimit - st.Record.RemainingLimit, Hash: before.Hash}
	})
}

// capKey gives the present key up where it holds more than remains, under
// HARD_CAP: its holder need not ask again.
func (t turn) capKey() error {
	tooMuch := func() bool {
		st := t.snapshot()
		return st.Record.Hash != "" && st.Pending == nil && !st.Disabled && t.holdsTooMuch(st)
	}
	if !tooMuch() {
		return nil
	}
	if uncapped, err := t.meterKey(); err != nil || uncapped || !tooMuch() {
		return err
	}
	return t.endKey(func(st *State) *account.Entry { return nil })
}

// meterKey charges what was spent on the present key, if OpenRouter tells.
func (t turn) meterKey() (uncapped bool, err error) {
	key, failed := t.keys.Get(t.snapshot().Record.Hash)
	if failed != nil {
		t.line.Err = failed.Error()
		return false, nil // what is not known now is not waited for
	}
	return key.Uncapped, t.update(func(st *State) *account.Entry {
		st.Disabled = key.Disabled
		return st.take(key)
	})
}

// endKey makes a change and ends all keys of the user with it. It takes effect
// with its write, and does not wait for OpenRouter to be well: dying after the
// write leaves the keys to the alarm.
func (t turn) endKey(with change) error {
	err := t.update(func(st *State) *account.Entry {
		entry := with(st)
		st.abandonAssign(t.Now())
		st.endOverlaps(t.Now())
		if hash := st.Record.Hash; hash != "" && st.Pending == nil {
			st.Pending = &Pending{Delete: hash, Since: t.Now(), Due: t.soon()}
		}
		return entry
	})
	if err != nil {
		return err
	}
	if err := t.finishPending(); err != nil {
		t.Log(oplog.Line{Evt: oplog.Admin, User: t.user, Op: string(t.Action), Outcome: "again", Err: err.Error()})
	}
	return nil
}

func (t turn) resume() error {
	return t.update(func(st *State) *account.Entry {
		st.Record.Suspended = false
		return &account.Entry{Kind: account.Resume}
	})
}

// suspend charges what was spent, if OpenRouter tells, and deletes the key.
func (t turn) suspend() error {
	if st := t.snapshot(); st.Record.Hash != "" && st.Pending == nil {
		if _, err := t.meterKey(); err != nil {
			return err
		}
	}
	return t.endKey(func(st *State) *account.Entry {
		st.Record.Suspended, st.Disabled = true, false
		return &account.Entry{Kind: account.Suspend, Hash: st.Record.Hash}
	})
}

// erase deletes the user's key and forgets all but the ledger.
func (t turn) erase() (answer.Answer, Outcome, error) {
	record := t.snapshot().user()
	if record == nil {
		return answer.Answer{}, "", unknownUser()
	}
	// Dying after this write leaves the key and the row to the alarm.
	err := t.update(func(st *State) *account.Entry {
		t.retire(st)
		t.writeOff(st)
		*st.Record = account.Record{UserID: t.user, Seq: st.Record.Seq, Erased: true}
		return &account.Entry{Kind: account.Erase, Hash: record.Hash}
	})
	if err != nil {
		return answer.Answer{}, "", err
	}
	failed := t.eraseOutside()
	if failed != nil {
		t.Log(oplog.Line{Evt: oplog.Admin, User: t.user, Op: string(Erase), Outcome: "again", Err: failed.Error()})
		return answer.JSON(http.StatusAccepted, "application/json", map[string]string{"status": "erasing"}), done, nil
	}
	return answer.Answer{Status: http.StatusNoContent}.With("Cache-Control", "no-store"), done, nil
}

// sync has all that this object knows written to D1 again, in the background.
func (t turn) sync() (answer.Answer, Outcome, error) {
	if t.snapshot().Record == nil {
		return answer.Answer{}, "", unknownUser()
	}
	err := t.update(func(st *State) *account.Entry {
		st.D1 = Lag{Since: t.Now(), Due: t.soon()}
		return nil
	})
	if err != nil {
		return answer.Answer{}, "", err
	}
	return answer.JSON(http.StatusAccepted, "application/json", map[string]string{"status": "syncing"}), done, nil
}

// eraseOutside does at once what the alarm would do: all keys go at OpenRouter, and
// the row in D1.
func (t turn) eraseOutside() error {
	for _, c := range t.snapshot().Chores {
		if c.Delete == "" {
			continue // of a lost key nobody knows, and it is looked for
		}
		if err := t.keys.Delete(c.Delete); err != nil {
			return err
		}
		if err := t.update(finish(c)); err != nil {
			return err
		}
	}
	write, err := t.project(t.table)
	if err != nil {
		return err
	}
	return t.update(write)
}

// doDamaged answers where what is stored of the user makes no sense. Whether a key
// is known here cannot be said then.
func (t turn) doDamaged(why *damaged) (answer.Answer, Outcome, error) {
	switch t.Action {
	case Inspect:
		cause := why.cause.Error()
		body := inspection{Record: shown{UserID: t.user}, Chores: []Chore{}, Damaged: strings.ToValidUTF8(cause[:min(len(cause), 200)], "")}
		return answer.JSON(http.StatusOK, "application/json", body), done, nil
	case Erase:
		return t.eraseDamaged()
	}
	return answer.Answer{}, "", why
}

// eraseDamaged begins anew what makes no sense, as an erased user. What can be
// read of the row in D1 still tells which key is to be deleted; any other one is
// left to the search for keys that nobody owns.
func (t turn) eraseDamaged() (answer.Answer, Outcome, error) {
	record, _, err := t.table.Find(t.user)
	if row, senseless := errors.AsType[*users.DamagedError](err); senseless {
		record.Key, record.Seq = row.Key, row.Seq
	} else if err != nil {
		return answer.Answer{}, "", err
	}
	t.mu.Lock()
	t.state, t.stored = &State{}, nil
	t.mu.Unlock()
	// Dying before this write leaves all as it was; after it, to the alarm.
	err = t.update(func(st *State) *account.Entry {
		if _, hash := t.importKey(record.Key); hash != "" {
			st.Chores = append(st.Chores, Chore{Delete: hash, Since: t.Now(), Due: t.Now()})
		}
		// The numbers so far are not known. No user has had as many changes as this, but
		// a row may say so.
		st.Record = &account.Record{UserID: t.user, Seq: max(t.Now().UnixMilli(), record.Seq), Erased: true}
		return &account.Entry{Kind: account.Erase}
	})
	if err != nil {
		t.mu.Lock()
		t.state = nil // storage is as it was
		t.mu.Unlock()
		return answer.Answer{}, "", err
	}
	return answer.JSON(http.StatusAccepted, "application/json", map[string]string{"status": "erasing"}), done, nil
}
