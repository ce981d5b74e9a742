package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"latchkey/internal/oplog"
)

// console holds back what wrangler prints until the introduction is out.
type console struct {
	out io.Writer

	mu     sync.Mutex
	isOpen bool
	held   bytes.Buffer
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isOpen {
		return c.out.Write(p)
	}
	return c.held.Write(p)
}

// open lets through what comes from now on, and what the Worker has logged.
func (c *console) open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range bytes.Lines(c.held.Bytes()) {
		if bytes.HasPrefix(line, []byte("{")) {
			c.out.Write(line) // if nobody reads it any more, SIGPIPE has told
		}
	}
	c.isOpen = true
	c.held.Reset()
}

// dump prints all that was held back: something went wrong.
func (c *console) dump() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Write(c.held.Bytes())
	c.held.Reset()
}

// told returns what the Worker has logged of its settings with an outcome, a reason
// each, for as long as it is held back.
func (c *console) told(outcome oplog.Outcome) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var reasons []string
	for line := range bytes.Lines(c.held.Bytes()) {
		var logged struct {
			Evt     oplog.Event
			Outcome oplog.Outcome
			Err     string
		}
		if json.Unmarshal(line, &logged) != nil || logged.Evt != oplog.Settings || logged.Outcome != outcome {
			continue
		}
		for reason := range strings.SplitSeq(logged.Err, "\n") {
			if !slices.Contains(reasons, reason) { // an isolate more says it once more
				reasons = append(reasons, reason)
			}
		}
	}
	return reasons
}

// logLimit is how much later than an answer the line of the log may come that says why.
const logLimit = 10 * time.Second

// awaitTold waits until something is told, and returns nothing if that does not happen.
func (c *console) awaitTold(ctx context.Context, outcome oplog.Outcome) []string {
	ctx, cancel := context.WithTimeout(ctx, logLimit)
	defer cancel()
	for {
		if reasons := c.told(outcome); len(reasons) > 0 || ctx.Err() != nil {
			return reasons
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}
