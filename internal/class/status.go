package class

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/seal"
)

// Standing is how a key of a class stands.
type Standing struct {
	Person    string             `json:"person"`
	Name      string             `json:"name,omitempty"`
	Email     string             `json:"email,omitempty"`
	State     string             `json:"state"`
	Limit     *openrouter.Amount `json:"limit"` // nil: not known, or none
	Reset     string             `json:"limit_reset,omitempty"`
	Used      *openrouter.Amount `json:"used"` // ever
	Left      *openrouter.Amount `json:"left"` // of the limit, in its window
	LastUsed  string             `json:"last_used,omitempty"`
	ExpiresAt time.Time          `json:"expires_at,omitzero"`
	Hash      string             `json:"hash,omitempty"`
	File      string             `json:"file"`
}

// The states of a standing, with Gone, Missing and Deleted, which a revocation does.
const (
	Active    = "active"
	Exhausted = "exhausted" // nothing is left
	Paused    = "paused"
	Expired   = "expired"
	Replacing = "replacing" // another is to take its place; until then it may be used
	Replaced  = "replaced"  // another took its place, and it may be used beside that one
)

// States are all states of a standing, in the order in which people are told of them.
var States = [...]string{Active, Exhausted, Paused, Expired, Replacing, Replaced, Gone, Missing, Deleted}

// Status reads how the keys of the class stand, by person. It says what is not as the manifest has it.
func (c *Class) Status(ctx context.Context, options Options) ([]Standing, error) {
	r := c.run(options)
	if c.revoked {
		r.Say(fmt.Sprintf("the class in %s was revoked", c.folder()))
	}
	at, err := r.records(ctx)
	if err != nil {
		return nil, r.unlessInterrupted(ctx, err)
	}
	var shown []entry
	for _, attempt := range byPerson(c.all()) {
		last, _ := c.of(attempt.Person)
		key, there := at[attempt.Hash]
		switch {
		case attempt.State == removed:
		case attempt.KeyName == last.KeyName, there && attempt.holds() && key.Name == attempt.KeyName:
			shown = append(shown, attempt)
		}
	}
	standings := make([]Standing, len(shown))
	index := make([]int, len(shown))
	for i, attempt := range shown {
		index[i] = i
		key, there := at[attempt.Hash]
		standings[i] = r.standing(attempt, key, there && key.Name == attempt.KeyName)
	}
	err = parallel(ctx, r.Parallel, index, func(i int) error {
		defer r.Done(1)
		key := at[shown[i].Hash]
		if standings[i].Used == nil {
			return nil
		}
		var err error
		standings[i].LastUsed, err = r.lastUsed(key)
		return err
	})
	return standings, r.unlessInterrupted(ctx, err)
}

// records reads the keys of the class, by their hash.
func (r *run) records(ctx context.Context) (map[string]openrouter.KeyRecord, error) {
	at := map[string]openrouter.KeyRecord{}
	err := r.Account.EachRecord(true, func(key openrouter.KeyRecord) error {
		if r.class.Owns(key.Name) {
			at[key.Hash] = key
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The list can miss a key that was made just now.
	missed := slices.DeleteFunc(r.class.in(holding...), func(attempt entry) bool { return at[attempt.Hash].Hash != "" })
	return at, parallel(ctx, r.Parallel, missed, func(attempt entry) error {
		if err := r.Backoff.Hold(); err != nil {
			return err
		}
		key, err := r.Account.Record(attempt.Hash)
		if err == nil && r.class.Owns(key.Name) {
			r.mu.Lock()
			at[key.Hash] = key
			r.mu.Unlock()
		}
		if openrouter.IsGone(err) {
			return nil
		}
		return err
	})
}

func (r *run) standing(attempt entry, key openrouter.KeyRecord, there bool) Standing {
	c := r.class
	s := Standing{Person: attempt.Person, Name: attempt.Name, Email: attempt.Email, State: Missing,
		Hash: attempt.Hash, File: filepath.Join(c.folder(), attempt.File)}
	switch {
	case attempt.State == revoked:
		s.State = Deleted
		return s
	case !attempt.holds():
		return s // the list may still have what was deleted just now
	case !there:
		s.State = Gone
		return s
	}
	s.Limit, s.Reset, s.Used, s.Left, s.ExpiresAt = key.Limit, key.LimitReset, &key.Usage, key.Remaining, key.ExpiresAt
	switch {
	case attempt.State == replacing:
		s.State = Replacing
	case attempt.State == replaced:
		s.State = Replaced
	case !key.ExpiresAt.IsZero() && !key.ExpiresAt.After(r.Now()):
		s.State = Expired
	case key.Disabled:
		s.State = Paused
	case key.Remaining != nil && key.Remaining.Credits <= 0:
		s.State = Exhausted
	default:
		s.State = Active
	}
	// A command that changes keys was interrupted, or somebody changed this one at
	// OpenRouter.
	if key.Disabled != attempt.Paused {
		r.Say(fmt.Sprintf("the key of %s (%s) is %s at OpenRouter, and is not to be: run `latchkey class pause` or `resume` again", attempt.Person, oplog.ShortHash(attempt.Hash),
			map[bool]string{true: "paused", false: "in use"}[key.Disabled]))
	}
	if want := c.limitOf(attempt); attempt.State == live && (key.Limit == nil || key.Limit.Credits != want) && attempt.extensions == c.extensions {
		limit := "no limit"
		if key.Limit != nil {
			limit = "the limit " + key.Limit.String()
		}
		r.Say(fmt.Sprintf("the key of %s (%s) has %s at OpenRouter, and is to have %v: run `latchkey class set` or `extend` again", attempt.Person, oplog.ShortHash(attempt.Hash), limit, want))
	}
	return s
}

// lastUsed says on which day (UTC) a key was last used, as far as OpenRouter tells,
// which is for 30 completed days; "" where it was not, or nothing is told.
func (r *run) lastUsed(key openrouter.KeyRecord) (string, error) {
	const days = 30
	today := r.Now().UTC().Truncate(24 * time.Hour)
	switch {
	case key.UsageDaily.Credits > 0:
		return today.Format(time.DateOnly), nil
	case key.Usage.Credits == 0:
		return "", nil
	}
	if err := r.Backoff.Hold(); err != nil {
		return "", err
	}
	rows, err := r.Account.KeyActivity(key.Hash)
	var e *openrouter.Error
	if errors.As(err, &e) && (e.Kind == openrouter.Gone || e.Kind == openrouter.Refused) {
		return "", nil // it tells of no activity: the rest is worth showing
	}
	last := ""
	for _, row := range rows {
		last = max(last, row.Date)
	}
	return cmp.Or(last, "before "+today.AddDate(0, 0, -days).Format(time.DateOnly)), err
}

// Handed is what is handed out to somebody.
type Handed struct {
	Name, Email string
	Key         seal.Secret
}

// Handout reads the keys of everybody who has one, from their files, by person.
// Whose key is not in its file is an error of missing.
func (c *Class) Handout() (handed []Handed, missing []error) {
	for _, attempt := range byPerson(c.in(live)) {
		if err := c.checkFile(attempt); err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", attempt.Person, err))
			continue
		}
		key, _, err := readKeyFile(c.folder(), attempt.File)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		handed = append(handed, Handed{cmp.Or(attempt.Name, attempt.Person), attempt.Email, key})
	}
	return handed, missing
}

// WriteHandout writes what is handed out into a file that is not there yet, and that
// nobody else can read. Dying in between leaves a part of it, which is not written
// over either.
func WriteHandout(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &Unsuitable{fmt.Errorf("%s is there already: remove it, or give another name", path)}
	}
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
