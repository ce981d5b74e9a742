package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/class"
)

// standingHeader is what there is of a key of a class.
var standingHeader = []string{"person", "name", "email", "state", "limit", "reset", "used", "left", "last_used", "expires", "hash", "file"}

func (a *app) classStatusCommand(of *classOf) *cobra.Command {
	var work workFlags
	var order order
	command := &cobra.Command{
		Use:   "status",
		Short: "Show who spent what of which limit, and when a key was last used",
		Long: `Show who spent what of which limit, and when a key was last used.

used is all that was ever spent on a key, left what its limit still allows, in its
window. Both lag by up to a minute. last_used is a day (UTC); OpenRouter tells of 30
days. States are active, exhausted (nothing left), paused, expired, replacing (another
is to take its place), replaced (another took its place, and it works on), gone (from
OpenRouter), missing (not made), deleted (by a revocation).

--json and --csv have everything.`,
		Example: `  latchkey class status --sort -used
  latchkey class status --csv > class-status.csv
  latchkey class status --json | jq -r '.[] | select(.state == "exhausted") | .email'`,
		Args: usage(cobra.NoArgs),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := order.check(); err != nil {
				return err
			}
			if err := work.check(); err != nil {
				return err
			}
			c, err := readManifest(of.manifest)
			if err != nil {
				return err
			}
			options, progress, err := a.classOptions(command.Context(), work, c.Keys())
			if err != nil {
				return err
			}
			standings, err := c.Status(command.Context(), options)
			progress.end()
			if err != nil {
				return err
			}
			sortBy(order, standings, func(s class.Standing, column string) string {
				return standingCells(s)[slices.Index(standingHeader, column)]
			})
			return a.showStandings(standings)
		},
	}
	order.register(command, standingHeader)
	command.Flags().IntVar(&work.parallel, "parallel", 4, fmt.Sprintf("`number` of keys that are asked about at a time, at most %d", maxParallel))
	return command
}

// readManifest reads the manifest of a class that is there.
func readManifest(path string) (*class.Class, error) {
	c, err := class.ReadManifest(path)
	return c, orNoClass(path, err)
}

// standingCells are a standing under standingHeader: what there is not is empty.
func standingCells(s class.Standing) []string {
	expires := ""
	if !s.ExpiresAt.IsZero() {
		expires = timeText(s.ExpiresAt)
	}
	return []string{s.Person, s.Name, s.Email, s.State, amountText(s.Limit, ""), s.Reset, amountText(s.Used, ""), amountText(s.Left, ""), s.LastUsed, expires, s.Hash, s.File}
}

func (a *app) showStandings(standings []class.Standing) error {
	var used, limit account.Credits
	states := map[string]int{}
	rows := make([][]string, len(standings))
	for i, s := range standings {
		rows[i] = standingCells(s)
		states[s.State]++
		if s.Used != nil {
			used += s.Used.Credits
		}
		if s.Limit != nil {
			limit += s.Limit.Credits
		}
	}
	counts := []string{}
	for _, state := range class.States {
		if n := states[state]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(standings) == 0 {
		a.notice("nobody in the class has a key")
	} else {
		a.notice(fmt.Sprintf("%s: %s; %v credits used, of limits of %v", count(len(standings), "key", "keys"), strings.Join(counts, ", "), used, limit))
	}
	header := standingHeader
	if !a.asCSV && !a.asJSON {
		if len(standings) == 0 {
			return nil // a table without rows has no columns that anybody needs
		}
		header, rows = tableOf(header, rows)
	}
	return a.show(standings, header, rows)
}

// tableOf leaves out of standings what people do not need: the columns that are the
// same as the first or empty in all rows, and those that are for programs.
func tableOf(header []string, rows [][]string) ([]string, [][]string) {
	kept := []int{}
	for i, name := range header {
		idle := func(row []string) bool { return row[i] == "" || i > 0 && strings.EqualFold(row[i], row[0]) }
		if name != "hash" && name != "file" && slices.ContainsFunc(rows, func(row []string) bool { return !idle(row) }) {
			kept = append(kept, i)
		}
	}
	pick := func(row []string) []string {
		cells := make([]string, len(kept))
		for at, i := range kept {
			cells[at] = cmp.Or(row[i], "-")
		}
		return cells
	}
	cut := make([][]string, len(rows))
	for i, row := range rows {
		cut[i] = pick(row)
	}
	names := pick(header)
	for i, name := range names {
		names[i] = strings.ReplaceAll(name, "_", " ")
	}
	return names, cut
}
