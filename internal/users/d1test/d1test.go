// Package d1test is a SQLite database in D1's place, for tests. It does what edge.mjs
// makes D1 do: parameters cross as JSON, so that every number is a double, and a batch is
// a transaction.
package d1test

import (
	"database/sql"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	_ "modernc.org/sqlite" // the driver
)

// DB is the database. Package users, whose own tests use it, makes it a users.DB.
type DB struct{ *sql.DB }

// Open opens the file in which wrangler keeps a local D1, below a state folder. A Worker
// may use it meanwhile. It is closed with the test.
func Open(t testing.TB, stateDir string) DB {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(stateDir, "v3", "d1", "miniflare-D1DatabaseObject", "*.sqlite"))
	files = slices.DeleteFunc(files, func(file string) bool { return filepath.Base(file) == "metadata.sqlite" }) // alarms
	if err != nil || len(files) != 1 {
		t.Fatalf("not one database below %s: %v, %v", stateDir, files, err)
	}
	db, err := sql.Open("sqlite", "file:"+files[0]+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return DB{db}
}

// New returns an empty database with the schema of the repository. It is closed with
// the test.
func New(t testing.TB) DB {
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
	return DB{db}
}

// Run runs statements, [users.Statement] or like them, as one transaction, and returns
// the rows of each as a JSON array of objects.
func (d DB) Run(statements any) ([]json.RawMessage, error) {
	encoded, err := json.Marshal(statements)
	if err != nil {
		return nil, err
	}
	var crossed []struct {
		SQL  string
		Args []any
	}
	if err := json.Unmarshal(encoded, &crossed); err != nil {
		return nil, err
	}
	tx, err := d.Begin()
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	var results []json.RawMessage
	for _, s := range crossed {
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

// Dump returns a query's rows as JSON.
func (d DB) Dump(t testing.TB, query string, args ...any) string {
	t.Helper()
	rows, err := d.Query(query, args...)
	if err != nil {
		t.Fatal(err)
	}
	text, err := objects(rows)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
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
			object[name] = Crossed(values[i])
		}
		all = append(all, object)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// Crossed is a value as D1 gives it.
func Crossed(value any) any {
	switch value := value.(type) {
	case []byte:
		array := make([]int, len(value))
		for i, b := range value {
			array[i] = int(b)
		}
		return array
	case int64:
		return float64(value)
	case float64:
		if math.IsInf(value, 0) {
			return nil
		}
	}
	return value
}
