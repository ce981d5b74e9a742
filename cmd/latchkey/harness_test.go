package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bytes"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// golden compares with testdata/<name>.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// printed is what one run of the command line did.
type printed struct {
	code        int
	out, stderr string
}

func (p printed) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", p.code, p.out, p.stderr)
}

// testTime is what time it is in the tests.
var testTime = time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC)

// latchkey runs the command line as main does, at testTime and with nothing in
// its environment but env.
func latchkey(ctx context.Context, env map[string]string, args ...string) printed {
	var out, stderr bytes.Buffer
	a := newApp(&out, &stderr, func(name string) string { return env[name] })
	a.now = func() time.Time { return testTime }
	root := a.root()
	root.SetArgs(args)
	root.SetIn(bytes.NewReader(nil))
	code := a.fail(root.ExecuteContext(ctx))
	return printed{code, out.String(), stderr.String()}
}
