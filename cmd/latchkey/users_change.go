package main

import (
	"context"
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
		return a.adjustEach(command.Context(), api, args, adminapi.Adjustment{Suspended: &suspended})
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
	var force bool
	var confirmation confirmation
	command := &cobra.Command{
		Use:                   "set ID... [--total N] [--remaining N] [--force] [--yes]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Set what users' quotas began with, or what is left of them",
		Long: `Set what a user's quota began with (--total), or what is left of it
(--remaining), in credits; one credit is one US dollar. With --total alone, what is
left moves along. The ledger gets an entry of kind adjust. The present key stays:
its own limit is looked at again with the user's next request.

More left than a quota began with is mostly a slip, and is refused for all users
before anything is changed, unless --force is given.` + asksFirst + untilOneFails,
		Example: `  latchkey users set u_42 --remaining 5
  latchkey users set u_42 u_43 --total 20 --remaining 20 --yes`,
		Args: ids(true), ValidArgsFunction: cobra.NoFileCompletions,
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
			if !force {
				if err := refuseMoreThanTotal(command.Context(), api, args, change); err != nil {
					return err
				}
			}
			if err := a.confirm(command, confirmation, "Change the quota of "+theseUsers(args)+"?", args...); err != nil {
				return err
			}
			return a.adjustEach(command.Context(), api, args, change)
		},
	}
	command.Flags().StringVar(&total, "total", "", "what the quota began with, in credits")
	command.Flags().StringVar(&remaining, "remaining", "", "what is left of it, in credits")
	command.Flags().BoolVar(&force, "force", false, "leave more than the quota began with, too")
	confirmation.register(command)
	return command
}

// refuseMoreThanTotal refuses a change that leaves a user more than the quota began
// with. Who is not found is passed over: the change will tell.
func refuseMoreThanTotal(ctx context.Context, api *adminclient.Client, ids []string, change adminapi.Adjustment) error {
	if change.RemainingLimit == nil {
		return nil
	}
	var refused []error
	refuse := func(whose string, total account.Credits) {
		if left := *change.RemainingLimit; left > total {
			refused = append(refused, fmt.Errorf("%s%s left would be more than the %s that the quota began with", whose, left, total))
		}
	}
	if change.TotalLimit != nil {
		refuse("", *change.TotalLimit)
	} else {
		for _, id := range ids {
			state, err := api.User(ctx, id)
			if err != nil && exitCode(err) != exitNotFound {
				return err
			}
			if err == nil && state.Known.Record.Damaged == "" {
				refuse(id+": ", state.Known.Record.TotalLimit)
			}
		}
	}
	if len(refused) > 0 {
		return exit{exitUsage, errors.Join(append(refused, errors.New("Nothing was changed. Give --total too, or --force if it is meant."))...)}
	}
	return nil
}

// adjustEach changes users one after the other and shows those that were changed,
// whatever came after them.
func (a *app) adjustEach(ctx context.Context, api *adminclient.Client, ids []string, change adminapi.Adjustment) error {
	states, users := []adminclient.Sent[adminapi.State]{}, []adminapi.Record{}
	failed := each(ids, func(id string) error {
		state, err := api.Adjust(ctx, id, change)
		if err == nil {
			states, users = append(states, state), append(users, state.Known.Record)
		}
		return err
	})
	if failed != nil && len(states) == 0 {
		return failed
	}
	return errors.Join(failed, a.showUsers(states, users))
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
