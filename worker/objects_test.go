package worker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/durable"
	"latchkey/durable/durabletest"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/openroutertest"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/settings"
	"latchkey/internal/users"
)

const provisioningKey = "not-a-real-provisioning-key"

// isolate is the objects of an isolate, with an OpenRouter of their own.
type isolate struct {
	*Objects
	openRouter *openroutertest.Server
	log        *logged
}

func newIsolate(t *testing.T) *isolate {
	t.Helper()
	values := map[string]string{
		"JWT_SECRET_CLOUD": secret, "ADMIN_TOKEN": adminToken, "OPENROUTER_PROVISIONING_API_KEY": provisioningKey, "OPENROUTER_BASE_URL": "http://127.0.0.1/api/v1",
		"KEY_ENCRYPTION_KEY": base64.StdEncoding.EncodeToString([]byte("not-a-real-key-not-a-real-key-32")),
	}
	set, err := settings.Parse(func(name string) string { return values[name] }, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return now }
	l := &logged{}
	server := openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey, Now: clock})
	t.Cleanup(server.Close)
	return &isolate{NewObjects(NewFront(set, nil, clock, l.add)), server, l}
}

// fake is a platform in memory.
type fake struct {
	name   string
	number int32
	http.RoundTripper
	down     error               // why D1 cannot be reached
	mistaken bool                // D1 panics
	idle     chan struct{}       // has an element for each Idle
	call     func(string) string // the body of the answer to an internal call

	storage *durabletest.Storage
	closed  bool
}

func (i *isolate) platform(name string, number int32) *fake {
	return &fake{name: name, number: number, RoundTripper: i.openRouter, storage: durabletest.NewStorage("", nil), idle: make(chan struct{}, 100)}
}

func (p *fake) Name() string                  { return p.name }
func (p *fake) Number() int32                 { return p.number }
func (p *fake) Storage() durable.Storage      { return p.storage }
func (p *fake) DB() users.DB                  { return p }
func (p *fake) OpenRouter() http.RoundTripper { return p.RoundTripper }
func (p *fake) Sockets() durable.Sockets      { return nil }
func (p *fake) Idle()                         { p.idle <- struct{}{} }
func (p *fake) Close()                        { p.closed = true }

func (p *fake) Call(name, call string) (string, error) {
	if p.call == nil {
		return "", errors.New("nobody answers")
	}
	return p.call(name + " " + call), nil
}

// Batch has no rows.
func (p *fake) Batch(statements []users.Statement, sent func()) ([]json.RawMessage, error) {
	if sent != nil {
		sent()
	}
	if p.mistaken {
		panic("a mistake")
	}
	if p.down != nil {
		return nil, p.down
	}
	return slices.Repeat([]json.RawMessage{json.RawMessage("[]")}, len(statements)), nil
}

// wait makes a call and waits for its answer.
func wait(call func(*called)) *called {
	c := &called{done: make(chan struct{}, 1)}
	call(c)
	<-c.done
	return c
}

// ask has an object answer a request, and waits until it is idle.
func (i *isolate) ask(p *fake, r edge.Request) *called {
	c := wait(func(c *called) { i.Serve(c, p, r) })
	if p.name != adminName && c.err == nil && c.answer.Status == 200 {
		<-p.idle
	}
	return c
}

func (i *isolate) lines() []string {
	i.log.mu.Lock()
	defer i.log.mu.Unlock()
	var all []string
	for _, line := range i.log.lines {
		all = append(all, fmt.Sprintf("%s %s %s %d", line.Evt, line.Op, line.Outcome, line.Status))
	}
	i.log.lines = nil
	return all
}

func TestAnObjectAnswersAndLogsOnce(t *testing.T) {
	i := newIsolate(t)
	p := i.platform("u_42", 1)
	for _, c := range []struct {
		method, path, authorization, body string
		status                            int
		in, line                          string
	}{
		{"GET", ledgerPath, ada(t), "", 200, `{"entries":[],"next_cursor":null}`, "key own_ledger done 200"},
		{"GET", mePath, ada(t), "", 200, `"outcome":"provisioned"`, "key me provisioned 200"},
		{"GET", ledgerPath, ada(t), "", 200, `"kind":"provision"`, "key own_ledger done 200"},
		{"GET", mePath, "", "", 401, problem.MissingToken, "request  missing_token 401"}, // it had expired meanwhile, say
		{"GET", adminUsers + "/u_42/ledger", "Bearer " + adminToken, "", 200, `"kind":"provision"`, "admin ledger done 200"},
	} {
		a := i.ask(p, edge.Request{Method: c.method, Path: c.path, Authorization: c.authorization, Body: c.body}).answer
		if a.Status != c.status || !strings.Contains(a.Body, c.in) {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.Status, a.Body)
		}
		carries(t, a, "X-Content-Type-Options", "nosniff")
		foreground := slices.DeleteFunc(i.lines(), func(line string) bool { return strings.HasPrefix(line, "background ") })
		if !slices.Equal(foreground, []string{c.line}) {
			t.Errorf("%s %s: logged %q, want %q", c.method, c.path, foreground, c.line)
		}
	}
}

// What an object gets is what the Worker has verified, unless it comes from elsewhere.
func TestAnObjectAnswersNothingThatIsAnothers(t *testing.T) {
	i := newIsolate(t)
	for _, r := range []edge.Request{
		{Method: "GET", Path: mePath, Authorization: ada(t)},
		{Method: "GET", Path: adminUsers, Authorization: "Bearer " + adminToken},
		{Method: "GET", Path: adminUsers + "/u_42", Authorization: "Bearer " + adminToken},
		{Method: "GET", Path: "/healthz"},
		{Method: "OPTIONS", Path: mePath},
	} {
		for _, name := range []string{"u_43", "", adminName} {
			if name == adminName && r.Path == adminUsers {
				continue
			}
			if c := wait(func(c *called) { i.Serve(c, i.platform(name, 1), r) }); c.err == nil || c.answer.Status != 0 {
				t.Errorf("%+v to %q: %+v", r, name, c.answer)
			}
		}
	}
	if len(i.kept) != 0 {
		t.Errorf("%d objects are kept", len(i.kept))
	}
	i.log.none(t) // the Worker logs that it failed
}

func TestInternalCalls(t *testing.T) {
	known := internalCall{Kind: callKnows, Hash: strings.Repeat("0", 64)}.String()
	reconcile := internalCall{Kind: callReconcile}.String()
	for _, c := range []struct {
		name, object, call string
		want               string // in the answer, or in the error
		fails              bool
	}{
		{"whether a user knows a key", "u_42", known, `{"known":false}`, false},
		{"the daily reconciliation", adminName, reconcile, `"examined":0`, false},
		{"a user is asked to reconcile", "u_42", reconcile, `"reconcile"`, true},
		{"the admin service is asked for a key", adminName, known, `"knows"`, true},
		{"an unknown one", "u_42", `{"kind":"own"}`, `"own"`, true},
		{"an unknown one to the admin service", adminName, `{"kind":""}`, `""`, true},
		{"that of an earlier version", "u_42", `{"owns":"0f"}`, `""`, true},
		{"none", "u_42", "", "internal call", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newIsolate(t)
			got := wait(func(answered *called) { i.AnswerCall(answered, i.platform(c.object, 1), c.call) })
			switch {
			case c.fails && (got.err == nil || !strings.Contains(got.err.Error(), c.want)):
				t.Errorf("got %d %s, %v", got.answer.Status, got.answer.Body, got.err)
			case !c.fails && (got.err != nil || got.answer.Status != 200 || !strings.Contains(got.answer.Body, c.want)):
				t.Errorf("got %d %s, %v", got.answer.Status, got.answer.Body, got.err)
			}
		})
	}
}

func TestNothingRunsOnBadSettingsInAnObject(t *testing.T) {
	i := newIsolate(t)
	i.Objects.front, _ = misconfigured()
	p := i.platform("u_42", 1)
	for name, call := range map[string]func(*called){
		"an internal call": func(c *called) { i.AnswerCall(c, p, internalCall{Kind: callKnows}.String()) },
		"an alarm":         func(c *called) { i.Alarm(c, p) },
	} {
		if c := wait(call); c.err == nil || c.answer.Status != 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	isProblem(t, wait(func(c *called) { i.Serve(c, p, edge.Request{Method: "GET", Path: mePath, Authorization: ada(t)}) }).answer, 500, problem.Internal)
	if len(i.kept) != 0 {
		t.Errorf("%d objects are kept", len(i.kept))
	}
}

func TestTheAdminService(t *testing.T) {
	const auth = "Bearer " + adminToken
	down := errors.New("D1 is away")
	for _, c := range []struct {
		name, method, path, body string
		prepare                  func(*isolate, *fake)
		status                   int
		in                       string
		line                     string
	}{
		{"a list", "GET", adminUsers, "", nil, 200, `{"users":[],"next_cursor":null}`, "admin list done 200"},
		{"a list without D1", "GET", adminUsers, "", func(_ *isolate, p *fake) { p.down = down }, 503, problem.UpstreamUnavailable, "admin list upstream_unavailable 503"},
		{"a reconciliation", "POST", "/api/admin/reconcile", `{"dry_run":true}`, nil, 200, `{"dry_run":true,"examined":0`, "admin reconcile done 200"},
		{"a reconciliation that OpenRouter refuses", "POST", "/api/admin/reconcile", `{"dry_run":false}`,
			func(i *isolate, _ *fake) {
				i.openRouter.Fail(openroutertest.OpList, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 401}, 1)
			}, 502, problem.UpstreamRefused, "admin reconcile upstream_refused 502"},
		{"a mistake in the program", "GET", adminUsers, "", func(_ *isolate, p *fake) { p.mistaken = true }, 500, problem.Internal, "panic list  0, admin list internal 500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newIsolate(t)
			p := i.platform(adminName, 1)
			if c.prepare != nil {
				c.prepare(i, p)
			}
			a := i.ask(p, edge.Request{Method: c.method, Path: c.path, Body: c.body, Authorization: auth}).answer
			if a.Status != c.status || !strings.Contains(a.Body, c.in) || strings.Contains(a.Body, "D1 is away") {
				t.Errorf("answered %d %s", a.Status, a.Body)
			}
			carries(t, a, "X-Content-Type-Options", "nosniff")
			if line := strings.Join(i.lines(), ", "); line != c.line {
				t.Errorf("logged %q, want %q", line, c.line)
			}
		})
	}
}

func TestTheAdminServiceDoesNothingThatItDoesNotKnow(t *testing.T) {
	i := newIsolate(t)
	for _, action := range []adminAction{"", "export"} {
		body, err := i.perform(i.platform(adminName, 1), adminRequest{Action: action}, &oplog.Line{})
		if body != nil || err == nil {
			t.Errorf("%q: %v, %v", action, body, err)
		}
	}
	if calls := i.openRouter.CallLog(); len(calls) != 0 {
		t.Errorf("OpenRouter was called: %v", calls)
	}
}

// A key counts as nobody's only where the object has said so.
func TestAUsersObjectHasToSayThatItDoesNotKnowAKey(t *testing.T) {
	i := newIsolate(t)
	for body, want := range map[string]struct{ known, fails bool }{
		`{"known":true}`:                   {true, false},
		`{"known":false}`:                  {false, false},
		`{"known":null}`:                   {false, true},
		`{}`:                               {false, true},
		`{"code":"internal","status":500}`: {false, true},
		``:                                 {false, true},
	} {
		p := i.platform(adminName, 1)
		asked := ""
		p.call = func(call string) string {
			asked = call
			return body
		}
		known, err := knows(p, "u_42", "0f")
		if known != want.known || (err != nil) != want.fails || asked != `u_42 {"kind":"knows","hash":"0f"}` {
			t.Errorf("%q: %v, %v; asked %s", body, known, err, asked)
		}
	}
}

func TestIdleObjectsMakeRoomForOthersAndActiveOnesStay(t *testing.T) {
	i := newIsolate(t)
	active := i.platform("active", 0)
	busy := i.open(active)
	for n := range int32(maxKept + 50) {
		p := i.platform(fmt.Sprint("u_", n), n+1)
		wait(func(c *called) { i.AnswerCall(c, p, internalCall{Kind: callKnows}.String()) })
		<-p.idle
		if len(i.kept) > maxKept {
			t.Fatalf("%d objects are kept", len(i.kept))
		}
	}
	if i.open(active) != busy {
		t.Error("an active object was let go")
	}
	if len(i.kept) != maxKept {
		t.Errorf("%d objects are kept, %d may be", len(i.kept), maxKept)
	}
	for n := range int32(maxKept + 10) { // none of these is idle: they cannot be let go
		i.open(i.platform(fmt.Sprint("v_", n), 10_000+n))
	}
	if i.open(active) != busy || len(i.kept) < maxKept+10 {
		t.Errorf("active objects were let go: %d are kept", len(i.kept))
	}
}

func TestAnObjectThatWasCollectedIsLetGo(t *testing.T) {
	i := newIsolate(t)
	p := i.platform("u_42", 7)
	first := i.open(p)
	if i.open(p) != first {
		t.Error("one construction has two objects")
	}
	i.Closed(8)
	if p.closed || len(i.kept) != 1 {
		t.Error("the wrong one was let go")
	}
	i.Closed(7)
	if !p.closed || len(i.kept) != 0 {
		t.Errorf("it was not: %v, %d are kept", p.closed, len(i.kept))
	}
	if again := i.platform("u_42", 9); i.open(again) == first {
		t.Error("a new construction has the object of the one before")
	}
}

// The program of an object may be another one than that of the Worker.
func TestAnObjectHasTheKeysOfAnIssuerReadOnce(t *testing.T) {
	i := newIsolate(t)
	i.front.verifier = auth.NewVerifier(auth.Rules{KeySetURL: keysURL, MaxLifetime: auth.MaxLifetime}, func() time.Time { return now })
	authorization, _ := issued(t, "Ada")
	for _, url := range []string{keysURL, ""} { // the next one waits
		var again called
		i.Serve(&again, i.platform("u_42", 1), edge.Request{Method: "GET", Path: mePath, Authorization: authorization})
		if again.keys == nil || *again.keys != url {
			t.Fatalf("it is answered %+v", again)
		}
	}
}
