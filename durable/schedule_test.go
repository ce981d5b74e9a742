package durable

import (
	"testing"
	"time"

	"latchkey/internal/account"
)

// TestTheScheduleRingsForWhatIsDueFirst, and moves an alarm only where it has to.
func TestTheScheduleRingsForWhatIsDueFirst(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	in := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	pending := func(due time.Time) *Pending { return &Pending{Kind: PendingDelete, Due: due} }
	tasks := func(due ...time.Time) (all []Task) {
		for _, d := range due {
			all = append(all, Task{Kind: DeleteKey, Due: d})
		}
		return all
	}
	ahead := &account.Record{Seq: 2}
	var never time.Time
	for name, c := range map[string]struct {
		st               State
		alarm, lastAlarm time.Time
		expiry           time.Time
		jitter           jitter
		want             plan
	}{
		"nothing to do":                      {want: plan{}},
		"nothing to do, an alarm set":        {alarm: in(3), want: plan{}},
		"a pending call":                     {st: State{Pending: pending(in(7))}, want: plan{in(7), forPending, never}},
		"a call that is being sent":          {st: State{Pending: pending(in(-1))}, want: plan{in(5), forPending, never}},
		"another user's, half a retry away":  {st: State{Pending: pending(now)}, jitter: 1, want: plan{in(2.5), forPending, never}},
		"the first of the tasks":             {st: State{Tasks: tasks(in(90), in(30))}, want: plan{in(30), forTask, never}},
		"a pending call before a task":       {st: State{Pending: pending(in(5)), Tasks: tasks(in(30))}, want: plan{in(5), forPending, never}},
		"a task before a pending call":       {st: State{Pending: pending(in(50)), Tasks: tasks(in(30))}, want: plan{in(30), forTask, never}},
		"work that is not known":             {st: State{Pending: &Pending{Kind: PendingUnknown}, Tasks: []Task{{Kind: UnknownTask}}}, want: plan{}},
		"D1, the first change":               {st: State{Record: ahead, D1: D1Status{Since: now}}, want: plan{in(5), forD1, now}},
		"D1, a change long after another":    {st: State{Record: ahead, D1: D1Status{Since: now, Written: in(-60)}}, want: plan{in(5), forD1, now}},
		"D1, a change that follows on one":   {st: State{Record: ahead, D1: D1Status{Since: now, Written: in(-1)}}, want: plan{in(4), forD1, in(4)}},
		"D1, a user with another interval":   {st: State{Record: ahead, D1: D1Status{Since: now, Written: in(-1)}}, jitter: 1, want: plan{in(3), forD1, in(3)}},
		"D1, after a failed try":             {st: State{Record: ahead, D1: D1Status{Since: in(-60), Tries: 3, Due: in(20)}}, want: plan{in(20), forD1, in(20)}},
		"D1 has it all":                      {st: State{Record: ahead, D1: D1Status{Seq: 2, Since: now, Written: now, Due: in(9)}}, want: plan{}},
		"D1 goes with an alarm that is set":  {st: State{Record: ahead, D1: D1Status{Since: now, Written: in(-1)}}, alarm: in(2), want: plan{in(2), forD1, in(2)}},
		"D1 goes with a task":                {st: State{Record: ahead, D1: D1Status{Since: now, Written: now}, Tasks: tasks(in(1))}, want: plan{in(1), forTask, in(1)}},
		"D1 that failed does not":            {st: State{Record: ahead, D1: D1Status{Since: now, Tries: 1, Due: in(9)}, Tasks: tasks(in(1))}, want: plan{in(1), forTask, in(9)}},
		"the token of a socket":              {expiry: in(7), want: plan{in(7), forSocket, never}},
		"the token of a socket, set already": {expiry: in(7), alarm: in(5), want: plan{in(5), forSocket, never}},
		"an alarm that rings earlier stays":  {st: State{Tasks: tasks(in(30))}, alarm: in(10), want: plan{in(10), forTask, never}},
		"an alarm that rings later is moved": {st: State{Tasks: tasks(in(30))}, alarm: in(31), want: plan{in(30), forTask, never}},
		"an alarm that should have rung":     {st: State{Tasks: tasks(in(30))}, alarm: in(-1), want: plan{in(30), forTask, never}},
		"the time at which it rang early":    {st: State{Tasks: tasks(in(30))}, lastAlarm: in(30), want: plan{in(30).Add(time.Millisecond), forTask, never}},
		"moved from it once already":         {st: State{Tasks: tasks(in(30))}, alarm: in(30).Add(time.Millisecond), lastAlarm: in(30), want: plan{in(30).Add(time.Millisecond), forTask, never}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := schedule(&c.st, c.alarm, c.lastAlarm, c.expiry, now, c.jitter); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}
