//go:build e2e

package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"
)

// memory is what the Go program of a Worker says of its memory.
type memory struct {
	Evt                                         string
	Bytes                                       float64
	Objects, Active, Waiting, Asked, References int
}

// memory returns what was logged last: when the memory grew, which never
// shrinks, or ten thousand calls had passed.
func (w *worker) memory() (last memory) {
	for text := range strings.Lines(w.log.String()) {
		var line memory
		if json.Unmarshal([]byte(text), &line) == nil && line.Evt == "memory" {
			last = line
		}
	}
	return last
}

var more = flag.Int("more", 4_000, "how many requests TestMemoryIsFlat sends after the first ones; 20000 take minutes")

// tolerance is what the heap may grow by all the same, since it depends on when
// garbage is collected.
const tolerance = 1 << 20

// Whatever grew with the number of requests would show: the memory stays that
// of the first requests, near enough.
func TestMemoryIsFlat(t *testing.T) {
	w := startAlone(t, patient) // it is about memory, and not about how fast the machine is
	const users, warm, atATime = 700, 2_000, 25
	all := make([]*user, users)
	for i := range all {
		all[i] = newUser(t, w)
	}
	ask := func(requests int) {
		t.Helper()
		for _, failed := range atOnce(atATime, func(lane int) error {
			for i := lane; i < requests; i += atATime {
				u := all[i%users]
				r := u.try(t.Context(), "GET", me)
				if r.err != nil {
					return r.err
				}
				if _, err := u.check(r.answer); err != nil {
					return err
				}
			}
			return nil
		}) {
			if failed != nil {
				t.Fatal(failed)
			}
		}
	}
	ask(warm)
	before := w.memory()
	if before.Bytes == 0 {
		t.Fatal("the log does not tell how much memory the program has")
	}
	ask(*more)
	after := w.memory()
	fmt.Printf("e2e: after %d requests the program has %.1f MB, after %d more %.1f MB: %+v\n", warm, before.Bytes/1e6, *more, after.Bytes/1e6, after)
	if after.Bytes > before.Bytes+tolerance || after.Bytes > 16<<20 {
		t.Error("that is more than before, or than 16 MiB")
	}
	// Objects at rest are kept up to a number; the rest is what is going on.
	if after.Objects > 512+atATime || max(after.Active, after.Waiting, after.Asked) > 4*atATime || after.References > 100 {
		t.Error("that is more than is going on")
	}
}
