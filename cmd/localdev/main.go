// Command localdev is `make run`: the Worker under `wrangler dev`, with a stand-in
// for OpenRouter beside it unless .dev.vars names a real management key. If a
// setting is missing or bad, it says which and why, and stops. Else it shows what a
// first request answers and how to try the rest, and stays up until it is interrupted
// or one of the two ends; then it ends all it started.
//
// PORT and STANDIN_PORT choose the ports, 8787 and 8788 by default.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"latchkey/internal/localdev"
	"latchkey/internal/openroutertest"
	"latchkey/internal/oplog"
)

func main() {
	// SIGPIPE: whoever read our output is gone, and Go would end us on the next
	// write, leaving wrangler behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, os.Stdout)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, "make run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	root, err := localdev.Root()
	if err != nil {
		return err
	}
	secrets, err := readOrMakeSecrets(filepath.Join(root, devVars), out)
	if err != nil {
		return err
	}
	port, standinPort, err := ports(secrets.wantStandin())
	if err != nil {
		return err
	}

	console := &console{out: out}
	worker := localdev.Options{
		Root: root, StateDir: filepath.Join(root, ".wrangler", "state"), Port: port,
		Vars: map[string]string{},
		Log:  console, // the secrets are in .dev.vars, where wrangler looks for them
	}
	ownOrigins, err := originsAreSet(root, secrets)
	if err != nil {
		return err
	}
	pages := "" // the ports at which a page may call the API, where nobody has said whose may
	if !ownOrigins {
		worker.Vars[allowedOrigins] = localOrigins()
		pages = strings.Trim(fmt.Sprint(pagePorts), "[]")
	}
	standinURL := ""
	standinEnded := make(chan error, 1)
	if secrets.wantStandin() {
		listener, err := listen("STANDIN_PORT", standinPort)
		if err != nil {
			return err
		}
		standin := openroutertest.New(openroutertest.Options{ProvisioningKey: secrets.provisioningKey()})
		server := &http.Server{Handler: standin, ReadHeaderTimeout: 10 * time.Second}
		go func() { standinEnded <- server.Serve(listener) }()
		defer func() {
			standin.Close()
			server.Close()
		}()
		standinURL = "http://" + listener.Addr().String()
		worker.Vars[baseURL] = standinURL + "/api/v1"
	} else {
		// Users of the one know nothing of the other: the stand-in would answer
		// 404 for a real key, which would then be forgotten and stay alive.
		worker.StateDir = filepath.Join(root, ".wrangler", "state-openrouter")
		warning, err := prefixWarning(root, secrets)
		if err != nil {
			return err
		}
		if warning != "" {
			fmt.Fprintln(out, "Warning:", warning)
		}
	}
	free, err := listen("PORT", port)
	if err != nil {
		return err
	}
	free.Close()

	fmt.Fprintln(out, "Applying the D1 migrations and starting wrangler dev ...")
	w, err := start(ctx, worker)
	if err != nil {
		console.dump()
		return err
	}
	defer w.Stop()
	if err := checkSettings(ctx, w.URL, console); err != nil {
		return err
	}
	for _, warning := range console.told(oplog.Misspelt) {
		fmt.Fprintln(out, "Warning:", warning)
	}
	if err := introduce(ctx, out, w.URL, standinURL, pages, secrets); err != nil {
		console.dump()
		return err
	}
	console.open()

	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nStopping ...")
		return nil
	case <-w.Ended():
		return errors.New("wrangler has ended")
	case err := <-standinEnded:
		return fmt.Errorf("the stand-in has ended: %w", err)
	}
}

func start(ctx context.Context, o localdev.Options) (*localdev.Worker, error) {
	if err := localdev.Migrate(ctx, o.Root, o.StateDir, o.Log); err != nil {
		return nil, err
	}
	return localdev.Start(ctx, o)
}

// ports returns those of the Worker and of the stand-in; where that is not wanted, they may be one.
func ports(wantStandin bool) (worker, standin int, err error) {
	if worker, err = portFrom("PORT", 8787); err != nil {
		return 0, 0, err
	}
	if standin, err = portFrom("STANDIN_PORT", 8788); err != nil {
		return 0, 0, err
	}
	if wantStandin && worker == standin && worker != 0 {
		return 0, 0, fmt.Errorf("PORT and STANDIN_PORT are both %d: give two", worker)
	}
	return worker, standin, nil
}

func portFrom(variable string, standard int) (int, error) {
	text := cmp.Or(os.Getenv(variable), strconv.Itoa(standard))
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%s=%s is not a port", variable, text)
	}
	return int(port), nil
}

// listen takes a port on loopback; 0 is a free one.
func listen(variable string, port int) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is taken: choose another one, as in `make run %s=%d`", port, variable, port+10)
	}
	return listener, err
}
