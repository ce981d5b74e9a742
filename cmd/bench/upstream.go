package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"latchkey/internal/openroutertest"
)

// upstream is a subject's own stand-in for OpenRouter. It counts.
type upstream struct {
	url       string
	floorHash string // of the key that the floor reads for whoever asks
	keys      *openroutertest.Server
	server    *http.Server

	away atomic.Int64 // a time.Duration: added to each call

	mu      sync.Mutex
	spend   float64        // credits, charged to a key whenever it is read
	reading map[string]int // GETs in flight, by the key's hash
	most    int            // of them at once, of one key
	calls   map[string]int // by method
	limit   int            // calls a second that are carried out; 0: all
	tokens  float64        // how many may be carried out now
	filled  time.Time      // when tokens was right
	refused int            // calls above the limit
}

func newUpstream() (*upstream, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{
		url:  "http://" + listener.Addr().String() + "/api/v1",
		keys: openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey}),
	}
	u.reset(0, 0)
	u.server = &http.Server{Handler: u}
	go u.server.Serve(listener) // until close
	if u.floorHash, err = u.createKey(); err != nil {
		u.close()
		return nil, fmt.Errorf("the floor's key: %w", err)
	}
	return u, nil
}

func (u *upstream) close() {
	u.keys.Close()
	u.server.Close()
}

func (u *upstream) createKey() (hash string, err error) {
	request, err := http.NewRequest("POST", u.url+"/keys", strings.NewReader(`{"name":"the floor's","limit":1000}`))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+provisioningKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var created struct{ Data struct{ Hash string } }
	err = json.NewDecoder(response.Body).Decode(&created)
	return created.Data.Hash, err
}

// reset forgets the calls, and says what each reading of a key shall cost from
// now on, in credits, and how many calls a second are carried out.
func (u *upstream) reset(spend float64, limit int) {
	u.keys.ResetCalls()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.spend, u.reading, u.most, u.calls = spend, map[string]int{}, 0, map[string]int{}
	u.limit, u.tokens, u.filled, u.refused = limit, float64(limit)/10, time.Now(), 0
}

// allowed tells whether a call is within the limit: a bucket of tokens that a tenth
// of a second fills. The caller holds the lock.
func (u *upstream) allowed() bool {
	if u.limit == 0 {
		return true
	}
	now, limit := time.Now(), float64(u.limit)
	u.tokens, u.filled = min(limit/10, u.tokens+limit*now.Sub(u.filled).Seconds()), now
	if u.tokens < 1 {
		u.refused++
		return false
	}
	u.tokens--
	return true
}

// answerAfter has each call answered so much later.
func (u *upstream) answerAfter(away time.Duration) { u.away.Store(int64(away)) }

// ServeHTTP implements http.Handler. A call takes effect on its way back, and is
// carried out to the end even if nobody waits for it any more.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(time.Duration(u.away.Load()))
	hash, reads := strings.CutPrefix(r.URL.Path, "/api/v1/keys/")
	reads = reads && r.Method == "GET"
	u.mu.Lock()
	u.calls[r.Method]++
	allowed := u.allowed()
	spend := u.spend
	if reads = reads && allowed; reads {
		u.reading[hash]++
		u.most = max(u.most, u.reading[hash])
	}
	u.mu.Unlock()
	if !allowed {
		http.Error(w, `{"error":{"code":429,"message":"Rate limit exceeded"}}`, http.StatusTooManyRequests)
		return
	}
	if reads {
		defer func() {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.reading[hash]--
		}()
		if spend > 0 && hash != u.floorHash { // charges of one key alone would pile up
			_ = u.keys.SpendByHash(hash, spend) // a key that is gone, or spent, is for the subject to find out
		}
	}
	u.keys.ServeHTTP(w, r)
}
