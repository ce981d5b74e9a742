package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) reconcileCommand() *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use:                   "reconcile [--dry-run]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Delete keys of ours at OpenRouter that no record owns",
		Long: `Delete keys of ours at OpenRouter that no record owns, as the daily cron trigger
does. Every page of the account's keys is looked through, disabled keys too.
Keys with a name that is not one of ours, keys younger than ten minutes and keys
that a record owns are never touched.

--dry-run shows what would be deleted, and deletes nothing.`,
		Example: `  latchkey reconcile --dry-run
  latchkey reconcile --json | jq .deleted`,
		Args: none, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, _ []string) error {
			api, err := a.admin()
			if err != nil {
				return err
			}
			report, err := api.reconcile(command.Context(), dryRun)
			if err != nil {
				return withoutAdminAPI(err)
			}
			if report.Orphans == nil {
				report.Orphans = []adminOrphan{}
			}
			return a.showReport(report)
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "delete nothing")
	return command
}

func (a *app) showReport(report adminReport) error {
	header := []string{"key", "name", "created"}
	if a.asCSV {
		header = []string{"hash", "name", "created_at"}
	}
	var rows [][]string
	for _, o := range report.Orphans {
		rows = append(rows, []string{a.cell(a.hashCell(o.Hash)), a.cell(o.Name), a.cell(o.CreatedAt)})
	}
	if !a.asJSON && !a.asCSV {
		fmt.Fprintf(a.out, "Keys at OpenRouter: %d, ours: %d, of no record: %d, deleted: %d", report.Examined, report.Ours, len(report.Orphans), report.Deleted)
		if report.DryRun {
			fmt.Fprint(a.out, " (dry run)")
		}
		fmt.Fprintln(a.out)
		if len(rows) == 0 {
			return nil
		}
		fmt.Fprintln(a.out)
	}
	return a.show(report, header, rows)
}
