package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"latchkey/internal/workerdrun"
)

// subject is one way to do the job.
type subject struct {
	name    string // for -only
	title   string
	entry   string            // file of the entry module, relative to the repository
	flags   []string          // compatibility flags
	noJob   bool              // the floor, which does nothing of the job: its answers are not latchkey's
	later   time.Duration     // how long after the last change it still does something
	vars    map[string]string // settings, beside their defaults
	portion int               // of a load that asks each user once, it gets one user in so many

	upstream  *upstream
	state     string // folder of what it keeps
	inspector int    // port, 0 for none

	process *workerdrun.Process
	metered bool          // it logs what Cloudflare bills
	ready   time.Duration // processor time that workerd's main thread took to start; 0 where the system does not tell
}

// Secrets for the time of the run. They guard nothing.
const (
	jwtSecret       = "bench-bench-bench-bench-bench-bench"
	provisioningKey = "sk-or-v1-stand-in-for-the-bench"
	encryptionKey   = "YmVuY2hiZW5jaGJlbmNoYmVuY2hiZW5jaGJlbmNoYmU="
)

// start runs the subject on the state that it left, if any.
func (c *subject) start(ctx context.Context, root string, given conditions) (err error) {
	c.metered = given.metered
	env := map[string]string{
		"JWT_SECRET_CLOUD": jwtSecret, "OPENROUTER_PROVISIONING_API_KEY": provisioningKey, "KEY_ENCRYPTION_KEY": encryptionKey,
		"OPENROUTER_BASE_URL": c.upstream.url, "FLOOR_HASH": c.upstream.floorHash,
	}
	maps.Copy(env, c.vars)
	c.process, err = workerdrun.Start(ctx, root, workerdrun.Config{
		Entry: c.entry, Env: env, Flags: c.flags, State: c.state, Log: c.log(), Inspector: c.inspector,
		Blank: given.blank, D1Away: given.d1.Milliseconds(), D1Busy: given.d1Busy.Milliseconds(), Metered: given.metered,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	c.ready = c.process.MainThread()
	return nil
}

// stop ends it, where it runs.
func (c *subject) stop() {
	if c.process != nil {
		c.process.Stop()
	}
}

// log is the file that it logs to.
func (c *subject) log() string { return c.state + ".log" }

// logged is how much it has logged so far, in bytes.
func (c *subject) logged() (int64, error) {
	log, err := os.Stat(c.log())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return log.Size(), nil
}

// told is what latchkey's log tells; that of the others is empty.
type told struct {
	kept       int // answers with a kept key
	statements int // of D1, before those answers
	memory     int // bytes of the program's memory, at last
}

// read returns what the log tells so far.
func (c *subject) read() (t told, err error) {
	log, err := os.Open(c.log())
	if err != nil {
		return t, err
	}
	defer log.Close()
	lines := json.NewDecoder(log)
	for {
		var line struct{ Message string } // as workerd wraps what a program logs
		if err := lines.Decode(&line); err == io.EOF {
			return t, nil
		} else if err != nil {
			return t, fmt.Errorf("the log of %s: %w", c.title, err)
		}
		var event struct {
			Evt, Outcome string
			Bytes        int
			Calls        []struct{ Method string }
		}
		if json.Unmarshal([]byte(line.Message), &event) != nil {
			continue // workerd's own
		}
		if event.Evt == "memory" {
			t.memory = event.Bytes
		}
		if event.Evt != "key" || event.Outcome != "kept" {
			continue
		}
		t.kept++
		for _, call := range event.Calls {
			if call.Method == "D1" {
				t.statements++
			}
		}
	}
}

// cpu returns the processor time that workerd has used, or 0 where there is no
// /proc to tell.
func (c *subject) cpu() time.Duration {
	used, _ := c.process.Use()
	return used.CPU
}

// rest waits until workerd is done with what it goes on with after its answers,
// which it may begin as much later: this disturbs nobody else's turn then, and
// counts as processor time of its own.
func (c *subject) rest(ctx context.Context, later time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(later):
	}
	for deadline := time.Now().Add(10 * time.Second); ctx.Err() == nil && time.Now().Before(deadline); {
		before := c.cpu()
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
		if c.cpu()-before <= workerdrun.Tick {
			return
		}
	}
}
