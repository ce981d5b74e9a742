// Command idle measures what idle sockets cost: memory and processor time of workerd,
// without wrangler, with a stand-in for OpenRouter.
//
//	make idle
//
// It opens the sockets, waits until their objects are out of memory, watches a minute in
// which nothing happens, sends a ping on each, and replaces the key of one user. It fails
// where a socket is lost, or where a message reaches another user's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"latchkey/internal/localdev"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	count := flag.Int("sockets", 10_000, "how many sockets")
	each := flag.Int("each", 4, "how many of them each user has, at most 50")
	quiet := flag.Duration("quiet", time.Minute, "how long nothing happens")
	flag.Parse()
	if err := run(ctx, *count, *each, *quiet); err != nil {
		fmt.Fprintln(os.Stderr, "make idle:", err)
		os.Exit(1)
	}
}

// evicted is how long an object is idle until it is surely out of memory: workerd takes
// it out after 10 s, and the alarm of a new key rings before.
const evicted = 30 * time.Second

func run(ctx context.Context, count, each int, quiet time.Duration) (err error) {
	if count < 1 || each < 1 || each > 50 {
		return errors.New("-sockets has to be 1 or more, and -each 1 to 50")
	}
	if err := allowFiles(uint64(2*count + 4_000)); err != nil {
		return err
	}
	root, err := localdev.Root()
	if err != nil {
		return err
	}
	w, err := start(ctx, root)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; %s", err, w.state())
		}
		err = errors.Join(err, w.stop())
	}()

	c := &clients{url: w.URL}
	defer c.close()
	if err := c.open(ctx, 1, 1); err != nil {
		return err
	}
	if err := pause(ctx, evicted); err != nil {
		return err
	}
	one, err := w.Use()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.open(ctx, count, each); err != nil {
		return err
	}
	took := time.Since(began)
	opened, err := w.Use()
	if err != nil {
		return err
	}
	if err := pause(ctx, evicted); err != nil {
		return err
	}
	idle, err := w.Use()
	if err != nil {
		return err
	}
	if err := pause(ctx, quiet); err != nil {
		return err
	}
	later, err := w.Use()
	if err != nil {
		return err
	}
	if err := c.ping(ctx); err != nil {
		return err
	}
	pinged, err := w.Use()
	if err != nil {
		return err
	}
	if err := c.replaceKey(ctx); err != nil {
		return err
	}

	fmt.Printf("%d sockets of %d users, %d cores, %s\n\n", count, (count+each-1)/each, runtime.NumCPU(), time.Now().Format(time.DateOnly))
	fmt.Printf("| | memory of workerd, MiB | processor time, s |\n|---|---|---|\n")
	fmt.Printf("| one socket, idle | %d | |\n", one.Memory>>20)
	fmt.Printf("| all opened, with a first key for each user, in %.0f s | %d | %.1f |\n", took.Seconds(), opened.Memory>>20, (opened.CPU - one.CPU).Seconds())
	fmt.Printf("| %v later, all idle | %d | %.1f |\n", evicted, idle.Memory>>20, (idle.CPU - opened.CPU).Seconds())
	fmt.Printf("| %v in which nothing happens | %d | %.2f |\n", quiet, later.Memory>>20, (later.CPU - idle.CPU).Seconds())
	fmt.Printf("| a ping and its answer on each | %d | %.2f |\n", pinged.Memory>>20, (pinged.CPU - later.CPU).Seconds())
	fmt.Printf("\nAn idle socket takes %.1f KiB.\n", float64(later.Memory-one.Memory)/float64(count)/1024)
	return nil
}

// allowFiles lets us and what we start have so many files open: workerd takes two for each
// socket, and three for each of the hundreds of objects that are in memory at once.
func allowFiles(count uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur, limit.Max = max(count, limit.Cur), max(count, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d files have to be open at once (ulimit -n), or take fewer sockets (-sockets): %w", count, err)
	}
	return nil
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
