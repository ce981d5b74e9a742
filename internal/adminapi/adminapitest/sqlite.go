package adminapitest

import (
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	_ "modernc.org/sqlite" // the driver

	"latchkey/internal/users"
)

// SQLite is a database in D1's place.
type SQLite struct{ db *sql.DB }

// newSQLite returns an empty one with the schema of the repository.
func newSQLite(t testing.TB) SQLite {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1) // each connection would have a memory of its own
	t.Cleanup(func() { db.Close() })
	_, here, _, _ := runtime.Caller(0)
	migrations, err := filepath.Glob(filepath.Join(filepath.Dir(here), "../../../migrations/*.sql"))
	if err != nil || len(migrations) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for _, path := range migrations {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(string(text)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return SQLite{db}
}

// Exec runs a statement.
func (d SQLite) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := d.db.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}

// Batch implements users.DB.
func (d SQLite) Batch(statements []users.Statement) ([]json.RawMessage, error) {
	tx, err := d.db.Begin()
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	var results []json.RawMessage
	for _, s := range statements {
		rows, err := tx.Query(s.SQL, s.Args...)
		if err != nil {
			return nil, err
		}
		result, err := objects(rows)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, tx.Commit()
}

// objects encodes rows as a JSON array of objects, and closes them.
func objects(rows *sql.Rows) (json.RawMessage, error) {
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	all := []map[string]any{}
	for rows.Next() {
		values, object := make([]any, len(columns)), map[string]any{}
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for i, name := range columns {
			object[name] = values[i]
		}
		all = append(all, object)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}
