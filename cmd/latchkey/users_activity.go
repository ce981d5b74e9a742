package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/adminapi/adminclient"
	"latchkey/internal/backoff"
	"latchkey/internal/openrouter"
)

// activityParallel is how many keys OpenRouter is asked about at a time.
const activityParallel = 4

func (a *app) usersActivityCommand() *cobra.Command {
	var by string
	command := &cobra.Command{
		Use:                   "activity ID [--by model|day|key]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Show what a user's keys were used for in the last 30 days",
		Long: `Show what a user's keys were used for in the last 30 completed days (UTC), all of
them together, those that were replaced and deleted too: requests, tokens, and cost,
and beside it what the ledger charged.

The ledger names the keys, and OpenRouter is asked about each of them, which needs
OPENROUTER_MANAGEMENT_KEY too. The two sums differ. A call counts on its day, and a
charge on the day of the reading that found it. Today is not in it: OpenRouter
tells of a day once it is over. What is used after the last reading, or shows after
a key was deleted, was not charged.`,
		Example: `  latchkey users activity u_42
  latchkey users activity u_42 --by day --csv > u_42-activity.csv`,
		Args: ids(false), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, args []string) error {
			if !slices.Contains(userGroups, by) {
				return exit{exitUsage, fmt.Errorf("--by %q is not model, day or key", by)}
			}
			if _, err := a.managementKey(); err != nil {
				return err
			}
			api, err := a.admin()
			if err != nil {
				return err
			}
			entries, err := ledgerAfter(command.Context(), api, args[0], 0)
			if err != nil {
				return err
			}
			rows, unknown, err := a.keysActivity(command.Context(), keysIn(entries))
			if err != nil {
				return err
			}
			from, today := a.activityWindow()
			sum := userActivityOf(args[0], by, entries, rows, from, today)
			sum.UnknownKeys = unknown
			return a.showUserActivity(sum, by)
		},
	}
	command.Flags().StringVar(&by, "by", "model", "sum for each `model`, day or key")
	_ = command.RegisterFlagCompletionFunc("by", cobra.FixedCompletions(userGroups, cobra.ShellCompDirectiveNoFileComp))
	return command
}

// keysIn returns the hashes that a ledger names, in their order.
func keysIn(entries []adminclient.Sent[account.Entry]) []string {
	hashes, seen := []string{}, map[string]bool{"": true}
	for _, e := range entries {
		if hash := e.Known.Hash; !seen[hash] {
			seen[hash], hashes = true, append(hashes, hash)
		}
	}
	return hashes
}

// keysActivity reads the activity of keys, some at a time; a 429 holds all of them
// back. It also returns the keys of which OpenRouter knows nothing.
func (a *app) keysActivity(ctx context.Context, hashes []string) (rows []openrouter.ActivityRow, unknown []string, err error) {
	calls, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	progress := a.newProgress(len(hashes))
	defer progress.end()
	wait := &backoff.Backoff{Ctx: calls, Tries: accountTries, Longest: accountPatience, Say: progress.say}
	admin, err := a.accountWith(calls, wait)
	if err != nil {
		return nil, nil, err
	}
	found, gone := make([][]openrouter.ActivityRow, len(hashes)), make([]bool, len(hashes))
	next := make(chan int)
	var askers sync.WaitGroup
	for range activityParallel {
		askers.Go(func() {
			for i := range next {
				err := wait.Hold()
				if err == nil {
					found[i], err = admin.KeyActivity(hashes[i])
				}
				if gone[i] = openrouter.IsGone(err); err != nil && !gone[i] {
					fail(err) // the others would fare no better
				}
				progress.add(1)
			}
		})
	}
	for i := range hashes {
		next <- i
	}
	close(next)
	askers.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, nil, errors.New("interrupted")
	case calls.Err() != nil:
		return nil, nil, context.Cause(calls)
	}
	for i, hash := range hashes {
		if gone[i] {
			unknown = append(unknown, hash)
		}
	}
	return slices.Concat(found...), unknown, nil
}

// userActivity is what a user's keys were used for, beside what the ledger charged.
type userActivity struct {
	UserID       string           `json:"user_id"`
	From         string           `json:"from"` // the first day and the last one
	To           string           `json:"to"`
	Cost         account.Credits  `json:"cost"`          // at OpenRouter, in these days
	Charged      account.Credits  `json:"charged"`       // by the ledger, in these days
	ChargedToday account.Credits  `json:"charged_today"` // which is not in Charged
	Keys         []string         `json:"keys"`
	UnknownKeys  []string         `json:"unknown_keys,omitempty"` // OpenRouter knows nothing of them
	Groups       []*activityGroup `json:"groups"`
}

// userActivityOf sums the rows of a user's keys, and what the ledger charged.
func userActivityOf(id, by string, entries []adminclient.Sent[account.Entry], rows []openrouter.ActivityRow, from, today time.Time) userActivity {
	sum := userActivity{
		UserID: id, From: from.Format(time.DateOnly), To: today.AddDate(0, 0, -1).Format(time.DateOnly),
		Keys: keysIn(entries), Groups: group(rows, by, from, activityDays),
	}
	for _, row := range rows {
		sum.Cost += row.Usage.Credits
	}
	ledger := by != "model" // which knows days and keys, and no models
	named := map[string]*activityGroup{}
	for _, g := range sum.Groups {
		if named[g.names(by)[0]] = g; ledger {
			g.Charged = new(account.Credits)
		}
	}
	for _, sent := range entries {
		e := sent.Known
		if e.Kind != account.Charge || e.At.Before(from) {
			continue
		}
		if !e.At.Before(today) {
			sum.ChargedToday += e.Credits
			continue
		}
		sum.Charged += e.Credits
		if !ledger {
			continue
		}
		g := activityGroups[by].of(openrouter.ActivityRow{Date: e.At.UTC().Format(time.DateOnly), Key: e.Hash})
		name := g.names(by)[0]
		if named[name] == nil { // charged, and not used in these days
			g.Charged, g.Days, g.used = new(account.Credits), make([]account.Credits, activityDays), make([]bool, activityDays)
			named[name], sum.Groups = &g, append(sum.Groups, &g)
		}
		*named[name].Charged += e.Credits
	}
	sortGroups(sum.Groups, by)
	return sum
}

func (a *app) showUserActivity(sum userActivity, by string) error {
	if a.asJSON {
		return a.printJSON(sum, "  ")
	}
	if err := a.showActivity(by, sum.Groups, true); err != nil {
		return err
	}
	if a.asCSV {
		for _, line := range sum.text() {
			a.say("%s", line)
		}
		return nil
	}
	for _, line := range append([]string{""}, sum.text()...) {
		if err := a.print(line, false); err != nil {
			return err
		}
	}
	return nil
}

// text compares the two sums.
func (s userActivity) text() []string {
	lines := []string{fmt.Sprintf("From %s to %s OpenRouter counts %s, and the ledger charged %s.", s.From, s.To, s.Cost, s.Charged)}
	if difference := s.Cost - s.Charged; difference != 0 {
		lines = append(lines, fmt.Sprintf("The difference is %s: a call counts on its day, and a charge on the day of the reading that found it.", max(difference, -difference)))
	}
	if s.Cost > s.Charged {
		lines = append(lines, "What was used after the last reading, or showed after a key was deleted, is not charged.")
	}
	lines = append(lines, fmt.Sprintf("Today the ledger charged %s: OpenRouter tells of today once it is over (UTC).", s.ChargedToday))
	if len(s.UnknownKeys) > 0 {
		lines = append(lines, fmt.Sprintf("OpenRouter knows nothing of %d of the %d keys.", len(s.UnknownKeys), len(s.Keys)))
	}
	if len(s.UnknownKeys) > 0 && len(s.UnknownKeys) == len(s.Keys) {
		lines = append(lines, "Is "+managementName+" a key of the account that made them?")
	}
	return lines
}
