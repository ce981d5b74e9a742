package main

import (
	"context"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminclient"
)

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
			entries, err := ledgerAfter(command.Context(), api, args[0], 0)
			if err != nil {
				return err
			}
			return a.showLedger(entries)
		},
	}
}

func (a *app) showLedger(entries []adminclient.Sent[account.Entry]) error {
	header := []string{"seq", "at", "kind", "credits", "remaining", "key"}
	if a.asCSV {
		header = []string{"seq", "at", "kind", "credits", "remaining_limit", "hash"}
	}
	var rows [][]string
	for _, entry := range entries {
		e := entry.Known
		rows = append(rows, []string{
			strconv.FormatInt(e.Seq, 10), timeText(e.At), string(e.Kind), e.Credits.String(), e.RemainingLimit.String(), a.hashCell(e.Hash),
		})
	}
	return a.show(entries, header, rows)
}

// ledgerAfter returns the entries of a user's ledger after a seq, oldest first.
func ledgerAfter(ctx context.Context, api *adminclient.Client, id string, after int64) ([]adminclient.Sent[account.Entry], error) {
	entries := []adminclient.Sent[account.Entry]{}
	for page, err := range api.Ledger(ctx, id, adminapi.MaxPage) {
		if err != nil {
			return nil, err
		}
		old := slices.IndexFunc(page.Items, func(e adminclient.Sent[account.Entry]) bool { return e.Known.Seq <= after })
		if old >= 0 {
			entries = append(entries, page.Items[:old]...)
			break
		}
		entries = append(entries, page.Items...)
	}
	slices.Reverse(entries) // they come newest first
	return entries, nil
}
