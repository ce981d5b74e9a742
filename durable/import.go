package durable

import (
	"errors"
	"strings"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/seal"
	"latchkey/internal/users"
)

// loadOrImport reads what is stored, and where that is nothing, looks into D1.
func (op *operation) loadOrImport() error {
	if err := op.loadState(); err != nil {
		return err
	}
	return op.importRow()
}

// importRow looks, where the object's storage is empty, whether D1 knows the
// user: from an object that was lost, or from an older table. Others may be able
// to write there, so of its key no more is believed than that it opens: the hash
// is that of the key, and of a row without one nothing is done at OpenRouter.
//
// Most who come first are new. So a first key is ordered while D1 is asked, and the
// order is taken back where D1 knows the user or gives no answer.
func (op *operation) importRow() error {
	if !op.store.mayBeInD1() {
		return nil
	}
	var orderAhead func()
	var failed error
	if op.request.Action.wantsKey() && !op.store.snapshot().Unseen {
		orderAhead = func() { failed = op.orderAhead() }
	}
	record, found, err := op.table.FindMeanwhile(op.user, orderAhead)
	if _, senseless := errors.AsType[*users.DamagedError](err); senseless {
		err = &damaged{err}
	}
	switch {
	case failed != nil:
		return failed
	case err != nil && op.ahead == nil:
		return err
	case err != nil:
		// Dying before this write has a key looked for that was not asked for.
		return errors.Join(err, op.store.apply(func(st *State) *account.Entry { op.takeBack(st); return nil }))
	case !found:
		return nil
	}
	unsealed := isKey(record.Key)
	record.Key, record.Hash = op.importKey(record.Key)
	// Dying before this write leaves it to the next request to look again.
	err = op.store.apply(func(st *State) *account.Entry {
		op.takeBack(st)
		if st.Record != nil || st.Pending != nil && !st.Unseen {
			return nil // somebody was faster
		}
		st.Record, st.D1.Seq, st.Unseen = &record, record.Seq, false
		// Anybody who writes there could have put an unsealed key of their own: it is
		// handed out once a reading says that it is one of ours.
		st.Disabled = unsealed
		if record.Suspended && record.Hash != "" { // the object was lost while it deleted the key
			deletion := &Pending{Kind: PendingDelete, Hash: record.Hash, Since: op.now(), Due: op.firstRetryAt()}
			if st.Pending != nil { // of a first key that somebody else has ordered
				deletion.Op, deletion.Since = st.Pending.Op, st.Pending.Since
			}
			st.Pending = deletion
		}
		return nil
	})
	op.ahead = nil
	return err
}

// orderAhead orders a first key. Dying after this write leaves, as with any order, a key
// that may exist, and D1 to be asked once more.
func (op *operation) orderAhead() error {
	return op.store.apply(func(st *State) *account.Entry {
		if st.Record != nil || st.Pending != nil {
			return nil // somebody was faster
		}
		if op.ahead = (flow{op}).order(account.Provision, st); op.ahead != nil {
			op.ahead.also = func(st *State) { st.Unseen = false }
			st.Unseen = true
		}
		return nil
	})
}

// takeBack takes back what was ordered ahead: its POST was not sent.
func (op *operation) takeBack(st *State) {
	p := st.Pending
	if op.ahead == nil || p == nil || p.Op != op.ahead.op {
		return
	}
	if p.Kind == PendingDelete {
		p.Op = ""
	} else {
		st.Pending = nil
	}
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
