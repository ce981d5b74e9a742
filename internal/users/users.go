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
	"slices"
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
	Suspended      int64   `json:"suspended"`
	Seq            int64   `json:"seq"`
	CreatedAt      string  `json:"created_at"`
	UpdatedAt      string  `json:"updated_at"`
}

// query runs one statement and returns its rows.
func (t Table) query(sql string, args ...any) ([]row, error) {
	results, err := t.DB.Batch([]Statement{{sql, args}})
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("%d results for one statement", len(results))
	}
	var rows []row
	return rows, json.Unmarshal(results[0], &rows)
}

const find = `SELECT user_id, user_name, email, key, hash, total_limit, remaining_limit, usage_limit, suspended, seq, created_at, updated_at
FROM users WHERE user_id = ?`

// Find returns a user's record, and false where there is none. Key is as it
// stands in the row: an older table may hold it unsealed.
func (t Table) Find(user string) (account.Record, bool, error) {
	rows, err := t.query(find, user)
	if err != nil {
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
	record := account.Record{UserID: r.UserID, UserName: r.UserName, Email: r.Email, Key: r.Key, Hash: r.Hash, Suspended: r.Suspended != 0, Seq: r.Seq}
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

const upsert = `INSERT INTO users (user_id, user_name, email, key, hash, total_limit, remaining_limit, usage_limit, seq, created_at, updated_at, suspended)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (user_id) DO UPDATE SET user_name = excluded.user_name, email = excluded.email, key = excluded.key, hash = excluded.hash,
  total_limit = excluded.total_limit, remaining_limit = excluded.remaining_limit, usage_limit = excluded.usage_limit,
  seq = excluded.seq, created_at = excluded.created_at, updated_at = excluded.updated_at, suspended = excluded.suspended
WHERE excluded.seq > users.seq`

const (
	appendEntries = `INSERT INTO ledger (user_id, seq, at, kind, credits, remaining_limit, hash) VALUES `
	entryRow      = `(?, ?, ?, ?, ?, ?, ?)`
	unlessThere   = ` ON CONFLICT (user_id, seq) DO NOTHING`
)

// MaxEntries is how many ledger entries one Save may carry: four statements of as
// many as D1 takes, which binds at most 100 parameters to one; an entry has seven.
const (
	MaxEntries   = 4 * perStatement
	perStatement = 14
)

// Save writes a record and ledger entries of its user, in one transaction. It
// may be repeated, and a late one does not overwrite a newer record.
func (t Table) Save(r account.Record, entries []account.Entry) error {
	suspended := int64(0)
	if r.Suspended {
		suspended = 1
	}
	statements := append([]Statement{{upsert, []any{
		r.UserID, r.UserName, r.Email, r.Key, r.Hash, r.TotalLimit.Float64(), r.RemainingLimit.Float64(), r.UsageLimit.Float64(),
		r.Seq, timestamp(r.CreatedAt), timestamp(r.UpdatedAt), suspended,
	}}}, appendTo(r.UserID, entries)...)
	if _, err := t.DB.Batch(statements); err != nil {
		return fmt.Errorf("users: save: %w", err)
	}
	return nil
}

const erase = `DELETE FROM users WHERE user_id = ? AND seq < ?`

// Erase deletes a user's row, unless it is newer than the erased record, and
// writes ledger entries, in one transaction. The ledger stays; it has neither
// name nor address.
func (t Table) Erase(r account.Record, entries []account.Entry) error {
	statements := append([]Statement{{erase, []any{r.UserID, r.Seq}}}, appendTo(r.UserID, entries)...)
	if _, err := t.DB.Batch(statements); err != nil {
		return fmt.Errorf("users: erase: %w", err)
	}
	return nil
}

// appendTo returns the statements that append entries to a user's ledger.
func appendTo(user string, entries []account.Entry) []Statement {
	var statements []Statement
	for some := range slices.Chunk(entries, perStatement) {
		var args []any
		for _, e := range some {
			args = append(args, user, e.Seq, timestamp(e.At), string(e.Kind), e.Credits.Float64(), e.RemainingLimit.Float64(), e.Hash)
		}
		rows := strings.Repeat(entryRow+", ", len(some)-1) + entryRow
		statements = append(statements, Statement{appendEntries + rows + unlessThere, args})
	}
	return statements
}

const (
	// MaxPage bounds a page of users.
	MaxPage = 200
	list    = `SELECT user_id, user_name, email, hash, total_limit, remaining_limit, usage_limit, suspended, seq, created_at, updated_at FROM users
WHERE (updated_at, user_id) < (?, ?) AND (? = '' OR instr(lower(user_id || char(10) || user_name || char(10) || email), lower(?)) > 0)
ORDER BY updated_at DESC, user_id DESC LIMIT ?`
)

// Listed is a user as an operator sees one in a list.
type Listed struct {
	UserID         string          `json:"user_id"`
	UserName       string          `json:"user_name"`
	Email          string          `json:"email"`
	Hash           string          `json:"hash"`
	TotalLimit     account.Credits `json:"total_limit"`
	RemainingLimit account.Credits `json:"remaining_limit"`
	UsageLimit     account.Credits `json:"usage_limit"`
	Suspended      bool            `json:"suspended"`
	Seq            int64           `json:"seq"`
	CreatedAt      string          `json:"created_at"`
	UpdatedAt      string          `json:"updated_at"`
}

// Cursor is the end of a page: the next one begins after it.
type Cursor struct{ UpdatedAt, UserID string }

// First begins a list: before all that can be.
var First = Cursor{UpdatedAt: "~"}

// List returns a page of users, newest change first, whose id, name or address
// holds a text; an empty one is in all. There may be more where the page is full.
func (t Table) List(after Cursor, text string, limit int) ([]Listed, error) {
	rows, err := t.query(list, after.UpdatedAt, after.UserID, text, text, int64(limit))
	if err != nil {
		return nil, fmt.Errorf("users: list: %w", err)
	}
	listed := make([]Listed, len(rows))
	for i, r := range rows {
		record, err := r.record()
		if err != nil {
			return nil, fmt.Errorf("users: list: %q: %w", r.UserID, err)
		}
		listed[i] = Listed{
			r.UserID, r.UserName, r.Email, r.Hash, record.TotalLimit, record.RemainingLimit, record.UsageLimit,
			record.Suspended, r.Seq, r.CreatedAt, r.UpdatedAt,
		}
	}
	return listed, nil
}

// MaxHashes is how many users one call of Hashes may ask for: each binds a
// parameter, and D1 takes 100.
const MaxHashes = 100

// Hashes returns the hashes in the rows of some users.
func (t Table) Hashes(ids []string) (map[string]string, error) {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	sql := `SELECT user_id, hash FROM users WHERE user_id IN (?` + strings.Repeat(`, ?`, len(ids)-1) + `)`
	rows, err := t.query(sql, args...)
	if err != nil {
		return nil, fmt.Errorf("users: hashes: %w", err)
	}
	hashes := make(map[string]string, len(rows))
	for _, r := range rows {
		hashes[r.UserID] = r.Hash
	}
	return hashes, nil
}

// timestamp is RFC 3339 in UTC with milliseconds, so that text sorts by time.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
