package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminapitest"
	"latchkey/internal/openroutertest"
)

func TestListPagesOn(t *testing.T) {
	f := newFixture(t)
	p := f.run(t, "users", "list", "--limit", "1", "--all", "--json").want(t, exitOK)
	var users []adminapi.User
	if err := json.Unmarshal([]byte(p.out), &users); err != nil || len(users) != 3 || p.stderr != "" {
		t.Errorf("%v: %v", err, p)
	}
	f.run(t, "users", "list", "--all", "--q", "a b&c").want(t, exitOK)
	asked := f.Asked()
	for i, want := range []string{
		"GET /api/admin/users?limit=1", "GET /api/admin/users?cursor=", "GET /api/admin/users?cursor=", "GET /api/admin/users?cursor=",
		"GET /api/admin/users?limit=200&q=a+b%26c",
	} {
		if i >= len(asked) || !strings.HasPrefix(asked[i], want) {
			t.Fatalf("asked %q", asked)
		}
	}
}

func TestIDsReachTheServerWhole(t *testing.T) {
	f := newFixture(t)
	p := f.run(t, "users", "show", "клас/Ada 1").want(t, exitOK)
	if !strings.Contains(p.out, `Eve\x1b[31m\u202e`) {
		t.Error(p)
	}
	golden(t, "users-show-suspended", p.out)
	for id, path := range map[string]string{
		"a/../b": "a%2F..%2Fb", "a?b#c": "a%3Fb%23c", "%2F": "%252F", "a\nb": "a%0Ab", "...": "...", "-x": "-x", "u/ledger": "u%2Fledger",
	} {
		f.run(t, "users", "show", "--", id).want(t, exitNotFound)
		if asked := f.Asked(); asked[len(asked)-1] != "GET /api/admin/users/"+path+"" {
			t.Errorf("%q: asked %q", id, asked[len(asked)-1])
		}
	}
}

func TestChangesSendNothingElse(t *testing.T) {
	f := newFixture(t)
	f.run(t, "users", "set", "--yes", "u_42", "--remaining", "0").want(t, exitOK)
	f.run(t, "users", "set", "--yes", "u_42", "--total", "0.1").want(t, exitOK)
	f.run(t, "users", "suspend", "--yes", "u_42").want(t, exitOK)
	f.run(t, "users", "resume", "--yes", "u_42").want(t, exitOK)
	want := []string{
		`GET /api/admin/users/u_42`, `PATCH /api/admin/users/u_42 {"remaining_limit":0}`, `PATCH /api/admin/users/u_42 {"total_limit":0.1}`,
		`PATCH /api/admin/users/u_42 {"suspended":true}`, `PATCH /api/admin/users/u_42 {"suspended":false}`,
	}
	if got := f.Asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
}

func TestSeveralUsers(t *testing.T) {
	for _, verb := range []string{"suspend", "resume", "erase"} {
		f := newFixture(t)
		args := []string{"users", verb, "--yes"}
		// One that is unknown does not stop the others, and is told.
		p := f.run(t, append(args, "u_1", "u_42", "u_2", "u_7")...).want(t, exitNotFound)
		golden(t, "users-"+verb+"-some", p.out+p.stderr)
		if strings.Contains(p.out, "u_1 ") || !strings.Contains(p.out, "u_42") || !strings.Contains(p.out, "u_7") {
			t.Error(p)
		}
		if p := f.run(t, append(args, "u_1")...).want(t, exitNotFound); p.out != "" {
			t.Error(p)
		}

		// Any other failure does, and its exit code counts.
		f = newFixture(t)
		f.answerWith(func(w http.ResponseWriter) bool {
			if len(f.Asked()) != 3 {
				return false
			}
			problemDocument(w, 503, "overloaded", "Too many requests wait for this user.")
			return true
		})
		p = f.run(t, append(args, "u_1", "u_42", "u_7", "u_8", "u_9")...).want(t, exitUnavailable)
		if len(f.Asked()) != 3 || !strings.Contains(p.out, "u_42") || !strings.Contains(p.stderr, "not tried any more: 2 of 5") {
			t.Errorf("asked %q: %v", f.Asked(), p)
		}
	}
}

// More left than the quota began with is refused before anybody is changed, unless
// it is meant.
func TestMoreLeftThanTheTotalIsRefused(t *testing.T) {
	const ids = " u_42 u_1 u_7" // each has a total of 10, but for u_1, who is unknown
	for line, said := range map[string]string{
		"--remaining 10.5":            "u_42: 10.5 left would be more than the 10 that the quota began with",
		"--remaining 10.5 --total 10": "10.5 left would be more than the 10 that",
		"--remaining 10":              "", "--remaining 10.5 --total 10.5": "", "--remaining 10.5 --force": "", "--total 1": "",
	} {
		f := newFixture(t)
		code := exitUsage
		if said == "" {
			code = exitNotFound
		}
		p := f.run(t, strings.Fields("users set --yes "+line+ids)...).want(t, code)
		changes := slices.DeleteFunc(f.Asked(), func(call string) bool { return !strings.HasPrefix(call, "PATCH") })
		if said == "" && (len(changes) != 3 || !strings.Contains(p.out, "u_7")) || said != "" && (len(changes) != 0 || p.out != "" || !strings.Contains(p.stderr, said) || !strings.Contains(p.stderr, "Nothing was changed.")) {
			t.Errorf("%s: changed %q: %v", line, changes, p)
		}
	}
}

func TestStatesOfUsers(t *testing.T) {
	f := newFixture(t)
	f.D1.Exec(t, "DELETE FROM users")
	for i, remaining := range []string{"0.11", "0.1", "-0.5"} {
		f.put(adminapitest.User{Record: account.Record{UserID: fmt.Sprint("u_", i), RemainingLimit: credits(remaining), CreatedAt: testTime, UpdatedAt: testTime}})
	}
	f.put(adminapitest.User{Record: account.Record{UserID: "u_3", Suspended: true, CreatedAt: testTime, UpdatedAt: testTime}})
	states := func(args ...string) string {
		p := f.run(t, append([]string{"users", "list", "--sort", "id"}, args...)...).want(t, exitOK)
		var states []string
		for row := range strings.Lines(p.out) {
			cells := strings.Fields(row)
			states = append(states, cells[len(cells)-1])
		}
		return strings.Join(states[1:], " ")
	}
	if got, want := states(), "active exhausted exhausted suspended"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := states("--renew-at", "0"), "active active exhausted suspended"; got != want {
		t.Errorf("with RENEW_AT 0: %s, want %s", got, want)
	}
	if p := f.run(t, "users", "show", "u_1").want(t, exitOK); !strings.Contains(p.out, "state            exhausted\n") || !strings.Contains(p.out, "usage_limit      -\n") {
		t.Error(p)
	}
	f.run(t, "users", "list", "--renew-at", "little").want(t, exitUsage)
}

func TestUsersAreSorted(t *testing.T) {
	f := newFixture(t)
	f.damage(t, "u_9", "not JSON")
	for line, want := range map[string]string{
		"--sort id": "u_42 u_7 u_9 клас/Ada 1", "--sort -id": "клас/Ada 1 u_9 u_7 u_42",
		"--sort remaining": "клас/Ada 1 u_7 u_42 u_9", "--sort -remaining": "u_42 u_7 клас/Ada 1 u_9", // as numbers, and the unknown last
		"--sort on-key --limit 2": "u_42 u_7", "--sort -updated --limit 1": "u_42",
		"--sort email": "u_42 u_7 клас/Ada 1 u_9", // who have none stay as they were
	} {
		for _, form := range []string{"--json", "--csv"} {
			p := f.run(t, slices.Concat([]string{"users", "list", form}, strings.Fields(line))...).want(t, exitOK)
			var got []string
			if form == "--json" {
				var users []adminapi.User
				if err := json.Unmarshal([]byte(p.out), &users); err != nil {
					t.Fatal(err)
				}
				for _, user := range users {
					got = append(got, user.UserID)
				}
			} else {
				for row := range strings.Lines(p.out) {
					id, _, _ := strings.Cut(row, ",")
					got = append(got, id)
				}
				got = got[1:]
			}
			if strings.Join(got, " ") != want || strings.Contains(p.stderr, "There are more") != strings.Contains(line, "--limit") {
				t.Errorf("%s %s: %q, want %s: %v", line, form, got, want, p)
			}
		}
	}
	if p := f.run(t, "users", "list", "--sort", "hash").want(t, exitUsage); !strings.Contains(p.stderr, "is none of id, name, email, total, remaining, on-key, updated, state") {
		t.Error(p)
	}
}

func TestOnlyTheWordYesConfirms(t *testing.T) {
	for typed, confirmed := range map[string]bool{"yes\n": true, " yes \n": true, "yes": true, "y\n": false, "\n": false, "": false, "no, yes\n": false} {
		var out strings.Builder
		err := ask(t.Context(), strings.NewReader(typed), &out, "Erase \x1b[31m?")
		if (err == nil) != confirmed || out.String() != `Erase \x1b[31m? Type yes: ` {
			t.Errorf("%q: %v, %q", typed, err, &out)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never, _ := io.Pipe()
	if err := ask(ctx, never, io.Discard, "Erase?"); err == nil {
		t.Error("Ctrl-C confirms")
	}
}

// script is a watch, step by step: it waits before every look until it is told
// to go on.
type script struct {
	f        *fixture
	out      *lockedBuilder
	idle, on chan struct{}
	stop     context.CancelFunc
	done     chan error
}

// lockedBuilder is written by the watch and read by the test.
type lockedBuilder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func watchScript(t *testing.T, f *fixture, adapt func(*app)) *script {
	t.Helper()
	s := &script{f: f, out: &lockedBuilder{}, idle: make(chan struct{}), on: make(chan struct{}), done: make(chan error, 1)}
	env := f.env()
	a := newApp(s.out, io.Discard, func(name string) string { return env[name] })
	a.adminURL, a.now = f.URL, func() time.Time { return testTime }
	adapt(a)
	api, err := a.admin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	t.Cleanup(stop)
	wait := func() bool {
		for idle := s.idle; ; {
			select {
			case idle <- struct{}{}:
				idle = nil // told once
			case <-s.on:
				return true
			case <-ctx.Done():
				return false
			}
		}
	}
	go func() { s.done <- a.watch(ctx, api, "u_42", wait) }()
	if err := s.ended(t); err != nil {
		t.Fatal(err)
	}
	return s
}

// step changes the server and has the watch look at it.
func (s *script) step(t *testing.T, change func(*fixture)) error {
	t.Helper()
	change(s.f)
	s.on <- struct{}{}
	return s.ended(t)
}

// ended returns once the watch waits, or with the error that ended it.
func (s *script) ended(t *testing.T) error {
	t.Helper()
	select {
	case <-s.idle:
		return nil
	case err := <-s.done:
		return fmt.Errorf("the watch ended: %w", err)
	case <-time.After(30 * time.Second):
		return errors.New("the watch hangs")
	}
}

// story is what happens to the user while it is watched.
func story() []func(*fixture) {
	unreachable := func(w http.ResponseWriter) bool {
		problemDocument(w, 503, "overloaded", "Too many requests wait for this user.")
		return true
	}
	book := func(u *adminapitest.User, kind account.Kind, n string) {
		u.Record.Seq++
		u.Ledger = append(slices.Clone(u.Ledger), account.Entry{Seq: u.Record.Seq, At: testTime, Kind: kind, Credits: credits(n), RemainingLimit: u.Record.RemainingLimit, Hash: u.Record.Hash})
	}
	const behind = `,"d1":{"seq":3,"since":"2026-11-22T09:30:00Z","due":"2026-11-22T09:30:05Z"}`
	pending := func(u *adminapitest.User, tries int) string {
		return fmt.Sprintf(`"pending":{"delete":%q,"since":"2026-11-22T09:30:00Z","tries":%d,"due":"2026-11-22T09:30:30Z"}`, u.Record.Hash, tries)
	}
	background := func(tries int) string {
		return fmt.Sprintf(`"chores":[{"delete":%q,"since":"2026-11-22T09:31:00Z","tries":%d,"due":"2026-11-22T09:31:05Z"}],"d1":{"seq":8}`, fakeHash("2b3c4d5e"), tries)
	}
	// with has a change stored.
	with := func(change func(*adminapitest.User)) func(*fixture) {
		return func(f *fixture) {
			u := f.users["u_42"]
			change(&u)
			f.put(u)
		}
	}
	return []func(*fixture){
		func(*fixture) {}, // nothing
		with(func(u *adminapitest.User) { // a rotation: charged, and the old key is to go
			u.Record.RemainingLimit, u.Record.UsageLimit, u.Record.Key = credits("9.1"), credits("0.1"), ""
			book(u, account.Charge, "0.3")
			u.Rest = pending(u, 0) + behind
		}),
		with(func(u *adminapitest.User) { u.Rest = pending(u, 1) + behind }), // OpenRouter does not answer
		with(func(u *adminapitest.User) { // two new keys since, and more entries than a page holds
			u.Record.Hash = fakeHash("22222222")
			book(u, account.Rotate, "1")
			u.Record.RemainingLimit = credits("8.6")
			book(u, account.Charge, "0.5")
			u.Record.Hash, u.Record.Key, u.Record.UsageLimit = fakeHash("2b3c4d5e"), "sk-or-v1-1b2"+strings.Repeat("0", 58)+"8e7", credits("1")
			book(u, account.Rotate, "1")
			u.Rest = `"d1":{"seq":3,"since":"2026-11-22T09:30:00Z","tries":1,"due":"2026-11-22T09:30:05Z"}`
		}),
		with(func(u *adminapitest.User) { u.Rest = `"d1":{"seq":7}` }),
		with(func(u *adminapitest.User) { // suspended
			u.Record.Suspended, u.Record.Hash, u.Record.Key = true, "", ""
			book(u, account.Suspend, "0")
			u.Rest = background(0)
		}),
		with(func(u *adminapitest.User) { u.Rest = background(2) }),
		func(f *fixture) { f.answerWith(unreachable) },
		func(f *fixture) {
			f.answerWith(func(http.ResponseWriter) bool { return false })
			with(func(u *adminapitest.User) { u.Rest = `"d1":{"seq":8}` })(f)
		},
		with(func(u *adminapitest.User) { // renamed, to something nasty, and resumed
			u.Record.Seq, u.Record.Suspended, u.Record.UserName = 9, false, "Ada\x1b[2J"
			u.Rest = `"d1":{"seq":9}`
		}),
		with(func(u *adminapitest.User) { u.Record.Seq, u.Rest = 10, `"d1":{"seq":10}` }), // not worth a line
		func(f *fixture) { f.Drop("u_42") },                                               // erased
		func(f *fixture) { // begins anew
			u := f.users["u_42"]
			u.Record.Seq, u.Record.UserName, u.Record.Hash, u.Record.RemainingLimit, u.Ledger = 0, "Ada", fakeHash("3c4d5e6f"), credits("10"), nil
			book(&u, account.Provision, "1")
			u.Rest = `"d1":{"seq":1}`
			f.put(u)
		},
	}
}

func TestWatch(t *testing.T) {
	for name, adapt := range map[string]func(*app){
		"users-watch": func(*app) {}, "users-watch-json": func(a *app) { a.asJSON = true }, "users-watch-csv": func(a *app) { a.asCSV = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := watchScript(t, newFixture(t), adapt)
			for _, change := range story() {
				if err := s.step(t, change); err != nil {
					t.Fatal(err)
				}
			}
			s.stop()
			if err := <-s.done; err != nil {
				t.Errorf("Ctrl-C ends it with %v", err)
			}
			out := s.out.String()
			if strings.Contains(out, "\x1b") && name != "users-watch-csv" {
				t.Errorf("control characters were printed: %q", out)
			}
			for line := range strings.Lines(out) {
				if name == "users-watch-json" && !json.Valid([]byte(line)) {
					t.Errorf("no JSON: %s", line)
				}
			}
			golden(t, name, out)
		})
	}
}

func TestADamagedUserIsWatched(t *testing.T) {
	f := newFixture(t)
	s := watchScript(t, f, func(*app) {})
	for _, change := range []func(*fixture){
		func(f *fixture) { f.PutState("u_42", "no\x1bJSON", nil) },
		func(*fixture) {}, // still
		func(f *fixture) { f.put(f.users["u_42"]) },
	} {
		if err := s.step(t, change); err != nil {
			t.Fatal(err)
		}
	}
	s.stop()
	out := s.out.String()
	if strings.Count(out, "\n") != 3 || !strings.Contains(out, `record       damaged: `) || !strings.Contains(out, ` -> (none)`) {
		t.Errorf("%s", out)
	}
}

func TestWhatIsKnownOfATaskIsShown(t *testing.T) {
	f := newFixture(t)
	one, some := credits("1"), credits("0.25")
	f.answerWith(func(w http.ResponseWriter) bool {
		respond(w, 200, adminapi.State{
			Pending: &adminapi.Task{Assign: fakeHash("aabb0011"), Since: at("20 08:00:00")},
			Background: []adminapi.Task{
				{Settle: fakeHash("ccdd2233"), Live: true, Limit: &one, Left: &some, Since: at("21 08:00:00")}, {Since: at("22 08:00:00"), Tries: 1},
			},
		})
		return true
	})
	p := f.run(t, "users", "show", "u_42").want(t, exitOK)
	for _, want := range []string{
		"assign key aabb0011 to the guardrail, since 2026-11-20T08:00:00Z\n", "settle key ccdd2233, still live, limit 1, left 0.25, since 2026-11-21T08:00:00Z\n",
		"something that this program does not know, since 2026-11-22T08:00:00Z, 1 try failed\n",
	} {
		if !strings.Contains(p.out, want) {
			t.Errorf("no %q in %v", want, p)
		}
	}
}

// A field of the API that no command shows is one that was forgotten.
func TestEveryFieldOfAUserIsShown(t *testing.T) {
	encoded, err := json.Marshal(adminapi.Record{User: adminapi.User{Damaged: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(encoded, &fields); err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		if !slices.ContainsFunc(userFields, func(f userField) bool { return f.name == name }) {
			t.Errorf("%s is in no table", name)
		}
	}
}

func TestAKeyThatCannotBeDeletedIsErasedLater(t *testing.T) {
	f := newFixture(t)
	f.OpenRouter.Fail(openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 503}, 0)
	if p := f.run(t, "users", "erase", "--yes", "u_42").want(t, exitOK); !strings.Contains(p.out, "u_42  erasing") {
		t.Error(p)
	}
}

func TestWatchEndsWhenRefused(t *testing.T) {
	f := newFixture(t)
	s := watchScript(t, f, func(*app) {})
	err := s.step(t, func(f *fixture) {
		f.answerWith(func(w http.ResponseWriter) bool {
			problemDocument(w, 401, "invalid_token", "The token is not valid.")
			return true
		})
	})
	if exitCode(err) != exitRefused {
		t.Errorf("it ended with %v", err)
	}
}

func TestWatchEndsWhenNobodyReads(t *testing.T) {
	f := newFixture(t)
	a := newApp(brokenPipe{}, io.Discard, func(string) string { return adminToken })
	a.adminURL = f.URL
	api, err := a.admin()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.watch(t.Context(), api, "u_42", nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it ended with %v", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestCtrlCEndsAWatchAndInterruptsTheRest(t *testing.T) {
	f := newFixture(t)
	for line, code := range map[string]int{"users watch u_42": exitOK, "users list": exitFailed, "users erase --yes u_42": exitFailed} {
		ctx, cancel := context.WithCancel(t.Context())
		f.answerWith(func(http.ResponseWriter) bool {
			cancel() // while the answer is awaited
			return false
		})
		if line == "users watch u_42" {
			f.answerWith(func(w http.ResponseWriter) bool {
				defer cancel()
				respond(w, 200, adminapi.State{})
				return true
			})
		}
		p := latchkey(ctx, f.env(), strings.Fields(line)...)
		cancel()
		if p.code != code && !(p.code == exitOK && p.stderr == "") {
			t.Errorf("%s: %v", line, p)
		}
	}
}
