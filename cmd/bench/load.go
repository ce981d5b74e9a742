package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"latchkey/internal/auth"
	"latchkey/internal/percentile"
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
	waiting         // the same, with OpenRouter and D1 as far away as in production
	billed          // as far away, and what Cloudflare bills is counted
	walled          // OpenRouter is as far away, and what gives way where there are many users does so with a few
)

// conditions are what a subject is started with.
type conditions struct {
	blank      bool          // all is as it would be, but nothing of the subject is loaded
	openRouter time.Duration // added to each call of OpenRouter
	d1         time.Duration // and to each call of D1: a statement, or a batch of them
	d1Busy     time.Duration // for which a call keeps D1 from the next one
	metered    bool          // what Cloudflare bills is logged
}

func (p phase) conditions() conditions {
	switch p {
	case waiting:
		return conditions{openRouter: openRouterAway, d1: d1Away}
	case billed:
		return conditions{openRouter: openRouterAway, d1: d1Away, metered: true}
	case walled:
		return conditions{openRouter: openRouterAway, d1Busy: d1Busy}
	}
	return conditions{}
}

// How far away OpenRouter and D1 are taken to be: to the answer of one call. In
// production it is 50 to 300 ms and 5 to 50 ms.
const openRouterAway, d1Away = 150 * time.Millisecond, 30 * time.Millisecond

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
	limit       int      // calls a second that OpenRouter carries out, and refuses the others with 429; 0: all
	refresh     bool     // a new key is asked for
	drained     bool     // the users have spent their quotas before anything is measured
	without     []string // names of subjects that it is not put on
	extra       bool     // only where -loads names it
}

// result is how a load went in one round. Where no answer was right, it says
// nothing but how many were wrong.
type result struct {
	requests int           // that got a right answer
	rate     float64       // of them, a second
	p50, p99 time.Duration // from sending a request to having its whole answer
	cpu      time.Duration // of workerd, a request; 0 where it is not known
	calls    map[string]int
	most     int    // GETs of one key at once
	refused  int    // calls that OpenRouter refused, being asked too often
	wrong    int    // requests that got a wrong answer, or none
	why      string // the first of them, for people
	used     usage  // where the subject is metered
}

// maxWrong ends a load on a subject that no longer works.
const maxWrong = 100

// maxWhy is how much is told of a wrong answer, in bytes.
const maxWhy = 200

// part returns the round's share of the users.
func part(users []user, round, rounds int) []user {
	return users[len(users)*round/rounds : len(users)*(round+1)/rounds]
}

// run puts a load on a subject: on these users, for a span, or where that is
// 0 until each of them has asked once. Wrong answers are counted, and maxWrong of
// them end it. It fails only where it is interrupted or there is nobody to ask.
func (l load) run(ctx context.Context, c *subject, users []user, span time.Duration) (result, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: l.connections, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	c.upstream.reset(l.spend, l.limit)

	var next atomic.Int64
	var mu sync.Mutex // guards all and r
	var all []time.Duration
	var r result
	wrong := func(err error) (goOn bool) {
		mu.Lock()
		defer mu.Unlock()
		if r.wrong++; r.wrong == 1 {
			r.why = err.Error()[:min(len(err.Error()), maxWhy)]
		}
		return r.wrong < maxWrong
	}
	var connections sync.WaitGroup
	logged, err := c.logged()
	if err != nil {
		return r, err
	}
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
				if err := l.ask(ctx, client, c, users[i%len(users)]); err == nil {
					took = append(took, time.Since(sent))
				} else if ctx.Err() == nil && !wrong(err) {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	connections.Wait()
	elapsed := time.Since(began)
	if l.spend > 0 || l.unknown || l.refresh || l.drained {
		c.rest(ctx, c.later)
	} else {
		c.rest(ctx, 0)
	}
	cpu = c.cpu() - cpu
	if err := ctx.Err(); err != nil {
		return result{}, fmt.Errorf("%s, %s: %w", c.title, l.title, err)
	}
	if len(all) == 0 && r.wrong == 0 {
		return result{}, fmt.Errorf("%s, %s: %w", c.title, l.title, errors.New("no users are left to ask"))
	}
	if r.wrong > 0 {
		progress("%s, %s: %d wrong answers, such as: %s", c.title, l.title, r.wrong, r.why)
	}
	if len(all) == 0 {
		return r, nil
	}
	if c.metered {
		if r.used, err = metered(c.log(), logged, len(all)+r.wrong); err != nil {
			return r, err
		}
	}
	slices.Sort(all)
	u := c.upstream
	u.mu.Lock()
	defer u.mu.Unlock()
	r.requests, r.rate = len(all), float64(len(all))/elapsed.Seconds()
	r.p50, r.p99 = percentile.Of(all, 50), percentile.Of(all, 99)
	r.cpu, r.calls, r.most = cpu/time.Duration(len(all)), u.calls, u.most
	r.refused = u.refused
	return r, nil
}

// ask sends one request and checks its answer.
func (l load) ask(ctx context.Context, client *http.Client, c *subject, u user) error {
	method, path := "GET", "/api/users/me"
	if l.refresh {
		method, path = "POST", path+"/openrouter-api-key/refresh"
	}
	request, err := http.NewRequestWithContext(ctx, method, c.process.URL+path, nil)
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
