//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	or "latchkey/internal/openroutertest"
)

// pollLog is how long a log line may take to come through wrangler.
const pollLog = 10 * time.Second

// faults are the ways in which a call that changes something can fail with an
// outcome that is not known: each with the call carried out and without.
var faults = []or.Fault{
	{Kind: or.KindDrop},
	{Kind: or.KindDrop, Applied: true},
	{Kind: or.KindCut},
	{Kind: or.KindCut, Applied: true},
	{Kind: or.KindHang},
	{Kind: or.KindHang, Applied: true},
	{Kind: or.KindStatus, Status: 500},
	{Kind: or.KindStatus, Status: 500, Applied: true},
	{Kind: or.KindStatus, Status: 429},
	{Kind: or.KindHTML, Status: 502},
	{Kind: or.KindHTML, Status: 502, Applied: true},
	{Kind: or.KindHTML, Status: 200},
	{Kind: or.KindHTML, Status: 200, Applied: true},
}

func nameOf(f or.Fault) string {
	name := string(f.Kind)
	if f.Status != 0 {
		name += fmt.Sprint(" ", f.Status)
	}
	if f.Applied {
		return name + ", applied"
	}
	return name + ", not applied"
}

// A POST that failed is answered with 503 and never repeated: the next request
// makes a key under a new name, and what the first one may have made goes.
func TestFailedPost(t *testing.T) {
	w := useShared(t)
	last := map[*user]view{}
	for _, state := range []struct {
		name      string
		prepare   func(*user)
		before    string // calls of the request that fails
		after     string // an outcome
		remaining float64
	}{
		{"new user", func(*user) {}, "POST", "provisioned", 10},
		{"rotation", func(u *user) { u.spend(u.provisioned(), 0.6) }, "GET DELETE POST", "rotated", 9.4},
		{"renewal", func(u *user) { u.spent() }, "", "renewed", 10},
	} {
		for _, fault := range faults {
			t.Run(state.name+": "+nameOf(fault), func(t *testing.T) {
				u := newUser(t, w)
				state.prepare(u)
				w.openrouter.Fail(or.OpCreate, fault, 1)
				problem(t, u.get(), 503, "upstream_unavailable")
				if state.before != "" && !fault.Applied {
					u.called(state.before) // nothing in the background may mix in
				}
				v := u.expect(u.get(), state.after, state.remaining, 1)
				if again := u.expect(u.get(), "kept", state.remaining, 1); again.Key != v.Key {
					t.Error("the key is another one")
				}
				last[u] = v
			})
		}
	}
	for u, v := range last { // orphans are looked for some seconds later
		u.t = t
		u.settles(v)
	}
}

// Even a 429 is no proof that nothing was made: whoever sent it need not be the
// one who makes keys.
func TestPostCarriedOutAndAnswered429(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindStatus, Status: 429, Applied: true}, 1)
	problem(t, u.get(), 503, "upstream_unavailable")
	u.settles(u.expect(u.get(), "provisioned", 10, 1))
}

// Not even the runtime below us repeats a POST, where the connection that it
// used before is dropped.
func TestPostIsNotRepeatedOnAReusedConnection(t *testing.T) {
	w := useShared(t)
	w.server.Config.SetKeepAlivesEnabled(true)
	t.Cleanup(func() { w.server.Config.SetKeepAlivesEnabled(false) })
	last := map[*user]view{}
	for range 5 {
		u := newUser(t, w)
		u.spend(u.provisioned(), 0.6)
		w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindDrop, Applied: true}, 1)
		problem(t, u.get(), 503, "upstream_unavailable")
		if posts := u.count("POST"); posts != 1 {
			t.Fatalf("%d POSTs: %s", posts, u.methods())
		}
		last[u] = u.expect(u.get(), "rotated", 9.4, 1)
	}
	for u, v := range last {
		u.settles(v)
	}
}

// A DELETE that failed is answered with 503; the key is handed out no more, and
// the next request deletes it again before it makes a new one.
func TestFailedDelete(t *testing.T) {
	w := useShared(t)
	for name, ask := range map[string]func(*user) answer{"get": (*user).get, "refresh": (*user).refresh} {
		for _, fault := range faults {
			if name == "get" && fault.Status == 429 {
				continue // surely without effect: the key stays in use
			}
			t.Run(name+": "+nameOf(fault), func(t *testing.T) {
				u := newUser(t, w)
				u.spend(u.provisioned(), 0.6)
				w.openrouter.Fail(or.OpDelete, fault, 1)
				problem(t, ask(u), 503, "upstream_unavailable")
				u.called("GET DELETE")
				v := u.expect(ask(u), "rotated", 9.4, 1)
				u.called("DELETE POST")
				u.settles(v)
				u.expect(u.get(), "kept", 9.4, 1)
			})
		}
	}
}

// A DELETE that fails twice, then no request for a while: the alarm carries it
// out, and the next request only has to make a key.
func TestFailedDeleteIsTakenUpInTheBackground(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	u.spend(u.provisioned(), 0.6)
	w.openrouter.Fail(or.OpDelete, or.Fault{Kind: or.KindStatus, Status: 500}, 2)
	problem(t, u.get(), 503, "upstream_unavailable")
	problem(t, u.get(), 503, "upstream_unavailable")
	eventually(t, time.Minute, "the DELETE", func() (string, bool) { return u.methods(), len(u.live()) == 0 })
	u.settles(u.expect(u.get(), "rotated", 9.4, 1))
}

// After a renewal the old key is deleted in the background, however often that
// fails at first.
func TestFailedDeleteAfterARenewal(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	u.spent()
	w.openrouter.Fail(or.OpDelete, or.Fault{Kind: or.KindDrop}, 2)
	u.settles(u.expect(u.get(), "renewed", 10, 1))
}

// Several requests in a row fail in several ways. In the end there is one key,
// and what was spent was charged once.
func TestFaultAfterFault(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	u.spend(u.provisioned(), 0.6)
	w.openrouter.Fail(or.OpDelete, or.Fault{Kind: or.KindDrop, Applied: true}, 1)
	w.openrouter.Fail(or.OpDelete, or.Fault{Kind: or.KindStatus, Status: 500}, 1)
	w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindCut, Applied: true}, 1)
	w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindHTML}, 1)
	w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindDrop, Applied: true}, 1)
	w.openrouter.Fail(or.OpList, or.Fault{Kind: or.KindStatus, Status: 429, RetryAfter: "1"}, 2)
	for range 5 {
		problem(t, u.get(), 503, "upstream_unavailable")
	}
	v := u.expect(u.get(), "rotated", 9.4, 1)
	u.settles(v)
	u.expect(u.get(), "kept", 9.4, 1)
}
