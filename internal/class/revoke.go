package class

import (
	"context"
	"fmt"

	"latchkey/internal/openrouter"
)

// Keys returns how many keys Revoke would delete, those of attempts that were not
// answered too.
func (c *Class) Keys() int { return len(c.in(live)) + len(c.in(asked)) }

// PlanRevocation says what Revoke would do, and does nothing.
func (c *Class) PlanRevocation() []Result { return c.results(live, WouldDelete) }

func (c *Class) results(of state, state string) []Result {
	results := []Result{}
	for _, attempt := range c.in(of) {
		results = append(results, c.result(attempt, state))
	}
	return results
}

// Revoke deletes all keys of the class, which is closed then. refused says which
// keys were left alone, and why.
func (c *Class) Revoke(ctx context.Context, options Options) (results []Result, refused []error, err error) {
	r := c.run(options)
	err = r.revoke(ctx)
	results = c.results(revoked, Deleted)
	for _, attempt := range c.in(live) {
		state := StillThere
		if why := r.refused[attempt.KeyName]; why != nil {
			state, refused = Refused, append(refused, why)
		}
		results = append(results, c.result(attempt, state))
	}
	return results, refused, err
}

// revoke deletes the keys of a class, those of open attempts too.
func (r *run) revoke(ctx context.Context) error {
	// Dying after this: no run makes keys any more.
	if !r.class.revoked && r.class.begun.Class != "" {
		if err := r.class.add(entry{At: r.Now().UTC(), State: classRevoked}); err != nil {
			return err
		}
	}
	if err := r.adopt(); err != nil {
		return err
	}
	err := parallel(ctx, r.Parallel, r.class.in(live), func(attempt entry) error {
		if err := r.Backoff.Hold(); err != nil {
			return err
		}
		key, err := r.Account.Record(attempt.Hash)
		switch {
		case openrouter.IsGone(err): // as good as deleted
		case err != nil:
			return err
		case key.Name != attempt.KeyName || !r.class.Owns(key.Name):
			r.mu.Lock()
			defer r.mu.Unlock()
			r.refused[attempt.KeyName] = fmt.Errorf("%s: the key %s is named %q, not %q: it is not this person's, and is left alone", attempt.Person, short(key.Hash), key.Name, attempt.KeyName)
			return nil
		default:
			// Dying after this: the next run is told that it is gone.
			if err := r.Account.Delete(attempt.Hash); err != nil {
				return err
			}
		}
		r.Done(1)
		return r.become(attempt, revoked)
	})
	if err != nil {
		return r.unlessInterrupted(ctx, err)
	}
	return r.settle(ctx)
}
