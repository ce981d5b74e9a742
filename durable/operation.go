package durable

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/answer"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/settings"
	"latchkey/internal/users"
)

// operation is one request on its way, and what it may use.
type operation struct {
	request  Request
	user     string
	settings *settings.Settings
	store    *store
	opened   *openedKey
	keys     openrouter.Client
	table    users.Table
	now      func() time.Time
	newOp    func() string
	log      func(oplog.Line)
	line     *oplog.Line // of this request
}

// do does what is asked for.
func (op *operation) do() (answer.Answer, Outcome, error) {
	if op.request.Action == OwnLedger {
		return op.ownLedger() // no record is made, and none is needed
	}
	err := op.load()
	if unreadable, ok := errors.AsType[*damaged](err); ok {
		return op.doDamaged(unreadable)
	}
	if err != nil {
		return answer.Answer{}, "", err
	}
	switch op.request.Action {
	case Owns:
		return op.owns()
	case Ledger:
		return op.ledger()
	case Inspect:
		return op.inspect()
	}
	if err := op.abandonCreate(); err != nil {
		return answer.Answer{}, "", err
	}
	switch op.request.Action {
	case repair:
		return answer.Answer{}, done, flow{op}.finishPending()
	case Adjust:
		return operator{op}.adjust()
	case Erase:
		return operator{op}.erase()
	case Sync:
		return operator{op}.sync()
	case Reseal:
		return op.reseal()
	case Me, Refresh:
		return op.key()
	case Connect:
		return op.connect()
	}
	return answer.Answer{}, "", errors.New("durable: no such action: " + string(op.request.Action))
}

// key answers with the user's key.
func (op *operation) key() (answer.Answer, Outcome, error) {
	outcome, err := flow{op}.ensure()
	if err != nil {
		return answer.Answer{}, "", err
	}
	body, err := op.body(outcome)
	if err != nil {
		return answer.Answer{}, "", err
	}
	return answer.Encoded(http.StatusOK, "application/json", body), outcome, nil
}

// load reads what is stored, and where that is nothing, looks into D1.
func (op *operation) load() error {
	first, err := op.store.load()
	if err != nil {
		return err
	}
	if first {
		logUnknown(op.store.snapshot(), op.user, op.log)
	}
	return op.importRow()
}

// logUnknown tells of stored work that this version does not know: it is kept.
func logUnknown(st *State, user string, log func(oplog.Line)) {
	unknown := st.Pending != nil && st.Pending.Kind == PendingUnknown
	if unknown || slices.ContainsFunc(st.Tasks, func(task Task) bool { return task.Kind == UnknownTask }) {
		log(oplog.Line{Evt: oplog.Background, User: user, Op: oplog.OpUnknown, Outcome: oplog.Failed, Err: errUnknownKind.Error()})
	}
}

// abandonCreate ends a creation whose answer never came: the object died over
// it. Its key, if there is one, can be used by nobody and is looked for in the
// background.
func (op *operation) abandonCreate() error {
	if p := op.store.snapshot().Pending; p == nil || p.Kind != PendingCreate {
		return nil
	}
	return op.store.apply(func(st *State) *account.Entry {
		// Since when the POST was sent, however long ago: its key is as old.
		st.queueOrphan(st.Pending.Op, st.Pending.Since, op.now(), op.firstRetryAt())
		st.Pending = nil
		return nil
	})
}

// rules decide for this request, now.
func (op *operation) rules() rules { return rules{op.settings, op.request.Action, op.now()} }

func (op *operation) firstRetryAt() time.Time { return op.store.jitter.firstRetryAt(op.now()) }

// defaultRetryAfter is what a client is told where OpenRouter said nothing.
const defaultRetryAfter = 5 * time.Second

// ClientError maps what can go wrong with OpenRouter and D1 to what a client may see.
func ClientError(err error) *problem.Problem {
	var e *openrouter.Error
	if !errors.As(err, &e) {
		return problem.From(err)
	}
	if e.Kind == openrouter.Unavailable {
		return unavailable("OpenRouter cannot be reached just now.", e.RetryAfter, err)
	}
	p := problem.New(problem.UpstreamRefused, "OpenRouter refused, and trying again will not help. The operator has to look into it.")
	p.Cause = err
	return p
}

func unavailable(detail string, retryAfter time.Duration, cause error) *problem.Problem {
	p := problem.New(problem.UpstreamUnavailable, detail)
	p.RetryAfter, p.Cause = retryAfter, cause
	if retryAfter == 0 {
		p.RetryAfter = defaultRetryAfter
	}
	return p
}
