package main

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminclient"
	"latchkey/internal/oplog"
)

func (a *app) usersShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show what a user's object holds",
		Long: `Show what a user's object holds: the record, work that is under way or waits to
be tried again, how far D1 is behind, and when the object's alarm rings.

The key is shortened; it is shown in full nowhere. Asking writes the same state
to the log, as one line: see it with wrangler tail.

Where the state is damaged, it shows why. users erase still works then.`,
		Example: `  latchkey users show u_42
  latchkey users show u_42 --json | jq .record.remaining_limit`,
		Args: ids(false), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, args []string) error {
			api, err := a.admin()
			if err != nil {
				return err
			}
			state, err := api.User(command.Context(), args[0])
			if err != nil {
				return err
			}
			return a.showState(state)
		},
	}
}

// openRouterPages is where a key and its log are shown to whoever is signed in as
// the owner of the account.
const openRouterPages = "https://openrouter.ai/"

// showState prints all about one user, a field a line.
func (a *app) showState(answer adminclient.Sent[adminapi.State]) error {
	state := answer.Known
	damaged := state.Record.Damaged != ""
	var rows [][]string
	for _, f := range userFields {
		if f.in&inShow != 0 && (f.always || !damaged) {
			rows = append(rows, []string{f.name, a.cell(f, a.shown(state.Record))})
		}
	}
	if damaged {
		a.say("What is stored of this user cannot be read: latchkey users erase still works.")
	}
	if state.Pending != nil {
		rows = append(rows, []string{"pending", taskStatus(*state.Pending)})
	}
	for _, task := range state.Background {
		rows = append(rows, []string{"background", taskStatus(task)})
	}
	if !damaged {
		rows = append(rows, []string{"d1", d1Status(state.D1)})
	}
	if state.Alarm != nil {
		rows = append(rows, []string{"alarm", timeText(*state.Alarm)})
	}
	if hash := state.Record.Hash; hash != "" {
		rows = append(rows, []string{"key_page", openRouterPages + "keys/" + url.PathEscape(hash)}, []string{"key_log", openRouterPages + "logs?api_key_hash=" + url.QueryEscape(hash)})
	}
	return a.showTable(answer, table{
		header: []string{"field", "value"}, rows: rows, whole: true,
		alarming: func(row []string) bool { return row[0] == "state" && row[1] != active },
	})
}

// taskText says what a task is.
func taskText(t adminapi.Task) string {
	switch {
	case t.Delete != "" && t.Create != "":
		return "delete key " + oplog.ShortHash(t.Delete) + ", then create key, op " + t.Create
	case t.Delete != "":
		return "delete key " + oplog.ShortHash(t.Delete)
	case t.Create != "":
		return "create key, op " + t.Create
	case t.Orphan != "":
		return "find and delete the key of op " + t.Orphan
	case t.Settle != "":
		return "settle key " + oplog.ShortHash(t.Settle)
	case t.Assign != "":
		return "assign key " + oplog.ShortHash(t.Assign) + " to the guardrail"
	}
	return "something that this program does not know"
}

// taskStatus also says how a task stands.
func taskStatus(t adminapi.Task) string {
	text := taskText(t)
	if t.Live {
		text += ", still live"
	}
	if t.Limit != nil {
		text += fmt.Sprintf(", limit %s", t.Limit)
	}
	if t.Left != nil {
		text += fmt.Sprintf(", left %s", t.Left)
	}
	return fmt.Sprintf("%s, since %s%s", text, timeText(t.Since), tried(t.Tries, t.Due))
}

// tried says how often something was tried in vain, and when it is tried next.
func tried(tries int, due time.Time) string {
	text := ""
	switch {
	case tries == 1:
		text = ", 1 try failed"
	case tries > 1:
		text = fmt.Sprintf(", %d tries failed", tries)
	}
	if !due.IsZero() {
		text += ", due " + timeText(due)
	}
	return text
}

// d1Status says whether D1 is up to date.
func d1Status(d adminapi.D1) string {
	if !d.Behind {
		return fmt.Sprintf("up to date, seq %d", d.Seq)
	}
	return fmt.Sprintf("behind, at seq %d%s", d.Seq, tried(d.Tries, d.Due))
}
