// Command latchkey is the operator's command line: the users of a running
// latchkey through its admin API, and the keys of the OpenRouter account
// directly.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := newApp(os.Stdout, os.Stderr, os.Getenv)
	os.Exit(a.fail(a.root().ExecuteContext(ctx)))
}
