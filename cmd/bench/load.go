package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"latchkey/internal/auth"
	"latchkey/internal/seal"
)

// user is somebody who asks, with a token for the time of the run.
type user struct{ id, authorization string }

func newUsers(prefix string, count int) []user {
	users := make([]user, count)
	for i := range users {
		id := fmt.Sprintf("%s-%05d", prefix, i)
		who := auth.Identity{ID: id, Name: "Ada Lovelace", Email: id + "@example.org"}
		token, err := auth.Sign(seal.NewSecret(jwtSecret), who, "", "", time.Now(), time.Now().Add(6*time.Hour))
		if err != nil {
			panic(err) // an HMAC takes any secret
		}
		users[i] = user{id, "Bearer " + token}
	}
	return users
}

// phase is when a load is put on the subjects.
type phase int

const (
	usual     phase = iota
	cold            // one request each time, as the first one of a workerd
	restarted       // all have been started again, on the state that they left
)

// load is what is asked of the subjects.
type load struct {
	name        string // for -loads
	title       string
	label       string // in the chart; empty: not there
	phase       phase
	connections int // that ask without a pause, each for the next user as soon as it has an answer
	users       []user
	once        bool     // each of the users, spread over the rounds; otherwise in turn, for a span in each round
	unknown     bool     // the users do not ask for a first key before anything is measured
	long        int      // the span is so many times as long; 0: as it is
	spend       float64  // credits, charged to a key whenever it is read
	outcomes    []string // any of which an answer has to have
	without     string   // name of a subject that it is not put on
	extra       bool     // only where -loads names it
}

// result is how a load went in one round.
type result struct {
	requests int
	rate     float64       // requests a second
	p50, p99 time.Duration // from sending a request to having its whole answer
	cpu      time.Duration // of workerd, a request; 0 where it is not known
	calls    map[string]int
	most     int // GETs of one key at once
}

// part returns the round's share of the users.
func part(users []user, round, rounds int) []user {
	return users[len(users)*round/rounds : len(users)*(round+1)/rounds]
}

// run puts a load on a subject: on these users, for a span, or where that is
// 0 until each of them has asked once. A wrong answer ends it.
func (l load) run(ctx context.Context, c *subject, users []user, span time.Duration) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	transport := &http.Transport{MaxIdleConnsPerHost: l.connections, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	c.upstream.reset(l.spend)

	var next atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	var connections sync.WaitGroup
	cpu, began := c.cpu(), time.Now()
	for range l.connections {
		connections.Go(func() {
			var took []time.Duration
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if span == 0 && i >= len(users) || span > 0 && time.Since(began) > span {
					break
				}
				sent := time.Now()
				if err := l.ask(ctx, client, c, users[i%len(users)]); err != nil {
					cancel(err)
					return
				}
				took = append(took, time.Since(sent))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	connections.Wait()
	elapsed := time.Since(began)
	if l.spend > 0 || l.unknown {
		c.rest(ctx, c.later)
	} else {
		c.rest(ctx, 0)
	}
	cpu = c.cpu() - cpu
	if err := context.Cause(ctx); err != nil {
		return result{}, fmt.Errorf("%s, %s: %w", c.title, l.title, err)
	}
	if len(all) == 0 {
		return result{}, fmt.Errorf("%s, %s: %w", c.title, l.title, errors.New("no users are left to ask"))
	}
	slices.Sort(all)
	u := c.upstream
	u.mu.Lock()
	defer u.mu.Unlock()
	return result{
		requests: len(all), rate: float64(len(all)) / elapsed.Seconds(),
		p50: percentile(all, 50), p99: percentile(all, 99),
		cpu: cpu / time.Duration(len(all)), calls: u.calls, most: u.most,
	}, nil
}

// ask sends one request and checks its answer.
func (l load) ask(ctx context.Context, client *http.Client, c *subject, u user) error {
	request, err := http.NewRequestWithContext(ctx, "GET", c.url+"/api/users/me", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", u.authorization)
	request.Header.Set("Bench-User", u.id)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	right := response.StatusCode == 200
	if !c.noJob {
		right = right && strings.Contains(string(body), `"id":"`+u.id+`"`) && slices.ContainsFunc(l.outcomes, func(outcome string) bool {
			return strings.Contains(string(body), `"outcome":"`+outcome+`"`)
		})
	}
	if !right {
		return fmt.Errorf("%s got %d %s, expected 200 and one of %v", u.id, response.StatusCode, body, l.outcomes)
	}
	return nil
}

// percentile returns the smallest of the sorted values that p percent of them
// do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[int(math.Ceil(p/100*float64(len(sorted))))-1]
}
