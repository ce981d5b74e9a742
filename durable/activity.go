package durable

import "sync"

// activity counts what is going on: requests, alarms and the run of tasks.
type activity struct {
	onIdle func() // called, without the lock, whenever nothing is going on any more

	mu sync.Mutex
	n  int
}

func (a *activity) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
}

func (a *activity) end(n int) {
	a.mu.Lock()
	a.n -= n
	idle := a.n == 0
	a.mu.Unlock()
	if idle {
		a.onIdle()
	}
}
