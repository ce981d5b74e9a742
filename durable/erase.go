package durable

import (
	"errors"
	"net/http"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/users"
)

// erasing is the answer where an erasure goes on in the background.
func erasing() (answer.Answer, Outcome, error) {
	return answer.JSON(http.StatusAccepted, "application/json", adminapi.Status{Status: "erasing"}), done, nil
}

// erase deletes the user's key and forgets all but the ledger.
func (o operator) erase() (answer.Answer, Outcome, error) {
	record := o.store.snapshot().user()
	if record == nil {
		return answer.Answer{}, "", unknownUser()
	}
	// Dying after this write leaves the key and the row to the alarm.
	err := o.store.apply(func(st *State) *account.Entry {
		st.retireKey(o.now())
		st.Tasks.cancelSettling(o.now())
		*st.Record = account.Record{UserID: o.user, Seq: st.Record.Seq, Erased: true}
		return &account.Entry{Kind: account.Erase, Hash: record.Hash}
	})
	if err != nil {
		return answer.Answer{}, "", err
	}
	if failed := o.eraseOutside(); failed != nil {
		o.line.Err = failed.Error()
		return erasing()
	}
	return answer.Answer{Status: http.StatusNoContent}.With("Cache-Control", "no-store"), done, nil
}

// eraseOutside does at once what the alarm would do: all keys go at OpenRouter, and
// the row in D1.
func (o operator) eraseOutside() error {
	for _, task := range o.store.snapshot().Tasks {
		if task.Kind != DeleteKey {
			continue // of a lost key nobody knows, and it is looked for
		}
		if err := o.keys.Delete(task.Hash); err != nil {
			return err
		}
		if err := o.store.apply(finish(task)); err != nil {
			return err
		}
	}
	write, err := syncWithD1(o.store, o.table, o.now)
	if err != nil {
		return err
	}
	return o.store.apply(write)
}

// eraseDamaged begins anew what makes no sense, as an erased user. What can be
// read of the row in D1 still tells which key is to be deleted; any other one is
// left to the search for keys that nobody owns.
func (o operator) eraseDamaged() (answer.Answer, Outcome, error) {
	record, _, err := o.table.Find(o.user)
	if row, senseless := errors.AsType[*users.DamagedError](err); senseless {
		record.Key, record.Seq = row.Key, row.Seq
	} else if err != nil {
		return answer.Answer{}, "", err
	}
	// Dying before this write leaves all as it was; after it, to the alarm.
	err = o.store.reset(func(st *State) *account.Entry {
		if _, hash := o.importKey(record.Key); hash != "" {
			st.Tasks.queueDelete(hash, o.now(), o.now())
		}
		// The numbers so far are not known. No user has had as many changes as this, but
		// a row may say so.
		st.Record = &account.Record{UserID: o.user, Seq: max(o.now().UnixMilli(), record.Seq), Erased: true}
		return &account.Entry{Kind: account.Erase}
	})
	if err != nil {
		return answer.Answer{}, "", err
	}
	return erasing()
}
