package durable

import (
	"errors"
	"strings"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/seal"
	"latchkey/internal/users"
)

// load reads what is stored, and where that is nothing, looks into D1.
func (op *operation) load() error {
	if err := op.loadState(); err != nil {
		return err
	}
	return op.importRow()
}

// importRow looks, where the object's storage is empty, whether D1 knows the
// user: from an object that was lost, or from an older table. Others may be able
// to write there, so of its key no more is believed than that it opens: the hash
// is that of the key, and of a row without one nothing is done at OpenRouter.
func (op *operation) importRow() error {
	if !op.store.empty() {
		return nil
	}
	record, found, err := op.table.Find(op.user)
	_, senseless := errors.AsType[*users.DamagedError](err)
	switch {
	case senseless:
		return &damaged{err}
	case err != nil:
		return err
	case !found:
		return nil
	}
	unsealed := isKey(record.Key)
	record.Key, record.Hash = op.importKey(record.Key)
	// Dying before this write leaves it to the next request to look again.
	return op.store.apply(func(st *State) *account.Entry {
		if st.Record != nil || st.Pending != nil {
			return nil // somebody was faster
		}
		st.Record, st.D1.Seq = &record, record.Seq
		// Anybody who writes there could have put an unsealed key of their own: it is
		// handed out once a reading says that it is one of ours.
		st.Disabled = unsealed
		if record.Suspended && record.Hash != "" { // the object was lost while it deleted the key
			st.Pending = &Pending{Kind: PendingDelete, Hash: record.Hash, Since: op.now(), Due: op.firstRetryAt()}
		}
		return nil
	})
}

// importKey returns the key of a row, sealed, and its hash; both empty where it
// does not open. Older tables have it unsealed.
func (op *operation) importKey(stored string) (sealed, hash string) {
	if isKey(stored) {
		return op.settings.Sealer.Seal(op.user, seal.NewSecret(stored)), openrouter.HashOf(stored)
	}
	key, _, err := op.settings.Sealer.Open(op.user, stored)
	if err != nil {
		return "", ""
	}
	return stored, openrouter.HashOf(key.Reveal())
}

// isKey tells whether a text is a key of OpenRouter's and not a sealed one.
func isKey(text string) bool { return strings.HasPrefix(text, "sk-") }
