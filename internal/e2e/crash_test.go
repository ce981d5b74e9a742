//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

var (
	kills     = flag.Int("kills", 20, "how often workerd is killed under load")
	soak      = flag.Duration("soak", 0, "kill workerd for so long instead")
	killsSeed = flag.Uint64("kills-seed", 1, "seed of what the users do, and when workerd is killed")
)

// workerd is killed again and again while 25 users get first keys, rotate,
// refresh and renew. Nothing is lost, charged twice or left behind.
func TestKilledAgainAndAgainUnderLoad(t *testing.T) {
	const crowd = 25
	w := startFirst(t, with{vars: map[string]string{"TOTAL_LIMIT": "3"}})
	users := make([]*user, crowd)
	for i := range users {
		users[i] = newUser(t, w)
	}
	t.Logf("seed %d", *killsSeed)

	var up sync.RWMutex // held for reading during a request, for writing during a restart
	var answers atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i, u := range users {
		load.Go(func() {
			rng := rand.New(rand.NewPCG(*killsSeed, uint64(i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				up.RLock()
				u.act(rng, &answers)
				up.RUnlock()
			}
		})
	}

	rng := rand.New(rand.NewPCG(*killsSeed, crowd))
	began, killed := time.Now(), 0
	for ; *soak == 0 && killed < *kills || time.Since(began) < *soak; killed++ {
		enough := answers.Load() + 30 + rng.Int64N(120)
		eventually(t, time.Minute, "answers under load", func() (string, bool) {
			return fmt.Sprint(answers.Load()), answers.Load() >= enough
		})
		w.Kill()
		up.Lock()
		w.again(t, with{})
		up.Unlock()
		if *soak > 0 {
			fmt.Printf("e2e: %d kills in %v, %d answers\n", killed+1, time.Since(began).Round(time.Second), answers.Load())
		}
	}
	close(stop)
	load.Wait()

	for _, u := range users {
		v, err := u.check(u.get())
		if err != nil {
			t.Fatal(err)
		}
		u.settles(v)
		u.adds(v)
	}
	fmt.Printf("e2e: %d kills under load survived, %d answers, %d keys made\n", killed, answers.Load(), len(w.openrouter.Keys()))
}

// act sends one request, checks its answer, and spends something if it has a key.
func (u *user) act(rng *rand.Rand, answers *atomic.Int64) {
	method, path := "GET", me
	if rng.IntN(10) == 0 {
		method, path = "POST", refresh
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := u.try(ctx, method, path)
	if r.err != nil || r.status == 503 {
		return // killed meanwhile
	}
	answers.Add(1)
	v, err := u.check(r.answer)
	if err != nil {
		u.t.Error(err)
		return
	}
	// Only this goroutine makes the user's keys come and go.
	if u.w.openrouter.Deleted(v.Hash) {
		u.t.Errorf("answered %s with a key that is deleted", v.Outcome)
	}
	if err := u.w.openrouter.Spend(v.Key, float64(rng.IntN(60))/100); err != nil {
		u.t.Errorf("the key does not work: %v", err)
	}
}

const nano = 1e9 // nano-credits

// adds checks the ledger in D1 against the row and against what was spent.
func (u *user) adds(v view) {
	u.t.Helper()
	ledger := u.inD1(v, time.Minute)
	remaining, charged := int64(0), map[string]int64{}
	whole := func(credits any) int64 { return int64(credits.(float64)*nano + 0.5) }
	for _, entry := range ledger {
		switch entry["kind"] {
		case "provision", "renew":
			remaining = int64(*v.TotalLimit * nano)
		case "charge":
			remaining -= whole(entry["credits"])
			charged[entry["hash"].(string)] += whole(entry["credits"])
		}
	}
	if want := int64(*v.RemainingLimit*nano + 0.5); remaining != want && *v.RemainingLimit >= 0 {
		u.t.Errorf("%d remain, and by the ledger %d: %s", want, remaining, kinds(ledger))
	}
	for _, key := range u.w.openrouter.Keys() {
		if !u.owns(key.Name) {
			continue
		}
		if spent := int64(key.Usage); charged[key.Hash] > spent || key.Hash == v.Hash && charged[key.Hash] != spent {
			u.t.Errorf("%d were spent on %s, and %d charged", spent, key.Name, charged[key.Hash])
		}
	}
}

// The Go program ends, by a panic that nothing recovers or for want of memory.
// Who waits gets 503, the next request works, and nobody else notices.
func TestTheProgramEnds(t *testing.T) {
	w := start(t, with{script: "internal/e2e/testdata/killable.mjs", vars: map[string]string{"OPENROUTER_TIMEOUT": "20s"}})
	other := newUser(t, w)
	kept := other.provisioned()
	for _, way := range []string{"/kill/panic", "/kill/memory"} {
		t.Run(way, func(t *testing.T) {
			u := newUser(t, w)
			u.spend(u.provisioned(), 0.6)
			w.openrouter.Fail(openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindSlow, Delay: 3 * time.Second}, 1)
			waiting := make(chan reply, 1)
			go func() { waiting <- u.try(context.Background(), "GET", me) }()
			u.awaitCall("DELETE")
			if a := w.ask(t, "GET", way, nil); a.body != "killed: the program ended" {
				t.Fatalf("%s answered %v", way, a)
			}
			r := <-waiting
			if r.err != nil {
				t.Fatal(r.err)
			}
			retryAfter(t, problem(t, r.answer, 503, "upstream_unavailable"), 1, 60)

			v := u.expect(u.get(), "rotated", 9.4, 1)
			u.settles(v)
			chargedOnce(t, u.inD1(v, 20*time.Second), 0.6)
			if v := other.expect(other.get(), "kept", 10, 1); v.Key != kept.Key {
				t.Error("another user has another key")
			}
		})
	}
}
