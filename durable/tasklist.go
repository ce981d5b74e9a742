package durable

import (
	"slices"
	"time"

	"latchkey/internal/account"
)

// This file is what a change makes of the list of tasks.

// stuckAfter is when a task that keeps failing is called stuck.
const stuckAfter = 24 * time.Hour

// finish takes a task off the list.
func finish(task Task) change {
	return func(st *State) *account.Entry {
		st.Tasks = slices.DeleteFunc(st.Tasks, task.same)
		return nil
	}
}

// postpone puts a task off after a failed try.
func postpone(st *State, task Task, now time.Time) (tries int, stuck bool) {
	if task.Kind == syncD1 {
		st.D1.Tries++
		st.D1.Due = now.Add(backoff(st.D1.Tries, maxD1Retry))
		return st.D1.Tries, now.Sub(st.D1.Since) > stuckAfter
	}
	i := slices.IndexFunc(st.Tasks, task.same)
	if i < 0 {
		return 0, false // a renewal has made something else of it
	}
	for other := range st.Tasks { // one walk looks for all orphans
		if t := &st.Tasks[other]; other == i || task.Kind == FindOrphan && t.Kind == FindOrphan {
			t.Tries++
			t.Due = now.Add(backoff(t.Tries, maxTaskRetry))
		}
	}
	return st.Tasks[i].Tries, now.Sub(st.Tasks[i].Since) > stuckAfter
}
