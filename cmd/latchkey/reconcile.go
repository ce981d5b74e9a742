package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminclient"
	"latchkey/internal/oplog"
)

func (a *app) reconcileCommand() *cobra.Command {
	var dryRun, force bool
	var confirmation confirmation
	command := &cobra.Command{
		Use:                   "reconcile [--dry-run] [--force] [--yes]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Delete keys of ours at OpenRouter that no record owns",
		Long: `Delete keys of ours at OpenRouter that no record owns, as the daily cron trigger
does. Every page of the account's keys is looked through, disabled keys too.
Keys with a name that is not one of ours, keys younger than ten minutes and keys
that a record owns are never touched.

It always looks first, says what it found, and asks before it deletes; scripts
give --yes. --dry-run ends with what was found.

More than 10 such keys that are also more than a tenth of all keys of ours are
suspicious: they may be the keys of another deployment, or of the one that this
one is a fresh clone of, in the same OpenRouter account. Then none is deleted,
and the command fails. A KEY_NAME_PREFIX of its own for each deployment is the
cure. --force deletes them all the same.

A key whose owner could not be asked, or that could not be deleted, is counted
as failed, and the command fails. The next run tries it again.`,
		Example: `  latchkey reconcile --dry-run
  latchkey reconcile --yes --json | jq .deleted`,
		Args: none, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, _ []string) error {
			api, err := a.admin()
			if err != nil {
				return err
			}
			report, err := api.Reconcile(command.Context(), adminapi.ReconcileOptions{DryRun: true, Force: force})
			if err != nil {
				return err
			}
			found := report.Known
			if !dryRun && !(found.Suspicious && !force) && (len(found.Orphans) > 0 || confirmation.yes) {
				a.say("%s", reportText(found))
				for _, orphan := range found.Orphans {
					a.say("  %s  %s  %s", oplog.ShortHash(orphan.Hash), orphan.Name, timeOf(orphan.CreatedAt))
				}
				if err := a.confirm(command, confirmation, fmt.Sprintf("Delete these %d keys for good?", len(found.Orphans))); err != nil {
					return err
				}
				// Dying after this: what was not deleted is found by the next run.
				if report, err = api.Reconcile(command.Context(), adminapi.ReconcileOptions{Force: force}); err != nil {
					return err
				}
			}
			return errors.Join(a.showReport(report), reportFailure(report.Known, force))
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "delete nothing")
	command.Flags().BoolVar(&force, "force", false, "delete them even if they are suspiciously many")
	confirmation.register(command)
	return command
}

// reportText sums a report up.
func reportText(r adminapi.ReconcileReport) string {
	text := fmt.Sprintf("Keys at OpenRouter: %d, ours: %d, of no record: %d, deleted: %d, failed: %d", r.Examined, r.Ours, len(r.Orphans), r.Deleted, r.Failed)
	if r.Suspicious {
		text += ", suspicious"
	}
	if r.DryRun {
		text += " (dry run)"
	}
	return text
}

// reportFailure is what went wrong by a report.
func reportFailure(r adminapi.ReconcileReport, force bool) error {
	var failed []error
	if r.Failed > 0 {
		failed = append(failed, fmt.Errorf("%d failed: the owner of the key could not be asked, or the key not be deleted; the next run tries again", r.Failed))
	}
	if r.Suspicious && !force {
		failed = append(failed,
			fmt.Errorf("suspicious: %d of %d keys of ours are of no record, and so none is deleted", len(r.Orphans), r.Ours),
			errors.New("They may be the keys of another deployment, or of the one that this one is a fresh clone of, with the same OpenRouter account: then people use them. A KEY_NAME_PREFIX of its own for each deployment is the cure."),
			errors.New("If you are sure that nobody uses them: latchkey reconcile --force"))
	}
	return errors.Join(failed...)
}

func (a *app) showReport(report adminclient.Sent[adminapi.ReconcileReport]) error {
	header := []string{"key", "name", "created"}
	if a.asCSV {
		header = []string{"hash", "name", "created_at"}
	}
	var rows [][]string
	for _, o := range report.Known.Orphans {
		rows = append(rows, []string{a.hashCell(o.Hash), o.Name, timeOf(o.CreatedAt)})
	}
	if !a.asJSON && !a.asCSV {
		if err := a.print(reportText(report.Known), report.Known.Suspicious || report.Known.Failed > 0); err != nil || len(rows) == 0 {
			return err
		}
		if err := a.print("", false); err != nil {
			return err
		}
	}
	return a.show(report, header, rows)
}
