package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
)

// activityDays is how many completed days OpenRouter tells of.
const activityDays = 30

func (a *app) activityCommand() *cobra.Command {
	var by, date string
	activity := &cobra.Command{
		Use:   "activity",
		Short: "Show what the OpenRouter account was used for in the last 30 days",
		Long: `Show what the OpenRouter account was used for in the last 30 completed days (UTC),
for each endpoint, which is a model at a provider: requests, tokens, cost, and the
cost day by day, from 30 days ago at the left to yesterday at the right. A dot is
a day without requests. Today is not in it.`,
		Example: `  latchkey activity --by day --csv > spend.csv
  latchkey activity --by model --date 2026-11-20`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(accountGroups, by) {
				return exit{exitUsage, fmt.Errorf("--by %q is not endpoint, model, day or provider", by)}
			}
			from, today := a.activityWindow()
			days := activityDays
			if date != "" {
				day, err := time.Parse(time.DateOnly, date)
				if err != nil {
					return exit{exitUsage, fmt.Errorf("--date %q is not a day like 2026-11-20", date)}
				}
				if day.Before(from) || !day.Before(today) {
					return exit{exitUsage, fmt.Errorf("--date %s is not one of the last %d completed days (UTC)", date, activityDays)}
				}
				from, days = day, 1
			}
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			rows, err := account.Activity(date)
			if err != nil {
				return err
			}
			return a.showActivity(by, group(rows, by, from, days), days > 1)
		},
	}
	activity.Flags().StringVar(&by, "by", "endpoint", "sum for each `endpoint`, model, day or provider")
	activity.Flags().StringVar(&date, "date", "", "only this `day` (UTC), as 2026-11-20")
	_ = activity.RegisterFlagCompletionFunc("by", cobra.FixedCompletions(accountGroups, cobra.ShellCompDirectiveNoFileComp))
	return activity
}

// activityWindow are the first day that OpenRouter tells of, and today, of which it
// does not.
func (a *app) activityWindow() (from, today time.Time) {
	today = a.now().UTC().Truncate(24 * time.Hour)
	return today.AddDate(0, 0, -activityDays), today
}

// activityGroup is the sum of what belongs together.
type activityGroup struct {
	Key              string            `json:"hash,omitempty"`
	Endpoint         string            `json:"endpoint_id,omitempty"`
	Model            string            `json:"model,omitempty"`
	Provider         string            `json:"provider,omitempty"`
	Day              string            `json:"day,omitempty"`
	Requests         int64             `json:"requests"`
	PromptTokens     int64             `json:"prompt_tokens"`
	CompletionTokens int64             `json:"completion_tokens"`
	ReasoningTokens  int64             `json:"reasoning_tokens"`
	Cost             account.Credits   `json:"cost"`
	Charged          *account.Credits  `json:"charged,omitempty"` // by the ledger; nil: it does not say for such a group
	Days             []account.Credits `json:"cost_by_day,omitempty"`

	used []bool // whether there were requests that day
}

// accountGroups are the groups of the account's activity, and userGroups those of a
// user's.
var (
	accountGroups = []string{"endpoint", "model", "day", "provider"}
	userGroups    = []string{"model", "day", "key"}
)

// activityGroups says for each --by which columns name a group, and what they
// are for a row.
var activityGroups = map[string]struct {
	header []string
	of     func(openrouter.ActivityRow) activityGroup
}{
	"endpoint": {[]string{"model", "provider", "endpoint"}, func(row openrouter.ActivityRow) activityGroup {
		return activityGroup{Endpoint: row.Endpoint, Model: row.Model, Provider: row.Provider}
	}},
	"model":    {[]string{"model"}, func(row openrouter.ActivityRow) activityGroup { return activityGroup{Model: row.Model} }},
	"provider": {[]string{"provider"}, func(row openrouter.ActivityRow) activityGroup { return activityGroup{Provider: row.Provider} }},
	"day":      {[]string{"day"}, func(row openrouter.ActivityRow) activityGroup { return activityGroup{Day: row.Date} }},
	"key":      {[]string{"key"}, func(row openrouter.ActivityRow) activityGroup { return activityGroup{Key: row.Key} }},
}

// names are the columns that name the group.
func (g activityGroup) names(by string) []string {
	switch by {
	case "endpoint":
		return []string{g.Model, g.Provider, g.Endpoint}
	case "model":
		return []string{g.Model}
	case "provider":
		return []string{g.Provider}
	case "day":
		return []string{g.Day}
	case "key":
		return []string{g.Key}
	}
	panic("activity: not grouped by " + by)
}

// group sums the rows of days days from a day on: the days in their order,
// anything else by what it cost.
func group(rows []openrouter.ActivityRow, by string, from time.Time, days int) []*activityGroup {
	sums := map[string]*activityGroup{}
	groups := []*activityGroup{}
	for _, row := range rows {
		g := activityGroups[by].of(row)
		id := strings.Join(g.names(by), "\x00")
		sum := sums[id]
		if sum == nil {
			sum = &g
			if by != "day" {
				sum.Days, sum.used = make([]account.Credits, days), make([]bool, days)
			}
			sums[id], groups = sum, append(groups, sum)
		}
		sum.Requests += row.Requests
		sum.PromptTokens += row.PromptTokens
		sum.CompletionTokens += row.CompletionTokens
		sum.ReasoningTokens += row.ReasoningTokens
		sum.Cost += row.Usage.Credits
		// A row of another day than was asked for counts, but has no place here.
		if at, err := time.Parse(time.DateOnly, row.Date); err == nil && by != "day" {
			if day := int(at.Sub(from) / (24 * time.Hour)); day >= 0 && day < days {
				sum.Days[day] += row.Usage.Credits
				sum.used[day] = true
			}
		}
	}
	sortGroups(groups, by)
	return groups
}

// sortGroups sorts days by their date, and anything else by what it cost.
func sortGroups(groups []*activityGroup, by string) {
	slices.SortFunc(groups, func(g, h *activityGroup) int {
		return cmp.Or(cmp.Compare(g.Day, h.Day), cmp.Compare(h.Cost, g.Cost), cmp.Compare(h.Requests, g.Requests), slices.Compare(g.names(by), h.names(by)))
	})
}

func (a *app) showActivity(by string, groups []*activityGroup, spark bool) error {
	if a.asJSON {
		return a.printJSON(groups, "  ")
	}
	t := a.activityTable(by, groups, spark && by != "day" && !a.asCSV)
	if _, widths := t.lines(); spark && rowWidth(widths) > cmp.Or(terminalWidth(a.out), math.MaxInt) {
		t = a.activityTable(by, groups, false) // half a line says nothing
	}
	return a.showTable(groups, t)
}

// activityTable is groups as a table, with spark also the cost day by day.
func (a *app) activityTable(by string, groups []*activityGroup, spark bool) table {
	t := table{header: slices.Concat(activityGroups[by].header, []string{"requests", "prompt", "completion", "reasoning", "cost"})}
	charged := slices.ContainsFunc(groups, func(g *activityGroup) bool { return g.Charged != nil })
	if charged {
		t.header = append(t.header, "charged")
	}
	if spark {
		t.header = append(t.header, "days")
	}
	total := activityGroup{Charged: new(account.Credits)}
	numbers := func(g *activityGroup) []string {
		cells := []string{strconv.FormatInt(g.Requests, 10), strconv.FormatInt(g.PromptTokens, 10),
			strconv.FormatInt(g.CompletionTokens, 10), strconv.FormatInt(g.ReasoningTokens, 10), g.Cost.String()}
		if charged {
			cells = append(cells, g.Charged.String())
		}
		return cells
	}
	for _, g := range groups {
		names := g.names(by)
		if last := len(names) - 1; by == "endpoint" || by == "key" {
			names[last] = a.hashCell(names[last])
		}
		row := append(names, numbers(g)...)
		if spark {
			row = append(row, sparkline(g.Days, g.used))
		}
		t.rows = append(t.rows, row)
		total.Requests += g.Requests
		total.PromptTokens += g.PromptTokens
		total.CompletionTokens += g.CompletionTokens
		total.ReasoningTokens += g.ReasoningTokens
		total.Cost += g.Cost
		if charged {
			*total.Charged += *g.Charged
		}
	}
	// A program that adds up a column does not want the sum in it.
	if !a.asCSV && len(groups) > 1 {
		names := make([]string, len(activityGroups[by].header))
		names[0] = "total"
		t.rows = append(t.rows, append(names, numbers(&total)...))
	}
	return t
}

// sparkline draws one block a day, as high as its part of the highest day.
func sparkline(days []account.Credits, used []bool) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	top := slices.Max(days)
	line := make([]rune, len(days))
	for i, cost := range days {
		switch {
		case !used[i]:
			line[i] = '·'
		case top <= 0:
			line[i] = blocks[0] // requests that cost nothing
		default:
			// Through float64: the product could leave an int64.
			level := int(float64(max(cost, 0)) / float64(top) * float64(len(blocks)-1))
			line[i] = blocks[level]
		}
	}
	return string(line)
}
