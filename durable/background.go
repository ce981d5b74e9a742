package durable

import (
	"errors"
	"slices"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/quota"
	"latchkey/internal/users"
)

// Alarm takes up what was not finished. done is called once nothing more can be
// done for now; the alarm is set again by then if anything is left. After an
// error it is not, and the runtime has to ring again.
func (o *Object) Alarm(done func(error)) {
	err := o.load()
	if _, unreadable := errors.AsType[*damaged](err); unreadable {
		// To ring again would change nothing. The next request is told, and logged.
		o.Log(oplog.Line{Evt: oplog.Background, User: o.user, Op: oplog.OpAlarm, Outcome: oplog.Damaged, Err: err.Error()})
		done(nil)
		return
	}
	if err != nil {
		done(err)
		return
	}
	o.mu.Lock()
	fired := *o.state
	o.rang, fired.Alarm = fired.Alarm, time.Time{}
	o.state = &fired
	o.paused = append(o.paused, done)
	if p := fired.Pending; p != nil && !p.Due.After(o.Now()) && len(o.queue) == 0 {
		o.enqueue(Request{Action: repair})
	}
	o.mu.Unlock()
	o.tend()
	o.rest()
}

// rest is called whenever something ended. Once nothing is going on any more it
// sets the alarm again, where it has rung, and tells the runtime that the
// object needs no memory until the next request: all it knows is in storage.
func (o *Object) rest() {
	o.mu.Lock()
	if len(o.queue) > 0 || o.looking > 0 || o.tending {
		o.mu.Unlock()
		return
	}
	paused := o.paused
	o.paused = nil
	o.mu.Unlock()
	if len(paused) > 0 {
		err := o.update(func(*State) *account.Entry { return nil })
		for _, done := range paused {
			done(err)
		}
	}
	o.Idle()
}

// job is one piece of background work: D1 is behind, or a chore.
type job struct {
	d1    bool
	chore Chore
}

// next returns what is due. The lock is held.
func (o *Object) next() (job, bool) {
	if o.state == nil {
		return job{}, false
	}
	if len(o.queue) > 0 && o.queue[0].Action == Erase {
		return job{}, false // it does all of it itself
	}
	now := o.Now()
	if lag := o.state.D1; o.state.behind() && (lag.Tries == 0 && !o.nextD1().After(lag.Since) || !lag.Due.After(now)) {
		return job{d1: true}, true
	}
	if p := o.state.Pending; p != nil && (p.Create != "" || p.Assign != nil && len(o.queue) > 0) {
		return job{}, false // on the way to an answer only that is sent
	}
	for _, c := range o.state.Chores {
		if !c.Due.After(now) {
			return job{chore: c}, true
		}
	}
	return job{}, false
}

// nextD1 is when D1 may be written again: after three times as long as the user
// has been busy, or when it is the user's turn. The lock is held.
func (o *Object) nextD1() time.Time {
	rested, turn := o.projected.Add(3*o.projected.Sub(o.busySince)), o.d1Turn(o.projected)
	if rested.Before(turn) {
		return rested
	}
	return turn
}

// d1Turn is the first of the user's turns after a time. There is one in every
// maxD1Pause, so that those who are busy at once are not written at once.
func (o *Object) d1Turn(after time.Time) time.Time {
	slot := time.Duration(o.share * float64(maxD1Pause))
	return after.Add(-slot).Truncate(maxD1Pause).Add(slot + maxD1Pause)
}

// tend starts background work, unless it is going on or there is none. No
// request waits for it.
func (o *Object) tend() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, any := o.next(); !any || o.tending {
		return
	}
	o.tending = true
	go func() {
		for o.tryNext() {
		}
		o.rest()
	}()
}

// tryNext tries the next job and tells whether there may be more.
func (o *Object) tryNext() bool {
	o.mu.Lock()
	j, any := o.next()
	if !any {
		o.tending = false
	}
	o.mu.Unlock()
	if !any {
		return false
	}
	if err := o.try(j); err != nil {
		// Nothing can be written, so trying on would go round in circles.
		o.mu.Lock()
		o.tending = false
		o.mu.Unlock()
		return false
	}
	return true
}

// try tries a job once, writes down what came of it and logs it. The error is
// that of the writing.
func (o *Object) try(j job) error {
	began := o.Now()
	calls := &recorder{now: o.Now, transport: o.Transport, db: o.DB}
	line := oplog.Line{Evt: oplog.Background, User: o.user, Outcome: oplog.Done}
	write, failed := o.attempt(j, calls, &line)
	now := o.Now()
	if failed != nil {
		line.Outcome, line.Err = oplog.Again, failed.Error()
	}
	if write == nil {
		write = func(st *State) *account.Entry {
			line.Tries, line.Stuck = postpone(st, j, now)
			return nil
		}
	}
	err := o.update(write)
	if err != nil {
		line.Outcome, line.Err = oplog.Again, errors.Join(failed, err).Error()
	}
	line.Millis, line.Calls = now.Sub(began).Milliseconds(), calls.calls
	o.Log(line)
	return err
}

// attempt does the work of a job and returns what to write down of it; nil: that
// it failed and is put off. A mistake in the program is a failed try like any
// other.
func (o *Object) attempt(j job, calls *recorder, line *oplog.Line) (write change, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = o.panicked(cause)
		}
	}()
	switch c := j.chore; {
	case j.d1:
		line.Op = oplog.OpD1
		return o.project(users.Table{DB: calls})
	case c.Delete != "":
		line.Op, line.Hash = oplog.OpDelete, oplog.ShortHash(c.Delete)
		return unless(o.client(calls).Delete(c.Delete), finish(c))
	case c.Settle != "" && c.Live:
		line.Op, line.Hash = oplog.OpDisable, oplog.ShortHash(c.Settle)
		return unless(o.client(calls).Disable(c.Settle), o.disabled(c))
	case c.Settle != "":
		line.Op, line.Hash = oplog.OpSettle, oplog.ShortHash(c.Settle)
		return o.settle(o.client(calls), c)
	case c.Orphan != "":
		line.Op = oplog.OpOrphan
		return o.deleteOrphans(o.client(calls))
	}
	return nil, errUnknownChore // a later version has left it: it is kept
}

// unless returns what to write down of a call, unless that failed.
func unless(err error, write change) (change, error) {
	if err != nil {
		return nil, err
	}
	return write, nil
}

// finish takes a chore off the list.
func finish(c Chore) change {
	return func(st *State) *account.Entry {
		st.Chores = slices.DeleteFunc(st.Chores, c.same)
		return nil
	}
}

// same tells whether both are about the same key, and want the same of it.
func (c Chore) same(other Chore) bool {
	return c.Delete == other.Delete && c.Orphan == other.Orphan && c.Settle == other.Settle
}

// postpone puts a job off after a failed try.
func postpone(st *State, j job, now time.Time) (tries int, stuck bool) {
	if j.d1 {
		st.D1.Tries++
		st.D1.Due = now.Add(backoff(st.D1.Tries, maxLagRetry))
		return st.D1.Tries, now.Sub(st.D1.Since) > stuckAfter
	}
	i := slices.IndexFunc(st.Chores, j.chore.same)
	if i < 0 {
		return 0, false // a renewal has made something else of it
	}
	for other := range st.Chores { // one walk looks for all orphans
		if c := &st.Chores[other]; other == i || j.chore.Orphan != "" && c.Orphan != "" {
			c.Tries++
			c.Due = now.Add(backoff(c.Tries, maxChoreRetry))
		}
	}
	return st.Chores[i].Tries, now.Sub(st.Chores[i].Since) > stuckAfter
}

// project brings D1 up to date, or a step nearer where the ledger has grown
// long. Dying after D1 was written and before that is written down repeats it,
// which does no harm.
func (o *Object) project(table users.Table) (change, error) {
	st := o.snapshot()
	entries, err := o.Storage.Entries(st.D1.Seq, users.MaxEntries)
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
	// A write that was given up may still arrive and bring an erased row back.
	again := st.Record.Erased && o.Now().Sub(st.Record.UpdatedAt) < writeGrace
	before, whole := st.D1.Seq, upTo == st.Record.Seq
	return func(st *State) *account.Entry {
		now := o.Now()
		if whole { // the rest follows at once
			if now.Sub(o.projected) > quiet {
				o.busySince = now
			}
			o.projected = now
		}
		if st.D1.Seq != before {
			return nil // all is to be written anew
		}
		if again && st.Record.Erased {
			st.D1.Tries, st.D1.Due = st.D1.Tries+1, now.Add(writeGrace)
			return nil
		}
		st.D1 = Lag{Seq: upTo, Since: now, Due: o.nextD1()}
		return nil
	}, nil
}

// disabled writes down that a key to settle works no more. What is spent on it
// may show up for a while yet.
func (o *Object) disabled(c Chore) change {
	return func(st *State) *account.Entry {
		if i := slices.IndexFunc(st.Chores, c.same); i >= 0 {
			st.Chores[i].Live, st.Chores[i].Tries, st.Chores[i].Due = false, 0, o.Now().Add(o.Settings.SettleAfter)
		}
		return nil
	}
}

// settle reads a key that was disabled a last time, by when OpenRouter must have
// told all that was spent on it. The charge and the order to delete the key are
// one write: dying before it repeats the reading, dying after it the deletion.
func (o *Object) settle(keys openrouter.Client, c Chore) (change, error) {
	key, err := keys.Get(c.Settle)
	if openrouter.IsGone(err) {
		return finish(c), nil
	}
	if err != nil {
		return nil, err
	}
	return func(st *State) *account.Entry {
		i := slices.IndexFunc(st.Chores, c.same)
		if i < 0 {
			return nil // the quota was renewed meanwhile
		}
		meter, spent := quota.Meter{Limit: c.Limit, Left: c.Left}, account.Credits(0)
		if !key.Uncapped {
			meter, spent = meter.Read(quota.Meter{Limit: key.Limit, Left: key.Left})
		}
		if st.Chores[i] = (Chore{Delete: c.Settle, Since: c.Since, Due: o.Now()}); !key.Disabled {
			// It worked until now: it was enabled again, or was never disabled.
			st.Chores[i] = Chore{Settle: c.Settle, Live: true, Left: meter.Left, Limit: meter.Limit, Since: c.Since, Due: o.Now()}
		}
		return st.charge(spent, c.Settle)
	}, nil
}

var (
	errNotFound = errors.New("not found so far; it may still appear")
	errOlder    = errors.New("all that follow are older")

	errNoHash       = errors.New("a key that is looked for is listed without its hash")
	errUnknownChore = errors.New("work of a kind that is not known here")
)

// deleteOrphans looks for the keys of all creations whose answer was lost, in one
// walk, and deletes them. Not to find one means nothing before orphanGrace has
// passed: those are looked for once more then.
func (o *Object) deleteOrphans(keys openrouter.Client) (change, error) {
	began := o.Now()
	lost := slices.DeleteFunc(slices.Clone(o.snapshot().Chores), func(c Chore) bool { return c.Orphan == "" })
	bySince := func(a, b Chore) int { return a.Since.Compare(b.Since) }
	youngest := slices.MaxFunc(lost, bySince).Since
	newestFirst := newestFirst{until: slices.MinFunc(lost, bySince).Since.Add(-orphanMargin)}
	found := map[string][]string{} // hashes, by op
	err := keys.Each(func(key openrouter.Listed) error {
		// The op alone tells: OpenRouter may have changed the form of the user's id.
		_, op, ours := openrouter.ParseKeyName(o.Settings.KeyNamePrefix, key.Name)
		if ours && slices.ContainsFunc(lost, Chore{Orphan: op}.same) && !slices.Contains(found[op], key.Hash) && !o.snapshot().knows(key.Hash) {
			if !openrouter.IsHash(key.Hash) {
				return errNoHash
			}
			found[op] = append(found[op], key.Hash)
		}
		if newestFirst.passed(key.CreatedAt) {
			return errOlder
		}
		return nil
	})
	if err != nil && err != errOlder {
		return nil, err
	}
	for _, hashes := range found {
		for _, hash := range hashes {
			if err := keys.Delete(hash); err != nil {
				return nil, err
			}
		}
	}
	var ended, missing []Chore
	for _, c := range lost {
		if len(found[c.Orphan]) > 0 || began.Sub(c.Since) >= orphanGrace {
			ended = append(ended, c)
		} else {
			missing = append(missing, c)
		}
	}
	if err = nil; len(missing) > 0 {
		err = errNotFound
	}
	return func(st *State) *account.Entry {
		st.Chores = slices.DeleteFunc(st.Chores, func(c Chore) bool { return slices.ContainsFunc(ended, c.same) })
		for i, c := range st.Chores {
			if slices.ContainsFunc(missing, c.same) {
				st.Chores[i].Tries, st.Chores[i].Due = c.Tries+1, youngest.Add(orphanGrace)
			}
		}
		return nil
	}, err
}

// newestFirst tells when a walk through the keys has come to those made before
// a time: an account may have very many. It believes the list to be sorted only
// as long as it sees that it is.
type newestFirst struct {
	until    time.Time
	last     time.Time
	falling  bool // some key was older than the one before it
	unsorted bool // some key was newer, or told no time
}

func (n *newestFirst) passed(createdAt string) bool {
	created, err := time.Parse(time.RFC3339, createdAt)
	first := n.last.IsZero()
	n.unsorted = n.unsorted || err != nil || !first && created.After(n.last)
	n.falling = n.falling || !first && created.Before(n.last)
	n.last = created
	return n.falling && !n.unsorted && created.Before(n.until)
}
