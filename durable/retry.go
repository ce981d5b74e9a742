package durable

import (
	"hash/fnv"
	"io"
	"time"
)

const (
	// tryTime is how long a call that is being sent is left alone. If nobody has seen its
	// end by then, the alarm takes it up.
	tryTime = 5 * time.Second
	// firstPause is the first pause of the backoff.
	firstPause = 5 * time.Second
	// maxTaskRetry and maxD1Retry cap the backoff, which doubles. Nothing is ever
	// given up. D1 is asked more often: it has to be right within a minute of its
	// recovery.
	maxTaskRetry = 10 * time.Minute
	maxD1Retry   = 30 * time.Second
)

// jitter is a number of the user's own from 0 to 1. The intervals of users who
// began together differ by it, so that they do not all come due at once.
type jitter float64

func jitterOf(user string) jitter {
	hash := fnv.New32a()
	io.WriteString(hash, user) // never fails
	return jitter(hash.Sum32()%1024) / 1024
}

// firstRetryAt is when the alarm takes up what is tried now: between half of tryTime and
// all of it.
func (j jitter) firstRetryAt(now time.Time) time.Time {
	return now.Add(tryTime - time.Duration(float64(j)*float64(tryTime)/2))
}

// backoff is the pause after so many failed tries.
func backoff(tries int, longest time.Duration) time.Duration {
	return min(firstPause<<min(tries-1, 10), longest)
}
