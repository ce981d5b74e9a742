// Command worker is the one wasm program. Its Worker routes a request, verifies its
// token and hands it to the user's Durable Object; those objects answer it.
//
//	front.go     what a path answers to, who may ask, and what every answer has
//	admin.go     what an operator may ask
//	objects.go   the objects that are in memory, and what they are asked
//	service.go   the admin service, which is the object that is nobody's
//	main_js.go   how all this hangs on the runtime
package main

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/settings"
)

// front answers a request or says whose object answers it. It keeps nothing of it.
type front struct {
	settings settings.Settings
	bad      error // settings that are missing or bad
	verifier *auth.Verifier
	now      func() time.Time
	log      func(oplog.Line)
}

// newFront returns a front. Without good settings it answers, but does nothing.
func newFront(set settings.Settings, bad error, now func() time.Time, log func(oplog.Line)) *front {
	f := &front{settings: set, bad: bad, now: now, log: log}
	if bad != nil {
		log(oplog.Line{Evt: oplog.Settings, Outcome: oplog.Misconfigured, Err: bad.Error()})
		return f
	}
	f.verifier = auth.NewVerifier(set.Tokens, now)
	return f
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

// route is a method of a path, and what answers to it: with an answer, or with who
// gives it. Its errors are those of [front.serve].
type route struct {
	method  string
	pattern string // {id} stands for a user's id, percent-encoded
	handle  func(f *front, r edge.Request, id string) (answer.Answer, *target, error)
}

var routes = []route{
	{"GET", "/healthz", health},
	{"HEAD", "/healthz", health},
	{"GET", "/api/users/me", user(me)},
	{"POST", "/api/users/me/openrouter-api-key/refresh", user(refresh)},
	{"GET", "/api/users/me/ledger", user(ownLedger)},
	{"GET", "/api/admin/users", operator(listUsers)},
	{"GET", "/api/admin/users/{id}", operator(inspectUser)},
	{"PATCH", "/api/admin/users/{id}", operator(adjustUser)},
	{"DELETE", "/api/admin/users/{id}", operator(eraseUser)},
	{"GET", "/api/admin/users/{id}/ledger", operator(userLedger)},
	{"POST", "/api/admin/users/{id}/sync", operator(syncUser)},
	{"POST", "/api/admin/reconcile", operator(reconcileKeys)},
}

const adminPaths = "/api/admin/"

// resource is what a path names.
type resource struct {
	routes []route // of one pattern, one for each method; none: nothing is there
	id     string  // that the path has
}

// find returns what a path names. The admin API is not there at all without a token.
func (f *front) find(path string) (found resource) {
	for _, candidate := range routes {
		id, ok := match(candidate.pattern, path)
		if !ok || strings.HasPrefix(candidate.pattern, adminPaths) && f.settings.AdminToken.Reveal() == "" {
			continue
		}
		found.routes, found.id = append(found.routes, candidate), id
	}
	return found
}

// match tells whether a path is of a pattern, and returns the user id in it. A client
// may take the ids . and .. out of the path, and name another resource: no user has them.
func match(pattern, path string) (id string, ok bool) {
	before, after, wants := strings.Cut(pattern, "{id}")
	if !wants {
		return "", path == pattern
	}
	rest, ok := strings.CutPrefix(path, before)
	encoded, tail := rest, ""
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		encoded, tail = rest[:slash], rest[slash:]
	}
	if !ok || tail != after {
		return "", false
	}
	id, err := url.PathUnescape(encoded)
	if err != nil || id == "" || id == "." || id == ".." || len(id) > auth.MaxIDBytes || !utf8.ValidString(id) {
		return "", false
	}
	return id, true
}

// pattern is for the log: it has nothing that a client chose.
func (r resource) pattern() string {
	if len(r.routes) == 0 {
		return ""
	}
	return r.routes[0].pattern
}

func (r resource) methods() []string {
	var all []string
	for _, each := range r.routes {
		all = append(all, each.method)
	}
	return all
}

func (r resource) allow() string { return strings.Join(append(r.methods(), "OPTIONS"), ", ") }

// serve returns the answer to a request, or the object that answers it. An error says
// why neither: a [problem.Problem], or [auth.KeysWanted].
func (f *front) serve(r edge.Request) (answer.Answer, *target, error) {
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

// route answers a request to the Worker, or hands it to an object with forward. What
// an object answers the object logs.
func (f *front) route(c edge.Call, r edge.Request, forward func(object string)) {
	a, to, err := f.serve(r)
	if wanted, ok := errors.AsType[*auth.KeysWanted](err); ok {
		c.WantKeys(wanted.URL) // it is logged when it has come again
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
func (f *front) refuse(r edge.Request, err error, line oplog.Line) answer.Answer {
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

// failed is the answer to a request that an object was to answer, and did not.
func (f *front) failed(r edge.Request, failure edge.Failure, cause string) answer.Answer {
	var line oplog.Line
	if _, to, err := f.serve(r); err == nil && to != nil {
		line.Op = to.op()
		if to.object != adminName {
			line.User = to.object
		}
	}
	told, known := failures[failure]
	if !known {
		return f.refuse(r, errors.New("a failure of an unknown kind: "+cause), line)
	}
	p := problem.New(told.code, told.detail)
	p.RetryAfter, p.Cause = time.Second, errors.New(cause)
	return f.refuse(r, p, line)
}

// user handles a request of a user: it is forwarded to the user's object.
func user(ask func(auth.Identity, edge.Request) (durable.Request, error)) func(*front, edge.Request, string) (answer.Answer, *target, error) {
	return func(f *front, r edge.Request, _ string) (answer.Answer, *target, error) {
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

func health(f *front, _ edge.Request, _ string) (answer.Answer, *target, error) {
	if f.bad != nil {
		return answer.JSON(503, "application/json", map[string]string{"status": "misconfigured"}), nil, nil
	}
	return answer.JSON(200, "application/json", map[string]string{"status": "ok"}), nil, nil
}

// preflightSeconds is how long a browser may remember a preflight's answer.
const preflightSeconds = "7200"

// options answers OPTIONS: to a preflight of a listed origin with what it may send.
func (f *front) options(r edge.Request, found resource) answer.Answer {
	a := answer.Answer{Status: 204}.With("Allow", found.allow())
	if !f.listed(r.Origin) {
		return a
	}
	return a.With("Access-Control-Allow-Methods", strings.Join(found.methods(), ", ")).
		With("Access-Control-Allow-Headers", "Authorization, Content-Type").
		With("Access-Control-Max-Age", preflightSeconds)
}

func (f *front) listed(origin string) bool { return slices.Contains(f.settings.AllowedOrigins, origin) }

// finish adds to an answer what every answer has.
func (f *front) finish(a answer.Answer, r edge.Request) answer.Answer {
	a = a.With("X-Content-Type-Options", "nosniff")
	if r.HTTPS {
		a = a.With("Strict-Transport-Security", "max-age=31536000") // a year
	}
	return f.addCORS(a, r.Origin)
}

// addCORS lets pages of a listed origin read an answer. Where there is a list,
// caches are told that the answer depends on the origin.
func (f *front) addCORS(a answer.Answer, origin string) answer.Answer {
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
	line := oplog.Line{Evt: oplog.Issuer, Op: oplog.OpKeys, Outcome: oplog.Done}
	if err := f.verifier.KeysRead(set, cacheControl, failure); err != nil {
		line.Outcome, line.Err = oplog.Failed, err.Error()
	}
	f.log(line)
}
