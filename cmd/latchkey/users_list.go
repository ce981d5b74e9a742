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
	var order order
	command := &cobra.Command{
		Use:                   "list [--q TEXT] [--sort COLUMN] [--limit N] [--all]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "List users, those that changed last first",
		Long: `List users, those that changed last first: one page, or with --all every page.

The list comes from D1, which is moments behind the users' objects. A user who
changes while --all reads page after page moves to the front, and so may be
missing from what is read afterwards.

Columns: what the quota began with (TOTAL), what is left of it (REMAINING), and
what was left on the present key when it was last read (ON KEY). Who has no more
left than --renew-at is exhausted: the quota is spent.

With --sort every page is read, and the first users in that order are listed.`,
		Example: `  latchkey users list --limit 10
  latchkey users list --q example.org --all
  latchkey users list --sort remaining --limit 10
  latchkey users list --all --json | jq -r '.[] | select(.suspended) | .user_id'`,
		Args: none, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, _ []string) error {
			if limit < 1 || limit > adminapi.MaxPage {
				return exit{exitUsage, fmt.Errorf("--limit is from 1 to %d", adminapi.MaxPage)}
			}
			if err := order.check(); err != nil {
				return err
			}
			if all && !command.Flags().Changed("limit") {
				limit = adminapi.MaxPage
			}
			api, err := a.admin()
			if err != nil {
				return err
			}
			return a.list(command.Context(), api, q, limit, all, order)
		},
	}
	command.Flags().StringVar(&q, "q", "", "only those with this text in id, name or email")
	command.Flags().IntVar(&limit, "limit", adminapi.DefaultPage, "users on a page, up to 200")
	command.Flags().BoolVar(&all, "all", false, "every page")
	order.register(command, listColumns())
	return command
}

func (a *app) list(ctx context.Context, api *adminclient.Client, q string, limit int, all bool, order order) error {
	page := limit
	if order.by != "" {
		page = adminapi.MaxPage
	}
	users, more := []adminclient.Sent[adminapi.User]{}, false
	for read, err := range api.Users(ctx, q, page) {
		if err != nil {
			return err
		}
		users = append(users, read.Items...)
		if more = read.More; !all && order.by == "" {
			break
		}
	}
	sortBy(order, users, func(user adminclient.Sent[adminapi.User], column string) string {
		return a.column(column, adminapi.Record{User: user.Known})
	})
	if !all && len(users) > limit {
		users, more = users[:limit], true
	}
	if more {
		a.say("There are more: --all lists every one.")
	}
	records := make([]adminapi.Record, len(users))
	for i, user := range users {
		records[i].User = user.Known
	}
	return a.showUsers(users, records)
}
