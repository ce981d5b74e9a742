package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/adminapi/adminapitest"
	"latchkey/internal/openroutertest"
)

// rotatedUser is a user with three keys: one before the days that OpenRouter tells of,
// one that was used and deleted in them, and the present one.
func rotatedUser(t *testing.T, wrap func(http.Handler) http.Handler) (*fixture, *accountFixture, map[string]string) {
	t.Helper()
	f, openRouter := newFixture(t), newAccount(t, wrap)
	var ledger []account.Entry
	book := func(on string, kind account.Kind, amount, hash string) {
		ledger = append(ledger, account.Entry{Seq: int64(len(ledger) + 1), At: at(on), Kind: kind, Credits: credits(amount), Hash: hash})
	}
	create := func(on string) string {
		openRouter.at(at(on))
		openRouter.runWithKeys(0, "keys", "create", "latchkey:u_80:op", "--limit", "1")
		keys := openRouter.Keys()
		return keys[len(keys)-1].Hash
	}
	spend := func(on, hash string, credits float64, model string) {
		openRouter.at(at(on))
		openRouter.spend(hash, credits, model, "A provider")
	}
	unknown := fakeHash("0123abcd") // of a key that another account made
	first, second := create("01 08:00:00"), create("03 10:00:00")
	ledger = append(ledger, account.Entry{Seq: 1, At: at("01 08:00:00").AddDate(0, -3, 0), Kind: account.Provision, Credits: account.Credit, Hash: unknown})
	ledger = append(ledger, account.Entry{Seq: 2, At: at("01 08:00:00").AddDate(0, -3, 0), Kind: account.Charge, Credits: account.Credit, Hash: unknown})
	book("01 08:00:00", account.Rotate, "1", first)
	spend("03 09:00:00", first, 0.5, "openai/gpt-4o-mini")
	book("03 10:00:00", account.Charge, "0.5", first)
	book("03 10:00:00", account.Rotate, "1", second)
	spend("20 23:59:00", second, 0.3, "anthropic/claude-sonnet-4.5")
	book("21 00:01:00", account.Charge, "0.3", second) // found after midnight
	spend("21 12:00:00", second, 0.2, "openai/gpt-4o-mini")
	spend("22 08:00:00", second, 0.05, "openai/gpt-4o-mini") // today
	book("22 08:01:00", account.Charge, "0.25", second)
	openRouter.at(testTime)
	openRouter.run(0, "keys", "delete", "--yes", first)
	f.put(adminapitest.User{
		Record: account.Record{UserID: "u_80", UserName: "Ada", Hash: second, RemainingLimit: account.Credit, Seq: int64(len(ledger)), CreatedAt: at("01 08:00:00"), UpdatedAt: testTime},
		Ledger: ledger, Rest: `"d1":{"seq":8}`,
	})
	openRouter.ResetCalls()
	return f, openRouter, withBoth(f, openRouter)
}

func TestUsersActivityGolden(t *testing.T) {
	f, openRouter, env := rotatedUser(t, nil)
	for _, by := range []string{"model", "day", "key"} {
		for form, flag := range map[string][]string{"": nil, "-json": {"--json"}, "-csv": {"--csv"}} {
			p := latchkey(t.Context(), env, append([]string{"users", "activity", "u_80", "--by", by}, flag...)...).want(t, exitOK)
			checkPrinted(t, p, false)
			openRouter.holdsNoKey(p.String())
			golden(t, "users-activity-"+by+form, p.out+p.stderr)
			if form == "-json" && !json.Valid([]byte(p.out)) {
				t.Errorf("no JSON: %s", p.out)
			}
		}
	}
	if calls := openRouter.Calls()[openroutertest.OpActivity]; calls != 9*3 {
		t.Errorf("%d calls for 3 keys, nine times", calls)
	}
	// The ledger of a user who was erased stays, and what its keys were used for.
	f.run(t, "users", "erase", "--yes", "u_80").want(t, exitOK)
	if p := latchkey(t.Context(), env, "users", "activity", "u_80").want(t, exitOK); !strings.Contains(p.out, "OpenRouter counts 1, ") {
		t.Error(p)
	}
	latchkey(t.Context(), env, "users", "activity", "nobody").want(t, exitNotFound)
	// Another account's management key.
	if p := latchkey(t.Context(), withBoth(f, newAccount(t, nil)), "users", "activity", "u_80").want(t, exitOK); !strings.Contains(p.out, "nothing of 3 of the 3 keys.\nIs OPENROUTER_MANAGEMENT_KEY") {
		t.Error(p)
	}
	latchkey(t.Context(), env, "users", "activity", "u_80", "--by", "provider").want(t, exitUsage)
	latchkey(t.Context(), f.env(), "users", "activity", "u_80").want(t, exitUsage) // no management key
}

func TestUsersActivityWaitsOrGivesUpAsOpenRouterAsks(t *testing.T) {
	for name, c := range map[string]struct {
		fault openroutertest.Fault
		times int
		code  int
	}{
		"429":                   {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "1"}, 1, exitOK},
		"a 429 for too long":    {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "300"}, 0, exitUnavailable},
		"a key that is refused": {openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 403}, 0, exitRefused},
	} {
		_, openRouter, env := rotatedUser(t, nil)
		openRouter.Fail(openroutertest.OpActivity, c.fault, c.times)
		p := latchkey(t.Context(), env, "users", "activity", "u_80").want(t, c.code)
		if (c.code == exitOK) != strings.Contains(p.out, "OpenRouter counts 1, ") {
			t.Errorf("%s: %v", name, p)
		}
	}
}

// Four keys are asked about at a time, and no more.
func TestUsersActivityAsksInParallel(t *testing.T) {
	var inFlight, most atomic.Int32
	var together sync.WaitGroup
	together.Add(activityParallel)
	var first atomic.Int32
	f, openRouter := newFixture(t), newAccount(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/activity") {
				next.ServeHTTP(w, r)
				return
			}
			most.Store(max(most.Load(), inFlight.Add(1)))
			defer inFlight.Add(-1)
			if first.Add(1) <= activityParallel {
				together.Done()
				together.Wait() // for ever, if one is asked about after the other
			}
			next.ServeHTTP(w, r)
		})
	})
	u := adminapitest.User{Record: account.Record{UserID: "u_80", CreatedAt: testTime, UpdatedAt: testTime}}
	for range 3 * activityParallel {
		openRouter.runWithKeys(0, "keys", "create", "k", "--limit", "1")
	}
	for i, key := range openRouter.Keys() {
		u.Ledger = append(u.Ledger, account.Entry{Seq: int64(i + 1), At: testTime.Add(-time.Hour), Kind: account.Rotate, Hash: key.Hash})
	}
	u.Record.Seq = int64(len(u.Ledger))
	f.put(u)
	latchkey(t.Context(), withBoth(f, openRouter), "users", "activity", "u_80").want(t, exitOK)
	if most.Load() != activityParallel || openRouter.Calls()[openroutertest.OpActivity] != 3*activityParallel {
		t.Errorf("%d at a time, %d in all", most.Load(), openRouter.Calls()[openroutertest.OpActivity])
	}
}
