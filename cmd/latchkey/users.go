package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
)

func (a *app) usersCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "users",
		Short: "List, look at, change, suspend and erase users",
		Long: `List, look at, change, suspend and erase users, through the admin API of a
running latchkey (--url, or LATCHKEY_URL). ADMIN_TOKEN has to be the one that
is set there.

Ids are taken as they are, in any script. Put -- before one that begins with a
hyphen. Tables for people show shortened hashes, and escape whatever in a name
would upset a terminal; --json has everything as it is, and --csv too, but that
what a spreadsheet would take for a formula begins with an apostrophe.`,
		Example: `  export LATCHKEY_URL=https://latchkey.example.workers.dev
  latchkey --secrets .admin.env users list --q example.org
  latchkey --secrets .admin.env users list --all --csv > users.csv
  latchkey --secrets .admin.env users show u_42
  latchkey --secrets .admin.env users suspend u_42 u_43`,
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return exit{exitUsage, fmt.Errorf("unknown command %q for %q", args[0], command.CommandPath())}
			}
			return command.Help()
		},
	}
	command.AddCommand(
		a.usersListCommand(), a.usersShowCommand(), a.usersLedgerCommand(), a.usersWatchCommand(),
		a.usersSuspendCommand(true), a.usersSuspendCommand(false), a.usersSetCommand(), a.usersEraseCommand(),
		a.usersSyncCommand(),
	)
	return command
}

// ids checks the arguments of a command about users: one, or any number of them.
func ids(several bool) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) == 0 || len(args) > 1 && !several {
			return exit{exitUsage, fmt.Errorf("usage: %s", command.UseLine())}
		}
		for _, id := range args {
			if err := checkID(id); err != nil {
				return err
			}
		}
		return nil
	}
}

// none refuses arguments.
func none(command *cobra.Command, args []string) error {
	if len(args) > 0 {
		return exit{exitUsage, fmt.Errorf("usage: %s", command.UseLine())}
	}
	return nil
}

func (a *app) usersListCommand() *cobra.Command {
	var q string
	var limit int
	var all bool
	command := &cobra.Command{
		Use:                   "list [--q TEXT] [--limit N] [--all]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "List users, those that changed last first",
		Long: `List users, those that changed last first: one page, or with --all every page.

The list comes from D1, which is moments behind the users' objects. A user who
changes while --all reads page after page moves to the front, and so may be
missing from what is read afterwards.

Columns: what the quota began with (TOTAL), what is left of it (REMAINING), and
what was left on the present key when it was last read (ON KEY).`,
		Example: `  latchkey users list --limit 10
  latchkey users list --q example.org --all
  latchkey users list --all --json | jq -r '.[] | select(.suspended) | .user_id'`,
		Args: none, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, _ []string) error {
			if limit < 1 || limit > adminapi.MaxPage {
				return exit{exitUsage, fmt.Errorf("--limit is from 1 to %d", adminapi.MaxPage)}
			}
			if all && !command.Flags().Changed("limit") {
				limit = adminapi.MaxPage
			}
			api, err := a.admin()
			if err != nil {
				return err
			}
			return a.list(command.Context(), api, q, limit, all)
		},
	}
	command.Flags().StringVar(&q, "q", "", "only those with this text in id, name or email")
	command.Flags().IntVar(&limit, "limit", adminapi.DefaultPage, "users on a page, up to 200")
	command.Flags().BoolVar(&all, "all", false, "every page")
	return command
}

func (a *app) list(ctx context.Context, api adminClient, q string, limit int, all bool) error {
	users, seen := []sent[adminUser]{}, map[string]bool{}
	cursor := ""
	for {
		page, next, err := api.users(ctx, q, cursor, limit)
		if err != nil {
			return withoutAdminAPI(err)
		}
		users = append(users, page...)
		if cursor = next; cursor == "" || !all {
			break
		}
		// Whatever the cursors are, a walk with nobody new on a page has no end.
		before := len(seen)
		for _, user := range page {
			seen[user.known.UserID] = true
		}
		if len(seen) == before {
			return errors.New("the pages of the list do not get further: there is nobody new on one, and yet a next one")
		}
	}
	if cursor != "" {
		a.say("There are more: --all lists every one.")
	}
	return a.showUsers(users, known(users))
}

// withoutAdminAPI says what it means that something without an id is not found.
func withoutAdminAPI(err error) error {
	if exitCode(err) == exitNotFound {
		return fmt.Errorf("%w (is it the URL of a latchkey, and is ADMIN_TOKEN set there? the admin API is off without)", err)
	}
	return err
}

// showUsers prints users as a table; JSON is of data, which may hold more.
func (a *app) showUsers(data any, users []adminUser) error {
	if a.asCSV {
		header := []string{
			"user_id", "user_name", "email", "hash", "total_limit", "remaining_limit", "usage_limit", "seq", "created_at", "updated_at", "suspended", "damaged",
		}
		var rows [][]string
		for _, u := range users {
			rows = append(rows, []string{
				u.UserID, u.UserName, u.Email, u.Hash, u.TotalLimit.String(), u.RemainingLimit.String(), u.UsageLimit.String(),
				strconv.FormatInt(u.Seq, 10), u.CreatedAt, u.UpdatedAt, strconv.FormatBool(u.Suspended), u.Damaged,
			})
		}
		return a.show(data, header, rows)
	}
	var rows [][]string
	for _, u := range users {
		total, remaining, onKey := u.TotalLimit.String(), u.RemainingLimit.String(), u.UsageLimit.String()
		if u.Damaged != "" {
			total, remaining, onKey = "-", "-", "-" // nobody knows
		}
		rows = append(rows, []string{u.UserID, u.UserName, u.Email, total, remaining, onKey, u.UpdatedAt, u.standing()})
	}
	return a.showAlarming(data, []string{"id", "name", "email", "total", "remaining", "on key", "updated", "state"}, rows,
		func(row []string) bool { return row[len(row)-1] != active })
}

const active = "active"

// standing is how a user stands, for people.
func (u adminUser) standing() string {
	switch {
	case u.Damaged != "":
		return "damaged: " + u.Damaged
	case u.Suspended:
		return "suspended"
	}
	return active
}

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
			state, err := api.user(command.Context(), args[0])
			if err != nil {
				return err
			}
			return a.showState(state)
		},
	}
}

// showState prints all about one user, a field a line.
func (a *app) showState(answer sent[adminState]) error {
	state, r := answer.known, answer.known.Record
	rows := [][]string{
		{"user_id", r.UserID}, {"user_name", r.UserName}, {"email", r.Email}, {"state", r.standing()},
		{"key", r.Key}, {"hash", r.Hash},
		{"total_limit", r.TotalLimit.String()}, {"remaining_limit", r.RemainingLimit.String()}, {"usage_limit", r.UsageLimit.String()},
		{"seq", strconv.FormatInt(r.Seq, 10)}, {"created_at", r.CreatedAt}, {"updated_at", r.UpdatedAt},
	}
	if r.Damaged != "" {
		rows = [][]string{{"user_id", r.UserID}, {"state", r.standing()}}
		a.say("What is stored of this user cannot be read: latchkey users erase still works.")
	}
	if state.Pending != nil {
		rows = append(rows, []string{"pending", state.Pending.full()})
	}
	for _, job := range state.Background {
		rows = append(rows, []string{"background", job.full()})
	}
	if r.Damaged == "" {
		rows = append(rows, []string{"d1", state.D1.String()})
	}
	if state.Alarm != nil {
		rows = append(rows, []string{"alarm", *state.Alarm})
	}
	return a.showAlarming(answer, []string{"field", "value"}, rows, func(row []string) bool { return row[0] == "state" && row[1] != active })
}

// String says what the work is.
func (j adminJob) String() string {
	switch {
	case j.Delete != "":
		return "delete key " + short(j.Delete)
	case j.Create != "":
		return "create key, op " + j.Create
	case j.Orphan != "":
		return "find and delete the key of op " + j.Orphan
	case j.Settle != "":
		return "settle key " + short(j.Settle)
	case j.Assign != "":
		return "assign key " + short(j.Assign) + " to the guardrail"
	}
	return "something that this program does not know"
}

// full also says how it stands.
func (j adminJob) full() string {
	text := j.String()
	if j.Live {
		text += ", still live"
	}
	if j.Limit != nil {
		text += fmt.Sprintf(", limit %s", j.Limit)
	}
	if j.Left != nil {
		text += fmt.Sprintf(", left %s", j.Left)
	}
	return fmt.Sprintf("%s, since %s%s", text, j.Since, tried(j.Tries, j.Due))
}

// tried says how often something was tried in vain, and when it is tried next.
func tried(tries int, due string) string {
	text := ""
	switch {
	case tries == 1:
		text = ", 1 try failed"
	case tries > 1:
		text = fmt.Sprintf(", %d tries failed", tries)
	}
	if due != "" {
		text += ", due " + due
	}
	return text
}

// String says whether D1 is up to date.
func (l adminLag) String() string {
	if !l.Behind {
		return fmt.Sprintf("up to date, seq %d", l.Seq)
	}
	return fmt.Sprintf("behind, at seq %d%s", l.Seq, tried(l.Tries, l.Due))
}

func (a *app) usersLedgerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ledger ID",
		Short: "Show a user's ledger, oldest entry first",
		Long: `Show a user's ledger, oldest entry first. The ledger of a user who was erased
stays, without name and email.`,
		Example: `  latchkey users ledger u_42
  latchkey users ledger u_42 --csv > u_42.csv
  latchkey users ledger u_42 --json | jq '[.[] | select(.kind == "charge").credits] | add'`,
		Args: ids(false), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, args []string) error {
			api, err := a.admin()
			if err != nil {
				return err
			}
			entries, err := api.ledger(command.Context(), args[0], 0)
			if err != nil {
				return err
			}
			return a.showLedger(entries)
		},
	}
}

func (a *app) showLedger(entries []sent[adminEntry]) error {
	header := []string{"seq", "at", "kind", "credits", "remaining", "key"}
	if a.asCSV {
		header = []string{"seq", "at", "kind", "credits", "remaining_limit", "hash"}
	}
	var rows [][]string
	for _, e := range known(entries) {
		rows = append(rows, []string{
			strconv.FormatInt(e.Seq, 10), e.At, e.Kind, e.Credits.String(), e.RemainingLimit.String(), a.hashCell(e.Hash),
		})
	}
	return a.show(entries, header, rows)
}

func (a *app) usersSuspendCommand(suspended bool) *cobra.Command {
	command := &cobra.Command{
		Use:   "suspend ID...",
		Short: "Suspend users: their keys are deleted, and they get no new one",
		Long: `Suspend users: the key of each is deleted at OpenRouter, and latchkey gives out
no new one until the user is resumed. Quota and ledger stay as they are. Where
OpenRouter cannot be reached the user is suspended all the same, and the
deletion goes on in the background: see it with users show.` + untilOneFails,
		Example: `  latchkey users suspend u_42 u_43
  xargs -d '\n' latchkey users suspend -- < ids.txt`,
	}
	if !suspended {
		command.Use = "resume ID..."
		command.Short = "Resume users that were suspended"
		command.Long = `Resume users that were suspended. Each gets a new key with the next request, on
what is left of the quota.` + untilOneFails
		command.Example = `  latchkey users resume u_42 u_43`
	}
	command.Args, command.ValidArgsFunction = ids(true), cobra.NoFileCompletions
	command.RunE = func(command *cobra.Command, args []string) error {
		api, err := a.admin()
		if err != nil {
			return err
		}
		states, users := []sent[adminState]{}, []adminUser{}
		failed := each(args, func(id string) error {
			state, err := api.change(command.Context(), id, adminChange{Suspended: &suspended})
			if err == nil {
				states, users = append(states, state), append(users, state.known.Record.adminUser)
			}
			return err
		})
		if failed != nil && len(states) == 0 {
			return failed
		}
		// What was done is told, whatever came after it.
		return errors.Join(failed, a.showUsers(states, users))
	}
	return command
}

const untilOneFails = `

An id that is not found does not stop the others; any other failure does. Doing
it again does no harm.`

// each does something to users one after the other. One that is not found is
// passed over; what went wrong is all in the error.
func each(ids []string, do func(id string) error) error {
	var failed []error
	for i, id := range ids {
		err := do(id)
		if err == nil {
			continue
		}
		failed = append(failed, err)
		if exitCode(err) != exitNotFound {
			if rest := len(ids) - i - 1; rest > 0 {
				failed = append(failed, fmt.Errorf("not tried any more: %d of %d", rest, len(ids)))
			}
			// Its exit code is the one that counts.
			return exit{exitCode(err), errors.Join(failed...)}
		}
	}
	return errors.Join(failed...)
}

func (a *app) usersSetCommand() *cobra.Command {
	var total, remaining string
	command := &cobra.Command{
		Use:                   "set ID [--total N] [--remaining N]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Set what a user's quota began with, or what is left of it",
		Long: `Set what a user's quota began with (--total), or what is left of it
(--remaining), in credits; one credit is one US dollar. The ledger gets an entry
of kind adjust. The present key stays: its own limit is looked at again with the
user's next request.`,
		Example: `  latchkey users set u_42 --remaining 5
  latchkey users set u_42 --total 20 --remaining 20`,
		Args: ids(false), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, args []string) error {
			var change adminChange
			for _, f := range []struct {
				name, text string
				to         **account.Credits
			}{
				{"total", total, &change.TotalLimit}, {"remaining", remaining, &change.RemainingLimit},
			} {
				if !command.Flags().Changed(f.name) {
					continue
				}
				credits, err := account.ParseCredits(f.text)
				if err != nil || credits < 0 {
					return exit{exitUsage, fmt.Errorf("--%s is a number of credits, not %q", f.name, f.text)}
				}
				*f.to = &credits
			}
			if change == (adminChange{}) {
				return exit{exitUsage, errors.New("nothing to set: give --total, --remaining or both")}
			}
			api, err := a.admin()
			if err != nil {
				return err
			}
			state, err := api.change(command.Context(), args[0], change)
			if err != nil {
				return err
			}
			return a.showState(state)
		},
	}
	command.Flags().StringVar(&total, "total", "", "what the quota began with, in credits")
	command.Flags().StringVar(&remaining, "remaining", "", "what is left of it, in credits")
	return command
}

// erasure is what became of one user.
type erasure struct {
	UserID string `json:"user_id"`
	Status string `json:"status"` // erased, or erasing
}

func (a *app) usersEraseCommand() *cobra.Command {
	var yes bool
	command := &cobra.Command{
		Use:                   "erase ID... [--yes]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Erase users for good",
		Long: `Erase users for good: the key of each is deleted at OpenRouter, the record is
erased from the user's object and from D1, name and email with it. What stays is
the ledger, which has neither.

Status erasing means that the key could not be deleted yet, and that this goes
on in the background. A user who was erased and comes back with a valid token
begins anew: see suspend for keeping someone out.

On a terminal it asks first; elsewhere it wants --yes.` + untilOneFails,
		Example: `  latchkey users erase u_42
  latchkey users erase --yes u_42 u_43`,
		Args: ids(true), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, args []string) error {
			api, err := a.admin()
			if err != nil {
				return err
			}
			if !yes {
				question := "Erase this user for good?"
				if len(args) > 1 {
					question = fmt.Sprintf("Erase these %d users for good?", len(args))
				}
				if err := a.confirm(command, question, args...); err != nil {
					return err
				}
			}
			erasures, rows := []erasure{}, [][]string(nil)
			failed := each(args, func(id string) error {
				done, err := api.erase(command.Context(), id)
				if err != nil {
					return err
				}
				e := erasure{id, "erasing"}
				if done {
					e.Status = "erased"
				}
				erasures = append(erasures, e)
				rows = append(rows, []string{id, e.Status})
				return nil
			})
			if failed != nil && len(erasures) == 0 {
				return failed
			}
			header := []string{"id", "status"}
			if a.asCSV {
				header = []string{"user_id", "status"}
			}
			return errors.Join(failed, a.show(erasures, header, rows))
		},
	}
	command.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return command
}
