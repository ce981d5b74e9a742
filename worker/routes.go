package worker

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
)

// handler returns the answer to a request, or the object that gives it. The id is
// that of the path. Its errors are those of [Front.serve].
type handler func(f *Front, r edge.Request, id string) (answer.Answer, *target, error)

// route is a method of a path, and what answers to it.
type route struct {
	method  string
	pattern string // {id} stands for a user's id, percent-encoded
	handle  handler
}

// routes are all that there is, one line each.
var routes = []route{
	{"GET", "/", accountPage},
	{"HEAD", "/", accountPage},
	{"GET", "/openapi.json", openAPI},
	{"HEAD", "/openapi.json", openAPI},
	{"GET", "/healthz", health},
	{"HEAD", "/healthz", health},
	{"GET", "/api/users/me", user(me)},
	{"POST", "/api/users/me/openrouter-api-key/refresh", user(refresh)},
	{"GET", "/api/users/me/ledger", user(ownLedger)},
	{"GET", eventsPath, events},
	{"GET", "/api/admin/users", operator(listUsers)},
	{"GET", "/api/admin/users/{id}", operator(inspectUser)},
	{"PATCH", "/api/admin/users/{id}", operator(adjustUser)},
	{"DELETE", "/api/admin/users/{id}", operator(eraseUser)},
	{"GET", "/api/admin/users/{id}/ledger", operator(userLedger)},
	{"POST", "/api/admin/users/{id}/sync", operator(syncUser)},
	{"POST", "/api/admin/reconcile", operator(reconcileKeys)},
	{"POST", "/api/admin/reseal", operator(resealKeys)},
}

const adminPaths = "/api/admin/"

// resource is what a path names.
type resource struct {
	routes []route // of one pattern, one for each method; none: nothing is there
	id     string  // that the path has
}

// resources are the routes by their pattern: all are looked through for each request.
var resources = byPattern(routes)

// byPattern expects routes of one pattern to follow on one another.
func byPattern(routes []route) (all []resource) {
	for _, each := range routes {
		if n := len(all); n == 0 || all[n-1].pattern() != each.pattern {
			all = append(all, resource{})
		}
		last := &all[len(all)-1]
		last.routes = append(last.routes, each)
	}
	return all
}

// find returns what a path names. The admin API is not there at all without a token.
func (f *Front) find(path string) resource {
	for _, found := range resources {
		id, ok := match(found.pattern(), path)
		if !ok {
			continue
		}
		if strings.HasPrefix(found.pattern(), adminPaths) && f.settings.AdminToken.Reveal() == "" {
			break
		}
		found.id = id
		return found
	}
	return resource{}
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
