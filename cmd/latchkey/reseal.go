package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/internal/adminapi"
)

// resealed is what a whole walk came to.
type resealed struct {
	Resealed  int      `json:"resealed"`
	Failed    []string `json:"failed"`
	Remaining int      `json:"remaining"`
}

func (a *app) resealCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reseal",
		Short: "Seal keys anew that are sealed with the previous encryption key",
		Long: `Seal keys anew that are sealed with KEY_ENCRYPTION_KEY_PREVIOUS. Each user's key is
sealed with KEY_ENCRYPTION_KEY when the record is next written; this does it now, for
all others. Nothing is asked of OpenRouter, and no user notices.

It can be interrupted and repeated at any point. Once it ends without an error, and
D1 has had a minute to follow, KEY_ENCRYPTION_KEY_PREVIOUS can be removed.

A user whose key could not be sealed anew is named, and the command fails: that key
opens with neither of the two, or the user's object could not be asked. The others
are done all the same.`,
		Example: `  latchkey reseal
  latchkey reseal --json | jq -r '.failed[]'`,
		Args: none, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, _ []string) error {
			api, err := a.admin()
			if err != nil {
				return err
			}
			total := resealed{Failed: []string{}}
			var bar *progress
			for page, err := range api.Reseal(command.Context(), adminapi.MaxPage) {
				// Dying here leaves the rest to the next run.
				if err != nil {
					return err
				}
				report := page.Items[0].Known
				if bar == nil {
					bar = a.newProgress(report.Resealed + report.Remaining)
					defer bar.end()
				}
				bar.add(report.Resealed)
				total.Resealed += report.Resealed
				total.Failed = append(total.Failed, report.Failed...)
				total.Remaining = report.Remaining
			}
			bar.end()
			if !a.asJSON && !a.asCSV {
				err = a.print(fmt.Sprintf("Sealed anew: %d, failed: %d", total.Resealed, len(total.Failed)), len(total.Failed) > 0)
				for _, id := range total.Failed {
					a.say("  %s", id)
				}
			} else {
				err = a.show(total, []string{"resealed", "failed"}, [][]string{{strconv.Itoa(total.Resealed), strconv.Itoa(len(total.Failed))}})
			}
			if err == nil && total.Remaining > 0 {
				err = fmt.Errorf("%d users still have a key that is sealed with the previous encryption key: keep KEY_ENCRYPTION_KEY_PREVIOUS, look into the log for why, and run this again", total.Remaining)
			}
			return err
		},
	}
}
