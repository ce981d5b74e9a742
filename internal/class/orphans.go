package class

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"latchkey/internal/backoff"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
)

// This file closes the attempts of which it is not known what became of them.

// become writes what became of an attempt.
func (r *run) become(line entry, state state) error {
	line.At, line.State = r.Now().UTC(), state
	return r.class.add(line)
}

// adopt takes keys that are in their file, and not yet so in the manifest, for
// live. While the last attempt for a person is open, nothing but its key can be
// in the file: the file was not there before it.
func (r *run) adopt() error {
	if err := removeTemporary(r.class.folder()); err != nil {
		return err
	}
	for _, attempt := range r.class.in(asked) {
		if last, _ := r.class.of(attempt.Person); last.KeyName != attempt.KeyName {
			continue
		}
		hash, err := keyFileHash(r.class.folder(), attempt.File)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if other, ok := r.class.hashed(hash); ok {
			return fmt.Errorf("%s holds a key of before: move it away", filepath.Join(r.class.folder(), other.File))
		}
		attempt.Hash = hash
		if err := r.become(attempt, live); err != nil {
			return err
		}
		r.Done(1)
	}
	return nil
}

// lookForOrphans looks for keys that attempts of this class made and nobody
// has, and deletes them. It is only called while no attempt is under way here.
// At last, when none can take effect any more, an attempt whose key is not found
// counts as without effect.
func (r *run) lookForOrphans(last bool) error {
	if err := r.adopt(); err != nil {
		return err
	}
	if !last && len(r.class.in(asked)) == 0 {
		return nil
	}
	seen, orphans := map[string]bool{}, []openrouter.KeyRecord{}
	err := r.Account.EachRecord(true, func(key openrouter.KeyRecord) error {
		attempt, ours := r.class.named(key.Name)
		switch {
		case !ours:
		case attempt.holds() && attempt.Hash == key.Hash:
			seen[key.Hash] = true
		default:
			orphans = append(orphans, key) // deleted later: the pages would shift
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range orphans {
		if err := r.isListedRight(key); err != nil {
			return err
		}
		// Dying in between leaves the attempt open. It is looked for again, and
		// not found.
		if err := r.Account.Delete(key.Hash); err != nil {
			return err
		}
		r.orphans++
		if attempt, _ := r.class.named(key.Name); attempt.State == asked {
			if err := r.become(attempt, deleted); err != nil {
				return err
			}
		}
	}
	if !last {
		return nil
	}
	for _, attempt := range r.class.in(asked) {
		if err := r.become(attempt, absent); err != nil {
			return err
		}
	}
	for _, attempt := range r.class.in(live) {
		if seen[attempt.Hash] {
			continue
		}
		// The list can miss a key that was made just now.
		_, err := r.Account.Record(attempt.Hash)
		if openrouter.IsGone(err) {
			r.Say(fmt.Sprintf("the key of %s (%s) is gone from OpenRouter; `latchkey class replace` makes another", attempt.Person, oplog.ShortHash(attempt.Hash)))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// isListedRight asks for a key that is to be deleted by its hash: a list that shows its
// name beside the hash of another one would cost that one.
func (r *run) isListedRight(key openrouter.KeyRecord) error {
	if !openrouter.IsHash(key.Hash) {
		return fmt.Errorf("OpenRouter lists %s without its hash", key.Name)
	}
	same, err := r.Account.Record(key.Hash)
	if openrouter.IsGone(err) {
		return nil
	}
	if err == nil && same.Name != key.Name {
		err = fmt.Errorf("OpenRouter lists %s with the hash of another key", key.Name)
	}
	return err
}

// settle waits until no attempt that was not answered can take effect any more,
// and then looks at all keys once more. Dying in between leaves the attempts
// open for the next run.
func (r *run) settle(ctx context.Context) error {
	var until time.Time
	open := r.class.in(asked)
	for _, attempt := range open {
		if at := r.open[attempt.KeyName].Add(r.Settle); at.After(until) {
			until = at
		}
	}
	if left := time.Until(until); left > 0 {
		r.Say(fmt.Sprintf("%d attempts were not answered; looking for their keys once more in %v", len(open), left.Round(time.Second)))
		if err := backoff.Sleep(ctx, left); err != nil {
			return ErrInterrupted
		}
	}
	return r.unlessInterrupted(ctx, r.lookForOrphans(true))
}

func (r *run) unlessInterrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ErrInterrupted
	}
	return err
}
