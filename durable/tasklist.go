package durable

import (
	"slices"
	"time"

	"latchkey/internal/account"
)

// Tasks are the keys to be got rid of in the background.
type Tasks []Task

// maxTasks bounds the state, and what is asked of an OpenRouter that keeps failing:
// past it no more keys are asked for.
const maxTasks = 64

// reserved is what the keys that are not settled yet may still cost.
func (l Tasks) reserved() (most account.Credits) {
	for _, task := range l {
		if task.settles() {
			most += max(task.Left, 0)
		}
	}
	return most
}

// nextSettled is when the next key is settled, which is so long after it was
// disabled; and false where there is none to settle.
func (l Tasks) nextSettled(after time.Duration) (next time.Time, some bool) {
	for _, task := range l {
		due := task.Due
		if task.Kind == DisableKey {
			due = due.Add(after)
		}
		if task.settles() && (!some || due.Before(next)) {
			next, some = due, true
		}
	}
	return next, some
}

// full tells whether there are as many tasks as there may be.
func (l Tasks) full() bool { return len(l) >= maxTasks }

// queueDelete has a key deleted in the background.
func (l *Tasks) queueDelete(hash string, since, due time.Time) {
	*l = append(*l, Task{Kind: DeleteKey, Hash: hash, Since: since, Due: due})
}

// queueOrphan leaves the key of a POST without an answer to be looked for.
func (l *Tasks) queueOrphan(op string, since, due time.Time) {
	*l = append(*l, Task{Kind: FindOrphan, Op: op, Since: since, Due: due})
}

// searchAt is when the key of a POST that failed is looked for. One walk through the list
// does for many: those that nobody looked for yet wait for each other, and the more others
// there are the longer.
func (l Tasks) searchAt(now, firstRetryAt time.Time) time.Time {
	others := 0
	for _, task := range l {
		if task.Kind != FindOrphan {
			continue
		}
		if task.Tries == 0 && task.Due.After(now) {
			return task.Due
		}
		others++
	}
	if others == 0 {
		return firstRetryAt
	}
	return now.Add(backoff(others+1, orphanGrace))
}

// endOverlaps has all keys disabled now that go on working beside the record's.
func (l Tasks) endOverlaps(now time.Time) {
	for i, task := range l {
		if task.Kind == DisableKey && task.Due.After(now) {
			l[i].Due = now
		}
	}
}

// cancelSettling leaves the keys that were to be settled to be deleted: the quota
// that they would be charged to is over.
func (l Tasks) cancelSettling(now time.Time) {
	for i, task := range l {
		if task.settles() {
			l[i] = Task{Kind: DeleteKey, Hash: task.Hash, Since: task.Since, Due: now}
		}
	}
}

// stuckAfter is when a task that keeps failing is called stuck.
const stuckAfter = 24 * time.Hour

// finish takes a task off the list.
func finish(task Task) change {
	return func(st *State) *account.Entry {
		st.Tasks = slices.DeleteFunc(st.Tasks, task.same)
		return nil
	}
}

// failed counts a failed try, and says when the next one is due.
func (t *Task) failed(now time.Time) {
	t.Tries++
	t.Due = now.Add(backoff(t.Tries, maxTaskRetry))
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
			t.failed(now)
		}
	}
	return st.Tasks[i].Tries, now.Sub(st.Tasks[i].Since) > stuckAfter
}
