// Package class makes a key at OpenRouter for everyone on a roster, as for a class,
// changes, pauses, replaces and extends them, and takes all of them back.
//
// It promises that it can be interrupted at any point, in any way, and repeated:
// nobody ever gets two live keys, unless theirs is replaced and not taken back;
// whoever has one keeps it; and once a run ends without an error everybody has one,
// which works, and there is no other key of the class. A key is in its file, which
// nobody else can read, before the next one is asked for. No two programs change one
// class at a time. It touches no key that is not of the class, whatever its manifest
// says.
//
// OpenRouter has no idempotency key, and shows a key once. So the manifest of a
// class is a journal, on disk before every step; docs/cli-openrouter.md and
// docs/class.md show what dying at each leaves.
package class

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"latchkey/internal/backoff"
	"latchkey/internal/openrouter"
)

// Options say how a class is worked on.
type Options struct {
	Account  openrouter.Admin // whose calls are not cut off: one may be making a key
	Backoff  *backoff.Backoff // that the account waits with
	Parallel int              // how many keys are asked for at a time
	Settle   time.Duration    // how long a request that was not answered may still take effect
	Now      func() time.Time // for what is written
	Say      func(string)     // tells a person something, on a line
	Done     func(n int)      // counts n more keys as done
}

// Result is what became of one person's key.
type Result struct {
	Person string `json:"person"`
	State  string `json:"state"`
	Hash   string `json:"hash,omitempty"`
	File   string `json:"file"`
}

// The states of a result: these, Paused, Replaced, and a limit that was set.
const (
	Made        = "made"         // now
	Had         = "had"          // from before
	Missing     = "missing"      // not made
	WouldMake   = "would make"   // by a run that is no plan
	Has         = "has"          // by a plan
	WouldDelete = "would delete" // by a revocation that is no plan
	Deleted     = "deleted"      // or gone before
	Refused     = "refused"      // the key is not this person's, and was left alone
	StillThere  = "still there"  // not deleted
	Gone        = "gone"         // at OpenRouter
	NotDone     = "not done"     // of what was asked for
	Removed     = "removed"      // their key was deleted, and they get no other
	Resumed     = "resumed"      // it may be used again
	Changed     = "changed"      // to what holds for the class from now on
)

// Unsuitable says that what is asked for does not go together with the class or
// its folder. Nothing was done.
type Unsuitable struct{ error }

// Unwrap returns the cause.
func (e *Unsuitable) Unwrap() error { return e.error }

// Unknown says that there is no such person.
type Unknown struct{ error }

// ErrInterrupted says that the context ended before the work did.
var ErrInterrupted = errors.New("interrupted")

// run makes or deletes the keys of a class. All it knows is in the manifest and in
// the files beside it; this is what it needs while it goes on.
type run struct {
	Options
	class *Class

	mu      sync.Mutex           // guards all below while calls are under way; before and after, one goroutine has them
	open    map[string]time.Time // when an attempt that was not answered could have been sent last
	made    int                  // keys
	orphans int                  // keys that nobody had, deleted
	refused map[string]error     // attempts, by the name of their key, whose hash is another key's
	states  map[string]string    // what became of the key of an attempt, by its name
}

func (c *Class) run(options Options) *run {
	r := &run{Options: options, class: c, open: map[string]time.Time{}, refused: map[string]error{}, states: map[string]string{}}
	r.Account.Workspace = c.terms.Workspace
	// The run before may have sent these until just now.
	for _, attempt := range c.in(asked) {
		r.open[attempt.KeyName] = time.Now()
	}
	return r
}

// result is what became of an attempt.
func (c *Class) result(attempt entry, state string) Result {
	return Result{attempt.Person, state, attempt.Hash, filepath.Join(c.folder(), attempt.File)}
}

// parallel calls f for each item, n at a time. With the first failure, or the
// end of ctx, it begins no more; it returns that once all that were begun ended.
func parallel[T any](ctx context.Context, n int, items []T, f func(T) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	todo := make(chan T)
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for item := range todo {
				if ctx.Err() != nil {
					continue
				}
				if err := f(item); err != nil {
					stop(err)
				}
			}
		})
	}
	for _, item := range items {
		todo <- item
	}
	close(todo)
	workers.Wait()
	return context.Cause(ctx)
}
