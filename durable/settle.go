package durable

import (
	"slices"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/quota"
)

// settleLater writes down that a key works no more, and when it is settled: what is
// spent on it may show up for a while yet.
func settleLater(task Task, at func() time.Time) change {
	return func(st *State) *account.Entry {
		if i := slices.IndexFunc(st.Tasks, task.same); i >= 0 {
			t := &st.Tasks[i]
			t.Kind, t.Tries, t.Due = SettleKey, 0, at()
		}
		return nil
	}
}

// settleKey reads a key that was disabled a last time, by when OpenRouter must have
// told all that was spent on it. The charge and the order to delete the key are
// one write: dying before it repeats the reading, dying after it the deletion.
func settleKey(keys openrouter.Client, task Task, now func() time.Time) (change, error) {
	key, err := keys.Get(task.Hash)
	if openrouter.IsGone(err) {
		return finish(task), nil
	}
	if err != nil {
		return nil, err
	}
	return func(st *State) *account.Entry {
		i := slices.IndexFunc(st.Tasks, task.same)
		if i < 0 {
			return nil // the quota was renewed meanwhile
		}
		meter, spent := quota.Meter{Limit: task.Limit, Left: task.Left}, account.Credits(0)
		if !key.Uncapped {
			meter, spent = meter.Read(quota.Meter{Limit: key.Limit, Left: key.Left})
		}
		next := Task{Kind: DeleteKey, Hash: task.Hash, Since: task.Since, Due: now()}
		if !key.Disabled { // it worked until now: it was enabled again, or was never disabled
			next.Kind, next.Left, next.Limit = DisableKey, meter.Left, meter.Limit
		}
		st.Tasks[i] = next
		return st.charge(spent, task.Hash)
	}, nil
}
