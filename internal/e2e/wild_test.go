//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	or "latchkey/internal/openroutertest"
)

// altered is the right answer, but for this.
func altered(patch string) or.Fault {
	return or.Fault{Kind: or.KindAlter, Patch: json.RawMessage(patch)}
}

// A reading that cannot be true is none: nothing is charged, the next one is
// right, and the user can be shown and erased.
func TestWildReadings(t *testing.T) {
	w := usePlanted(t)
	u, other := newUser(t, w), newUser(t, w)
	first := u.provisioned()
	u.spend(first, 0.2)
	u.expect(u.get(), "kept", 9.8, 0.8)
	other.provisioned()
	faults := map[string]or.Fault{
		"another user's":  {Kind: or.KindReplay},
		"a huge one":      {Kind: or.KindHuge, Bytes: 2 << 20},
		"no JSON object":  altered(`[]`),
		"without a limit": altered(`{"data":{"limit_remaining":null}}`), // a patch takes it away
	}
	for _, change := range []string{
		`"limit_remaining":4e6`, `"limit_remaining":-4e6`, `"limit_remaining":-10000.000000001`, `"limit_remaining":1e300`, `"limit_remaining":"0.3"`,
		`"limit_remaining":1.5`, `"limit_remaining":{}`, `"limit":-1`, `"limit":4e6`, `"limit":"1"`, `"disabled":"no"`,
		`"hash":"` + strings.Repeat("0", 64) + `"`, `"hash":"../credits"`, `"hash":7`,
	} {
		faults[change] = altered(`{"data":{` + change + `}}`)
	}
	for name, fault := range faults {
		other.expect(other.get(), "kept", 10, 1) // what is replayed
		w.openrouter.Fail(or.OpGet, fault, 2)
		if v, err := u.check(u.get()); err != nil || v.Outcome != "unmetered" || *v.RemainingLimit != 9.8 || *v.UsageLimit != 0.8 || v.Key != first.Key {
			t.Errorf("%s: %+v, %v", name, v.Outcome, err)
		}
		if err := checkProblem(u.refresh(), 503, "upstream_unavailable"); err != nil {
			t.Errorf("%s: a refresh: %v", name, err)
		}
		if v := u.expect(u.get(), "kept", 9.8, 0.8); v.Key != first.Key {
			t.Errorf("%s: the key is another one", name)
		}
	}
	w.admin(t, "GET", u.path(), "", 200, nil)
	if got, want := u.ledger(), "provision 1 10, charge 0.2 9.8"; got != want {
		t.Errorf("the ledger is %s, want %s", got, want)
	}
	w.admin(t, "DELETE", u.path(), "", 204, nil)
	if len(u.live()) > 0 {
		t.Error("the key of the erased user lives")
	}
}

// What was spent is charged once, whatever the replicas of OpenRouter say.
func TestAStaleReadingChargesNothing(t *testing.T) {
	w := usePlanted(t)
	u := newUser(t, w)
	u.spend(u.provisioned(), 0.3)
	u.expect(u.get(), "kept", 9.7, 0.7)
	w.openrouter.Fail(or.OpGet, or.Fault{Kind: or.KindStale, Delay: time.Hour}, 2)
	for range 4 { // 1, 1, 0.7, 0.7
		u.expect(u.get(), "kept", 9.7, 0.7)
	}
	u.called("GET GET GET GET GET")
}

// A limit that an operator changes at OpenRouter is not usage.
func TestAChangedLimitChargesNothing(t *testing.T) {
	w := usePlanted(t)
	u := newUser(t, w)
	v := u.provisioned()
	u.spend(v, 0.3)
	for _, step := range []struct{ limit, usage float64 }{{100, 99.7}, {1, 0.7}, {50, 49.7}, {1, 0.7}} {
		limit(u, v, new(step.limit))
		u.expect(u.get(), "kept", 9.7, step.usage)
	}
}

// An answer to a POST that is not about the key that was asked for is a lost one:
// the key that it shows is handed to nobody, and the one that was made goes.
func TestWildAnswersToAPost(t *testing.T) {
	w := usePlanted(t)
	other := newUser(t, w)
	others := other.provisioned()
	owners := map[*user]view{other: others}
	for name, fault := range map[string]or.Fault{
		"another user's": {Kind: or.KindReplay, Applied: true},
		"another name":   altered(`{"data":{"name":"latchkey:somebody:0123456789abcdef0123456789abcdef"}}`),
		"another limit":  altered(`{"data":{"limit":5}}`),
		"limit is text":  altered(`{"data":{"limit":"1"}}`),
		"no limit":       {Kind: or.KindAlter, Nulls: []string{"data.limit"}},
		"another hash":   altered(`{"data":{"hash":"` + others.Hash + `"}}`),
		"another key":    altered(`{"key":"` + others.Key + `"}`),
		"no key":         altered(`{"key":null}`),
		"a huge one":     {Kind: or.KindHuge, Bytes: 300 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, w)
			w.openrouter.Fail(or.OpCreate, fault, 1)
			if a := u.get(); a.status != 503 && a.status != 502 {
				t.Fatalf("got %v", a)
			}
			lost := u.live()
			v := u.expect(u.get(), "provisioned", 10, 1)
			if len(lost) != 1 || v.Hash == lost[0].Hash || v.Hash == others.Hash {
				t.Errorf("of %d lost keys one was handed out", len(lost))
			}
			owners[u] = v
		})
	}
	t.Run("the user's own previous one", func(t *testing.T) {
		u := newUser(t, w)
		first := u.provisioned()
		w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindReplay, Applied: true}, 1)
		problem(t, u.refresh(), 503, "upstream_unavailable")
		v := u.expect(u.get(), "rotated", 10, 1)
		if v.Hash == first.Hash {
			t.Error("the key is the one before")
		}
		owners[u] = v
	})
	t.Run("two users at once", func(t *testing.T) {
		both := []*user{newUser(t, w), newUser(t, w)}
		w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindReplay, Applied: true}, 6)
		for range 3 {
			for i, r := range atOnce(2, func(i int) reply { return both[i].try(t.Context(), "GET", me) }) {
				if r.err != nil {
					t.Fatal(r.err)
				}
				if _, err := both[i].check(r.answer); r.status != 503 && err != nil {
					t.Error(err)
				}
			}
		}
		w.openrouter.ClearFaults()
		for _, u := range both {
			v, err := u.check(u.get())
			if err != nil {
				t.Fatal(err)
			}
			owners[u] = v
		}
	})
	for u, v := range owners { // others's, too, whose key was shown
		u.t = t
		u.settles(v)
	}
}

// One walk through the list looks for the keys of all POSTs that failed.
func TestManyFailedPostsCostOneWalk(t *testing.T) {
	w := usePlanted(t)
	u := newUser(t, w)
	w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindDrop, Applied: true}, 10)
	for range 10 {
		problem(t, u.get(), 503, "upstream_unavailable")
	}
	if lost := len(u.live()); lost != 10 {
		t.Fatalf("%d keys were made", lost)
	}
	u.settles(u.expect(u.get(), "provisioned", 10, 1))
	eventually(t, 20*time.Second, "no more to do in the background", func() (string, bool) {
		var h held
		w.admin(t, "GET", u.path(), "", 200, &h)
		return fmt.Sprint(h.Background), len(h.Background) == 0
	})
	eventually(t, pollLog, "one walk in the log", func() (string, bool) {
		walks := 0
		for _, line := range w.log.lines(u.id) {
			if line["evt"] == "background" && line["op"] == "orphan" {
				walks++
			}
		}
		return fmt.Sprint(walks), walks == 1
	})
}

// Whoever can write to D1 cannot have a key deleted with it, nor get one, and
// hinders nobody else.
func TestRowsThatMakeNoSense(t *testing.T) {
	w := usePlanted(t)
	victim := newUser(t, w)
	owned := victim.provisioned()
	victim.inD1(owned, 20*time.Second)
	row := func(u *user, columns, values string) string {
		return fmt.Sprintf(`INSERT INTO users (user_id, user_name, email, total_limit, remaining_limit, usage_limit, seq, %s)
			SELECT '%s', '%s', '%s', 10, 7, 1, 3, %s FROM users WHERE user_id = '%s';`, columns, u.id, u.name, u.email, values, victim.id)
	}
	noKey, noHash, stolen, text := newUser(t, w), newUser(t, w), newUser(t, w), newUser(t, w)
	w.query(t, row(noKey, "hash", "hash")+row(noHash, "hash", "'../credits'")+row(stolen, "hash, key", "hash, key")+
		row(text, "hash", "''")+`UPDATE users SET remaining_limit = 'much' WHERE user_id = '`+text.id+`'`)
	before := w.openrouter.Calls()[or.OpDelete]
	for _, u := range []*user{noKey, noHash, stolen} {
		v := u.expect(u.get(), "rotated", 7, 1)
		u.called("POST")
		u.settles(v)
	}
	if deletes := w.openrouter.Calls()[or.OpDelete] - before; deletes != 0 {
		t.Errorf("%d DELETEs were sent", deletes)
	}
	w.admin(t, "DELETE", noKey.path(), "", 204, nil)

	for range 2 {
		problem(t, text.get(), 500, "internal")
	}
	text.called("")
	text.isDamaged()
	var page struct{ Users []map[string]any }
	w.admin(t, "GET", "/users?limit=200", "", 200, &page)
	listed := map[any]any{}
	for _, row := range page.Users {
		listed[row["user_id"]] = row["damaged"]
	}
	if damage, there := listed[victim.id]; !there || damage != nil || listed[text.id] == nil {
		t.Errorf("listed are %v", listed)
	}
	text.isErased()
	text.inD1(text.expect(text.get(), "kept", 10, 1), 20*time.Second)
	victim.settles(victim.expect(victim.get(), "kept", 10, 1))
}

// isDamaged checks that an operator is shown that what is stored of the user makes
// no sense.
func (u *user) isDamaged() {
	u.t.Helper()
	var shown struct{ Damaged string }
	if u.w.admin(u.t, "GET", u.path(), "", 200, &shown); shown.Damaged == "" {
		u.t.Error("it is not shown as damaged")
	}
}

// isErased erases a damaged user, who begins anew then.
func (u *user) isErased() {
	u.t.Helper()
	u.w.admin(u.t, "DELETE", u.path(), "", 202, nil)
	u.settles(u.expect(u.get(), "provisioned", 10, 1))
}
