package durable

import (
	"time"

	"latchkey/internal/account"
	"latchkey/internal/users"
)

// writeGrace is how long a write to D1 that was given up may take to arrive.
const writeGrace = time.Minute

// syncWithD1 brings D1 up to date, or a step nearer where the ledger has grown
// long. Dying after D1 was written and before that is written down repeats it,
// which does no harm.
func syncWithD1(s *store, table users.Table, now func() time.Time) (change, error) {
	st := s.snapshot()
	entries, err := s.storage.Entries(st.D1.Seq, users.MaxEntries)
	if err != nil {
		return nil, err
	}
	upTo := st.Record.Seq
	if len(entries) == users.MaxEntries { // there may be more
		upTo = min(upTo, entries[len(entries)-1].Seq)
	}
	save := table.Save
	if st.Record.Erased {
		save = table.Erase
	}
	if err := save(*st.Record, entries); err != nil {
		return nil, err
	}
	written := now()
	// A write that was given up may still arrive and bring an erased row back.
	age := written.Sub(st.Record.UpdatedAt)
	again := st.Record.Erased && age >= 0 && age < writeGrace // no longer, where the clock was ahead
	before, whole := st.D1.Seq, upTo == st.Record.Seq
	return func(st *State) *account.Entry {
		if st.D1.Seq != before {
			return nil // all is to be written anew
		}
		if again && st.Record.Erased {
			st.D1.Tries, st.D1.Due, st.D1.Written = st.D1.Tries+1, written.Add(writeGrace), written
			return nil
		}
		last := st.D1.Written
		if whole { // otherwise the rest follows at once
			last = written
		}
		st.D1 = D1Status{Seq: upTo, Since: written, Written: last}
		return nil
	}, nil
}

// writeD1Anew forgets what D1 is known to hold: row and ledger are written again.
func writeD1Anew(now time.Time) change {
	return func(st *State) *account.Entry {
		st.D1 = D1Status{Since: now}
		return nil
	}
}
