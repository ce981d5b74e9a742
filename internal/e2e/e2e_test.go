//go:build e2e

// Package e2e checks the contract from outside: `wrangler dev`, which is
// workerd, runs the Worker on a throw-away state folder, and a stand-in takes
// OpenRouter's place in this process.
//
//	go test -tags e2e -count=1 ./internal/e2e/...
//
// Tests run beside each other, and at most four Workers have work at once. A test
// [start]s a Worker of its own, or has one to itself that others have before and after
// it ([useShared], [usePlanted]). Every test has users of its own. Nothing sleeps
// for luck: whatever comes later is polled for, with a deadline.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/localdev"
)

// site is where everything of this run lies. It is removed in the end.
var site struct {
	dir   string // holds all below
	root  string // a copy of the repository: what others edit meanwhile does not disturb us
	state string // a state folder with the D1 migrations applied, to be copied
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run runs the tests and returns the exit status. Whatever they started has
// ended by then.
func run(m *testing.M) int {
	if testing.Short() {
		fmt.Println("e2e: skipped with -short")
		return 0
	}
	if err := prepare(); err != nil {
		os.RemoveAll(site.dir)
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(site.dir)
	defer stopAll()
	// Past its -timeout go test ends without a word to us, and workerd would live on.
	if limit := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration); limit > 0 {
		guard := time.AfterFunc(limit-5*time.Second, func() {
			stopAll()
			os.RemoveAll(site.dir)
		})
		defer guard.Stop()
	}
	// What bounds the tests is their places. Fewer here than there are tests would be
	// taken up by those that wait for one, and tests that have one wait for their subtests.
	if err := flag.Set("test.parallel", "1000"); err != nil {
		panic(err) // it is one of go test's flags
	}

	code := m.Run()

	stopAll()
	asDescribed := described().holds()
	leaks := findLeaks()
	for _, leak := range leaks {
		fmt.Println("--- FAIL: leak:", leak)
	}
	if len(leaks) > 0 || !asDescribed {
		return 1
	}
	return code
}

// prepare copies the repository, builds the Worker and makes a state folder.
func prepare() error {
	repository, err := localdev.Root()
	if err != nil {
		return err
	}
	if site.dir, err = os.MkdirTemp("", "latchkey-e2e-"); err != nil {
		return err
	}
	site.root, site.state = filepath.Join(site.dir, "root"), filepath.Join(site.dir, "state")
	if err := os.Mkdir(site.root, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(repository)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if name == "node_modules" || name == "build" || name == "clients" || strings.HasPrefix(name, ".") {
			continue
		}
		if err := copyTo(filepath.Join(site.root, name), filepath.Join(repository, name)); err != nil {
			return err
		}
	}
	if err := os.Symlink(filepath.Join(repository, "node_modules"), filepath.Join(site.root, "node_modules")); err != nil {
		return err
	}
	build := exec.Command("make", "build")
	build.Dir = site.root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	var log bytes.Buffer
	if err := localdev.Migrate(context.Background(), site.root, site.state, &log); err != nil {
		return fmt.Errorf("%w\n%s", err, &log)
	}
	return nil
}

// copyTo copies a file or a folder.
func copyTo(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode())
}

// fleet is every Worker that was ever started in this run.
var fleet struct {
	sync.Mutex
	workers []*worker
}

func stopAll() {
	fleet.Lock()
	defer fleet.Unlock()
	for _, w := range fleet.workers {
		w.shutDown()
	}
}

// What must be nowhere: not in a log line, not on disk. Every token begins with
// the base64 of `{"`, except those that are none, which tests call canary-token.
var (
	plainKey   = regexp.MustCompile(`sk-or-v1-[0-9a-f]{4,}`)
	plainToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{2,}|canary-token`)
)

// findLeaks searches all logs and every file in the state folders.
func findLeaks() []string {
	fleet.Lock()
	defer fleet.Unlock()
	var leaks []string
	lines, files := 0, 0
	for _, w := range fleet.workers {
		for line := range strings.Lines(w.log.String()) {
			lines++
			if what := w.leak([]byte(line)); what != "" {
				leaks = append(leaks, fmt.Sprintf("%s: the log holds %s: %s", w.name, what, line))
			}
		}
		err := filepath.WalkDir(w.state, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			files++
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			// Without its zeros text in UTF-16 is found too.
			for _, text := range [][]byte{content, bytes.ReplaceAll(content, []byte{0}, nil)} {
				if what := w.leak(text); what != "" {
					leaks = append(leaks, fmt.Sprintf("%s: %s holds %s", w.name, path, what))
					break
				}
			}
			return nil
		})
		if err != nil {
			leaks = append(leaks, fmt.Sprintf("%s: the state folder cannot be searched: %v", w.name, err))
		}
	}
	fmt.Printf("e2e: searched %d log lines and %d files of %d Workers for keys, tokens and secrets\n", lines, files, len(fleet.workers))
	return leaks
}

// leak tells what a text holds that it must not, or "".
func (w *worker) leak(text []byte) string {
	for key := range w.planted {
		text = bytes.ReplaceAll(text, []byte(key), nil)
	}
	if key := plainKey.Find(text); key != nil {
		return "a key, " + string(key[:13]) + "…"
	}
	if plainToken.Match(text) {
		return "a token"
	}
	for name, secret := range w.everySecret {
		if bytes.Contains(text, []byte(secret)) {
			return name
		}
	}
	return ""
}
