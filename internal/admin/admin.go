// Package admin does what an operator asks of all users at once: it lists them, has
// their keys sealed anew, and looks for keys at OpenRouter that nobody owns.
//
// What it deletes is certain to be nobody's: a key with a name of ours, older
// than [Grace], whose hash is in no row of D1, and that neither the user of its
// name nor any other who ever had it knows. The name alone says little:
// OpenRouter may have changed it.
package admin

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/adminapi"
	"latchkey/internal/openrouter"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
	"latchkey/internal/users"
)

// Service is what it works with.
type Service struct {
	Keys  openrouter.Client
	Table users.Table
	// Prefix is what the names of our keys begin with.
	Prefix string
	// Knows asks a user's object whether it knows a key.
	Knows func(user, hash string) (bool, error)
	// SealAnew has a user's object seal its key with the current encryption key, and
	// bring D1 up to that. It returns nil too where that was so already. Why it failed
	// is in the log then.
	SealAnew func(user string) error
	Sealer   *seal.Sealer
	Now      func() time.Time
}

// Query asks for a page of users.
type Query struct {
	Limit  int
	Cursor string // empty: the first page
	Text   string // in id, name or address
}

// List returns a page of users.
func (s Service) List(q Query) (adminapi.UsersPage, error) {
	after := users.First
	if q.Cursor != "" {
		if err := decodeCursor(q.Cursor, &after); err != nil {
			return adminapi.UsersPage{}, err
		}
	}
	listed, last, err := s.Table.List(after, q.Text, q.Limit)
	if err != nil {
		return adminapi.UsersPage{}, err
	}
	page := adminapi.UsersPage{Users: listed}
	if last != nil {
		page.NextCursor = encodeCursor(last)
	}
	return page, nil
}

// encodeCursor returns a place in a list as a client carries it.
func encodeCursor(place any) *string {
	encoded, err := json.Marshal(place)
	if err != nil {
		panic(err) // a place is plain data
	}
	cursor := base64.RawURLEncoding.EncodeToString(encoded)
	return &cursor
}

// decodeCursor reads what encodeCursor wrote.
func decodeCursor(cursor string, place any) error {
	decoded, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || json.Unmarshal(decoded, place) != nil {
		return problem.New(problem.InvalidRequest, "cursor is a next_cursor that was given out here.")
	}
	return nil
}

// Grace is how long a key is left alone: it may be in the making.
const Grace = 10 * time.Minute

// Report is what a reconciliation found and did.
type Report struct {
	adminapi.ReconcileReport
	Cause error `json:"-"` // why the first one failed, for the log
}

func (r *Report) fail(count int, cause error) {
	r.Failed += count
	if r.Cause == nil {
		r.Cause = cause
	}
}

// candidate is a key with a name of ours.
type candidate struct {
	user string
	key  openrouter.Listed
}

// maxUnforced is how many orphans may be deleted without Force, and maxShare the
// share of our keys that they may be: so many are no orphans, but another
// latchkey's keys in the same account, or a D1 and objects that are not those of
// these keys.
const (
	maxUnforced = 10
	maxShare    = 0.1
)

// Reconcile looks for keys of ours that nobody owns and, unless it is a dry run
// or they are suspiciously many, deletes them. It may be cut off and repeated at
// any point.
func (s Service) Reconcile(options adminapi.ReconcileOptions) (Report, error) {
	report := Report{ReconcileReport: adminapi.ReconcileReport{DryRun: options.DryRun, Orphans: []adminapi.Orphan{}}}
	suspects, err := s.suspects(&report)
	if err != nil {
		return Report{}, err
	}
	for some := range slices.Chunk(suspects, users.MaxHashes) {
		s.confirm(some, &report)
	}
	orphans := len(report.Orphans)
	report.Suspicious = orphans > maxUnforced && float64(orphans) > maxShare*float64(report.Ours)
	if options.DryRun || report.Suspicious && !options.Force {
		return report, nil
	}
	for _, key := range report.Orphans { // only now: deleting while walking would shift the pages
		if err := s.Keys.Delete(key.Hash); err != nil {
			report.fail(1, err)
			continue
		}
		report.Deleted++
	}
	return report, nil
}

// suspects returns the keys that are not known under the users of their names:
// neither in those users' rows nor by their objects.
func (s Service) suspects(report *Report) ([]candidate, error) {
	var page, suspects []candidate
	seen := map[string]bool{} // the hashes that D1 does not have: the walk may visit a key twice
	sift := func() error {
		if len(page) == 0 {
			return nil
		}
		ids := make([]string, len(page))
		for i, c := range page {
			ids[i] = c.user
		}
		hashes, err := s.Table.Hashes(ids)
		if err != nil {
			return err
		}
		for _, c := range page {
			if hashes[c.user] == c.key.Hash || seen[c.key.Hash] {
				continue
			}
			seen[c.key.Hash] = true
			// D1 may lag; the object is the truth.
			if s.unknown(c.key.Hash, []string{c.user}, report) {
				suspects = append(suspects, c)
			}
		}
		page = nil
		return nil
	}
	err := s.Keys.Each(func(key openrouter.Listed) error {
		report.Examined++
		user, _, ours := openrouter.ParseKeyName(s.Prefix, key.Name)
		if !ours {
			return nil
		}
		report.Ours++
		if !openrouter.IsHash(key.Hash) {
			report.fail(1, errors.New("a key with a name of ours is listed with a hash that is none"))
			return nil
		}
		created, err := time.Parse(time.RFC3339, key.CreatedAt)
		if err != nil || s.Now().Sub(created) < Grace {
			return nil
		}
		if page = append(page, candidate{user, key}); len(page) < users.MaxHashes {
			return nil
		}
		return sift()
	})
	if err == nil {
		err = sift()
	}
	return suspects, err
}

// confirm adds those suspects to the report's orphans that nobody else has
// either: they are asked for by their hashes, whatever their names are.
func (s Service) confirm(suspects []candidate, report *Report) {
	hashes := make([]string, len(suspects))
	for i, c := range suspects {
		hashes[i] = c.key.Hash
	}
	held, err := s.Table.Held(hashes)
	if err != nil {
		report.fail(len(suspects), err)
		return
	}
	suspects = slices.DeleteFunc(suspects, func(c candidate) bool { return held[c.key.Hash] })
	hashes = slices.DeleteFunc(hashes, func(hash string) bool { return held[hash] })
	if len(suspects) == 0 {
		return
	}
	earlier, err := s.Table.Earlier(hashes)
	if err != nil {
		report.fail(len(suspects), err)
		return
	}
	for _, c := range suspects {
		others := slices.DeleteFunc(earlier[c.key.Hash], func(user string) bool { return user == c.user })
		if s.unknown(c.key.Hash, others, report) {
			report.Orphans = append(report.Orphans, adminapi.Orphan(c.key))
		}
	}
}

// unknown tells whether none of some users' objects knows a key. Where one cannot
// be asked, the key counts as failed, and is not unknown.
func (s Service) unknown(hash string, users []string, report *Report) bool {
	for _, user := range users {
		known, err := s.Knows(user, hash)
		if err != nil {
			report.fail(1, fmt.Errorf("admin: ask the object of %q: %w", user, err))
			return false
		}
		if known {
			return false
		}
	}
	return true
}
