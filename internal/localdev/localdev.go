// Package localdev runs the Worker on this machine: `wrangler dev`, which is
// workerd, on a free port and a state folder of one's choice. The end-to-end
// tests and `make run` use it. Everything it starts it can stop.
package localdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Options says how to run the Worker.
type Options struct {
	Root     string            // of the repository
	StateDir string            // where objects and D1 are kept
	Port     int               // 0: a free one
	EnvFile  string            // secrets, as NAME=value lines in which $NAME is replaced; "": .dev.vars, as it is
	Vars     map[string]string // variables that differ from wrangler.toml
	Log      io.Writer         // gets all that wrangler and the Worker print; may be nil
	Script   string            // a module to run instead of wrangler.toml's main; may be empty
}

// Worker is a Worker that runs.
type Worker struct {
	URL     string // without a slash at its end
	command *exec.Cmd
	ended   chan struct{}
}

// startLimit is how long a Worker may take until it answers, a build included.
const startLimit = 3 * time.Minute

// Migrate applies the D1 migrations to a state folder.
func Migrate(ctx context.Context, root, stateDir string, log io.Writer) error {
	command := wrangler(root, log, "d1", "migrations", "apply", "DB", "--local", "--persist-to", stateDir)
	if err := run(ctx, command); err != nil {
		return fmt.Errorf("applying the D1 migrations: %w", err)
	}
	return nil
}

// Start starts the Worker and waits until it answers.
func Start(ctx context.Context, o Options) (*Worker, error) {
	if o.Port == 0 {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		o.Port = port
	}
	args := []string{"dev"}
	if o.Script != "" {
		args = append(args, o.Script) // here: behind --env-file and --var it would be one more of theirs
	}
	args = append(args,
		"--ip", "127.0.0.1", "--port", strconv.Itoa(o.Port), "--inspector-port", "0",
		"--persist-to", o.StateDir, "--show-interactive-dev-session=false",
	)
	if o.EnvFile != "" {
		args = append(args, "--env-file", o.EnvFile)
	}
	for name, value := range o.Vars {
		args = append(args, "--var", name+":"+value)
	}
	w := &Worker{
		URL:     "http://127.0.0.1:" + strconv.Itoa(o.Port),
		command: wrangler(o.Root, o.Log, args...),
		ended:   make(chan struct{}),
	}
	if err := w.command.Start(); err != nil {
		return nil, fmt.Errorf("starting wrangler (run `make setup` first): %w", err)
	}
	go func() {
		_ = w.command.Wait() // however it ended, it ended
		close(w.ended)
	}()
	if err := w.waitReady(ctx); err != nil {
		w.Stop()
		return nil, err
	}
	return w, nil
}

// waitReady asks until there is an answer of whatever kind.
func (w *Worker) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+"/healthz", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			return response.Body.Close()
		}
		select {
		case <-w.ended:
			return errors.New("wrangler ended before the Worker answered")
		case <-ctx.Done():
			return fmt.Errorf("the Worker did not answer: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Ended is closed once wrangler has ended.
func (w *Worker) Ended() <-chan struct{} { return w.ended }

// Stop ends wrangler and workerd, politely at first, and waits for it.
func (w *Worker) Stop() {
	w.signal(syscall.SIGTERM)
	select {
	case <-w.ended:
	case <-time.After(5 * time.Second):
	}
	w.Kill()
}

// Kill ends wrangler and workerd as a crash would, and waits for it.
func (w *Worker) Kill() {
	w.signal(syscall.SIGKILL)
	<-w.ended
}

// signal reaches the whole process group: wrangler is a shim that starts Node,
// which starts workerd. That nobody is left to receive it is no error.
func (w *Worker) signal(s syscall.Signal) { _ = syscall.Kill(-w.command.Process.Pid, s) }

func wrangler(root string, log io.Writer, args ...string) *exec.Cmd {
	bin := filepath.Join(root, "node_modules", ".bin")
	args = append(args, "--env=") // the top level, whatever CLOUDFLARE_ENV says
	command := exec.Command(filepath.Join(bin, "wrangler"), args...)
	command.Dir = root
	command.Env = append(slices.Clone(os.Environ()),
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), // the Node that wrangler wants
		"WRANGLER_SEND_METRICS=false", "NO_COLOR=1", "FORCE_COLOR=0",
	)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.WaitDelay = 5 * time.Second // a grandchild that holds the output must not hold us
	return command
}

// run runs a command to its end, or to that of ctx.
func run(ctx context.Context, command *exec.Cmd) error {
	if err := command.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) })
	defer stop()
	return command.Wait()
}

// FreePort returns a port on loopback that nobody listens on. It is below those that
// kernels hand out, of which another program could get it before the caller has it.
func FreePort() (port int, err error) {
	for range 100 {
		port = 20_000 + rand.IntN(10_000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, err
}

// Root finds the root of the repository, from any folder inside it.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "wrangler.toml")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the repository: no wrangler.toml here or above")
		}
		dir = parent
	}
}
