package devvars

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// sample is a text, and what wrangler takes from it: testdata/wrangler.mjs.
type sample struct {
	Text string            `json:"text"`
	Sets map[string]string `json:"sets"`
}

func samples(t *testing.T) []sample {
	t.Helper()
	text, err := os.ReadFile("testdata/samples.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []sample
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 50 {
		t.Fatalf("%d samples, %v", len(all), err)
	}
	return all
}

func TestParseReadsWhatWranglerReads(t *testing.T) {
	for _, s := range samples(t) {
		if got := Parse(s.Text); !maps.Equal(got, s.Sets) {
			t.Errorf("%q: got %q, want %q", s.Text, got, s.Sets)
		}
	}
}

// The samples are what the wrangler here does, not one that once was.
func TestTheSamplesAreWranglers(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(root, "node_modules", ".bin", "node")
	if _, err := os.Stat(node); err != nil {
		t.Skip("wrangler is not installed: make setup")
	}
	all := samples(t)
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = s.Text
	}
	asked, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), node, "testdata/wrangler.mjs", root)
	command.Env = append(os.Environ(), "WRANGLER_SEND_METRICS=false")
	command.Stdin = bytes.NewReader(asked)
	var stderr strings.Builder
	command.Stderr = &stderr
	answer, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var sets []map[string]string
	if err := json.Unmarshal(answer, &sets); err != nil || len(sets) != len(all) {
		t.Fatalf("%d answers, %v", len(sets), err)
	}
	for i, s := range all {
		if !maps.Equal(sets[i], s.Sets) {
			t.Errorf("%q: wrangler reads %q, and the sample says %q", s.Text, sets[i], s.Sets)
		}
	}
}

func TestOnlyAPrivateFileIsRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ".dev.vars")
	if err := os.WriteFile(path, []byte("A='b' # c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if set, err := Read(path); err != nil || set["A"] != "b" {
		t.Errorf("%v, %v", set, err)
	}
	huge, fifo, link := filepath.Join(dir, "huge"), filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	err := errors.Join(os.WriteFile(huge, make([]byte, maxBytes+1), 0o600), syscall.Mkfifo(fifo, 0o600), os.Symlink(path, link))
	if err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{huge: "bytes", fifo: "a FIFO", link: "a link", dir: "a directory", "/dev/null": "a device"} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "mode 0644") {
		t.Errorf("others can read it: %v", err)
	}
}
