// Package users is what D1 holds: one row for each user, and the ledger.
//
// D1 is a read model. The user's Durable Object holds the truth and writes here
// after the fact, as often as it takes: a row only ever gives way to one with a
// higher seq, and a ledger entry that is there already stays, so that writing
// twice or late does no harm.
package users

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"latchkey/internal/account"
)

// DB is a database that runs statements as one transaction.
type DB interface {
	// Batch runs the statements, all or none, and returns the rows of each as
	// a JSON array of objects.
	Batch(statements []Statement) ([]json.RawMessage, error)
}

// Statement is SQL with ?-parameters: strings, float64s and int64s.
type Statement struct {
	SQL  string `json:"sql"`
	Args []any  `json:"args"`
}

// Table reads and writes the rows.
type Table struct{ DB DB }

// row is a row of `users`, as the database gives it.
type row struct {
	UserID         string  `json:"user_id"`
	UserName       string  `json:"user_name"`
	Email          string  `json:"email"`
	Key            string  `json:"key"`
	Hash           string  `json:"hash"`
	TotalLimit     float64 `json:"total_limit"`
	RemainingLimit float64 `json:"remaining_limit"`
	UsageLimit     float64 `json:"usage_limit"`
	Seq            int64   `json:"seq"`
	CreatedAt      string  `json:"created_at"`
	UpdatedAt      string  `json:"updated_at"`
}

const find = `SELECT user_id, user_name, email, key, hash, total_limit, remaining_limit, usage_limit, seq, created_at, updated_at
FROM users WHERE user_id = ?`

// Find returns a user's record, and false where there is none. Key is as it
// stands in the row: an older table may hold it unsealed.
func (t Table) Find(user string) (account.Record, bool, error) {
	results, err := t.DB.Batch([]Statement{{find, []any{user}}})
	if err != nil {
		return account.Record{}, false, fmt.Errorf("users: find: %w", err)
	}
	var rows []row
	if len(results) != 1 {
		return account.Record{}, false, fmt.Errorf("users: find: %d results for one statement", len(results))
	}
	if err := json.Unmarshal(results[0], &rows); err != nil {
		return account.Record{}, false, fmt.Errorf("users: find: %w", err)
	}
	if len(rows) == 0 {
		return account.Record{}, false, nil
	}
	record, err := rows[0].record()
	if err != nil {
		return account.Record{}, false, fmt.Errorf("users: find: %w", err)
	}
	return record, true, nil
}

func (r row) record() (account.Record, error) {
	record := account.Record{UserID: r.UserID, UserName: r.UserName, Email: r.Email, Key: r.Key, Hash: r.Hash, Seq: r.Seq}
	for _, c := range []struct {
		from float64
		to   *account.Credits
	}{
		{r.TotalLimit, &record.TotalLimit}, {r.RemainingLimit, &record.RemainingLimit}, {r.UsageLimit, &record.UsageLimit},
	} {
		credits, err := account.CreditsOf(c.from)
		if err != nil {
			return account.Record{}, err
		}
		*c.to = credits
	}
	record.CreatedAt, record.UpdatedAt = parseTime(r.CreatedAt), parseTime(r.UpdatedAt)
	return record, nil
}

// parseTime reads the times of older tables too: SQLite's own form, which is
// UTC. Where there is none, the zero time stands for "long ago".
func parseTime(text string) time.Time {
	for _, layout := range []string{time.RFC3339, time.DateTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

const upsert = `INSERT INTO users (user_id, user_name, email, key, hash, total_limit, remaining_limit, usage_limit, seq, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (user_id) DO UPDATE SET user_name = excluded.user_name, email = excluded.email, key = excluded.key, hash = excluded.hash,
  total_limit = excluded.total_limit, remaining_limit = excluded.remaining_limit, usage_limit = excluded.usage_limit,
  seq = excluded.seq, created_at = excluded.created_at, updated_at = excluded.updated_at
WHERE excluded.seq > users.seq`

const (
	appendEntries = `INSERT INTO ledger (user_id, seq, at, kind, credits, remaining_limit, hash) VALUES `
	entryRow      = `(?, ?, ?, ?, ?, ?, ?)`
	unlessThere   = ` ON CONFLICT (user_id, seq) DO NOTHING`
)

// MaxEntries is how many ledger entries one Save may carry: D1 binds at most
// 100 parameters to a statement, and an entry takes seven.
const MaxEntries = 14

// Save writes a record and ledger entries of its user, in one transaction. It
// may be repeated, and a late one does not overwrite a newer record.
func (t Table) Save(r account.Record, entries []account.Entry) error {
	statements := []Statement{{upsert, []any{
		r.UserID, r.UserName, r.Email, r.Key, r.Hash, r.TotalLimit.Float64(), r.RemainingLimit.Float64(), r.UsageLimit.Float64(),
		r.Seq, timestamp(r.CreatedAt), timestamp(r.UpdatedAt),
	}}}
	if len(entries) > 0 {
		var args []any
		for _, e := range entries {
			args = append(args, r.UserID, e.Seq, timestamp(e.At), string(e.Kind), e.Credits.Float64(), e.RemainingLimit.Float64(), e.Hash)
		}
		rows := strings.Repeat(entryRow+", ", len(entries)-1) + entryRow
		statements = append(statements, Statement{appendEntries + rows + unlessThere, args})
	}
	if _, err := t.DB.Batch(statements); err != nil {
		return fmt.Errorf("users: save: %w", err)
	}
	return nil
}

// timestamp is RFC 3339 in UTC with milliseconds, so that text sorts by time.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
