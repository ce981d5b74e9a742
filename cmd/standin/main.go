// Command standin serves the stand-in for OpenRouter's key management API on a
// loopback address, for trying things out and for tests in other processes.
//
//	OPENROUTER_PROVISIONING_API_KEY=… standin [-addr 127.0.0.1:8788] [-lag 35s]
//
// At /api/v1 are the keys (POST and GET keys; GET, PATCH and DELETE keys/{hash}),
// guardrails, activity, credits, and what a key of it may call: GET key, and POST
// chat/completions, which spends 0.01 credits and answers "ok", as a stream if it is
// asked for one. At /_control/ it spends (POST spend), fails (POST faults), shows what
// was called (GET calls) and which keys there are (GET keys); it asks for no
// credentials there. The package internal/openroutertest documents each of them.
//
// It stops on SIGINT and SIGTERM; nothing is kept.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"latchkey/internal/openroutertest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

const keyVariable = "OPENROUTER_PROVISIONING_API_KEY"

// run serves until ctx is done, then lets the calls in progress finish. It logs
// to out.
func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	flags := flag.NewFlagSet("standin", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "127.0.0.1:8788", "loopback `address` to listen on")
	lag := flags.Duration("lag", 0, "how long usage takes to show up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *lag < 0 {
		return fmt.Errorf("-lag %v is negative", *lag)
	}
	provisioningKey := getenv(keyVariable)
	if provisioningKey == "" {
		return errors.New(keyVariable + " is not set: set it to the key that clients are to present")
	}
	if err := requireLoopback(*addr); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("%w; -addr names another address, as 127.0.0.1:9001", err)
	}

	standin := openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey, UsageLag: *lag})
	server := &http.Server{Handler: standin, ReadHeaderTimeout: 10 * time.Second}
	log.New(out, "", log.LstdFlags).Printf("stand-in for OpenRouter at http://%s/api/v1, usage lag %v", listener.Addr(), *lag)

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	standin.Close() // calls that hang would hold up the shutdown
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

// requireLoopback refuses an address that other machines can reach: the control
// surface asks for no credentials.
func requireLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	if host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("-addr %s is not a loopback address", addr)
	}
	return nil
}
