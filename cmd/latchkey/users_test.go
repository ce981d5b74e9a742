package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestListPagesOn(t *testing.T) {
	f := newFakeAdmin(t)
	p := f.run(t, "users", "list", "--limit", "1", "--all", "--json").want(t, exitOK)
	var users []adminUser
	if err := json.Unmarshal([]byte(p.out), &users); err != nil || len(users) != 3 || p.stderr != "" {
		t.Errorf("%v: %v", err, p)
	}
	f.run(t, "users", "list", "--all", "--q", "a b&c").want(t, exitOK)
	want := []string{
		"GET /api/admin/users?limit=1 null", "GET /api/admin/users?cursor=1&limit=1 null", "GET /api/admin/users?cursor=2&limit=1 null",
		"GET /api/admin/users?limit=200&q=a+b%26c null",
	}
	if got := f.asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
}

// Whatever the server does, a walk ends: n is the number of the page.
func TestAWalkThatDoesNotGetFurtherEnds(t *testing.T) {
	ada := []any{map[string]any{"user_id": "u_42"}}
	for name, page := range map[string]func(n int) map[string]any{
		"the same cursor again": func(int) map[string]any { return map[string]any{"users": ada, "next_cursor": "x"} },
		"two cursors in turn":   func(n int) map[string]any { return map[string]any{"users": ada, "next_cursor": strconv.Itoa(n % 2)} },
		"ever new cursors":      func(n int) map[string]any { return map[string]any{"users": ada, "next_cursor": strconv.Itoa(n)} },
		"nobody on a page":      func(n int) map[string]any { return map[string]any{"users": []any{}, "next_cursor": strconv.Itoa(n)} },
	} {
		walk(t, name, page, "users", "list", "--all")
	}
	entries := func(seqs ...int) []any {
		var list []any
		for _, seq := range seqs {
			list = append(list, map[string]any{"seq": seq})
		}
		return list
	}
	for name, page := range map[string]func(n int) map[string]any{
		"the same page again":   func(int) map[string]any { return map[string]any{"entries": entries(1, 2), "next_after": 2} },
		"two pages in turn":     func(n int) map[string]any { return map[string]any{"entries": entries(1 + n%2), "next_after": 1 + n%2} },
		"pages going backwards": func(n int) map[string]any { return map[string]any{"entries": entries(100 - n), "next_after": 100 - n} },
		"pages that overlap":    func(n int) map[string]any { return map[string]any{"entries": entries(n, n+1), "next_after": n + 1} },
		"a page out of order":   func(int) map[string]any { return map[string]any{"entries": entries(2, 1)} },
		"a seq of 0":            func(int) map[string]any { return map[string]any{"entries": entries(0)} },
		"nothing on a page":     func(n int) map[string]any { return map[string]any{"entries": []any{}, "next_after": n} },
		"no list at all":        func(n int) map[string]any { return map[string]any{"next_after": n} },
	} {
		walk(t, name, page, "users", "ledger", "u_42")
	}
}

// walk runs a command on pages that lead nowhere, and demands that it ends.
func walk(t *testing.T, name string, page func(n int) map[string]any, args ...string) {
	t.Helper()
	f := newFakeAdmin(t)
	n := 0
	f.answerWith(func(w http.ResponseWriter) bool {
		n++
		respond(w, 200, page(n))
		return true
	})
	p := f.run(t, args...).want(t, exitFailed)
	if n > 3 || p.out != "" || !strings.Contains(p.stderr, "do not get further") {
		t.Errorf("%s, after %d pages: %v", name, n, p)
	}
}

func TestIDsReachTheServerWhole(t *testing.T) {
	f := newFakeAdmin(t)
	p := f.run(t, "users", "show", "клас/Ada 1").want(t, exitOK)
	if !strings.Contains(p.out, `Eve\x1b[31m\u202e`) {
		t.Error(p)
	}
	golden(t, "users-show-suspended", p.out)
	for id, path := range map[string]string{
		"a/../b": "a%2F..%2Fb", "a?b#c": "a%3Fb%23c", "%2F": "%252F", "a\nb": "a%0Ab", "...": "...", "-x": "-x", "u/ledger": "u%2Fledger",
	} {
		f.run(t, "users", "show", "--", id).want(t, exitNotFound)
		if asked := f.asked(); asked[len(asked)-1] != "GET /api/admin/users/"+path+" null" {
			t.Errorf("%q: asked %q", id, asked[len(asked)-1])
		}
	}
}

func TestChangesSendNothingElse(t *testing.T) {
	f := newFakeAdmin(t)
	f.run(t, "users", "set", "u_42", "--remaining", "0").want(t, exitOK)
	f.run(t, "users", "set", "u_42", "--total", "0.1").want(t, exitOK)
	f.run(t, "users", "suspend", "u_42").want(t, exitOK)
	f.run(t, "users", "resume", "u_42").want(t, exitOK)
	want := []string{
		`PATCH /api/admin/users/u_42 {"remaining_limit":0}`, `PATCH /api/admin/users/u_42 {"total_limit":0.1}`,
		`PATCH /api/admin/users/u_42 {"suspended":true}`, `PATCH /api/admin/users/u_42 {"suspended":false}`,
	}
	if got := f.asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
}

func TestSeveralUsers(t *testing.T) {
	for _, verb := range []string{"suspend", "resume", "erase"} {
		f := newFakeAdmin(t)
		args := []string{"users", verb}
		if verb == "erase" {
			args = append(args, "--yes")
		}
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
		f = newFakeAdmin(t)
		f.answerWith(func(w http.ResponseWriter) bool {
			if len(f.calls) != 3 {
				return false
			}
			problemDocument(w, 503, "overloaded", "Too many requests wait for this user.")
			return true
		})
		p = f.run(t, append(args, "u_1", "u_42", "u_7", "u_8", "u_9")...).want(t, exitUnavailable)
		if len(f.asked()) != 3 || !strings.Contains(p.out, "u_42") || !strings.Contains(p.stderr, "not tried any more: 2 of 5") {
			t.Errorf("asked %q: %v", f.asked(), p)
		}
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
	f        *fakeAdmin
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

func watchScript(t *testing.T, f *fakeAdmin, adapt func(*app)) *script {
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
func (s *script) step(t *testing.T, change func(*fakeAdmin)) error {
	t.Helper()
	s.f.mu.Lock()
	change(s.f)
	s.f.mu.Unlock()
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
func story() []func(*fakeAdmin) {
	state := func(f *fakeAdmin) *adminState { return f.states[0] }
	unreachable := func(w http.ResponseWriter) bool {
		problemDocument(w, 503, "overloaded", "Too many requests wait for this user.")
		return true
	}
	return []func(*fakeAdmin){
		func(*fakeAdmin) {}, // nothing
		func(f *fakeAdmin) { // a rotation: charged, and the old key is to go
			s := state(f)
			s.Record.Seq, s.Record.RemainingLimit, s.Record.UsageLimit, s.Record.Key = 4, credits("9.1"), credits("0.1"), ""
			s.Pending = &adminJob{Delete: s.Record.Hash, Since: "2026-11-22T09:30:00Z", Due: "2026-11-22T09:30:30Z"}
			s.D1 = adminLag{Seq: 3, Behind: true, Due: "2026-11-22T09:30:05Z"}
			f.ledgers["u_42"] = append(f.ledgers["u_42"], adminEntry{4, "2026-11-22T09:30:00Z", "charge", credits("0.3"), credits("9.1"), s.Record.Hash})
		},
		func(f *fakeAdmin) { state(f).Pending.Tries = 1 }, // OpenRouter does not answer
		func(f *fakeAdmin) { // two new keys since, and more entries than a page holds
			s := state(f)
			s.Pending = nil
			s.Record.Seq, s.Record.Hash, s.Record.Key, s.Record.UsageLimit = 7, fakeHash("2b3c4d5e"), "sk-or-v1-1b2...8e7", credits("1")
			s.Record.RemainingLimit = credits("8.6")
			f.ledgers["u_42"] = append(f.ledgers["u_42"],
				adminEntry{5, "2026-11-22T09:30:01Z", "rotate", credits("1"), credits("9.1"), fakeHash("22222222")},
				adminEntry{6, "2026-11-22T09:30:02Z", "charge", credits("0.5"), credits("8.6"), fakeHash("22222222")},
				adminEntry{7, "2026-11-22T09:30:02Z", "rotate", credits("1"), credits("8.6"), s.Record.Hash})
			s.D1.Tries = 1
		},
		func(f *fakeAdmin) { state(f).D1 = adminLag{Seq: 7} },
		func(f *fakeAdmin) { // suspended
			s := state(f)
			s.Background = []adminJob{{Delete: s.Record.Hash, Since: "2026-11-22T09:31:00Z", Due: "2026-11-22T09:31:05Z"}}
			s.Record.Seq, s.Record.Suspended, s.Record.Hash, s.Record.Key = 8, true, "", ""
			f.ledgers["u_42"] = append(f.ledgers["u_42"], adminEntry{8, "2026-11-22T09:31:00Z", "suspend", 0, credits("8.6"), ""})
		},
		func(f *fakeAdmin) { state(f).Background[0].Tries = 2 },
		func(f *fakeAdmin) { f.answer = unreachable },
		func(f *fakeAdmin) { f.answer, state(f).Background = nil, []adminJob{} },
		func(f *fakeAdmin) { // renamed, to something nasty, and resumed
			state(f).Record.Seq, state(f).Record.Suspended, state(f).Record.UserName = 9, false, "Ada\x1b[2J"
		},
		func(f *fakeAdmin) { state(f).Record.Seq, state(f).Record.UpdatedAt = 10, "later" }, // not worth a line
		func(f *fakeAdmin) { state(f).Record.UserID = "somebody else" },                     // erased
		func(f *fakeAdmin) { // begins anew
			s := state(f)
			s.Record.UserID, s.Record.Seq, s.Record.UserName = "u_42", 1, "Ada"
			f.ledgers["u_42"] = []adminEntry{{1, "2026-11-22T09:32:00Z", "provision", credits("1"), credits("10"), fakeHash("3c4d5e6f")}}
		},
	}
}

func TestWatch(t *testing.T) {
	for name, adapt := range map[string]func(*app){
		"users-watch": func(*app) {}, "users-watch-json": func(a *app) { a.asJSON = true }, "users-watch-csv": func(a *app) { a.asCSV = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := watchScript(t, newFakeAdmin(t), adapt)
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
	f := newFakeAdmin(t)
	s := watchScript(t, f, func(*app) {})
	whole := *f.states[0]
	for _, change := range []func(*fakeAdmin){
		func(f *fakeAdmin) {
			*f.states[0] = adminState{Record: adminRecord{adminUser: adminUser{UserID: "u_42"}}, Damaged: "no\x1bJSON"}
		},
		func(*fakeAdmin) {}, // still
		func(f *fakeAdmin) { *f.states[0] = whole },
	} {
		if err := s.step(t, change); err != nil {
			t.Fatal(err)
		}
	}
	s.stop()
	out := s.out.String()
	if strings.Count(out, "\n") != 3 || !strings.Contains(out, `record       damaged: no\x1bJSON`) || !strings.Contains(out, `damaged no\x1bJSON -> (none)`) {
		t.Errorf("%s", out)
	}
}

func TestWhatIsKnownOfAWorkIsShown(t *testing.T) {
	f := newFakeAdmin(t)
	one, some := credits("1"), credits("0.25")
	f.states[0].Pending = &adminJob{Assign: fakeHash("aabb0011"), Since: "then"}
	f.states[0].Background = []adminJob{{Settle: fakeHash("ccdd2233"), Live: true, Limit: &one, Left: &some, Since: "before"}, {Since: "once"}}
	p := f.run(t, "users", "show", "u_42").want(t, exitOK)
	for _, want := range []string{
		"assign key aabb0011 to the guardrail, since then", "settle key ccdd2233, still live, limit 1, left 0.25, since before", "something that this program does not know, since once",
	} {
		if !strings.Contains(p.out, want) {
			t.Errorf("no %q in %v", want, p)
		}
	}
}

func TestWatchEndsWhenRefused(t *testing.T) {
	f := newFakeAdmin(t)
	s := watchScript(t, f, func(*app) {})
	err := s.step(t, func(f *fakeAdmin) {
		f.answer = func(w http.ResponseWriter) bool {
			problemDocument(w, 401, "invalid_token", "The token is not valid.")
			return true
		}
	})
	if exitCode(err) != exitRefused {
		t.Errorf("it ended with %v", err)
	}
}

func TestWatchEndsWhenNobodyReads(t *testing.T) {
	f := newFakeAdmin(t)
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
	f := newFakeAdmin(t)
	for line, code := range map[string]int{"users watch u_42": exitOK, "users list": exitFailed, "users erase --yes u_42": exitFailed} {
		ctx, cancel := context.WithCancel(t.Context())
		f.answerWith(func(http.ResponseWriter) bool {
			cancel() // while the answer is awaited
			return false
		})
		if line == "users watch u_42" {
			f.answerWith(func(w http.ResponseWriter) bool {
				defer cancel()
				respond(w, 200, f.states[0])
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
