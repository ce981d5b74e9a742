package class

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"latchkey/internal/openrouter"
	"latchkey/internal/roster"
)

// Provided is what a run came to.
type Provided struct {
	Results   []Result // of everybody on the roster, in its order
	Made, Had int      // keys of theirs
	Orphans   int      // keys that had reached nobody, and were deleted
}

// Plan says what Provide would do, and does nothing.
func (c *Class) Plan(people roster.Roster, terms Terms, say func(string)) ([]Result, error) {
	members := c.members(people)
	if err := c.suits(people.Identity, members, terms); err != nil {
		return nil, err
	}
	had := c.had(members, say)
	results := make([]Result, len(members))
	for i, m := range members {
		if attempt, ok := had[m.person]; ok {
			results[i] = c.result(attempt, Has)
		} else {
			results[i] = Result{Person: m.person, State: WouldMake, File: filepath.Join(c.folder(), m.file)}
		}
		if c.isRemoved(m.person) {
			results[i].State = Removed
		}
	}
	if open := len(c.in(asked)); open > 0 {
		say(fmt.Sprintf("%d attempts were not answered: their keys, if they were made, would be deleted, or kept where they are in their files", open))
	}
	return results, nil
}

// Provide makes a key for everybody on the roster who has none. What it came to is
// told with an error too.
func (c *Class) Provide(ctx context.Context, people roster.Roster, terms Terms, options Options) (Provided, error) {
	members := c.members(people)
	if err := c.suits(people.Identity, members, terms); err != nil {
		return Provided{}, err
	}
	had := c.had(members, options.Say)
	if c.begun.Class == "" {
		// Dying before this leaves a manifest without a class, to be begun again.
		err := c.add(entry{At: options.Now().UTC(), State: classBegun, Class: randomID(4), Identity: people.Identity,
			Limit: &terms.Limit, Reset: terms.Reset, ExpiresAt: terms.ExpiresAt, Workspace: terms.Workspace, Guardrail: terms.Guardrail})
		if err != nil {
			return Provided{}, err
		}
	}
	r := c.run(options)
	r.Done(len(had))
	err := r.provide(ctx, members)
	return r.provided(members, had), err
}

// provided is what a run came to for these people, of whom some had a key before.
func (r *run) provided(members []member, had map[string]entry) Provided {
	c := r.class
	provided := Provided{Results: make([]Result, len(members)), Orphans: r.orphans}
	for i, m := range members {
		attempt, _ := c.of(m.person)
		before, had := had[m.person]
		switch {
		case c.isRemoved(m.person):
			provided.Results[i] = Result{Person: m.person, State: Removed, File: filepath.Join(c.folder(), m.file)}
		case attempt.State != live:
			provided.Results[i] = Result{Person: m.person, State: Missing, File: filepath.Join(c.folder(), m.file)}
		case had && before.KeyName == attempt.KeyName:
			provided.Had++
			provided.Results[i] = c.result(attempt, Had)
		default:
			provided.Made++
			provided.Results[i] = c.result(attempt, Made)
		}
	}
	return provided
}

// isRemoved tells whether somebody gets no key, because they were taken out.
func (c *Class) isRemoved(person string) bool {
	last, _ := c.of(person)
	return last.State == removed
}

// had returns the live keys of those on the roster, by person, and tells what is
// not as one might think: whose key is not in its file, who is not on the roster.
func (c *Class) had(members []member, say func(string)) map[string]entry {
	had := map[string]entry{}
	for _, m := range members {
		attempt, ok := c.of(m.person)
		switch {
		case !ok:
		case c.isRemoved(m.person):
			say(fmt.Sprintf("%s was removed from the class, and gets no key; `latchkey class replace` makes one", m.person))
		case attempt.State == live:
			had[m.person] = attempt
			if err := c.checkFile(attempt); err != nil {
				say(fmt.Sprintf("%v; %s has a key, and gets no other", err, m.person))
			}
			if m.limit != nil && *m.limit != c.limitOf(attempt) {
				say(fmt.Sprintf("the key of %s has the limit %v, and the file says %v; `latchkey class set` changes it", m.person, c.limitOf(attempt), m.limit))
			}
		}
	}
	const most = 20
	away := c.away(members)
	for i, person := range away {
		if i == most {
			say(fmt.Sprintf("and %d more who have a key are not in the file", len(away)-most))
			break
		}
		say(fmt.Sprintf("%s has a key, and is not in the file; `latchkey class remove` takes it back", person))
	}
	return had
}

// suits tells whether these keys can be made under this manifest.
func (c *Class) suits(identity string, members []member, terms Terms) error {
	if err := c.notRevoked(); err != nil {
		return err
	}
	var problems []error
	if c.begun.Class != "" {
		if same := c.terms; !same.ExpiresAt.Equal(terms.ExpiresAt) || same.String() != terms.String() {
			problems = append(problems, fmt.Errorf("the class in %s has the %v: keep to that, change it with `latchkey class extend`, or give another folder", c.folder(), c.terms))
		}
		if c.begun.Identity != identity {
			problems = append(problems, fmt.Errorf("the people in %s are told apart by %s, and now would be by %s: some could get a second key. --id-column, --email-column and --name-column say which columns to take, and %q takes none", c.folder(), c.begun.Identity, identity, roster.None))
		}
	}
	emails := map[string]string{} // -> person
	for _, attempt := range c.attempts {
		if attempt.Email != "" && attempt.State != removed {
			emails[roster.Key(attempt.Email)] = roster.Key(attempt.Person)
		}
	}
	owners := map[string][]string{} // of a file, in the manifest
	for _, attempt := range c.attempts {
		owners[attempt.File] = append(owners[attempt.File], attempt.Person)
	}
	files := map[string]int{} // -> line
	for _, m := range members {
		if before, ok := emails[roster.Key(m.email)]; ok && before != roster.Key(m.person) {
			problems = append(problems, fmt.Errorf("line %d: %q was called %q before, and could get a second key", m.line, m.email, before))
		}
		if before, twice := files[m.file]; twice {
			problems = append(problems, fmt.Errorf("line %d: %q would have the file %s, as line %d: --id-column names a column that tells them apart", m.line, m.person, m.file, before))
		}
		files[m.file] = m.line
		if m.file == "" {
			problems = append(problems, fmt.Errorf("line %d: no file can be named after %q: --id-column names another column that tells people apart", m.line, m.person))
			continue
		}
		if attempt, ok := c.of(m.person); ok && (attempt.holds() || attempt.State == asked) {
			continue
		}
		// The file may be moved away by now: the next key of the other has this name again.
		if i := slices.IndexFunc(owners[m.file], func(owner string) bool { return roster.Key(owner) != roster.Key(m.person) }); i >= 0 {
			problems = append(problems, fmt.Errorf("line %d: %q would have the file %s, as %q in the manifest: --id-column names a column that tells them apart", m.line, m.person, m.file, owners[m.file][i]))
			continue
		}
		if _, err := c.placeFor(m); err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", m.line, err))
		}
	}
	if len(problems) > 0 {
		return &Unsuitable{roster.Problems(problems)}
	}
	return nil
}

// notRevoked fails for a class that was.
func (c *Class) notRevoked() error {
	if c.revoked {
		return &Unsuitable{fmt.Errorf("the class in %s was revoked: give another folder", c.folder())}
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

// provide makes keys until everybody has one, takes back those that are replaced,
// and leaves no attempt of which it is not known what became of it.
func (r *run) provide(ctx context.Context, members []member) error {
	for failures := 0; ; {
		// No call is under way here, so what is not known of an attempt can be
		// found out, and a new one be made.
		if err := r.lookForOrphans(false); err != nil {
			return r.unlessInterrupted(ctx, err)
		}
		var waiting []member
		for _, m := range members {
			if attempt, _ := r.class.of(m.person); attempt.State != live && !r.class.isRemoved(m.person) {
				waiting = append(waiting, m)
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
	if err := r.finishReplacing(ctx); err != nil {
		return r.unlessInterrupted(ctx, err)
	}
	return r.settle(ctx)
}

// makeKey makes a key for a person who has none, and puts it into its file.
func (r *run) makeKey(m member) error {
	if err := r.Backoff.Hold(); err != nil {
		return err
	}
	// Two names can be one file, where the system does not tell them apart.
	if err := r.class.clearPlace(m); err != nil {
		return err
	}
	line := entry{Person: m.person, Name: m.name, Email: m.email, File: m.file, Limit: m.limit, Paused: m.paused,
		KeyName: r.class.prefix() + strings.TrimSuffix(m.file, ".key") + ":" + randomID(8)}
	// Dying after this: the next run looks for a key with this name.
	if err := r.become(line, asked); err != nil {
		return err
	}
	terms := r.class.terms
	limit := r.class.limitOf(line)
	key := openrouter.NewKey{Name: line.KeyName, Limit: &limit, LimitReset: terms.Reset, ExpiresAt: terms.ExpiresAt}
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
	// Dying up to the file: the same. Nobody has a key that may be used for more
	// than it is meant for.
	if terms.Guardrail != "" {
		if err := r.Account.Assign(terms.Guardrail, hash); err != nil {
			return r.giveBack(line, hash, fmt.Errorf("a key could not be put under the guardrail %s, and was given back: %w", terms.Guardrail, err))
		}
	}
	if line.Paused {
		if _, err := r.Account.SetDisabled(hash, true); err != nil {
			return r.giveBack(line, hash, fmt.Errorf("a key could not be paused, and was given back: %w", err))
		}
	}
	// Dying after this: the next run finds the key in its file.
	if err := writeKeyFile(r.class.folder(), m.file, secret); err != nil {
		return r.giveBack(line, hash, fmt.Errorf("a key cannot be kept, and was given back: %w", err))
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

// giveBack deletes a key that nobody got, because of err.
func (r *run) giveBack(line entry, hash string, err error) error {
	if gone := r.Account.Delete(hash); gone != nil {
		return errors.Join(err, gone) // the next run finds it by its name
	}
	return errors.Join(err, r.become(line, deleted))
}
