package durable

import (
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/settings"
	"latchkey/internal/users"
)

// operation is one request on its way, and what it may use.
type operation struct {
	request   Request
	user      string
	settings  *settings.Settings
	store     *store
	opened    *openedKey
	keys      openrouter.Client
	table     users.Table
	now       func() time.Time
	newOp     func() string
	loadState func() error // reads what is stored, once
	line      *oplog.Line  // of this request
	ahead     *creation    // a first key that was ordered while D1 was asked; nil: none was
}

// abandonCreate ends a creation whose answer never came: the object died over
// it. Its key, if there is one, can be used by nobody and is looked for in the
// background.
func (op *operation) abandonCreate() error {
	if p := op.store.snapshot().Pending; p == nil || p.Op == "" || op.ahead != nil {
		return nil
	}
	return op.store.apply(func(st *State) *account.Entry {
		// Since when the POST was sent, however long ago: its key is as old.
		lost, sent := st.Pending.Op, st.Pending.Since
		if st.Pending.Kind == PendingDelete { // which is repeated; the POST came after it
			st.Pending.Op, sent = "", sent.Add(op.settings.OpenRouterTimeout)
		} else {
			st.Pending = nil
		}
		st.queueOrphan(lost, sent, op.now(), op.firstRetryAt())
		return nil
	})
}

// rename takes the name and address of the token over into the record.
func (op *operation) rename(st *State) *account.Entry {
	st.rename(op.request.Who.Name, op.request.Who.Email)
	return nil
}

// rules decide for this request, now.
func (op *operation) rules() rules { return rules{op.settings, op.request.Action, op.now()} }

func (op *operation) firstRetryAt() time.Time { return op.store.jitter.firstRetryAt(op.now()) }
