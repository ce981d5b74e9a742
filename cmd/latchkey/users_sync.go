package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"latchkey/internal/office"
	"latchkey/internal/openrouter"
)

func (a *app) usersSyncCommand() *cobra.Command {
	var fromKeys bool
	command := &cobra.Command{
		Use:   "sync [ID...]",
		Short: "Have users written to D1 anew, where it lost them",
		Long: `Have users written to D1 anew, row and ledger, where it lost them. The users'
objects hold all of it; they write in the background, within moments.

Nobody can list the objects. --from-keys finds the users in the names of the
keys at OpenRouter, which needs OPENROUTER_PROVISIONING_API_KEY too: that is
everybody who has a key. Give the ids of the others, who are suspended or whose
quota is spent, if you know them; they are also written with their next change.` + untilOneFails,
		Example: `  latchkey users sync --from-keys
  xargs -d '\n' latchkey users sync -- < ids.txt`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(command *cobra.Command, args []string) error {
			if fromKeys {
				return none(command, args)
			}
			return ids(true)(command, args)
		},
		RunE: func(command *cobra.Command, args []string) error {
			api, err := a.admin()
			if err != nil {
				return err
			}
			if fromKeys {
				if args, err = a.keyOwners(command.Context()); err != nil {
					return err
				}
			}
			synced := 0
			failed := each(args, func(id string) error {
				_, err := api.call(command.Context(), http.MethodPost, userPath(id)+"/sync", nil, nil)
				if err == nil {
					synced++
				}
				return about(id, err)
			})
			fmt.Fprintf(a.err, "%d of %d users are being written to D1.\n", synced, len(args))
			return failed
		},
	}
	command.Flags().BoolVar(&fromKeys, "from-keys", false, "everybody who has a key at OpenRouter")
	return command
}

// keyOwners returns the users whose keys OpenRouter lists.
func (a *app) keyOwners(ctx context.Context) ([]string, error) {
	account, err := a.account(ctx)
	if err != nil {
		return nil, err
	}
	var owners []string
	err = account.EachRecord(true, func(key openrouter.KeyRecord) error {
		if owner, ours := office.Owner(key.Name); ours {
			owners = append(owners, owner)
		}
		return nil
	})
	slices.Sort(owners)
	return slices.Compact(owners), accountError(err)
}
