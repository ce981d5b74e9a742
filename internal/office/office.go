// Package office does what an operator asks of all users at once: it lists them,
// and looks for keys at OpenRouter that nobody owns.
//
// What it deletes is certain to be nobody's: a key with a name of ours, older
// than [Grace], that neither D1 nor the user's own object knows.
package office

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"latchkey/internal/openrouter"
	"latchkey/internal/problem"
	"latchkey/internal/users"
)

// Office is what it works with.
type Office struct {
	Keys  openrouter.Client
	Table users.Table
	// Knows asks a user's object whether it knows a key.
	Knows func(user, hash string) (bool, error)
	Now   func() time.Time
}

// Query asks for a page of users.
type Query struct {
	Limit  int
	Cursor string // empty: the first page
	Text   string // in id, name or address
}

// Page is a page of users, newest change first.
type Page struct {
	Users []users.Listed `json:"users"`
	Next  *string        `json:"next_cursor"` // nil: there is no more
}

// List returns a page of users.
func (o Office) List(q Query) (Page, error) {
	after := users.First
	if q.Cursor != "" {
		decoded, err := base64.RawURLEncoding.DecodeString(q.Cursor)
		if err != nil || json.Unmarshal(decoded, &after) != nil {
			return Page{}, problem.New(problem.InvalidRequest, "The cursor is none that was given out here.")
		}
	}
	listed, err := o.Table.List(after, q.Text, q.Limit)
	if err != nil {
		p := problem.New(problem.UpstreamUnavailable, "The database cannot be reached just now.")
		p.RetryAfter, p.Cause = 5*time.Second, err
		return Page{}, p
	}
	page := Page{Users: listed}
	if len(listed) == q.Limit {
		last := listed[len(listed)-1]
		encoded, err := json.Marshal(users.Cursor{UpdatedAt: last.UpdatedAt, UserID: last.UserID})
		if err != nil {
			return Page{}, err
		}
		next := base64.RawURLEncoding.EncodeToString(encoded)
		page.Next = &next
	}
	return page, nil
}

// Grace is how long a key is left alone: it may be in the making.
const Grace = 10 * time.Minute

// Report tells what a reconciliation found and did.
type Report struct {
	DryRun     bool                `json:"dry_run"`
	Examined   int                 `json:"examined"` // keys at OpenRouter
	Ours       int                 `json:"ours"`     // with a name of ours
	Orphans    []openrouter.Listed `json:"orphans"`
	Deleted    int                 `json:"deleted"`
	Suspicious bool                `json:"suspicious,omitempty"` // so many that the daily run left them alone
	Failed     int                 `json:"failed"`               // whose owner could not be asked, or that could not be deleted
}

// candidate is a key with a name of ours.
type candidate struct {
	user string
	key  openrouter.Listed
}

// maxDaily is how many orphans may be deleted unasked, and maxShare the share of
// our keys that they may be: so many are no orphans, but another latchkey's keys
// in the same account, or a D1 and objects that are not those of these keys.
const (
	maxDaily = 10
	maxShare = 0.1
)

// ReconcileDaily is [Office.Reconcile] with nobody to look at it: where there
// are suspiciously many orphans it reports them and deletes none.
func (o Office) ReconcileDaily() (Report, error) {
	found, err := o.Reconcile(true)
	if err != nil {
		return Report{}, err
	}
	if n := len(found.Orphans); n > maxDaily && float64(n) > maxShare*float64(found.Ours) {
		found.Suspicious = true
		return found, nil
	}
	found.DryRun = false
	o.delete(&found)
	return found, nil
}

// Reconcile looks for keys of ours that nobody owns and, unless it is a dry
// run, deletes them. It may be cut off and repeated at any point.
func (o Office) Reconcile(dryRun bool) (Report, error) {
	report := Report{DryRun: dryRun, Orphans: []openrouter.Listed{}}
	var page []candidate
	err := o.Keys.Each(func(key openrouter.Listed) error {
		report.Examined++
		user, ours := Owner(key.Name)
		if !ours {
			return nil
		}
		report.Ours++
		created, err := time.Parse(time.RFC3339, key.CreatedAt)
		if err != nil || o.Now().Sub(created) < Grace {
			return nil
		}
		if page = append(page, candidate{user, key}); len(page) < users.MaxHashes {
			return nil
		}
		full := page
		page = nil
		return o.sift(full, &report)
	})
	if err == nil {
		err = o.sift(page, &report)
	}
	if err != nil {
		return Report{}, err
	}
	if !dryRun {
		o.delete(&report) // only now: deleting while walking would shift the pages
	}
	return report, nil
}

// delete deletes the orphans of a report.
func (o Office) delete(report *Report) {
	for _, key := range report.Orphans {
		if err := o.Keys.Delete(key.Hash); err != nil {
			report.Failed++
			continue
		}
		report.Deleted++
	}
}

// sift adds those candidates to the report's orphans that nobody knows.
func (o Office) sift(page []candidate, report *Report) error {
	if len(page) == 0 {
		return nil
	}
	ids := make([]string, len(page))
	for i, c := range page {
		ids[i] = c.user
	}
	owned, err := o.Table.Hashes(ids)
	if err != nil {
		return err
	}
	for _, c := range page {
		if owned[c.user] == c.key.Hash {
			continue
		}
		// D1 may be behind; the object is the truth.
		known, err := o.Knows(c.user, c.key.Hash)
		switch {
		case err != nil:
			report.Failed++
		case !known && !slices.Contains(report.Orphans, c.key):
			report.Orphans = append(report.Orphans, c.key)
		}
	}
	return nil
}

// Owner returns the user of a key by its name, latchkey:<user>:<op>, and false
// where the name is none of ours.
func Owner(name string) (user string, ours bool) {
	rest, ours := strings.CutPrefix(name, "latchkey:")
	colon := strings.LastIndex(rest, ":") // a user id may hold some
	if !ours || colon < 1 || colon == len(rest)-1 {
		return "", false
	}
	return rest[:colon], true
}
