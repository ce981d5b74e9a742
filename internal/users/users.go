// Package users is what D1 holds: one row for each user, and the ledger.
//
// D1 is a read model. The user's Durable Object holds the truth and writes here
// after the fact, as often as it takes: a row never gives way to one with a
// lower seq, and a ledger entry that is there already stays, so that writing
// twice or late does no harm.
//
// Others may write there too. SQLite takes anything in any column, so a row may
// make no sense; such a row is damaged. It hinders no other one, and can be
// listed, overwritten and erased.
package users

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/problem"
)

// DB is a database that runs statements as one transaction.
type DB interface {
	// Batch runs the statements, all or none, and returns the rows of each as
	// a JSON array of objects. sent, unless it is nil, is called once the statements
	// are on their way, before their answer is waited for.
	Batch(statements []Statement, sent func()) ([]json.RawMessage, error)
}

// Statement is SQL with ?-parameters: strings, float64s and int64s.
type Statement struct {
	SQL  string `json:"sql"`
	Args []any  `json:"args"`
}

// Table reads and writes the rows. Its errors are problems: upstream_unavailable
// where the database cannot be asked.
type Table struct{ DB DB }

// query runs one statement and returns its rows.
func (t Table) query(sql string, args ...any) ([]row, error) {
	return t.queryMeanwhile(nil, sql, args...)
}

// queryMeanwhile is query, and calls sent once the statement is on its way.
func (t Table) queryMeanwhile(sent func(), sql string, args ...any) ([]row, error) {
	results, err := t.DB.Batch([]Statement{{sql, args}}, sent)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("%d results for one statement", len(results))
	}
	var rows []row
	return rows, json.Unmarshal(results[0], &rows)
}

// retryAfter is when a client may try again: D1 is seldom away for longer.
const retryAfter = 5 * time.Second

// unreachable is the error of what could not be read or written: a problem that a
// client may see, since later it may work.
func unreachable(what string, err error) error {
	p := problem.New(problem.UpstreamUnavailable, "The database cannot be reached just now.")
	p.RetryAfter, p.Cause = retryAfter, fmt.Errorf("users: %s: %w", what, err)
	return p
}

// The statements are put together when they are first used: an isolate that answers
// with a key that it keeps uses none.
var find = sync.OnceValue(func() string { return `SELECT ` + selected() + ` FROM users WHERE user_id = ?` })

// DamagedError says that a user's row makes no sense.
type DamagedError struct {
	Why string // the column, and what is wrong with it; nothing of what it holds
	Seq int64  // of the row, so that what is written next can be above it; 0 where it makes no sense itself
	Key string // as it stands in the row, if it does
}

func (e *DamagedError) Error() string { return "the row in D1 is damaged: " + e.Why }

// Find returns a user's record, and false where there is none. Key is as it
// stands in the row: an older table may hold it unsealed. A row that makes no
// sense is a [*DamagedError].
func (t Table) Find(user string) (account.Record, bool, error) {
	return t.FindMeanwhile(user, nil)
}

// FindMeanwhile is [Table.Find], and calls sent, unless it is nil, once D1 was asked,
// before its answer is waited for.
func (t Table) FindMeanwhile(user string, sent func()) (account.Record, bool, error) {
	rows, err := t.queryMeanwhile(sent, find(), user)
	if err != nil {
		return account.Record{}, false, unreachable("find", err)
	}
	if len(rows) == 0 {
		return account.Record{}, false, nil
	}
	record, damage := rows[0].record()
	if damage != "" {
		return account.Record{}, false, fmt.Errorf("users: find: %w", &DamagedError{damage, record.Seq, record.Key})
	}
	record.UserID = user
	return record, true, nil
}

// upsert writes a row. One that is there gives way to the same record too: that
// fills columns which are younger than the row.
var upsert = sync.OnceValue(func() string {
	var names, changes []string
	for _, c := range recordColumns {
		names = append(names, c.Name)
		if c.Name != "user_id" {
			changes = append(changes, c.Name+` = excluded.`+c.Name)
		}
	}
	return `INSERT INTO users (` + strings.Join(names, `, `) + `)
VALUES (` + marks(len(names)) + `)
ON CONFLICT (user_id) DO UPDATE SET ` + strings.Join(changes, `, `) + `
WHERE excluded.seq >= users.seq OR ` + unsound()
})

// marks are so many parameters.
func marks(count int) string { return `?` + strings.Repeat(`, ?`, count-1) }

// MaxEntries is how many ledger entries one Save may carry: four statements of as
// many as D1 takes, which binds at most 100 parameters to one; an entry has seven.
const (
	MaxEntries   = 4 * perStatement
	perStatement = 14
)

// Save writes a record and ledger entries of its user, in one transaction. It
// may be repeated, and a late one does not overwrite a newer record, unless that
// has numbers that make no sense.
func (t Table) Save(r account.Record, entries []account.Entry) error {
	var args []any
	for _, c := range recordColumns {
		args = append(args, parameter(c.Of(&r)))
	}
	statements := append([]Statement{{upsert(), args}}, appendTo(r.UserID, entries)...)
	if _, err := t.DB.Batch(statements, nil); err != nil {
		return unreachable("save", err)
	}
	return nil
}

var erase = sync.OnceValue(func() string {
	return `DELETE FROM users WHERE user_id = ?1 AND ` + unsound() + ` OR user_id = ?1 AND seq < ?`
})

// Erase deletes a user's row, unless it is newer than the erased record and its
// numbers make sense, and writes ledger entries, in one transaction. The ledger
// stays; it has neither name nor address.
func (t Table) Erase(r account.Record, entries []account.Entry) error {
	statements := append([]Statement{{erase(), []any{r.UserID, r.Seq}}}, appendTo(r.UserID, entries)...)
	if _, err := t.DB.Batch(statements, nil); err != nil {
		return unreachable("erase", err)
	}
	return nil
}

// appendTo returns the statements that append entries to a user's ledger. An entry
// that is there already stays.
func appendTo(user string, entries []account.Entry) []Statement {
	names := []string{"user_id"}
	for _, c := range entryColumns {
		names = append(names, c.Name)
	}
	var statements []Statement
	for some := range slices.Chunk(entries, perStatement) {
		var args []any
		for i := range some {
			args = append(args, user)
			for _, c := range entryColumns {
				args = append(args, parameter(c.Of(&some[i])))
			}
		}
		row := `(` + marks(len(names)) + `)`
		statements = append(statements, Statement{
			`INSERT INTO ledger (` + strings.Join(names, `, `) + `) VALUES ` + row + strings.Repeat(`, `+row, len(some)-1) + ` ON CONFLICT (user_id, seq) DO NOTHING`, args,
		})
	}
	return statements
}
