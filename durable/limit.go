package durable

import (
	"fmt"
	"math"
	"time"

	"latchkey/internal/problem"
)

// bucket is a token bucket: it holds a minute's worth of requests, which come back
// evenly. It lives in memory alone: an object that leaves it, after some ten idle seconds,
// begins with a full bucket. So it stops a client gone wild, and is no exact quota.
type bucket struct {
	used float64 // tokens that were taken and are not back yet
	at   time.Time
}

// refreshCost is how many tokens a refresh takes: it sends OpenRouter three calls
// for the one of a reading, and makes a key.
const refreshCost = 10

// take takes tokens, where there are enough of them; otherwise it says how long
// it takes until there are. A cost above what the bucket holds takes all of it.
func (b *bucket) take(cost, perMinute int, now time.Time) (wait time.Duration) {
	if elapsed := now.Sub(b.at); elapsed > 0 {
		b.used = max(b.used-elapsed.Minutes()*float64(perMinute), 0)
	}
	b.at = now
	lacking := b.used + float64(min(cost, perMinute)) - float64(perMinute)
	if lacking > 0 {
		return time.Duration(math.Ceil(lacking / float64(perMinute) * float64(time.Minute)))
	}
	b.used += float64(min(cost, perMinute))
	return 0
}

// limit counts a request of the user against RATE_LIMIT, and returns the problem
// where that is passed; nil where it is not. The lock is held.
func (o *Object) limit(action Action) *problem.Problem {
	perMinute, cost := o.runtime.Settings.RateLimit, 1
	if action == Refresh {
		cost = refreshCost
	}
	if perMinute == 0 {
		return nil
	}
	wait := o.bucket.take(cost, perMinute, o.runtime.Now())
	if wait == 0 {
		return nil
	}
	p := problem.New(problem.RateLimited, "This user has sent too many requests within a minute.")
	p.RetryAfter = wait
	// As in draft-ietf-httpapi-ratelimit-headers-11.
	left := max(float64(perMinute)-o.bucket.used, 0)
	p.Header = [][2]string{
		{"RateLimit", fmt.Sprintf(`"user";r=%d;t=%d`, int(left), int(math.Ceil(wait.Seconds())))},
		{"RateLimit-Policy", fmt.Sprintf(`"user";q=%d;w=60`, perMinute)},
	}
	return p
}
