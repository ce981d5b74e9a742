package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminclient"
)

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

func (a *app) list(ctx context.Context, api *adminclient.Client, q string, limit int, all bool) error {
	users := []adminclient.Sent[adminapi.User]{}
	for page, err := range api.Users(ctx, q, limit) {
		if err != nil {
			return err
		}
		users = append(users, page.Items...)
		if page.More && !all {
			a.say("There are more: --all lists every one.")
			break
		}
	}
	records := make([]adminapi.Record, len(users))
	for i, user := range users {
		records[i].User = user.Known
	}
	return a.showUsers(users, records)
}
