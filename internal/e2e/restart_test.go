//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	or "latchkey/internal/openroutertest"
)

func TestRestartKeepsTheKey(t *testing.T) {
	w := start(t, with{})
	u := newUser(t, w)
	first := u.provisioned()
	u.spend(first, 0.2)
	u.expect(u.get(), "kept", 9.8, 0.8)
	w.Stop()
	w.again(t, with{})
	u.mark()
	if v := u.expect(u.get(), "kept", 9.8, 0.8); v.Key != first.Key {
		t.Error("the key is another one")
	}
	u.called("GET")
	u.spend(first, 0.3)
	v := u.expect(u.get(), "rotated", 9.5, 1)
	u.settles(v)
	ledger := u.inD1(v, 20*time.Second)
	if got, want := kinds(ledger), "provision 1 10, charge 0.2 9.8, charge 0.3 9.5, rotate 1 9.5"; got != want {
		t.Errorf("the ledger is %s, want %s", got, want)
	}
}

// workerd is killed in the middle of a rotation, before or after each of its
// calls was carried out. Of two users one comes again at once, and the other
// stays away until all that can be done without a request was done.
func TestKilledInTheMiddleOfARotation(t *testing.T) {
	w := start(t, with{})
	var waiting []*user
	for _, test := range []struct {
		name    string
		op      or.Op
		method  string
		applied bool
	}{
		{"GET", or.OpGet, "GET", true},
		{"DELETE not applied", or.OpDelete, "DELETE", false},
		{"DELETE applied", or.OpDelete, "DELETE", true},
		{"POST not applied", or.OpCreate, "POST", false},
		{"POST applied", or.OpCreate, "POST", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			back, away := newUser(t, w), newUser(t, w)
			waiting = append(waiting, away)
			for _, u := range []*user{back, away} {
				u.spend(u.provisioned(), 0.6)
			}
			w.openrouter.Fail(test.op, or.Fault{Kind: or.KindSlow, Delay: 10 * upstreamTimeout, Applied: test.applied}, 2)
			done := make(chan reply, 2)
			for _, u := range []*user{back, away} {
				go func() { done <- u.try(context.Background(), "GET", me) }()
				u.awaitCall(test.method)
			}
			w.Kill()
			for range 2 {
				if r := <-done; r.err == nil && r.status == 200 {
					t.Errorf("answered from the grave: %v", r.answer)
				}
			}
			w.openrouter.ClearFaults()
			w.again(t, with{})

			v := back.expect(back.get(), "rotated", 9.4, 1)
			back.settles(v)
			back.expect(back.get(), "kept", 9.4, 1)
			chargedOnce(t, back.inD1(v, 20*time.Second), 0.6)
		})
	}
	for _, u := range waiting {
		u.t = t
		if u.count("DELETE") > 0 { // killed after the charge
			eventually(t, time.Minute, "no live key, and a row that knows of the charge", func() (string, bool) {
				if live := u.live(); len(live) > 0 {
					return live[0].Name, false
				}
				row, ledger := u.rows()
				return kinds(ledger), row != nil && row["remaining_limit"] == 9.4
			})
		}
		v := u.expect(u.get(), "rotated", 9.4, 1)
		u.settles(v)
		chargedOnce(t, u.inD1(v, 20*time.Second), 0.6)
	}
}

// workerd is killed right after an answer. D1 is right all the same, without a
// new request.
func TestKilledRightAfterAnAnswer(t *testing.T) {
	w := startQuiet(t, with{})
	u := newUser(t, w)
	v := u.provisioned()
	w.Kill()
	w.again(t, with{})
	if got := kinds(u.inD1(v, time.Minute)); got != "provision 1 10" {
		t.Errorf("the ledger is %s", got)
	}
	if again := u.expect(u.get(), "kept", 10, 1); again.Key != v.Key {
		t.Error("the key is another one")
	}
	u.settles(v)
}

// The objects are lost, and D1 is not: its rows are adopted.
func TestObjectsAreLost(t *testing.T) {
	w := start(t, with{})
	u := newUser(t, w)
	first := u.provisioned()
	u.spend(first, 0.3)
	v := u.expect(u.get(), "kept", 9.7, 0.7)
	u.inD1(v, 20*time.Second)
	w.Stop()
	w.loseObjects(t)
	w.again(t, with{})
	u.mark()
	if v := u.expect(u.get(), "kept", 9.7, 0.7); v.Key != first.Key {
		t.Error("the key is another one")
	}
	u.called("GET")
	u.spend(first, 0.3)
	v = u.expect(u.get(), "rotated", 9.4, 1)
	u.settles(v)
	if got, want := kinds(u.inD1(v, 20*time.Second)), "provision 1 10, charge 0.3 9.7, charge 0.3 9.4, rotate 1 9.4"; got != want {
		t.Errorf("the ledger is %s, want %s", got, want)
	}
}
