package workerdrun

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestUseGrowsWithWork(t *testing.T) {
	p := &Process{PID: os.Getpid()}
	first, err := p.Use()
	if err != nil {
		t.Fatal(err)
	}
	if first.Memory < 1<<20 {
		t.Errorf("this program has %d bytes of memory", first.Memory)
	}
	for u := first; u.CPU <= first.CPU; { // it ends once the work that it is shows
		if u, err = p.Use(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&Process{PID: -1}).Use(); err == nil {
		t.Error("a process that is none has used something")
	}
	if _, err := os.Stat("/proc/self/sched"); err == nil && p.MainThread() <= 0 {
		t.Errorf("the main thread has used %v", p.MainThread())
	}
}

func TestSplitStatements(t *testing.T) {
	sql := "-- First; of all.\n\nCREATE TABLE a (\n  b TEXT, -- a column; of text\n  c TEXT\n) WITHOUT ROWID;\nALTER TABLE a ADD d INTEGER\n"
	want := []string{"CREATE TABLE a (\n  b TEXT, \n  c TEXT\n) WITHOUT ROWID", "ALTER TABLE a ADD d INTEGER"}
	if got := splitStatements(sql); !slices.Equal(got, want) {
		t.Errorf("statements are %q, want %q", got, want)
	}

	all, err := readStatements(filepath.Join("..", "..", "migrations"))
	if err != nil || len(all) == 0 {
		t.Fatalf("the migrations are %q, %v", all, err)
	}
	for _, statement := range all {
		if strings.Count(statement, "'")%2 != 0 || !strings.HasPrefix(statement, strings.ToUpper(statement[:6])) {
			t.Errorf("this was cut in a string: %q", statement)
		}
	}
}
