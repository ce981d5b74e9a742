package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminclient"
	"latchkey/internal/oplog"
)

// minInterval keeps a slip of the finger from flooding the user's object.
const minInterval = 100 * time.Millisecond

func (a *app) usersWatchCommand() *cobra.Command {
	var interval time.Duration
	command := &cobra.Command{
		Use:                   "watch ID [--interval 2s]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Show what happens to a user, as it happens",
		Long: `Show what happens to a user, as it happens: new ledger entries, changes of the
record, work that begins, fails or is done, D1 falling behind and catching up.
One line each, until Ctrl-C.

The state is asked for every --interval: what begins and ends in between is seen
by what it leaves in the ledger. An outage is told, and waited out. Every time
writes a line to the log of the latchkey.

With --json every line is an object with at, user_id, event, text, and in data
the entry, record, work or state of D1 that it is about.`,
		Example: `  latchkey users watch u_42
  latchkey users watch u_42 --interval 500ms --json | jq -c 'select(.event == "ledger").data'`,
		Args: ids(false), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, args []string) error {
			if interval < minInterval {
				return exit{exitUsage, fmt.Errorf("--interval is at least %v", minInterval)}
			}
			api, err := a.admin()
			if err != nil {
				return err
			}
			ctx, ticker := command.Context(), time.NewTicker(interval)
			defer ticker.Stop()
			return a.watch(ctx, api, args[0], func() bool {
				select {
				case <-ctx.Done():
					return false
				case <-ticker.C:
					return true
				}
			})
		},
	}
	command.Flags().DurationVar(&interval, "interval", 2*time.Second, "how often to look")
	return command
}

// watchEvent is one line of a watch.
type watchEvent struct {
	At     string `json:"at"`
	UserID string `json:"user_id"`
	Event  string `json:"event"`
	Text   string `json:"text"`
	Data   any    `json:"data"`
}

// The events of a watch.
const (
	seenState       = "state"       // what there is at first, or again after there was no such user
	seenLedger      = "ledger"      // a new entry
	seenRecord      = "record"      // a change of the record
	seenPending     = "pending"     // work that holds up the user's key
	seenBackground  = "background"  // work that holds up nobody
	seenD1          = "d1"          // D1 fell behind, or caught up
	seenGone        = "gone"        // there is no such user any more
	seenUnreachable = "unreachable" // the latchkey is
	seenReachable   = "reachable"   // it is again
)

// watcher is what a watch knows of the user.
type watcher struct {
	*app
	api  *adminclient.Client
	id   string
	last *adminapi.State // nil: there is no such user now
	seq  int64           // ledger entries up to here were shown, or are older than the watch
	lost bool            // the latchkey could not be reached the last time
}

// watch looks at a user at once, and again whenever wait returns true, which
// says that it is time; false ends it.
func (a *app) watch(ctx context.Context, api *adminclient.Client, id string, wait func() bool) error {
	w := &watcher{app: a, api: api, id: id}
	if a.asCSV {
		if err := a.printCSV([]string{"at", "user_id", "event", "text"}); err != nil {
			return err
		}
	}
	state, err := api.User(ctx, id)
	if err != nil {
		return ended(ctx, err)
	}
	// Whatever the ledger holds beyond this is news, even if D1 is behind.
	w.last, w.seq = &state.Known, state.Known.Record.Seq
	if err := w.tell(seenState, w.stateText(state.Known), state); err != nil {
		return err
	}
	for wait() {
		if err := w.look(ctx); err != nil {
			return ended(ctx, err)
		}
	}
	return nil
}

// ended makes Ctrl-C what it is here: the regular end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// look asks once and tells what is new. Nothing counts as told before both
// answers are there.
func (w *watcher) look(ctx context.Context) error {
	answer, err := w.api.User(ctx, w.id)
	state := answer.Known
	if exitCode(err) == exitNotFound {
		return w.gone()
	}
	var entries []adminclient.Sent[account.Entry]
	if err == nil && state.Damaged == "" { // what cannot be read has no ledger to tell of
		if state.Record.Seq > 0 && state.Record.Seq < w.seq {
			w.seq = 0 // the user was erased and began anew in between
		}
		entries, err = ledgerAfter(ctx, w.api, w.id, w.seq)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case exitCode(err) == exitUnavailable && w.lost:
		return nil
	case exitCode(err) == exitUnavailable:
		w.lost = true
		return w.tell(seenUnreachable, err.Error(), nil)
	case err != nil:
		return err
	}
	if w.lost {
		w.lost = false
		if err := w.tell(seenReachable, "answers again", nil); err != nil {
			return err
		}
	}
	return w.news(answer, entries)
}

func (w *watcher) gone() error {
	w.lost = false
	if w.last == nil {
		return nil
	}
	w.last = nil
	return w.tell(seenGone, "no such user any more", nil)
}

// news tells what is new, the ledger first: it says why the record changed.
func (w *watcher) news(answer adminclient.Sent[adminapi.State], entries []adminclient.Sent[account.Entry]) error {
	var failed []error
	tell := func(event, text string, data any) { failed = append(failed, w.tell(event, text, data)) }
	for _, e := range entries {
		tell(seenLedger, entryText(e.Known), e)
		w.seq = max(w.seq, e.Known.Seq)
	}
	last, state := w.last, answer.Known
	if w.last = &state; last == nil {
		tell(seenState, w.stateText(state), answer)
		return errors.Join(failed...)
	}
	if changes := recordChanges(w.shown(last.Record), w.shown(state.Record)); len(changes) > 0 {
		tell(seenRecord, strings.Join(changes, ", "), state.Record)
	}
	// A creation whose outcome nobody knows is over without being done.
	taskChanges(pendingTask(last), pendingTask(&state), "over", func(text string, task adminapi.Task) { tell(seenPending, text, task) })
	taskChanges(last.Background, state.Background, "done", func(text string, task adminapi.Task) { tell(seenBackground, text, task) })
	if was, is := last.D1, state.D1; was.Behind != is.Behind || is.Behind && was.Tries != is.Tries {
		tell(seenD1, d1Status(is), is)
	}
	return errors.Join(failed...)
}

// tell prints one event.
func (w *watcher) tell(event, text string, data any) error {
	at := timeText(w.now())
	switch {
	case w.asJSON:
		return w.printJSON(watchEvent{at, w.id, event, text, data}, "")
	case w.asCSV:
		return w.printCSV([]string{at, w.id, event, text})
	}
	record, ok := data.(adminapi.Record)
	alarming := ok && w.shown(record).state != active || event == seenUnreachable || event == seenGone
	return w.print(fmt.Sprintf("%s  %-11s  %s", at, event, text), alarming)
}

// stateText sums a state up.
func (a *app) stateText(s adminapi.State) string {
	user := a.shown(s.Record)
	if user.Damaged != "" {
		return user.state
	}
	var amounts []string
	for _, f := range userFields {
		if value := f.of(user); f.amount && value != "" {
			amounts = append(amounts, f.name+" "+value)
		}
	}
	parts := []string{fmt.Sprintf("%s, seq %d", strings.Join(amounts, ", "), user.Seq), keyNamed(user.Hash)}
	if user.state != active {
		parts = append(parts, user.state)
	}
	for _, task := range slices.Concat(pendingTask(&s), s.Background) {
		parts = append(parts, taskText(task))
	}
	if s.D1.Behind {
		parts = append(parts, "D1 "+d1Status(s.D1))
	}
	return strings.Join(parts, "; ")
}

// entryText says what an entry records.
func entryText(e account.Entry) string {
	return fmt.Sprintf("#%d %s %s, remaining_limit %s, %s", e.Seq, e.Kind, e.Credits, e.RemainingLimit, keyNamed(e.Hash))
}

func keyNamed(hash string) string {
	if hash == "" {
		return "no key"
	}
	return "key " + oplog.ShortHash(hash)
}

// pendingTask returns what is pending, as a list.
func pendingTask(s *adminapi.State) []adminapi.Task {
	if s.Pending == nil {
		return nil
	}
	return []adminapi.Task{*s.Pending}
}

// taskChanges tells which tasks have ended, which have failed again, and which
// are new. What a task is tells it from others.
func taskChanges(was, is []adminapi.Task, end string, tell func(text string, task adminapi.Task)) {
	same := func(t adminapi.Task) func(adminapi.Task) bool {
		return func(other adminapi.Task) bool {
			return t.Delete == other.Delete && t.Create == other.Create && t.Orphan == other.Orphan && t.Settle == other.Settle && t.Assign == other.Assign
		}
	}
	for _, task := range was {
		if !slices.ContainsFunc(is, same(task)) {
			tell(taskText(task)+": "+end, task)
		}
	}
	for _, task := range is {
		switch i := slices.IndexFunc(was, same(task)); {
		case i < 0:
			tell(fmt.Sprintf("%s: begun%s", taskText(task), tried(task.Tries, task.Due)), task)
		case was[i].Tries != task.Tries:
			tell(fmt.Sprintf("%s: still there%s", taskText(task), tried(task.Tries, task.Due)), task)
		}
	}
}
