package class

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
)

// This file changes keys that are there: what they may spend, whether they may be
// used, how long, and which of them are whose. What a key is to be is in the manifest
// before OpenRouter is asked, so that the same command goes on after whatever ended
// it, and Status tells what is not done.

// Change is a change of keys: what became of each, and which were left alone since
// they are not of the class.
type Change struct {
	Results []Result
	Refused []error
}

// changeable fails for a class that has not begun, or was revoked.
func (c *Class) changeable() error {
	if c.begun.Class == "" {
		return &Unsuitable{fmt.Errorf("no key was asked for yet in %s", c.folder())}
	}
	return c.notRevoked()
}

// each calls do for every attempt whose key is there and of the class. Of those that
// are gone, or are another's, it says so. gone is called for the former, unless nil.
func (r *run) each(ctx context.Context, attempts []entry, done string, do, gone func(entry) error) error {
	return parallel(ctx, r.Parallel, attempts, func(attempt entry) error {
		if err := r.Backoff.Hold(); err != nil {
			return err
		}
		state, then := done, do
		key, err := r.Account.Record(attempt.Hash)
		switch {
		case openrouter.IsGone(err):
			state, then = Gone, gone
		case err != nil:
			return err
		case key.Name != attempt.KeyName || !r.class.Owns(key.Name):
			state, then = Refused, nil
			r.mu.Lock()
			r.refused[attempt.KeyName] = fmt.Errorf("%s: the key %s is named %q, not %q: it is not this person's, and is left alone", attempt.Person, oplog.ShortHash(key.Hash), key.Name, attempt.KeyName)
			r.mu.Unlock()
		}
		if then != nil {
			if err := then(attempt); err != nil {
				return err
			}
		}
		r.mu.Lock()
		r.states[attempt.KeyName] = state
		r.mu.Unlock()
		r.Done(1)
		return nil
	})
}

// changed is what became of attempts.
func (r *run) changed(attempts []entry) Change {
	var change Change
	for _, attempt := range attempts {
		state := cmp.Or(r.states[attempt.KeyName], NotDone)
		if err := r.refused[attempt.KeyName]; err != nil {
			change.Refused = append(change.Refused, err)
		}
		change.Results = append(change.Results, r.class.result(attempt, state))
	}
	return change
}

// Pause keeps the keys of people from being used, or lets them be used again.
func (c *Class) Pause(ctx context.Context, people []string, paused bool, options Options) (Change, error) {
	if err := c.changeable(); err != nil {
		return Change{}, err
	}
	r, attempts := c.run(options), c.inOf(people, holding...)
	err := r.each(ctx, attempts, map[bool]string{true: Paused, false: Resumed}[paused], func(attempt entry) error {
		if attempt.Paused != paused {
			attempt.Paused = paused
			// Dying after this: the manifest says what is to be.
			if err := r.become(attempt, attempt.State); err != nil {
				return err
			}
		}
		_, err := r.Account.SetDisabled(attempt.Hash, paused)
		return err
	}, nil)
	return r.changed(attempts), r.unlessInterrupted(ctx, err)
}

// SetLimit gives people a limit of their own.
func (c *Class) SetLimit(ctx context.Context, people []string, limit account.Credits, options Options) (Change, error) {
	if err := c.changeable(); err != nil {
		return Change{}, err
	}
	r, attempts := c.run(options), c.inOf(people, holding...)
	err := r.each(ctx, attempts, "limit "+limit.String(), func(attempt entry) error {
		attempt.Limit = &limit
		// Dying after this: the manifest says what is to be.
		if err := r.become(attempt, attempt.State); err != nil {
			return err
		}
		_, err := r.Account.SetLimit(attempt.Hash, limit, nil)
		return err
	}, nil)
	return r.changed(attempts), r.unlessInterrupted(ctx, err)
}

// Extension is what Extend changes; nil: nothing.
type Extension struct {
	Limit     *account.Credits
	Reset     *string    // "": none
	ExpiresAt *time.Time // zero: never
}

// extended are the terms of the class after an extension, and whether it makes new
// keys: the end of a key cannot be changed at OpenRouter.
func (c *Class) extended(extension Extension) (terms Terms, newKeys bool) {
	terms = c.terms
	if extension.Limit != nil {
		terms.Limit = *extension.Limit
	}
	if extension.Reset != nil {
		terms.Reset = *extension.Reset
	}
	if extension.ExpiresAt != nil {
		terms.ExpiresAt = *extension.ExpiresAt
	}
	return terms, !terms.ExpiresAt.Equal(c.terms.ExpiresAt)
}

// PlanExtension says what Extend would do: whose keys would be replaced, and whose
// changed.
func (c *Class) PlanExtension(extension Extension) (replaced, changed int) {
	_, newKeys := c.extended(extension)
	for _, attempt := range c.in(live) {
		if newKeys || attempt.extensions < c.extensions {
			replaced++
		} else {
			changed++
		}
	}
	return replaced, changed
}

// Extend changes the limit and its window for everybody, those with a limit of their
// own too. With another end everybody gets a new key, and the old ones are taken
// back if revoke says so; otherwise they work up to their own end.
func (c *Class) Extend(ctx context.Context, extension Extension, revoke bool, options Options) (Change, error) {
	if err := c.changeable(); err != nil {
		return Change{}, err
	}
	if terms, _ := c.extended(extension); terms != c.terms {
		// Dying after this: the class has these terms, and no key yet. The same
		// extension goes on.
		if err := c.add(entry{At: options.Now().UTC(), State: classExtended, Limit: &terms.Limit, Reset: terms.Reset, ExpiresAt: terms.ExpiresAt}); err != nil {
			return Change{}, err
		}
	}
	r := c.run(options)
	if err := r.lookForOrphans(false); err != nil {
		return Change{}, r.unlessInterrupted(ctx, err)
	}
	// Of whoever has an older key, it is replaced; of the others, it is changed.
	var old, present []entry
	for _, attempt := range byPerson(c.in(live, replacing)) {
		if attempt.State == replacing || attempt.extensions < c.extensions {
			old = append(old, attempt)
		} else if extension.Limit != nil || extension.Reset != nil {
			present = append(present, attempt)
		}
	}
	err := r.each(ctx, present, Changed, func(attempt entry) error {
		if extension.Limit != nil {
			attempt.Limit = nil
		}
		// Dying after this: the manifest says what is to be.
		if err := r.become(attempt, live); err != nil {
			return err
		}
		reset := c.terms.Reset
		_, err := r.Account.SetLimit(attempt.Hash, c.limitOf(attempt), &reset)
		return err
	}, nil)
	if err != nil {
		return r.changed(append(present, old...)), r.unlessInterrupted(ctx, err)
	}
	for _, attempt := range old {
		if extension.Limit != nil {
			attempt.Limit = nil
		}
		attempt.Revoke = attempt.Revoke || revoke
		// Dying after this: the next run makes the new key.
		if err := r.become(attempt, replacing); err != nil {
			return Change{}, err
		}
	}
	return r.replace(ctx, present, old)
}

// Replace gives people a new key, as after a loss. With revoke, every key of theirs
// but the new one is deleted then; without, the old one goes on working.
func (c *Class) Replace(ctx context.Context, people []string, revoke bool, options Options) (Change, error) {
	if err := c.changeable(); err != nil {
		return Change{}, err
	}
	for _, person := range people {
		last, _ := c.of(person)
		if last.State == asked {
			continue // its key may be in the file, and not yet so in the manifest
		}
		if _, err := c.placeFor(memberOf(last)); err != nil {
			return Change{}, &Unsuitable{err}
		}
	}
	r := c.run(options)
	if err := r.lookForOrphans(false); err != nil {
		return Change{}, r.unlessInterrupted(ctx, err)
	}
	for _, person := range people {
		unfinished := len(c.inOf([]string{person}, replacing)) > 0
		for _, attempt := range c.inOf([]string{person}, live, replacing, replaced, removed) {
			last, _ := c.of(person)
			is := attempt.State
			switch {
			case is == live && !unfinished, is == replaced && revoke, is == replacing && revoke && !attempt.Revoke:
				// Dying after this: the next run makes the new key, if there is
				// none, and takes this one back, if it is to.
				attempt.Revoke = revoke
				is = replacing
			case is == removed && attempt.KeyName == last.KeyName:
				is = absent // whoever was removed is in the class again
			default:
				continue
			}
			if err := r.become(attempt, is); err != nil {
				return Change{}, err
			}
		}
	}
	return r.replace(ctx, nil, c.inOf(people, replacing), people...)
}

// replace makes the keys that take the place of others. It returns what became of
// those that were changed before, of the new keys, and of the old.
func (r *run) replace(ctx context.Context, changed, old []entry, people ...string) (Change, error) {
	c := r.class
	for _, attempt := range old {
		if last, _ := c.of(attempt.Person); last.KeyName == attempt.KeyName || !last.holds() {
			people = append(people, attempt.Person)
		}
	}
	var members []member
	seen := map[string]bool{}
	for _, person := range people {
		if last, ok := c.of(person); ok && !seen[person] {
			members, seen[person] = append(members, memberOf(last)), true
		}
	}
	had := map[string]entry{}
	for _, m := range members {
		if last, _ := c.of(m.person); last.State == live {
			had[m.person] = last
		}
	}
	err := r.provide(ctx, members)
	attempts := append(changed, old...)
	change := r.changed(attempts)
	for i, attempt := range attempts {
		if now, _ := c.named(attempt.KeyName); now.State == replaced {
			change.Results[i].State = Replaced
		} else if now.State == revoked {
			change.Results[i].State = Deleted
		}
	}
	change.Results = append(change.Results, r.provided(members, had).Results...)
	return change, err
}

// finishReplacing ends what is replaced, once there is a key in its place.
func (r *run) finishReplacing(ctx context.Context) error {
	var kept, back []entry
	for _, attempt := range r.class.in(replacing) {
		last, _ := r.class.of(attempt.Person)
		switch {
		case last.State != live || last.KeyName == attempt.KeyName:
		case attempt.Revoke:
			back = append(back, attempt)
		default:
			kept = append(kept, attempt)
		}
	}
	for _, attempt := range kept {
		if err := r.become(attempt, replaced); err != nil {
			return err
		}
	}
	return r.deleteEach(ctx, back, revoked)
}

// deleteEach deletes the keys of attempts, which are in a state then. Those that are
// gone are as good as deleted.
func (r *run) deleteEach(ctx context.Context, attempts []entry, then state) error {
	closed := func(attempt entry) error { return r.become(attempt, then) }
	return r.each(ctx, attempts, Deleted, func(attempt entry) error {
		// Dying after this: the next run is told that it is gone.
		if err := r.Account.Delete(attempt.Hash); err != nil {
			return err
		}
		return closed(attempt)
	}, closed)
}

// Remove deletes the keys of people, who get no other. With onlyReplaced it deletes
// only those in whose place they have another, which they keep.
func (c *Class) Remove(ctx context.Context, people []string, onlyReplaced bool, options Options) (Change, error) {
	if err := c.changeable(); err != nil {
		return Change{}, err
	}
	r := c.run(options)
	if onlyReplaced {
		attempts := c.inOf(people, replaced)
		err := r.deleteEach(ctx, attempts, revoked)
		return r.changed(attempts), r.unlessInterrupted(ctx, err)
	}
	if err := r.adopt(); err != nil {
		return Change{}, err
	}
	// Dying in between: whoever's key is deleted has one by the manifest, and nobody
	// makes them another.
	attempts := c.inOf(people, holding...)
	err := r.deleteEach(ctx, attempts, removed)
	if err == nil {
		err = r.settle(ctx) // a key of theirs may be on its way
	}
	change := r.changed(attempts)
	if err != nil {
		return change, r.unlessInterrupted(ctx, err)
	}
	for _, person := range people {
		last, _ := c.of(person)
		if last.State == absent || last.State == deleted || last.State == revoked {
			if err := r.become(last, removed); err != nil { // never had one, or lost it before
				return change, err
			}
		}
		if !slices.ContainsFunc(attempts, func(attempt entry) bool { return attempt.KeyName == last.KeyName }) {
			change.Results = append(change.Results, c.result(last, Removed))
		}
	}
	return change, c.dropFiles(c.inOf(people, removed))
}
