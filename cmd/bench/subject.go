package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// subject is one way to do the job.
type subject struct {
	name    string // for -only
	title   string
	entry   string            // file of the entry module, relative to the repository
	flags   []string          // compatibility flags
	noJob   bool              // the floor, which does nothing of the job: its answers are not latchkey's
	later   time.Duration     // how long after the last change it still does something
	vars    map[string]string // settings, beside their defaults
	portion int               // of a load that asks each user once, it gets one user in so many

	upstream  *upstream
	state     string // folder of what it keeps
	inspector int    // port, 0 for none

	process *exec.Cmd
	input   io.Closer // closing it ends the process
	output  *bufio.Reader
	url     string
	metered bool          // it logs what Cloudflare bills
	workerd int           // process id, 0 where there is no /proc to tell
	ready   time.Duration // processor time that workerd's main thread took to start; 0 where there is no /proc
}

// Secrets for the time of the run. They guard nothing.
const (
	jwtSecret       = "bench-bench-bench-bench-bench-bench"
	provisioningKey = "sk-or-v1-stand-in-for-the-bench"
	encryptionKey   = "YmVuY2hiZW5jaGJlbmNoYmVuY2hiZW5jaGJlbmNoYmU="
)

// start runs the subject on the state that it left, if any.
func (c *subject) start(ctx context.Context, root string, given conditions) error {
	migrations := []string{}
	if _, err := os.Stat(c.state); err != nil { // it never ran
		if migrations, err = readStatements(filepath.Join(root, "migrations")); err != nil {
			return err
		}
	}
	c.metered = given.metered
	env := map[string]string{
		"JWT_SECRET_CLOUD": jwtSecret, "OPENROUTER_PROVISIONING_API_KEY": provisioningKey, "KEY_ENCRYPTION_KEY": encryptionKey,
		"OPENROUTER_BASE_URL": c.upstream.url, "FLOOR_HASH": c.upstream.floorHash,
	}
	maps.Copy(env, c.vars)
	config := map[string]any{
		"entry": filepath.Join(root, c.entry), "flags": append([]string{}, c.flags...), "state": c.state, "log": c.log(), "migrations": migrations, "blank": given.blank,
		"d1Away": given.d1.Milliseconds(), "d1Busy": given.d1Busy.Milliseconds(), "metered": given.metered,
		"env": env,
	}
	if c.inspector != 0 {
		config["inspector"] = c.inspector
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		return err
	}
	c.process = exec.CommandContext(ctx, filepath.Join(root, "node_modules/.bin/node"), filepath.Join(root, "cmd/bench/workerd.mjs"), string(encoded))
	c.process.Stderr = os.Stderr
	c.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.process.Cancel = func() error { return c.input.Close() } // it stops workerd, and then ends
	if c.input, err = c.process.StdinPipe(); err != nil {
		return err
	}
	output, err := c.process.StdoutPipe()
	if err != nil {
		return err
	}
	c.output = bufio.NewReader(output)
	if err := c.process.Start(); err != nil {
		return fmt.Errorf("starting %s (run `make setup` first): %w", c.name, err)
	}
	var answer struct{ URL string }
	if err := c.readLine(&answer); err != nil {
		return fmt.Errorf("%s did not start: %w", c.name, err)
	}
	c.url = answer.URL
	pid := strconv.Itoa(c.process.Process.Pid)
	children, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children") // workerd is the only one
	c.workerd, _ = strconv.Atoi(strings.TrimSpace(string(children)))
	scheduled, _ := os.ReadFile("/proc/" + strconv.Itoa(c.workerd) + "/schedstat")
	nanoseconds, _, _ := strings.Cut(string(scheduled), " ")
	started, _ := strconv.ParseInt(nanoseconds, 10, 64)
	c.ready = time.Duration(started)
	return nil
}

func (c *subject) readLine(into any) error {
	line, err := c.output.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, into)
}

// stop ends the process and workerd, where they run.
func (c *subject) stop() {
	if c.process == nil || c.process.Process == nil || c.process.ProcessState != nil {
		return
	}
	c.input.Close()
	_ = c.process.Wait()                                      // however it ended, it ended
	_ = syscall.Kill(-c.process.Process.Pid, syscall.SIGKILL) // workerd, should it have been left behind
}

// log is the file that it logs to.
func (c *subject) log() string { return c.state + ".log" }

// logged is how much it has logged so far, in bytes.
func (c *subject) logged() (int64, error) {
	log, err := os.Stat(c.log())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return log.Size(), nil
}

// told is what latchkey's log tells; that of the others is empty.
type told struct {
	kept       int // answers with a kept key
	statements int // of D1, before those answers
	memory     int // bytes of the program's memory, at last
}

// read returns what the log tells so far.
func (c *subject) read() (t told, err error) {
	log, err := os.Open(c.log())
	if err != nil {
		return t, err
	}
	defer log.Close()
	lines := json.NewDecoder(log)
	for {
		var line struct{ Message string } // as workerd wraps what a program logs
		if err := lines.Decode(&line); err == io.EOF {
			return t, nil
		} else if err != nil {
			return t, fmt.Errorf("the log of %s: %w", c.title, err)
		}
		var event struct {
			Evt, Outcome string
			Bytes        int
			Calls        []struct{ Method string }
		}
		if json.Unmarshal([]byte(line.Message), &event) != nil {
			continue // workerd's own
		}
		if event.Evt == "memory" {
			t.memory = event.Bytes
		}
		if event.Evt != "key" || event.Outcome != "kept" {
			continue
		}
		t.kept++
		for _, call := range event.Calls {
			if call.Method == "D1" {
				t.statements++
			}
		}
	}
}

// cpu returns the processor time that workerd has used, or 0 where there is no
// /proc to tell.
func (c *subject) cpu() time.Duration {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(c.workerd) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // after the name, which may hold blanks
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick
}

// tick is the unit of processor time in /proc.
const tick = time.Second / 100

// rest waits until workerd is done with what it goes on with after its answers,
// which it may begin as much later: this disturbs nobody else's turn then, and
// counts as processor time of its own.
func (c *subject) rest(ctx context.Context, later time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(later):
	}
	for deadline := time.Now().Add(10 * time.Second); ctx.Err() == nil && time.Now().Before(deadline); {
		before := c.cpu()
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
		if c.cpu()-before <= tick {
			return
		}
	}
}

// readStatements returns the SQL statements of a folder's files, in the order
// of their names.
func readStatements(folder string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.sql"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, file := range files {
		sql, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		all = append(all, splitStatements(string(sql))...)
	}
	return all, nil
}

// splitStatements splits SQL in which neither a semicolon nor two dashes stand
// inside of a string, as in our migrations.
func splitStatements(sql string) []string {
	code := ""
	for line := range strings.Lines(sql) {
		line, _, _ = strings.Cut(line, "--")
		code += strings.TrimRight(line, "\n") + "\n"
	}
	var statements []string
	for statement := range strings.SplitSeq(code, ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}
