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
	runtime   *Runtime
	settings  *settings.Settings
	now       func() time.Time
	store     *store
	opened    *openedKey
	keys      openrouter.Client
	table     users.Table
	loadState func() error // reads what is stored, once
	ahead     *creation    // a first key that was ordered while D1 was asked; nil: none was
	calls     *recorder
	line      oplog.Line // of this request
}

func newOperation(r Request, user string, runtime *Runtime, store *store, opened *openedKey, loadState func() error) *operation {
	calls := newRecorder(runtime)
	return &operation{
		request: r, user: user, runtime: runtime, settings: &runtime.Settings, now: runtime.Now, store: store, opened: opened,
		keys: runtime.Settings.OpenRouter(calls, runtime.Now), table: users.Table{DB: calls}, loadState: loadState, calls: calls,
		line: oplog.Line{Evt: r.Action.event(), User: user, Op: oplog.Op(r.Action)},
	}
}

// abandonCreate ends a creation whose answer never came: the object died over
// it. Its key, if there is one, can be used by nobody and is looked for in the
// background.
func (op *operation) abandonCreate() error {
	if p := op.store.snapshot().Pending; p == nil || p.Op == "" || op.ahead != nil {
		return nil
	}
	return op.store.apply(func(st *State) *account.Entry {
		// The search is for a key as old as the POST, however long ago that was sent.
		lost, sent := st.Pending.Op, st.Pending.Since
		if st.Pending.Kind == PendingDelete { // which is repeated; the POST came after it
			st.Pending.Op, sent = "", sent.Add(op.settings.OpenRouterTimeout)
		} else {
			st.Pending = nil
		}
		// It waits for no other search: crashes are few, and most leave no key, whose search
		// goes on for as long as one may show up.
		st.Tasks.queueOrphan(lost, sent, op.firstRetryAt())
		return nil
	})
}

// postponePending has the alarm try again later.
func (op *operation) postponePending() error {
	return op.store.apply(func(st *State) *account.Entry {
		if st.Pending != nil {
			st.postponePending(op.now())
		}
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
