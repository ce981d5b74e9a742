package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"latchkey/internal/openroutertest"
)

// Secrets for the time of the run. They guard nothing.
const (
	jwtSecret       = "idle-idle-idle-idle-idle-idle-idle"
	provisioningKey = "sk-or-v1-stand-in-for-idle"
)

// comment is one in SQL.
var comment = regexp.MustCompile(`--[^\n]*`)

// workerd is a Worker that runs, and its OpenRouter.
type workerd struct {
	url        string
	pid        int // of workerd itself
	node       *exec.Cmd
	input      io.Closer // closing it ends both
	openrouter *http.Server
	dir        string
}

// start runs what `make dry-run` has bundled.
func start(ctx context.Context, root string) (w *workerd, err error) {
	w = &workerd{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "latchkey-idle-"); err != nil {
		return w, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return w, err
	}
	w.openrouter = &http.Server{Handler: openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey})}
	go func() { _ = w.openrouter.Serve(listener) }() // it ends by Close

	var migrations []string
	files, err := filepath.Glob(filepath.Join(root, "migrations", "*.sql"))
	if err != nil {
		return w, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return w, err
		}
		for statement := range strings.SplitSeq(comment.ReplaceAllString(string(text), ""), ";") {
			if statement = strings.TrimSpace(statement); statement != "" {
				migrations = append(migrations, statement)
			}
		}
	}
	config, err := json.Marshal(map[string]any{
		"entry": filepath.Join(root, "build", "deploy", "worker.js"), "flags": []string{"no_nodejs_compat", "no_nodejs_compat_v2"},
		"state": filepath.Join(w.dir, "state"), "log": filepath.Join(w.dir, "log"), "migrations": migrations, "blank": false,
		"env": map[string]string{
			"JWT_SECRET_CLOUD": jwtSecret, "OPENROUTER_PROVISIONING_API_KEY": provisioningKey, "OPENROUTER_TIMEOUT": "50s",
			"KEY_ENCRYPTION_KEY":  base64.StdEncoding.EncodeToString([]byte("idle-idle-idle-idle-idle-idle-id")),
			"OPENROUTER_BASE_URL": "http://" + listener.Addr().String() + "/api/v1",
		},
	})
	if err != nil {
		return w, err
	}
	w.node = exec.CommandContext(ctx, filepath.Join(root, "node_modules", ".bin", "node"), filepath.Join(root, "cmd", "bench", "workerd.mjs"), string(config))
	w.node.Stderr = os.Stderr
	w.node.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if w.input, err = w.node.StdinPipe(); err != nil {
		return w, err
	}
	output, err := w.node.StdoutPipe()
	if err != nil {
		return w, err
	}
	if err := w.node.Start(); err != nil {
		return w, fmt.Errorf("starting Node (run `make setup` first): %w", err)
	}
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		return w, fmt.Errorf("workerd did not start: %w", err)
	}
	var answer struct{ URL string }
	if err := json.Unmarshal(line, &answer); err != nil {
		return w, err
	}
	w.url = answer.URL
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", w.node.Process.Pid)) // workerd is the only one
	if err != nil {
		return w, fmt.Errorf("looking for workerd, which takes a Linux: %w", err)
	}
	w.pid, err = strconv.Atoi(strings.TrimSpace(string(children)))
	return w, err
}

// stop ends what was started, however far that came.
func (w *workerd) stop() error {
	if w.node != nil && w.node.Process != nil {
		w.input.Close()
		_ = w.node.Wait()                                      // however it ended, it ended
		_ = syscall.Kill(-w.node.Process.Pid, syscall.SIGKILL) // workerd, should it have been left behind
	}
	if w.openrouter != nil {
		w.openrouter.Close()
	}
	return os.RemoveAll(w.dir)
}

// state says whether workerd lives, and how its log ends.
func (w *workerd) state() string {
	state := "workerd lives"
	if _, err := w.use(); err != nil {
		state = err.Error()
	}
	log, _ := os.ReadFile(filepath.Join(w.dir, "log")) // without one it is empty
	return fmt.Sprintf("%s; its log ends with\n%s", state, log[max(0, len(log)-2000):])
}

// usage is what workerd has taken up to now.
type usage struct {
	memory int64 // resident, bytes
	cpu    time.Duration
}

func (w *workerd) use() (u usage, err error) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.pid))
	if err != nil {
		return u, fmt.Errorf("workerd is gone: %w", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return u, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.pid))
	if err != nil {
		return u, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // behind the name
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return u, fmt.Errorf("/proc/%d/stat has %d fields", w.pid, len(fields))
	}
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, err
		}
		ticks += n
	}
	return usage{resident * int64(os.Getpagesize()), time.Duration(ticks) * (time.Second / 100)}, nil
}
