package worker

import (
	"fmt"
	"runtime/debug"
	"strings"

	"latchkey/durable"
	"latchkey/internal/admin"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/oplog"
	"latchkey/internal/users"
)

// adminName is the name of the object that is nobody's: the admin service. No user id
// is so long.
var adminName = strings.Repeat("admin ", auth.MaxIDBytes/len("admin ")+1)

// adminAction is what is asked of the admin service.
type adminAction string

const (
	adminList      = adminAction(oplog.OpList)
	adminReconcile = adminAction(oplog.OpReconcile)
	adminReseal    = adminAction(oplog.OpReseal)
)

// adminRequest is what is asked of the admin service. What an action has no use for is
// empty.
type adminRequest struct {
	Action    adminAction
	Query     admin.Query               // list
	Reconcile adminapi.ReconcileOptions // reconcile
	Reseal    adminapi.ResealOptions    // reseal
}

func toAdmin(r adminRequest) *target { return &target{object: adminName, admin: r} }

// administer does what is asked of the admin service, and logs it.
func (o *Objects) administer(p Platform, r adminRequest, reply func(answer.Answer)) {
	began := o.front.now()
	line := oplog.Line{Evt: oplog.Admin, Op: oplog.Op(r.Action), Outcome: oplog.Done}
	body, err := o.perform(p, r, &line)
	a := answer.Answer{}
	if err != nil {
		problem := durable.ClientError(err)
		a, line.Outcome, line.Err = problem.Answer(), oplog.Outcome(problem.Code), err.Error()
	} else {
		a = answer.JSON(200, "application/json", body)
	}
	line.Status, line.Millis = a.Status, o.front.now().Sub(began).Milliseconds()
	o.front.log(line)
	reply(a)
}

// perform returns the body of the answer. A mistake in the program is an error like any
// other: nothing but this goroutine ends.
func (o *Objects) perform(p Platform, r adminRequest, line *oplog.Line) (body any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			o.front.log(oplog.Line{Evt: oplog.Panic, Op: line.Op, Err: fmt.Sprintf("%v\n%s", cause, debug.Stack())})
			err = fmt.Errorf("the admin service: panic: %v", cause)
		}
	}()
	service := admin.Service{
		Keys:   o.front.settings.OpenRouter(p.OpenRouter(), o.front.now),
		Table:  users.Table{DB: p.DB()},
		Prefix: o.front.settings.KeyNamePrefix,
		Knows:  func(user, hash string) (bool, error) { return knows(p, user, hash) },
		Now:    o.front.now,
		Sealer: o.front.settings.Sealer,
		SealAnew: func(user string) error {
			err := sealAnew(p, user)
			if err != nil {
				line.Err = err.Error() // the last one stands for all
			}
			return err
		},
	}
	switch r.Action {
	case adminList:
		return service.List(r.Query)
	case adminReconcile:
		report, err := service.Reconcile(r.Reconcile)
		if err != nil {
			return nil, err
		}
		describe(report, r.Reconcile, line)
		return report, nil
	case adminReseal:
		report, err := service.Reseal(r.Reseal)
		if err != nil {
			return nil, err
		}
		line.State = report
		return report, nil
	}
	return nil, fmt.Errorf("the admin service does not know the action %q", r.Action)
}

// describe says in the line what an operator has to see of a reconciliation, as an
// error too.
func describe(report admin.Report, options adminapi.ReconcileOptions, line *oplog.Line) {
	line.State = report
	if report.Cause != nil {
		line.Err = report.Cause.Error()
	}
	if report.Suspicious && !options.DryRun && !options.Force {
		line.Outcome = oplog.Suspicious
		line.Err = fmt.Sprintf("%d of %d keys of ours belong to nobody here: so many look like another deployment's, and none is deleted", len(report.Orphans), report.Ours)
	}
}
