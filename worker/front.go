// Package worker is the Worker and its Durable Objects, without the runtime. The
// Worker routes a request, verifies its token and hands it to the user's object; the
// object looks at it anew, and answers. One [Front] and one [Objects] serve an isolate,
// one call after the other; whatever waits does so in a goroutine of an object.
// worker.mjs is what Cloudflare loads, and cmd/worker is the program that it runs.
//
//	routes.go    what a path answers to
//	front.go     who may ask, what every answer has, and what is logged of it
//	cors.go      which pages may read an answer
//	events.go    who gets a socket, and how one is refused
//	admin.go     what an operator may ask
//	objects.go   the objects that are in memory, and what they are asked
//	service.go   the admin service, which is the object that is nobody's
package worker

import (
	"errors"
	"slices"
	"time"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/settings"
	"latchkey/worker/page"
)

// Front answers a request or says whose object answers it. It keeps nothing of it.
type Front struct {
	settings settings.Settings
	bad      error // settings that are missing or bad
	verifier *auth.Verifier
	now      func() time.Time
	log      func(oplog.Line)
}

// NewFront returns a front. Without good settings it answers, but does nothing.
func NewFront(set settings.Settings, bad error, now func() time.Time, log func(oplog.Line)) *Front {
	f := &Front{settings: set, bad: bad, now: now, log: log}
	if bad != nil {
		log(oplog.Line{Evt: oplog.Settings, Outcome: oplog.Misconfigured, Err: bad.Error()})
		return f
	}
	f.verifier = auth.NewVerifier(set.Tokens, now)
	return f
}

// Misspelt logs which of the names of variables are likely mistakes. It is for the
// beginning of an isolate: nobody reads it more often.
func Misspelt(names []string, log func(oplog.Line)) {
	for _, warning := range settings.Misspelt(names) {
		log(oplog.Line{Evt: oplog.Settings, Outcome: oplog.Misspelt, Err: warning})
	}
}

// target is the object that answers a request, and what is asked of it.
type target struct {
	object string          // its name: the user's id, or adminName
	user   durable.Request // of a user's object
	admin  adminRequest    // of the admin service
}

func (t target) op() oplog.Op {
	if t.object == adminName {
		return oplog.Op(t.admin.Action)
	}
	return oplog.Op(t.user.Action)
}

// serve returns the answer to a request, or the object that answers it. An error says
// why neither: a [problem.Problem], or [auth.KeysWanted].
func (f *Front) serve(r edge.Request) (answer.Answer, *target, error) {
	found := f.find(r.Path)
	if len(found.routes) == 0 {
		return answer.Answer{}, nil, problem.New(problem.NotFound, "There is nothing at this path.")
	}
	if r.Method == "OPTIONS" {
		return f.options(r, found), nil, nil
	}
	i := slices.IndexFunc(found.routes, func(each route) bool { return each.method == r.Method })
	if i < 0 {
		p := problem.New(problem.MethodNotAllowed, "This path does not answer to "+r.Method+".")
		p.Header = [][2]string{{"Allow", found.allow()}}
		return answer.Answer{}, nil, p
	}
	if r.TooLarge {
		return answer.Answer{}, nil, problem.New(problem.TooLarge, "The body is larger than 64 KiB.")
	}
	return found.routes[i].handle(f, r, found.id)
}

// Route answers a request to the Worker, or hands it to an object with forward. What
// an object answers the object logs.
func (f *Front) Route(c edge.Call, r edge.Request, forward func(object string)) {
	a, to, err := f.serve(r)
	if wanted, ok := errors.AsType[*auth.KeysWanted](err); ok {
		f.wantKeys(c, wanted) // it is logged when it has come again
		return
	}
	switch {
	case err != nil:
		c.Respond(f.refuse(r, err, oplog.Line{}))
	case to != nil:
		forward(to.object)
	default:
		f.log(oplog.Line{Evt: oplog.Request, Method: r.Method, Path: f.find(r.Path).pattern(), Status: a.Status})
		c.Respond(f.finish(a, r))
	}
}

// refuse logs why a request came to nothing before any object worked on it, and
// returns its answer. The line is what else is known of it.
func (f *Front) refuse(r edge.Request, err error, line oplog.Line) answer.Answer {
	p := problem.From(err)
	a := p.Answer()
	line.Evt, line.Method, line.Path = oplog.Request, r.Method, f.find(r.Path).pattern()
	line.Outcome, line.Status, line.Err = oplog.Outcome(p.Code), a.Status, err.Error()
	f.log(line)
	return f.finish(a, r)
}

// failures are what a client is told where an object gave no answer.
var failures = map[edge.Failure]struct{ code, detail string }{
	edge.Mistake:    {problem.Internal, "The request could not be completed."},
	edge.Overloaded: {problem.Overloaded, "Too many requests of this user are waiting."},
	edge.Unreached:  {problem.UpstreamUnavailable, "This user's requests cannot be served just now."},
}

// Failed answers a request that an object was to answer, and did not.
func (f *Front) Failed(c edge.Call, r edge.Request, failure edge.Failure, cause string) {
	var line oplog.Line
	if _, to, err := f.serve(r); err == nil && to != nil {
		line.Op = to.op()
		if to.object != adminName {
			line.User = to.object
		}
	}
	told, known := failures[failure]
	if !known {
		c.Respond(f.refuse(r, errors.New("a failure of an unknown kind: "+cause), line))
		return
	}
	p := problem.New(told.code, told.detail)
	p.RetryAfter, p.Cause = time.Second, errors.New(cause)
	c.Respond(f.refuse(r, p, line))
}

// user handles a request of a user: it is forwarded to the user's object.
func user(ask func(auth.Identity, edge.Request) (durable.Request, error)) handler {
	return func(f *Front, r edge.Request, _ string) (answer.Answer, *target, error) {
		if f.bad != nil {
			return answer.Answer{}, nil, f.bad
		}
		who, err := f.verifier.Verify(r.Authorization)
		if err != nil {
			return answer.Answer{}, nil, err
		}
		asked, err := ask(who, r)
		if err != nil {
			return answer.Answer{}, nil, err
		}
		return answer.Answer{}, toUser(who.ID, asked), nil
	}
}

func toUser(id string, r durable.Request) *target { return &target{object: id, user: r} }

func me(who auth.Identity, _ edge.Request) (durable.Request, error) {
	return durable.Request{Action: durable.Me, Who: who}, nil
}

func refresh(who auth.Identity, _ edge.Request) (durable.Request, error) {
	return durable.Request{Action: durable.Refresh, Who: who}, nil
}

func ownLedger(_ auth.Identity, r edge.Request) (durable.Request, error) {
	return ledgerPage(durable.OwnLedger, r.Query)
}

func accountPage(f *Front, _ edge.Request, _ string) (answer.Answer, *target, error) {
	return page.Answer(f.settings.AllowedOrigins), nil, nil
}

func openAPI(*Front, edge.Request, string) (answer.Answer, *target, error) {
	return page.OpenAPI(), nil, nil
}

func health(f *Front, _ edge.Request, _ string) (answer.Answer, *target, error) {
	if f.bad != nil {
		return answer.JSON(503, "application/json", map[string]string{"status": "misconfigured"}), nil, nil
	}
	return answer.JSON(200, "application/json", map[string]string{"status": "ok"}), nil, nil
}

// finish adds to an answer what every answer has.
func (f *Front) finish(a answer.Answer, r edge.Request) answer.Answer {
	a = overSocket(a, r).With("X-Content-Type-Options", "nosniff")
	if r.HTTPS {
		a = a.With("Strict-Transport-Security", "max-age=31536000") // a year
	}
	return f.addCORS(a, r.Origin)
}

// wantKeys has a request come again once the issuer's keys were read. The first one
// is to read them: only here is it certain that somebody does.
func (f *Front) wantKeys(c edge.Call, wanted *auth.KeysWanted) {
	if wanted.URL != "" {
		f.verifier.KeysReading()
	}
	c.WantKeys(wanted.URL)
}

// KeysRead takes what a read of the issuer's key set came to, and logs it.
func (f *Front) KeysRead(set, cacheControl string, failure error) {
	line := oplog.Line{Evt: oplog.Issuer, Op: oplog.OpKeys, Outcome: oplog.Done}
	if err := f.verifier.KeysRead(set, cacheControl, failure); err != nil {
		line.Outcome, line.Err = oplog.Failed, err.Error()
	}
	f.log(line)
}
