package main

import (
	"os"
	"testing"
)

func TestUseGrowsWithWork(t *testing.T) {
	w := &workerd{pid: os.Getpid()}
	first, err := w.use()
	if err != nil {
		t.Fatal(err)
	}
	if first.memory < 1<<20 {
		t.Errorf("this program has %d bytes of memory", first.memory)
	}
	for u := first; u.cpu <= first.cpu; { // it ends once the work that it is shows
		if u, err = w.use(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&workerd{pid: -1}).use(); err == nil {
		t.Error("a process that is none has used something")
	}
}

func TestWhatCannotBeMeasuredIsRefused(t *testing.T) {
	for _, c := range []struct{ count, each int }{{0, 4}, {10, 0}, {10, 51}, {1 << 40, 4}} {
		if err := run(t.Context(), c.count, c.each, 0); err == nil {
			t.Errorf("%d sockets, %d of each user, were measured", c.count, c.each)
		}
	}
}
