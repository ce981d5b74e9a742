package durable

import (
	"errors"
	"net/http"
	"strings"

	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/oplog"
)

// run does what is asked for, and fills the line of the log. A mistake in the program ends
// the request, not the queue: what was written so far is whole.
func (op *operation) run() (result answer.Answer) {
	began := op.now()
	defer func() {
		if cause := recover(); cause != nil {
			result = op.refuse(panicked(op.runtime, op.user, cause))
		}
		op.line.Millis, op.line.Calls = op.now().Sub(began).Milliseconds(), op.calls.calls
		if st := op.store.snapshot(); st != nil && st.user() != nil {
			r := st.Record
			op.line.RemainingLimit, op.line.UsageLimit, op.line.Hash = &r.RemainingLimit, &r.UsageLimit, oplog.ShortHash(r.Hash)
		}
	}()
	a, outcome, err := op.dispatch()
	if err != nil {
		return op.refuse(err)
	}
	op.line.Outcome, op.line.Status = oplog.Outcome(outcome), a.Status
	return a
}

// refuse is the answer to a request that failed.
func (op *operation) refuse(err error) answer.Answer {
	p := ClientError(err)
	a := p.Answer()
	op.line.Outcome, op.line.Status, op.line.Err = oplog.Outcome(p.Code), a.Status, err.Error()
	return a
}

// dispatch has each action done by its own.
func (op *operation) dispatch() (answer.Answer, Outcome, error) {
	load := op.loadOrImport
	if op.request.Action == OwnLedger {
		load = op.loadState // no record is made, and none is needed
	}
	err := load()
	if err != nil && op.request.Action == repair && op.store.snapshot() != nil {
		err = errors.Join(err, op.postponePending())
	}
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
	case OwnLedger:
		return op.ownLedger()
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

// doDamaged answers where what is stored of the user makes no sense. Whether a key
// is known here cannot be said then.
func (op *operation) doDamaged(why *damaged) (answer.Answer, Outcome, error) {
	switch op.request.Action {
	case Inspect:
		cause := why.cause.Error()
		body := adminapi.State{
			Record: adminapi.Record{User: adminapi.User{UserID: op.user}}, Background: []adminapi.Task{},
			Damaged: strings.ToValidUTF8(cause[:min(len(cause), 200)], ""),
		}
		return answer.JSON(http.StatusOK, "application/json", body), done, nil
	case Erase:
		return operator{op}.eraseDamaged()
	}
	return answer.Answer{}, "", why
}

// handOut makes sure that the user has a working key, and returns what the client gets.
func (op *operation) handOut() (body string, outcome Outcome, err error) {
	if outcome, err = (flow{op}).ensure(); err != nil {
		return "", "", err
	}
	body, err = op.body(outcome)
	return body, outcome, err
}

// key answers with the user's key.
func (op *operation) key() (answer.Answer, Outcome, error) {
	body, outcome, err := op.handOut()
	if err != nil {
		return answer.Answer{}, "", err
	}
	return answer.Encoded(http.StatusOK, "application/json", body), outcome, nil
}

// connect opens a socket that tells of the user's key. The key is not read where there
// is a good one: to connect sends no call.
func (op *operation) connect() (answer.Answer, Outcome, error) {
	body, outcome, err := op.handOut()
	if err != nil {
		return answer.Answer{}, "", err
	}
	message, n := note{Opened: op.now(), Expires: op.request.Who.Expires}.tell(op.store.snapshot().Record, body)
	opened := &answer.Socket{ID: op.runtime.NewID(), Note: n.String(), Message: message}
	return answer.Answer{Status: http.StatusSwitchingProtocols, Socket: opened}, outcome, nil
}
