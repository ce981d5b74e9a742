// Command worker is the one wasm program: the stateless front, which routes a
// request, verifies its token and hands it to the user's Durable Object, and
// those objects. This file is the front; main_js.go wires it to the runtime.
package main

import (
	"errors"
	"slices"
	"strings"
	"time"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/settings"
	"latchkey/worker/page"
)

// front answers a request or says whose object answers it. It keeps nothing of it.
type front struct {
	settings settings.Settings
	bad      error // settings that are missing or bad
	verifier *auth.Verifier
	log      func(oplog.Line)
}

// request is what the front needs of an HTTP request.
type request struct {
	method        string
	path          string // percent-encoded
	query         string
	authorization string
	origin        string
	https         bool // how the client sent it
	body          string
	tooLarge      bool // the body is over 64 KiB, and was not read
}

// forward is a request on its way to an object, or one that is to come again once
// the issuer's keys are there.
type forward struct {
	object  string           // its name: the user's id, or that of the admin service
	op      string           // for the log
	request durable.Request  // of a user's object
	admin   *adminRequest    // of the admin service
	keys    *auth.KeysWanted // nil: it goes to the object
}

// route is what a path answers to.
type route struct {
	pattern string // for the log, without anything that a client chose
	methods []string
	handle  func(*front, request) (answer.Answer, *forward, error)
}

// find returns what answers to a path.
func (f *front) find(path string) (route, bool) {
	switch path {
	case "/":
		return route{path, []string{"GET", "HEAD"}, (*front).page}, true
	case "/healthz":
		return route{path, []string{"GET", "HEAD"}, (*front).health}, true
	case "/api/users/me":
		return route{path, []string{"GET"}, user(durable.Me)}, true
	case "/api/users/me/openrouter-api-key/refresh":
		return route{path, []string{"POST"}, user(durable.Refresh)}, true
	}
	return f.findAdmin(path)
}

// serve returns the answer to a request, or where to forward it.
func (f *front) serve(r request) (answer.Answer, *forward) {
	line := oplog.Line{Evt: oplog.Request, Method: r.method}
	a, onward, err := f.handle(r, &line)
	if wanted := (*auth.KeysWanted)(nil); errors.As(err, &wanted) {
		return answer.Answer{}, &forward{keys: wanted} // it is logged when it has come again
	}
	if err != nil {
		a, line.Err = problem.From(err).Answer(), err.Error()
		line.Outcome = problem.From(err).Code
	}
	if onward != nil {
		line.Op, line.Outcome = onward.op, "forwarded"
		if onward.object != adminName {
			line.User = onward.object
		}
	} else {
		line.Status = a.Status
		a = f.finish(a, r)
	}
	f.log(line)
	return a, onward
}

func (f *front) handle(r request, line *oplog.Line) (answer.Answer, *forward, error) {
	to, known := f.find(r.path)
	line.Path = to.pattern
	switch {
	case !known:
		return answer.Answer{}, nil, problem.New(problem.NotFound, "There is nothing at this path.")
	case r.method == "OPTIONS":
		return f.options(r, to), nil, nil
	case !slices.Contains(to.methods, r.method):
		p := problem.New(problem.MethodNotAllowed, "This path does not answer to "+r.method+".")
		p.Header = [][2]string{{"Allow", allow(to)}}
		return answer.Answer{}, nil, p
	case r.tooLarge:
		return answer.Answer{}, nil, problem.New(problem.TooLarge, "The body is larger than 64 KiB.")
	}
	return to.handle(f, r)
}

// user handles a request of a user: it is forwarded to the user's object.
func user(want durable.Action) func(*front, request) (answer.Answer, *forward, error) {
	return func(f *front, r request) (answer.Answer, *forward, error) {
		if f.bad != nil {
			return answer.Answer{}, nil, f.bad
		}
		who, err := f.verifier.Verify(r.authorization)
		if err != nil {
			return answer.Answer{}, nil, err
		}
		return answer.Answer{}, toUser(who.ID, durable.Request{Action: want, Who: who}), nil
	}
}

func (f *front) page(request) (answer.Answer, *forward, error) {
	return page.Answer(f.settings.AllowedOrigins), nil, nil
}

func (f *front) health(request) (answer.Answer, *forward, error) {
	if f.bad != nil {
		return answer.JSON(503, "application/json", map[string]string{"status": "misconfigured"}), nil, nil
	}
	return answer.JSON(200, "application/json", map[string]string{"status": "ok"}), nil, nil
}

// preflightSeconds is how long a browser may remember a preflight's answer.
const preflightSeconds = "7200"

// options answers OPTIONS: to a preflight of a listed origin with what it may send.
func (f *front) options(r request, to route) answer.Answer {
	a := answer.Answer{Status: 204}.With("Allow", allow(to))
	if !f.listed(r.origin) {
		return a
	}
	return a.With("Access-Control-Allow-Methods", strings.Join(to.methods, ", ")).
		With("Access-Control-Allow-Headers", "Authorization, Content-Type").
		With("Access-Control-Max-Age", preflightSeconds)
}

func allow(to route) string { return strings.Join(append(slices.Clone(to.methods), "OPTIONS"), ", ") }

func (f *front) listed(origin string) bool { return slices.Contains(f.settings.AllowedOrigins, origin) }

// finish adds to an answer what every answer has.
func (f *front) finish(a answer.Answer, r request) answer.Answer {
	a = a.With("X-Content-Type-Options", "nosniff")
	if r.https {
		a = a.With("Strict-Transport-Security", "max-age=31536000") // a year
	}
	return f.share(a, r.origin)
}

// share lets pages of a listed origin read an answer. Where there is a list,
// caches are told that the answer depends on the origin.
func (f *front) share(a answer.Answer, origin string) answer.Answer {
	if len(f.settings.AllowedOrigins) == 0 {
		return a
	}
	a = a.With("Vary", "Origin")
	if !f.listed(origin) {
		return a
	}
	return a.With("Access-Control-Allow-Origin", origin).
		With("Access-Control-Expose-Headers", "Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate")
}

// keysRead takes what a read of the issuer's key set came to, and logs it.
func (f *front) keysRead(set, cacheControl string, failure error) {
	line := oplog.Line{Evt: oplog.Issuer, Op: "keys", Outcome: "done"}
	if err := f.verifier.KeysRead(set, cacheControl, failure); err != nil {
		line.Outcome, line.Err = "failed", err.Error()
	}
	f.log(line)
}

// unreached says what a code means where the user's object could not be asked.
var unreached = map[string]string{
	problem.Internal:            "The request could not be completed.",
	problem.Overloaded:          "Too many requests of this user are waiting.",
	problem.UpstreamUnavailable: "This user's requests cannot be served just now.", // restarted, or moved
}

// failed is the answer where the user's object could not be asked.
func (f *front) failed(r request, code, cause string) answer.Answer {
	p := problem.New(code, unreached[code])
	p.RetryAfter = time.Second
	a := p.Answer()
	to, _ := f.find(r.path)
	f.log(oplog.Line{Evt: oplog.Request, Method: r.method, Path: to.pattern, Outcome: p.Code, Status: a.Status, Err: cause})
	return f.finish(a, r)
}
