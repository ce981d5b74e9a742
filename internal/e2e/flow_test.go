//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	or "latchkey/internal/openroutertest"
)

func TestNewUserIsProvisionedWithOnePost(t *testing.T) {
	w := useShared(t)
	for name, ask := range map[string]func(*user) answer{"get": (*user).get, "refresh": (*user).refresh} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, w)
			v := u.expect(ask(u), "provisioned", 10, 1)
			u.called("POST")
			u.settles(v)
			if key := u.live()[0]; key.Limit == nil || key.Limit.Credits() != 1 || key.LimitReset != "" {
				t.Errorf("the key's limit is %v, reset %q", key.Limit, key.LimitReset)
			}
		})
	}
}

func TestKeyIsReadChargedAndKept(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	first := u.provisioned()
	for _, step := range []struct{ spend, remaining, usage float64 }{
		{0, 10, 1},
		{0.4, 9.6, 0.6},
		{0, 9.6, 0.6},
		{0.000000001, 9.599999999, 0.599999999},
		{0.099999998, 9.500000001, 0.500000001}, // a nano-credit above ROTATE_BELOW
	} {
		u.spend(first, step.spend)
		if v := u.expect(u.get(), "kept", step.remaining, step.usage); v.Key != first.Key {
			t.Fatal("the key is another one")
		}
		u.called("GET")
	}
	u.settles(first)
}

func TestKeyIsRotated(t *testing.T) {
	w := useShared(t)
	for _, test := range []struct {
		name             string
		spend, remaining float64
	}{
		{"exactly at ROTATE_BELOW", 0.5, 9.5},
		{"below", 0.7, 9.3},
		{"used up", 1, 9},
		{"overdrawn", 3.25, 6.75},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUser(t, w)
			old := u.provisioned()
			u.spend(old, test.spend)
			v := u.expect(u.get(), "rotated", test.remaining, 1)
			if v.Key == old.Key || !w.openrouter.Deleted(old.Hash) {
				t.Error("the old key still lives")
			}
			u.called("GET DELETE POST")
			u.settles(v)
			u.expect(u.get(), "kept", test.remaining, 1)
			u.called("GET")
		})
	}
}

func TestSpentQuotaIsRenewed(t *testing.T) {
	w := useShared(t)
	for name, ask := range map[string]func(*user) answer{"get": (*user).get, "refresh": (*user).refresh} {
		for _, spend := range []float64{9.9, 9.95, 10, 12.5} {
			t.Run(fmt.Sprintf("%s, %v spent", name, spend), func(t *testing.T) {
				u := newUser(t, w)
				u.spend(u.provisioned(), spend)
				v, err := u.check(u.get())
				if err != nil || v.Outcome != "rotated" {
					t.Fatalf("got %v, %v", v.Outcome, err)
				}
				u.mark()
				gate := w.hold(t, "DELETE") // the answer must not wait for it
				v = u.expect(ask(u), "renewed", 10, 1)
				u.called("POST")
				gate.open()
				u.settles(v)
				u.called("DELETE")
				u.expect(u.get(), "kept", 10, 1)
			})
		}
	}
	t.Run("not a nano-credit early", func(t *testing.T) {
		u := newUser(t, w)
		u.spend(u.provisioned(), 9.899999999)
		u.expect(u.get(), "rotated", 0.100000001, 1)
		u.expect(u.get(), "kept", 0.100000001, 1)
	})
}

// The 404 may have been a mistake of the moment, so the key is deleted once more,
// some seconds later.
func TestKeyThatIsGoneIsReplacedAndNothingCharged(t *testing.T) {
	w := useShared(t)
	var users []*user
	for name, ask := range map[string]func(*user) answer{"get": (*user).get, "refresh": (*user).refresh} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, w)
			old := u.provisioned()
			u.spend(old, 0.3)
			u.operator("DELETE", "/keys/"+old.Hash, "")
			u.mark()
			v := u.expect(ask(u), "rotated", 10, 1)
			u.called("GET POST")
			u.settles(v)
			users = append(users, u)
		})
	}
	mistaken := newUser(t, w)
	old := mistaken.provisioned()
	w.openrouter.Fail(or.OpGet, or.Fault{Kind: or.KindStatus, Status: 404}, 1)
	v := mistaken.expect(mistaken.get(), "rotated", 10, 1)
	mistaken.called("GET POST")
	for _, u := range append(users, mistaken) {
		u.t = t
		eventually(t, 20*time.Second, "one more DELETE", func() (string, bool) { return u.methods(), u.methods() == "DELETE" })
	}
	if !w.openrouter.Deleted(old.Hash) {
		t.Error("a key that was called gone by mistake lives on")
	}
	mistaken.settles(v)
}

func TestLiftedLimit(t *testing.T) {
	w := useShared(t)
	t.Run("is kept and nothing charged", func(t *testing.T) {
		u := newUser(t, w)
		first := u.provisioned()
		limit(u, first, nil)
		u.spend(first, 4)
		if v, err := u.check(u.get()); err != nil || v.Outcome != "kept" || *v.RemainingLimit != 10 || v.Key != first.Key {
			t.Fatalf("got %s, remaining %v, %v", v.Outcome, v.RemainingLimit, err)
		}
		u.called("GET")
	})
	t.Run("refreshed, nothing charged", func(t *testing.T) {
		u := newUser(t, w)
		first := u.provisioned()
		limit(u, first, nil)
		u.spend(first, 4)
		u.settles(u.expect(u.refresh(), "rotated", 10, 1))
		u.called("GET DELETE POST")
	})
}

func TestRaisedLimitIsNoRefund(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	first := u.provisioned()
	limit(u, first, new(5.0))
	u.expect(u.get(), "kept", 10, 5)
	u.spend(first, 1)
	if v := u.expect(u.get(), "kept", 9, 4); v.Key != first.Key {
		t.Error("the key is another one")
	}
	u.called("GET GET")
}

// limit sets the limit of a key at OpenRouter, or lifts it.
func limit(u *user, v view, credits *float64) {
	u.t.Helper()
	if err := u.w.openrouter.SetLimit(v.Hash, credits); err != nil {
		u.t.Fatal(err)
	}
}

// unreadable are the ways in which OpenRouter cannot be read just now.
var unreadable = map[string]or.Fault{
	"429":                  {Kind: or.KindStatus, Status: 429},
	"500":                  {Kind: or.KindStatus, Status: 500},
	"503":                  {Kind: or.KindStatus, Status: 503, RetryAfter: "30"},
	"connection dropped":   {Kind: or.KindDrop},
	"never answering":      {Kind: or.KindHang},
	"too slow":             {Kind: or.KindSlow, Delay: 2 * upstreamTimeout},
	"400":                  {Kind: or.KindStatus, Status: 400},
	"401":                  {Kind: or.KindStatus, Status: 401},
	"403":                  {Kind: or.KindStatus, Status: 403},
	"HTML with 502":        {Kind: or.KindHTML},
	"HTML with 200":        {Kind: or.KindHTML, Status: 200},
	"body cut short":       {Kind: or.KindCut},
	"right body cut short": {Kind: or.KindCut, Applied: true},
}

func TestUnmetered(t *testing.T) {
	w := useShared(t)
	for name, fault := range unreadable {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, w)
			first := u.provisioned()
			u.spend(first, 0.2)
			u.expect(u.get(), "kept", 9.8, 0.8)
			u.spend(first, 0.1)
			u.mark()
			w.openrouter.Fail(or.OpGet, fault, 2)
			for range 2 {
				if v := u.expect(u.get(), "unmetered", 9.8, 0.8); v.Key != first.Key {
					t.Fatal("the key is another one")
				}
			}
			u.called("GET GET")
			if v := u.expect(u.get(), "kept", 9.7, 0.7); v.Key != first.Key {
				t.Fatal("the key is another one")
			}
			u.called("GET")
		})
	}
	t.Run("a rotation that is due is caught up", func(t *testing.T) {
		u := newUser(t, w)
		first := u.provisioned()
		u.spend(first, 0.8)
		w.openrouter.Fail(or.OpGet, or.Fault{Kind: or.KindStatus, Status: 500}, 1)
		u.expect(u.get(), "unmetered", 10, 1)
		u.settles(u.expect(u.get(), "rotated", 9.2, 1))
		u.called("GET GET DELETE POST")
	})
}

func TestRefresh(t *testing.T) {
	w := useShared(t)
	for _, spend := range []float64{0, 0.3, 0.5, 0.9} {
		t.Run(fmt.Sprintf("%v spent", spend), func(t *testing.T) {
			u := newUser(t, w)
			old := u.provisioned()
			u.spend(old, spend)
			v := u.expect(u.refresh(), "rotated", 10-spend, 1)
			if v.Key == old.Key || !w.openrouter.Deleted(old.Hash) {
				t.Error("the old key still lives")
			}
			u.called("GET DELETE POST")
			u.settles(v)
			u.expect(u.get(), "kept", 10-spend, 1)
		})
	}
}

func TestRefreshChangesNothingWhereOpenRouterCannotBeRead(t *testing.T) {
	w := useShared(t)
	for name, fault := range unreadable {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, w)
			first := u.provisioned()
			u.spend(first, 0.3)
			w.openrouter.Fail(or.OpGet, fault, 1)
			if fault.Status/100 == 4 && fault.Status != 429 {
				problem(t, u.refresh(), 502, "upstream_refused")
			} else {
				retryAfter(t, problem(t, u.refresh(), 503, "upstream_unavailable"), 1, 60)
			}
			u.called("GET")
			if v := u.expect(u.get(), "kept", 9.7, 0.7); v.Key != first.Key {
				t.Error("the key is another one")
			}
			u.called("GET")
			u.settles(first)
		})
	}
}

// A line in the log tells of an operation by the field names of the contract.
func TestOperationIsLogged(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	u.spend(u.provisioned(), 0.75)
	v := u.expect(u.get(), "rotated", 9.25, 1)
	eventually(t, pollLog, "the log line of the rotation", func() (string, bool) {
		for _, line := range w.log.lines(u.id) {
			if line["outcome"] != "rotated" {
				continue
			}
			var calls string
			list, _ := line["calls"].([]any)
			for _, each := range list {
				call, _ := each.(map[string]any)
				calls += fmt.Sprint(call["method"], " ", call["status"], " ")
				if _, ok := call["ms"].(float64); !ok {
					t.Errorf("a call without ms: %v", call)
				}
			}
			_, timed := line["ms"].(float64)
			if line["evt"] == nil || line["op"] == nil || !timed || line["remaining_limit"] != 9.25 || line["usage_limit"] != 1.0 ||
				line["hash"] != v.Hash[:8] || calls != "GET 200 DELETE 200 POST 201 " {
				text, _ := json.Marshal(line)
				t.Errorf("the line is %s", text)
			}
			return "", true
		}
		return w.log.tail(), false
	})
}
