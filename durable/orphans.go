package durable

import (
	"errors"
	"slices"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
)

const (
	// orphanGrace is how long a POST without an answer may take to show its
	// key: one that is not found after it was never made.
	orphanGrace = 2 * time.Minute
	// orphanMargin is by how much OpenRouter's clock may differ from ours.
	orphanMargin = time.Hour
)

var (
	errNotFound  = errors.New("not found so far; it may still appear")
	errOlder     = errors.New("all that follow are older")
	errNoHash    = errors.New("a key that is looked for is listed without its hash")
	errOtherName = errors.New("a key that is looked for is listed with the hash of another one")
)

// deleteOrphans looks for the keys of all creations whose answer was lost, in one
// walk, and deletes them. Not to find one means nothing before orphanGrace has
// passed: those are looked for once more then.
func deleteOrphans(s *store, keys openrouter.Client, prefix string, now func() time.Time) (change, error) {
	began := now()
	lost := slices.DeleteFunc(slices.Clone(s.snapshot().Tasks), func(task Task) bool { return task.Kind != FindOrphan })
	bySince := func(a, b Task) int { return a.Since.Compare(b.Since) }
	youngest := slices.MaxFunc(lost, bySince).Since
	newestFirst := newestFirst{until: slices.MinFunc(lost, bySince).Since.Add(-orphanMargin)}
	found := map[string][]string{} // hashes, by op
	err := keys.Each(func(key openrouter.Listed) error {
		// The op alone tells: OpenRouter may have changed the form of the user's id.
		_, op, ours := openrouter.ParseKeyName(prefix, key.Name)
		switch {
		case !ours || !slices.ContainsFunc(lost, Task{Kind: FindOrphan, Op: op}.same):
		case !openrouter.IsHash(key.Hash):
			return errNoHash
		case !slices.Contains(found[op], key.Hash):
			found[op] = append(found[op], key.Hash)
		}
		if newestFirst.passed(key.CreatedAt) {
			return errOlder
		}
		return nil
	})
	if err != nil && !errors.Is(err, errOlder) {
		return nil, err
	}
	var ended, missing, failed []Task
	var failure error
	for _, task := range lost {
		err := deleteAll(keys, prefix, task.Op, found[task.Op])
		switch {
		case err != nil:
			failed, failure = append(failed, task), err
		case len(found[task.Op]) > 0 || began.Sub(task.Since) >= orphanGrace:
			ended = append(ended, task)
		default:
			missing = append(missing, task)
		}
	}
	if failure == nil && len(missing) > 0 {
		failure = errNotFound
	}
	return func(st *State) *account.Entry {
		st.Tasks = slices.DeleteFunc(st.Tasks, func(task Task) bool { return slices.ContainsFunc(ended, task.same) })
		for i, task := range st.Tasks {
			if slices.ContainsFunc(missing, task.same) {
				st.Tasks[i].Tries, st.Tasks[i].Due = task.Tries+1, youngest.Add(orphanGrace)
			}
			if slices.ContainsFunc(failed, task.same) {
				st.Tasks[i].failed(now())
			}
		}
		return nil
	}, failure
}

// deleteAll deletes the keys that are listed for an operation, each once OpenRouter says
// by its hash, too, that its name is of that operation: a list that shows the name beside the
// hash of another user's key would cost that one. One that is gone, perhaps by a mistake of
// the moment, is deleted all the same.
func deleteAll(keys openrouter.Client, prefix, op string, hashes []string) error {
	for _, hash := range hashes {
		name, err := keys.Name(hash)
		if err != nil && !openrouter.IsGone(err) {
			return err
		}
		if _, named, ours := openrouter.ParseKeyName(prefix, name); err == nil && (!ours || named != op) {
			return errOtherName
		}
		if err := keys.Delete(hash); err != nil {
			return err
		}
	}
	return nil
}

// newestFirst tells when a walk through the keys has come to those made before
// a time: an account may have very many. It believes the list to be sorted only
// as long as it sees that it is.
type newestFirst struct {
	until    time.Time
	last     time.Time
	falling  bool // some key was older than the one before it
	unsorted bool // some key was newer, or told no time
}

func (n *newestFirst) passed(createdAt string) bool {
	created, err := time.Parse(time.RFC3339, createdAt)
	first := n.last.IsZero()
	n.unsorted = n.unsorted || err != nil || !first && created.After(n.last)
	n.falling = n.falling || !first && created.Before(n.last)
	n.last = created
	return n.falling && !n.unsorted && created.Before(n.until)
}
