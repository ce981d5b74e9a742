package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminclient"
)

const asksFirst = `

On a terminal it asks first; elsewhere it wants --yes.`

func (a *app) usersSuspendCommand(suspended bool) *cobra.Command {
	var confirmation confirmation
	verb := "Suspend"
	command := &cobra.Command{
		Use:                   "suspend ID... [--yes]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Suspend users: their keys are deleted, and they get no new one",
		Long: `Suspend users: the key of each is deleted at OpenRouter, and latchkey gives out
no new one until the user is resumed. Quota and ledger stay as they are. Where
OpenRouter cannot be reached the user is suspended all the same, and the
deletion goes on in the background: see it with users show.` + asksFirst + untilOneFails,
		Example: `  latchkey users suspend u_42 u_43
  xargs -d '\n' latchkey users suspend --yes -- < ids.txt`,
	}
	if !suspended {
		verb = "Resume"
		command.Use = "resume ID... [--yes]"
		command.Short = "Resume users that were suspended"
		command.Long = `Resume users that were suspended. Each gets a new key with the next request, on
what is left of the quota.` + asksFirst + untilOneFails
		command.Example = `  latchkey users resume u_42 u_43`
	}
	command.Args, command.ValidArgsFunction = ids(true), cobra.NoFileCompletions
	command.RunE = func(command *cobra.Command, args []string) error {
		api, err := a.admin()
		if err != nil {
			return err
		}
		if err := a.confirm(command, confirmation, verb+" "+theseUsers(args)+"?", args...); err != nil {
			return err
		}
		states, users := []adminclient.Sent[adminapi.State]{}, []adminapi.Record{}
		failed := each(args, func(id string) error {
			state, err := api.Adjust(command.Context(), id, adminapi.Adjustment{Suspended: &suspended})
			if err == nil {
				states, users = append(states, state), append(users, state.Known.Record)
			}
			return err
		})
		if failed != nil && len(states) == 0 {
			return failed
		}
		// What was done is told, whatever came after it.
		return errors.Join(failed, a.showUsers(states, users))
	}
	confirmation.register(command)
	return command
}

func theseUsers(ids []string) string {
	if len(ids) == 1 {
		return "this user"
	}
	return fmt.Sprintf("these %d users", len(ids))
}

func (a *app) usersSetCommand() *cobra.Command {
	var total, remaining string
	var confirmation confirmation
	command := &cobra.Command{
		Use:                   "set ID [--total N] [--remaining N] [--yes]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Set what a user's quota began with, or what is left of it",
		Long: `Set what a user's quota began with (--total), or what is left of it
(--remaining), in credits; one credit is one US dollar. The ledger gets an entry
of kind adjust. The present key stays: its own limit is looked at again with the
user's next request.` + asksFirst,
		Example: `  latchkey users set u_42 --remaining 5
  latchkey users set u_42 --total 20 --remaining 20 --yes`,
		Args: ids(false), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, args []string) error {
			var change adminapi.Adjustment
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
			if change == (adminapi.Adjustment{}) {
				return exit{exitUsage, errors.New("nothing to set: give --total, --remaining or both")}
			}
			api, err := a.admin()
			if err != nil {
				return err
			}
			if err := a.confirm(command, confirmation, "Change the quota of this user?", args...); err != nil {
				return err
			}
			state, err := api.Adjust(command.Context(), args[0], change)
			if err != nil {
				return err
			}
			return a.showState(state)
		},
	}
	command.Flags().StringVar(&total, "total", "", "what the quota began with, in credits")
	command.Flags().StringVar(&remaining, "remaining", "", "what is left of it, in credits")
	confirmation.register(command)
	return command
}

// erasure is what became of one user.
type erasure struct {
	UserID string `json:"user_id"`
	Status string `json:"status"` // erased, or erasing
}

func (a *app) usersEraseCommand() *cobra.Command {
	var confirmation confirmation
	command := &cobra.Command{
		Use:                   "erase ID... [--yes]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Erase users for good",
		Long: `Erase users for good: the key of each is deleted at OpenRouter, the record is
erased from the user's object and from D1, name and email with it. What stays is
the ledger, which has neither.

Status erasing means that the key could not be deleted yet, and that this goes
on in the background. A user who was erased and comes back with a valid token
begins anew: see suspend for keeping someone out.` + asksFirst + untilOneFails,
		Example: `  latchkey users erase u_42
  latchkey users erase --yes u_42 u_43`,
		Args: ids(true), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, args []string) error {
			api, err := a.admin()
			if err != nil {
				return err
			}
			if err := a.confirm(command, confirmation, "Erase "+theseUsers(args)+" for good?", args...); err != nil {
				return err
			}
			erasures, rows := []erasure{}, [][]string(nil)
			failed := each(args, func(id string) error {
				done, err := api.Erase(command.Context(), id)
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
	confirmation.register(command)
	return command
}
