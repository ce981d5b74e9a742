package class

import (
	"context"
)

// Keys returns how many keys Revoke would delete, those of attempts that were not
// answered too.
func (c *Class) Keys() int { return len(c.in(holding...)) + len(c.in(asked)) }

// PlanRevocation says what Revoke would do, and does nothing.
func (c *Class) PlanRevocation() []Result { return c.results(WouldDelete, holding...) }

func (c *Class) results(become string, of ...state) []Result {
	results := []Result{}
	for _, attempt := range byPerson(c.in(of...)) {
		results = append(results, c.result(attempt, become))
	}
	return results
}

// Revoke deletes all keys of the class, which is closed then. refused says which
// keys were left alone, and why.
func (c *Class) Revoke(ctx context.Context, options Options) (results []Result, refused []error, err error) {
	r := c.run(options)
	err = r.revoke(ctx)
	results = c.results(Deleted, revoked)
	for _, attempt := range c.in(holding...) {
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
	if err := r.deleteEach(ctx, r.class.in(holding...), revoked); err != nil {
		return r.unlessInterrupted(ctx, err)
	}
	return r.settle(ctx)
}
