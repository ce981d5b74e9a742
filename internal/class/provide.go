package class

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"latchkey/internal/openrouter"
)

// Provided is what a run came to.
type Provided struct {
	Results   []Result // of everybody on the roster, in its order
	Made, Had int      // keys of theirs
	Orphans   int      // keys that had reached nobody, and were deleted
}

// Plan says what Provide would do, and does nothing.
func (c *Class) Plan(roster Roster, key openrouter.NewKey, say func(string)) ([]Result, error) {
	if err := c.suits(roster, key); err != nil {
		return nil, err
	}
	had := c.had(roster, say)
	results := make([]Result, len(roster.People))
	for i, p := range roster.People {
		if attempt, ok := had[p.ID]; ok {
			results[i] = c.result(attempt, Has)
		} else {
			results[i] = Result{Person: p.ID, State: WouldMake, File: filepath.Join(c.folder(), p.File)}
		}
	}
	if open := len(c.in(asked)); open > 0 {
		say(fmt.Sprintf("%d attempts were not answered: their keys, if they were made, would be deleted, or kept where they are in their files", open))
	}
	return results, nil
}

// Provide makes a key like key for everybody on the roster who has none. What it
// came to is told with an error too.
func (c *Class) Provide(ctx context.Context, roster Roster, key openrouter.NewKey, options Options) (Provided, error) {
	if err := c.suits(roster, key); err != nil {
		return Provided{}, err
	}
	had := c.had(roster, options.Say)
	if c.begun.Class == "" {
		// Dying before this leaves a manifest without a class, to be begun again.
		err := c.add(entry{At: options.Now().UTC(), State: classBegun, Class: randomID(4), Identity: roster.Identity,
			Limit: key.Limit, Reset: key.LimitReset, ExpiresAt: key.ExpiresAt})
		if err != nil {
			return Provided{}, err
		}
	}
	r := c.run(options)
	r.key = key
	r.Done(len(had))
	err := r.provide(ctx, roster.People)

	provided := Provided{Results: make([]Result, len(roster.People)), Orphans: r.orphans}
	for i, p := range roster.People {
		attempt, _ := c.of(p.ID)
		_, before := had[p.ID]
		switch {
		case attempt.State != live:
			provided.Results[i] = Result{Person: p.ID, State: Missing, File: filepath.Join(c.folder(), p.File)}
		case before:
			provided.Had++
			provided.Results[i] = c.result(attempt, Had)
		default:
			provided.Made++
			provided.Results[i] = c.result(attempt, Made)
		}
	}
	return provided, err
}

// had returns the live keys of those on the roster, by person, and tells whose is
// not in its file.
func (c *Class) had(roster Roster, say func(string)) map[string]entry {
	had := map[string]entry{}
	for _, p := range roster.People {
		if attempt, ok := c.of(p.ID); ok && attempt.State == live {
			had[p.ID] = attempt
			if err := c.checkFile(attempt); err != nil {
				say(fmt.Sprintf("%v; %s has a key, and gets no other", err, p.ID))
			}
		}
	}
	return had
}

// suits tells whether these keys can be made under this manifest.
func (c *Class) suits(roster Roster, key openrouter.NewKey) error {
	if c.revoked {
		return &Unsuitable{fmt.Errorf("the class in %s was revoked: give another folder", c.folder())}
	}
	var problems []error
	if begun := c.begun; begun.Class != "" {
		if *begun.Limit != *key.Limit || begun.Reset != key.LimitReset || !begun.ExpiresAt.Equal(key.ExpiresAt) {
			expires, reset := "never", cmp.Or(begun.Reset, "never")
			if !begun.ExpiresAt.IsZero() {
				expires = begun.ExpiresAt.Format(time.RFC3339)
			}
			problems = append(problems, fmt.Errorf("the class in %s has the limit %v, reset %s, expires %s: keep to that, or give another folder", c.folder(), begun.Limit, reset, expires))
		}
		if begun.Identity != roster.Identity {
			problems = append(problems, fmt.Errorf("the people in %s are told apart by %s, and now would be by %s: some could get a second key", c.folder(), begun.Identity, roster.Identity))
		}
	}
	emails := map[string]string{} // -> person
	for _, attempt := range c.attempts {
		if attempt.Email != "" {
			emails[strings.ToLower(attempt.Email)] = attempt.Person
		}
	}
	for _, p := range roster.People {
		if before, ok := emails[strings.ToLower(p.Email)]; ok && before != p.ID {
			problems = append(problems, fmt.Errorf("line %d: %q was called %q before, and could get a second key", p.line, p.Email, before))
		}
		if attempt, ok := c.of(p.ID); ok && (attempt.State == live || attempt.State == asked) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(c.folder(), p.File)); err == nil {
			problems = append(problems, fmt.Errorf("line %d: the file %s is there already, and is not of this class", p.line, filepath.Join(c.folder(), p.File)))
		}
	}
	if len(problems) > 0 {
		return &Unsuitable{told(problems)}
	}
	return nil
}

// checkFile tells whether a live key is in its file.
func (c *Class) checkFile(attempt entry) error {
	hash, err := keyFileHash(c.folder(), attempt.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is gone", filepath.Join(c.folder(), attempt.File))
	case err != nil:
		return err
	case hash != attempt.Hash:
		return fmt.Errorf("%s holds another key", filepath.Join(c.folder(), attempt.File))
	}
	return nil
}

// provide makes keys until everybody has one, and no attempt is left of which it
// is not known what became of it.
func (r *run) provide(ctx context.Context, people []Person) error {
	for failures := 0; ; {
		// No call is under way here, so what is not known of an attempt can be
		// found out, and a new one be made.
		if err := r.lookForOrphans(false); err != nil {
			return r.unlessInterrupted(ctx, err)
		}
		var waiting []Person
		for _, p := range people {
			if attempt, _ := r.class.of(p.ID); attempt.State != live {
				waiting = append(waiting, p)
			}
		}
		made := r.made
		err := parallel(ctx, r.Parallel, waiting, r.makeKey)
		if err == nil {
			break
		}
		if r.made > made {
			failures = 0
		}
		failures++
		var e *openrouter.Error
		if !errors.As(err, &e) || e.Kind != openrouter.Unavailable || r.Backoff.Wait(e, failures) != nil {
			return r.unlessInterrupted(ctx, err)
		}
	}
	return r.settle(ctx)
}

// makeKey makes a key for a person who has none, and puts it into its file.
func (r *run) makeKey(p Person) error {
	if err := r.Backoff.Hold(); err != nil {
		return err
	}
	// Two names can be one file, where the system does not tell them apart.
	if _, err := os.Lstat(filepath.Join(r.class.folder(), p.File)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is a file already where the key of %s was to be put: %s (%v)", p.ID, p.File, err)
	}
	line := entry{Person: p.ID, Name: p.Name, Email: p.Email, File: p.File,
		KeyName: r.class.prefix() + strings.TrimSuffix(p.File, ".key") + ":" + randomID(8)}
	// Dying after this: the next run looks for a key with this name.
	if err := r.become(line, asked); err != nil {
		return err
	}
	key := r.key
	key.Name = line.KeyName
	// Dying after this: there may be a key that nobody has. The next run finds
	// it by its name, deletes it, and makes another.
	secret, hash, err := r.Account.Create(key)
	if err != nil {
		if e := (*openrouter.Error)(nil); errors.As(err, &e) && !e.Uncertain {
			return errors.Join(err, r.become(line, absent))
		}
		r.mu.Lock()
		r.open[line.KeyName] = time.Now()
		r.mu.Unlock()
		return err
	}
	// Dying after this: the next run finds the key in its file.
	if err := writeKeyFile(r.class.folder(), p.File, secret); err != nil {
		err = fmt.Errorf("a key cannot be kept, and was given back: %w", err)
		if gone := r.Account.Delete(hash); gone != nil {
			return errors.Join(err, gone) // the next run finds it by its name
		}
		return errors.Join(err, r.become(line, deleted))
	}
	line.Hash = hash
	if err := r.become(line, live); err != nil {
		return err
	}
	r.mu.Lock()
	r.made++
	r.mu.Unlock()
	r.Done(1)
	return nil
}
