// Package workerdrun runs a Worker on workerd, without wrangler, by
// cmd/bench/workerd.mjs, and tells what workerd takes. The programs that measure use
// it, after `make setup` and, for latchkey, `make dry-run`.
package workerdrun

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Entry is the module of latchkey, as it is deployed.
const Entry = "build/deploy/worker.js"

// Flags are latchkey's compatibility flags, as in wrangler.toml.
func Flags() []string { return []string{"no_nodejs_compat", "no_nodejs_compat_v2"} }

// Config says what is run. workerd.mjs says what each field is.
type Config struct {
	Entry     string            `json:"entry"` // relative to the repository
	Env       map[string]string `json:"env"`
	Flags     []string          `json:"flags"`
	State     string            `json:"state"` // if it is not there, D1 gets the repository's migrations first
	Log       string            `json:"log"`
	Inspector int               `json:"inspector,omitempty"`
	Blank     bool              `json:"blank"`
	D1Away    int64             `json:"d1Away"` // milliseconds, like D1Busy
	D1Busy    int64             `json:"d1Busy"`
	Metered   bool              `json:"metered"`
}

// Process is Node, and the workerd that it runs.
type Process struct {
	URL string // without a slash at its end
	PID int    // of workerd itself; 0 where there is no /proc to tell

	node  *exec.Cmd
	input io.Closer // closing it ends both
}

// Start runs a Worker of the repository at root, and returns once it answers. The end
// of ctx ends it too, but Stop has to be called all the same.
func Start(ctx context.Context, root string, config Config) (*Process, error) {
	migrations := []string{}
	if _, err := os.Stat(config.State); err != nil { // it never ran
		if migrations, err = readStatements(filepath.Join(root, "migrations")); err != nil {
			return nil, err
		}
	}
	config.Entry = filepath.Join(root, config.Entry)
	config.Flags = append([]string{}, config.Flags...) // never null
	encoded, err := json.Marshal(struct {
		Config
		Migrations []string `json:"migrations"`
	}{config, migrations})
	if err != nil {
		return nil, err
	}
	p := &Process{node: exec.CommandContext(ctx, filepath.Join(root, "node_modules", ".bin", "node"), filepath.Join(root, "cmd", "bench", "workerd.mjs"), string(encoded))}
	p.node.Stderr = os.Stderr
	p.node.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.node.Cancel = func() error { return p.input.Close() } // it stops workerd, and then ends
	if p.input, err = p.node.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := p.node.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.node.Start(); err != nil {
		return nil, fmt.Errorf("starting Node (run `make setup` first): %w", err)
	}
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("workerd did not start: %w", err)
	}
	var answer struct{ URL string }
	if err := json.Unmarshal(line, &answer); err != nil {
		p.Stop()
		return nil, fmt.Errorf("workerd.mjs printed %q: %w", line, err)
	}
	p.URL = answer.URL
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.node.Process.Pid)) // workerd is the only one
	p.PID, _ = strconv.Atoi(strings.TrimSpace(string(children)))
	return p, nil
}

// Stop ends Node and workerd, where they run.
func (p *Process) Stop() {
	if p.node.ProcessState != nil {
		return
	}
	p.input.Close()
	_ = p.node.Wait()                                      // however it ended, it ended
	_ = syscall.Kill(-p.node.Process.Pid, syscall.SIGKILL) // workerd, should it have been left behind
}

// Usage is what workerd has taken up to now.
type Usage struct {
	Memory int64         // resident, bytes
	CPU    time.Duration // of the processor, in whole ticks
}

// Tick is the unit of processor time in /proc.
const Tick = time.Second / 100

// Use reads what workerd has taken. It fails where there is no /proc to tell, and once
// workerd is gone.
func (p *Process) Use() (u Usage, err error) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))
	if err != nil {
		return u, fmt.Errorf("workerd is gone: %w", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return u, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return u, fmt.Errorf("workerd is gone: %w", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // after the name, which may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return u, fmt.Errorf("/proc/%d/stat has %d fields", p.PID, len(fields))
	}
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, err
		}
		ticks += n
	}
	return Usage{resident * int64(os.Getpagesize()), time.Duration(ticks) * Tick}, nil
}

// MainThread returns the processor time that workerd's main thread has taken, by
// /proc/…/sched, which is finer than a Tick; 0 where there is none.
func (p *Process) MainThread() time.Duration {
	sched, _ := os.ReadFile(fmt.Sprintf("/proc/%d/sched", p.PID))
	_, used, _ := strings.Cut(string(sched), "se.sum_exec_runtime")
	used, _, _ = strings.Cut(strings.TrimLeft(used, " :"), "\n")
	milliseconds, _ := strconv.ParseFloat(used, 64)
	return time.Duration(milliseconds * float64(time.Millisecond))
}
