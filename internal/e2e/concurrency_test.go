//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"latchkey/durable"
	or "latchkey/internal/openroutertest"
)

// tabs is how many of one user ask at once.
const tabs = 100

// countedArrivals are settings under which a held call does not time out, and requests are
// counted as they reach an object.
var countedArrivals = with{vars: patient.vars, script: "internal/e2e/testdata/counted.mjs"}

// arrived is how many requests of the user have reached the object.
func (u *user) arrived() int {
	count := 0
	for _, line := range u.w.log.lines(u.id) {
		if line["arrived"] != nil {
			count++
		}
	}
	return count
}

// awaitArrivals waits until so many have.
func (u *user) awaitArrivals(n int) {
	u.t.Helper()
	eventually(u.t, 30*time.Second, fmt.Sprintf("%d requests at the object", n), func() (string, bool) {
		arrived := u.arrived()
		return fmt.Sprint(arrived), arrived >= n
	})
}

// together sends n requests at once while a method is held at OpenRouter, lets
// it through once all are under way, and returns what came of them.
func (u *user) together(n int, held, method, path string) []view {
	u.t.Helper()
	before := u.arrived()
	gate := u.w.hold(u.t, held)
	done := make(chan []reply)
	go func() { done <- atOnce(n, func(int) reply { return u.try(u.t.Context(), method, path) }) }()
	gate.await(u.t)
	u.awaitArrivals(before + n)
	gate.open()
	return u.views(<-done)
}

// views checks replies that are each to carry a key.
func (u *user) views(replies []reply) []view {
	u.t.Helper()
	views := make([]view, len(replies))
	for i, r := range replies {
		if r.err != nil {
			u.t.Fatal(r.err)
		}
		var err error
		if views[i], err = u.check(r.answer); err != nil {
			u.t.Fatal(err)
		}
	}
	return views
}

func TestTabsOfANewUserShareOneProvisioning(t *testing.T) {
	w := start(t, countedArrivals)
	u := newUser(t, w)
	views := u.together(tabs, "POST", "GET", me)
	outcomes := map[string]int{}
	for _, v := range views {
		outcomes[v.Outcome]++
		if v.Key != views[0].Key || *v.RemainingLimit != 10 || *v.UsageLimit != 1 {
			t.Fatalf("answers differ: %s %v %v", v.Outcome, *v.RemainingLimit, *v.UsageLimit)
		}
	}
	if posts, deletes := u.count("POST"), u.count("DELETE"); posts != 1 || deletes != 0 {
		t.Errorf("%d POSTs and %d DELETEs", posts, deletes)
	}
	if outcomes["provisioned"] == 0 || outcomes["provisioned"]+outcomes["kept"] != tabs {
		t.Errorf("outcomes %v", outcomes)
	}
	u.settles(views[0])
}

func TestTabsShareOneRotation(t *testing.T) {
	w := start(t, countedArrivals)
	for _, held := range []string{"GET", "DELETE", "POST"} {
		t.Run("all come during "+held, func(t *testing.T) {
			u := newUser(t, w)
			old := u.provisioned()
			u.spend(old, 0.6)
			views := u.together(tabs, held, "GET", me)
			outcomes := map[string]int{}
			for _, v := range views {
				outcomes[v.Outcome]++
				if v.Key != views[0].Key || v.Key == old.Key || *v.RemainingLimit != 9.4 || *v.UsageLimit != 1 {
					t.Fatalf("answers differ: %s %v %v", v.Outcome, *v.RemainingLimit, *v.UsageLimit)
				}
			}
			if posts, deletes := u.count("POST"), u.count("DELETE"); posts != 1 || deletes != 1 {
				t.Errorf("%d POSTs and %d DELETEs", posts, deletes)
			}
			if outcomes["rotated"] == 0 || outcomes["rotated"]+outcomes["kept"] != tabs {
				t.Errorf("outcomes %v", outcomes)
			}
			u.expect(u.get(), "kept", 9.4, 1)
			u.settles(views[0])
		})
	}
}

func TestRefreshesShareOneRotation(t *testing.T) {
	w := start(t, countedArrivals)
	u := newUser(t, w)
	old := u.provisioned()
	u.spend(old, 0.3)
	views := u.together(tabs, "DELETE", "POST", refresh)
	for _, v := range views {
		if v.Key != views[0].Key || v.Key == old.Key || *v.RemainingLimit != 9.7 || v.Outcome != "rotated" {
			t.Fatalf("answers differ: %s %v %v", v.Outcome, *v.RemainingLimit, *v.UsageLimit)
		}
	}
	u.called("GET DELETE POST")
	u.settles(views[0])
}

// Tabs read while others refresh. A read may be answered before the refresh,
// with the old key, or after it, with the new one.
func TestRefreshesAndReadsAtOnce(t *testing.T) {
	w := startAlone(t, countedArrivals)
	u := newUser(t, w)
	old := u.provisioned()
	u.spend(old, 0.3)
	gate := w.hold(t, "DELETE")
	done := make(chan []reply)
	go func() {
		done <- atOnce(2*tabs, func(i int) reply {
			if i < tabs {
				return u.try(t.Context(), "POST", refresh)
			}
			return u.try(t.Context(), "GET", me)
		})
	}()
	gate.await(t)
	u.awaitArrivals(1 + 2*tabs)
	gate.open()
	views := u.views(<-done)
	final := u.expect(u.get(), "kept", 9.7, 1)
	for i, v := range views {
		switch {
		case *v.RemainingLimit != 9.7 && (i < tabs || v.Key != old.Key):
			t.Fatalf("charged more than once: %s with remaining %v", v.Outcome, *v.RemainingLimit)
		case i < tabs && (v.Key != final.Key || v.Outcome != "rotated"):
			t.Fatalf("a refresh was answered %s, with the key of the end: %v", v.Outcome, v.Key == final.Key)
		case v.Key != final.Key && v.Key != old.Key:
			t.Fatal("a read was answered with a key that is neither")
		}
	}
	if posts, deletes := u.count("POST"), u.count("DELETE"); posts != 1 || deletes != 1 {
		t.Errorf("%d POSTs and %d DELETEs", posts, deletes)
	}
	u.settles(final)
}

// Hundreds of users in one isolate, each from several tabs: nobody gets what is
// another's.
func TestUsersAtOnce(t *testing.T) {
	w := startAlone(t, countedArrivals)
	const users, each = 300, 3
	all := make([]*user, users)
	for i := range all {
		all[i] = newUser(t, w)
		all[i].name = fmt.Sprintf("Name %d", i)
		all[i].email = fmt.Sprintf("%d@example.org", i)
	}
	keys := map[string]string{} // hash to user
	for round, outcome := range []string{"provisioned", "rotated"} {
		if outcome == "rotated" {
			for hash := range keys {
				limit(all[0], view{Hash: hash}, new(0.4))
			}
			clear(keys)
		}
		replies := atOnce(users*each, func(i int) reply { return all[i%users].try(t.Context(), "GET", me) })
		for i, r := range replies {
			u := all[i%users]
			v := u.views([]reply{r})[0]
			if v.Outcome != outcome && v.Outcome != "kept" {
				t.Fatalf("round %d: %s, want %s", round, v.Outcome, outcome)
			}
			if owner, ok := keys[v.Hash]; ok && owner != u.id {
				t.Fatalf("%s and %s have one key", owner, u.id)
			}
			keys[v.Hash] = u.id
		}
		if len(keys) != users {
			t.Errorf("round %d: %d keys for %d users", round, len(keys), users)
		}
	}
	if calls := w.openrouter.Calls(); calls[or.OpCreate] != 2*users || calls[or.OpDelete] != users {
		t.Errorf("%d POSTs and %d DELETEs", calls[or.OpCreate], calls[or.OpDelete])
	}
	if live := len(w.openrouter.Live()); live != users {
		t.Errorf("%d live keys", live)
	}
}

// A client that hangs up changes nothing for the user: what was begun is
// finished without anybody asking.
func TestClientHangsUp(t *testing.T) {
	w := start(t, countedArrivals)
	for _, held := range []string{"GET", "DELETE", "POST"} {
		for _, others := range []int{0, 3} {
			t.Run(fmt.Sprintf("during %s, %d others waiting", held, others), func(t *testing.T) {
				u := newUser(t, w)
				u.spend(u.provisioned(), 0.6)
				gate := w.hold(t, held)
				ctx, hangUp := context.WithCancel(t.Context())
				gone := make(chan reply)
				go func() { gone <- u.try(ctx, "GET", me) }()
				gate.await(t)
				waiting := make(chan []reply)
				go func() { waiting <- atOnce(others, func(int) reply { return u.try(t.Context(), "GET", me) }) }()
				u.awaitArrivals(2 + others)
				hangUp()
				if r := <-gone; !errors.Is(r.err, context.Canceled) {
					t.Fatalf("the client that hung up got %v, %v", r.answer, r.err)
				}
				gate.open()
				for _, v := range u.views(<-waiting) {
					if *v.RemainingLimit != 9.4 {
						t.Errorf("one who waited got remaining %v", *v.RemainingLimit)
					}
				}
				eventually(t, 20*time.Second, "the rest of the rotation", func() (string, bool) {
					return u.methods(), u.count("POST") == 1 && len(u.live()) == 1
				})
				u.settles(u.expect(u.get(), "kept", 9.4, 1))
				if posts, deletes := u.count("POST"), u.count("DELETE"); posts != 1 || deletes != 1 {
					t.Errorf("%d POSTs and %d DELETEs", posts, deletes)
				}
			})
		}
	}
}

// More requests than may wait come while a rotation takes its time. Those that
// may wait get its key; the others are told so at once.
func TestOverloaded(t *testing.T) {
	w := startAlone(t, countedArrivals)
	u := newUser(t, w)
	u.spend(u.provisioned(), 0.5)
	gate := w.hold(t, "GET")
	const over = 100
	replies := make(chan reply, durable.MaxWaiting+over)
	for range durable.MaxWaiting + over {
		go func() { replies <- u.try(t.Context(), "GET", me) }()
	}
	for refused := range over {
		select {
		case r := <-replies:
			if r.err != nil {
				t.Fatal(r.err)
			}
			retryAfter(t, problem(t, r.answer, 503, "overloaded"), 1, 60)
		case <-time.After(30 * time.Second):
			t.Fatalf("only %d of %d were refused", refused, over)
		}
	}
	gate.open()
	for range durable.MaxWaiting {
		r := <-replies
		if r.err != nil {
			t.Fatal(r.err)
		}
		u.expect(r.answer, "rotated", 9.5, 1)
	}
	u.called("GET DELETE POST")
	u.expect(u.get(), "kept", 9.5, 1)
}
