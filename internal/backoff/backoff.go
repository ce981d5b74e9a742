// Package backoff decides whether and when a call of OpenRouter is repeated. All
// who work for one command share one: where one of them is told to wait, all do.
package backoff

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"latchkey/internal/openrouter"
)

// Backoff is what those who call OpenRouter share.
type Backoff struct {
	Ctx     context.Context // its end ends every wait
	Tries   int             // how often a call is made before it is given up
	Longest time.Duration   // that a wait may take
	Say     func(string)    // tells a person of a wait that takes long

	mu    sync.Mutex
	until time.Time // nothing is to be sent before
}

const (
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second // where OpenRouter does not say how long
	// noticed is how long a wait is that a person wonders about.
	noticed = 2 * time.Second
)

var errGivenUp = errors.New("not repeated")

// Wait implements [openrouter.Admin.Wait]: it waits for as long as OpenRouter
// asks, or ever longer where it does not ask.
func (b *Backoff) Wait(e *openrouter.Error, tries int) error {
	pause := e.RetryAfter
	if pause == 0 {
		pause = min(firstPause<<min(tries-1, 10), longestPause)
	}
	if tries >= b.Tries || pause > b.Longest || b.Ctx.Err() != nil {
		return errGivenUp
	}
	b.mu.Lock()
	// Of those who wait already, only one has to tell.
	if until := time.Now().Add(pause); until.After(b.until) {
		if time.Until(b.until) <= 0 && pause >= noticed {
			b.Say(fmt.Sprintf("%v; trying again in %v", e, pause))
		}
		b.until = until
	}
	b.mu.Unlock()
	return b.Hold()
}

// Hold waits until calls may be sent again.
func (b *Backoff) Hold() error {
	for {
		b.mu.Lock()
		left := time.Until(b.until)
		b.mu.Unlock()
		if left <= 0 {
			return b.Ctx.Err()
		}
		if err := Sleep(b.Ctx, left); err != nil {
			return err
		}
	}
}

// Sleep waits so long, or until ctx ends, which is an error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
