package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"latchkey/internal/adminapi/adminclient"
	"latchkey/internal/openrouter"
)

// keyPrefix is what KEY_NAME_PREFIX can be.
var keyPrefix = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func (a *app) usersSyncCommand() *cobra.Command {
	var fromKeys bool
	var prefix string
	command := &cobra.Command{
		Use:   "sync [ID...]",
		Short: "Have users written to D1 anew, where it lost them",
		Long: `Have users written to D1 anew, row and ledger, where it lost them. The users'
objects hold all of it; they write in the background, within moments.

Nobody can list the objects. --from-keys finds the users in the names of the
keys at OpenRouter, which needs OPENROUTER_MANAGEMENT_KEY too: that is everybody
who has a key. --prefix has to be what KEY_NAME_PREFIX is set to. Give the ids
of the others, who are suspended or whose quota is spent, if you know them; they
are also written with their next change.

An id that no URL can name or that the latchkey refuses does not stop the
others; a refused token or no answer at all does. The command fails then, and
says how many were left out. Doing it again does no harm.`,
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
			if !keyPrefix.MatchString(prefix) {
				return exit{exitUsage, fmt.Errorf("--prefix %q is no KEY_NAME_PREFIX: it has up to 32 of a-z, 0-9 and -", prefix)}
			}
			api, err := a.admin()
			if err != nil {
				return err
			}
			if fromKeys {
				if args, err = a.keyOwners(command.Context(), prefix); err != nil {
					return err
				}
			}
			return a.sync(command.Context(), api, args)
		},
	}
	command.Flags().BoolVar(&fromKeys, "from-keys", false, "everybody who has a key at OpenRouter")
	command.Flags().StringVar(&prefix, "prefix", "latchkey", "with --from-keys: what the names of the keys begin with (KEY_NAME_PREFIX)")
	return command
}

// sync has users written to D1, and leaves out those for whom that fails.
func (a *app) sync(ctx context.Context, api *adminclient.Client, ids []string) error {
	synced := 0
	var failed []error
	for _, id := range ids {
		if err := adminclient.CheckID(id); err != nil {
			failed = append(failed, err)
			continue
		}
		err := api.Sync(ctx, id)
		if err == nil {
			synced++
			continue
		}
		failed = append(failed, err)
		if refusal, ok := errors.AsType[*adminclient.Refusal](err); !ok || refusal.Status < 400 || exitCode(err) == exitRefused {
			break // the others would fare no better
		}
	}
	a.say("%d of %d users are being written to D1.", synced, len(ids))
	if len(failed) > 0 {
		failed = append(failed, fmt.Errorf("left out: %d of %d users", len(ids)-synced, len(ids)))
	}
	return errors.Join(failed...)
}

// keyOwners returns the users whose keys OpenRouter lists.
func (a *app) keyOwners(ctx context.Context, prefix string) ([]string, error) {
	account, err := a.account(ctx)
	if err != nil {
		return nil, err
	}
	var owners []string
	err = account.EachRecord(true, func(key openrouter.KeyRecord) error {
		if owner, _, ours := openrouter.ParseKeyName(prefix, key.Name); ours {
			owners = append(owners, owner)
		}
		return nil
	})
	slices.Sort(owners)
	return slices.Compact(owners), err
}
