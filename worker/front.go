// Command worker is the one wasm program: the stateless front, which routes a
// request, verifies its token and hands it to the user's Durable Object, and
// those objects. This file is the front; main_js.go wires it to the runtime.
package main

import (
	"slices"
	"strings"
	"time"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/settings"
)

// front answers a request or says whose object answers it. It keeps nothing.
type front struct {
	settings settings.Settings
	bad      error // settings that are missing or bad
	verifier *auth.Verifier
	log      func(oplog.Line)
}

// request is what the front needs of an HTTP request.
type request struct {
	method        string
	path          string
	authorization string
	origin        string
	tooLarge      bool // the body is over 64 KiB
}

// forward is a request on its way to the object of who.
type forward struct {
	want durable.Want
	who  auth.Identity
}

// route is what a path answers to.
type route struct {
	methods []string
	want    durable.Want // empty: answered here
}

var routes = map[string]route{
	"/healthz":      {[]string{"GET", "HEAD"}, ""},
	"/api/users/me": {[]string{"GET"}, durable.Me},
	"/api/users/me/openrouter-api-key/refresh": {[]string{"POST"}, durable.Refresh},
}

// serve returns the answer to a request, or where to forward it.
func (f *front) serve(r request) (answer.Answer, *forward) {
	line := r.line()
	a, onward, err := f.handle(r)
	if err != nil {
		a, line.Err = problem.From(err).Answer(), err.Error()
		line.Outcome = problem.From(err).Code
	}
	if onward != nil {
		line.User, line.Op, line.Outcome = onward.who.ID, string(onward.want), "forwarded"
	} else {
		line.Status = a.Status
		a = f.share(a, r.origin)
	}
	f.log(line)
	return a, onward
}

// line begins a log line. It tells no unknown path, which may hold anything, a
// token too.
func (r request) line() oplog.Line {
	line := oplog.Line{Evt: oplog.Request, Method: r.method}
	if _, known := routes[r.path]; known {
		line.Path = r.path
	}
	return line
}

func (f *front) handle(r request) (answer.Answer, *forward, error) {
	to, known := routes[r.path]
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
	case to.want == "":
		return f.health(), nil, nil
	case f.bad != nil:
		return answer.Answer{}, nil, f.bad
	}
	who, err := f.verifier.Verify(r.authorization)
	if err != nil {
		return answer.Answer{}, nil, err
	}
	return answer.Answer{}, &forward{to.want, who}, nil
}

func (f *front) health() answer.Answer {
	if f.bad != nil {
		return answer.JSON(503, "application/json", map[string]string{"status": "misconfigured"})
	}
	return answer.JSON(200, "application/json", map[string]string{"status": "ok"})
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
		With("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
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
	line := r.line()
	line.Outcome, line.Status, line.Err = p.Code, a.Status, cause
	f.log(line)
	return f.share(a, r.origin)
}
