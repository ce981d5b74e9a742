package durable

import (
	"net/http"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
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
	case t.Want == Owns:
		return answer.JSON(http.StatusOK, "application/json", map[string]bool{"known": st.knows(t.Hash)}), done, nil
	case t.Want == Ledger && st.Record != nil:
		return t.ledger()
	case t.Want == Inspect && st.user() != nil:
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
		Pending: st.Pending,
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

func (t turn) adjustLimits() error {
	if t.Adjustment.TotalLimit == nil && t.Adjustment.RemainingLimit == nil {
		return nil
	}
	tooMuch := false
	err := t.update(func(st *State) *account.Entry {
		r, before := st.Record, *st.Record
		if total := t.Adjustment.TotalLimit; total != nil {
			r.TotalLimit = *total
			r.RemainingLimit += *total - before.TotalLimit
		}
		moved := r.RemainingLimit
		if remaining := t.Adjustment.RemainingLimit; remaining != nil {
			r.RemainingLimit = *remaining
		}
		if tooMuch = max(r.RemainingLimit, -r.RemainingLimit) > account.MaxCredits; tooMuch {
			*r = before // it could not be read back
		}
		if *r == before {
			return nil
		}
		// Counted like a charge, the entry keeps what remains equal to the total
		// less what the ledger took.
		return &account.Entry{Kind: account.Adjust, Credits: moved - r.RemainingLimit, Hash: r.Hash}
	})
	if tooMuch {
		return problem.New(problem.InvalidRequest, "That would leave more than "+account.MaxCredits.String()+" credits.")
	}
	return err
}

func (t turn) resume() error {
	return t.update(func(st *State) *account.Entry {
		st.Record.Suspended = false
		return &account.Entry{Kind: account.Resume}
	})
}

// suspend charges what was spent, if OpenRouter tells, and deletes the key. It
// takes effect with its write, and does not wait for OpenRouter to be well.
func (t turn) suspend() error {
	st := t.snapshot()
	if record := st.Record; record.Hash != "" && st.Pending == nil {
		if key, err := t.keys.Get(record.Hash); err == nil && !key.Uncapped {
			err := t.update(func(st *State) *account.Entry {
				st.Record.UsageLimit = key.Left
				return st.charge(key, record.UsageLimit)
			})
			if err != nil {
				return err
			}
		}
	}
	// Dying after this write leaves the deletion to the alarm.
	err := t.update(func(st *State) *account.Entry {
		hash := st.Record.Hash
		st.Record.Suspended, st.Record.Key, st.Disabled = true, "", false
		if hash != "" && st.Pending == nil {
			st.Pending = &Pending{Delete: hash, Since: t.Now(), Due: t.soon()}
		}
		return &account.Entry{Kind: account.Suspend, Hash: hash}
	})
	if err != nil {
		return err
	}
	if err := t.finishAndForget(); err != nil {
		t.Log(oplog.Line{Evt: oplog.Admin, User: t.user, Op: "suspend", Outcome: "again", Err: err.Error()})
	}
	return nil
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
	failed := t.eraseOutside(record.Hash)
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

// eraseOutside does at once what the alarm would do: the key goes at OpenRouter,
// the row in D1.
func (t turn) eraseOutside(hash string) error {
	if hash != "" {
		if err := t.keys.Delete(hash); err != nil {
			return err
		}
		if err := t.update(finish(Chore{Delete: hash})); err != nil {
			return err
		}
	}
	write, err := t.project(t.table)
	if err != nil {
		return err
	}
	return t.update(write)
}
