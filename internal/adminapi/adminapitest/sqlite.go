package adminapitest

import (
	"encoding/json"
	"testing"

	"latchkey/internal/users"
	"latchkey/internal/users/d1test"
)

// SQLite is a database in D1's place.
type SQLite struct{ db d1test.DB }

// Exec runs a statement.
func (d SQLite) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := d.db.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}

// Batch implements users.DB.
func (d SQLite) Batch(statements []users.Statement, _ func()) ([]json.RawMessage, error) {
	return d.db.Run(statements)
}
