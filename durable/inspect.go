package durable

import (
	"net/http"

	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
)

// This file is what an operator is shown of a user.

// owns answers whether a key is known here.
func (op *operation) owns() (answer.Answer, Outcome, error) {
	known := op.store.snapshot().owns(op.request.Hash)
	return answer.JSON(http.StatusOK, "application/json", map[string]bool{"known": known}), done, nil
}

// inspect answers what the object holds, and the line of the log tells it too.
func (op *operation) inspect() (answer.Answer, Outcome, error) {
	st := op.store.snapshot()
	if st.user() == nil {
		return answer.Answer{}, "", unknownUser()
	}
	body := op.view(st)
	op.line.Evt, op.line.State = oplog.State, body
	return answer.JSON(http.StatusOK, "application/json", body), done, nil
}

// view is a state as the admin API shows it.
func (op *operation) view(st *State) adminapi.State {
	view := adminapi.State{Record: adminapi.Record{User: adminapi.UserOf(*st.Record), Key: op.label(st.Record.Key)}, Background: []adminapi.Task{}, D1: viewD1(st)}
	if st.Pending != nil {
		view.Pending = new(viewPending(*st.Pending))
	}
	for _, task := range st.Tasks {
		view.Background = append(view.Background, viewTask(task))
	}
	if !st.Alarm.IsZero() {
		view.Alarm = &st.Alarm
	}
	return view
}

// viewPending shows a pending call. One of an unknown kind has no name.
func viewPending(p Pending) adminapi.Task {
	view := adminapi.Task{Since: p.Since, Tries: p.Tries, Due: p.Due}
	switch p.Kind {
	case PendingDelete:
		view.Delete, view.Create = p.Hash, p.Op
	case PendingCreate:
		view.Create = p.Op
	case PendingAssign:
		view.Assign = p.New.Hash
	case PendingUnknown:
	default:
		panic(errUnknownKind)
	}
	return view
}

// viewTask shows a task. One of an unknown kind has no name.
func viewTask(t Task) adminapi.Task {
	view := adminapi.Task{Since: t.Since, Tries: t.Tries, Due: t.Due}
	switch t.Kind {
	case DeleteKey:
		view.Delete = t.Hash
	case FindOrphan:
		view.Orphan = t.Op
	case DisableKey, SettleKey:
		view.Settle, view.Live, view.Limit, view.Left = t.Hash, t.Kind == DisableKey, t.Limit, &t.Left
	case UnknownTask:
	default:
		panic(errUnknownKind)
	}
	return view
}

func viewD1(st *State) adminapi.D1 {
	return adminapi.D1{Seq: st.D1.Seq, Behind: st.d1Pending(), Tries: st.D1.Tries, Due: st.D1.Due}
}

// label is a sealed key as OpenRouter labels it: sk-or-v1-abc...xyz.
func (op *operation) label(sealed string) string {
	const head, tail = len("sk-or-v1-abc"), 3
	if sealed == "" {
		return ""
	}
	key, _, err := op.settings.Sealer.Open(op.user, sealed)
	if text := key.Reveal(); err == nil && len(text) > 2*(head+tail) {
		return text[:head] + "..." + text[len(text)-tail:]
	}
	return "unreadable"
}
