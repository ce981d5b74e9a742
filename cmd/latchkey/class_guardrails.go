package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/internal/openrouter"
)

func (a *app) guardrailsCommand() *cobra.Command {
	var workspace string
	command := &cobra.Command{
		Use:   "guardrails",
		Short: "Look at the guardrails of the OpenRouter account",
		Long: `Look at the guardrails of the OpenRouter account: which models and providers a key
may call that is put under one, and for how much. "latchkey provision --guardrail"
puts the keys of a class under one. They are made at OpenRouter.`,
	}
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the guardrails",
		Example: `  latchkey guardrails list`,
		Args:    usage(cobra.NoArgs),
		RunE: func(command *cobra.Command, _ []string) error {
			account, err := a.account(command.Context())
			if err != nil {
				return err
			}
			account.Workspace = workspace
			found, err := account.Guardrails()
			if err != nil {
				return err
			}
			rows := make([][]string, len(found))
			for i, g := range found {
				rows[i] = guardrailRow(g)
			}
			return a.show(found, guardrailHeader, rows)
		},
	}
	list.Flags().StringVar(&workspace, "workspace", "", "`id` of the workspace whose guardrails are listed; else the default one's")
	show := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one guardrail",
		Example: `  latchkey guardrails show 00000000-0000-4000-9000-000000000001`,
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(command *cobra.Command, args []string) error {
			account, err := a.account(command.Context())
			if err != nil {
				return err
			}
			g, err := a.guardrail(account, args[0])
			if err != nil {
				return err
			}
			row := guardrailRow(g)
			if a.asJSON || a.asCSV {
				return a.show(g, guardrailHeader, [][]string{row})
			}
			fields := [][]string{}
			for i, name := range guardrailHeader {
				fields = append(fields, []string{name, row[i]})
			}
			fields = append(fields, []string{"workspace", g.Workspace}, []string{"description", cmp.Or(g.Description, "-")})
			return a.showTable(g, table{whole: true, rows: fields})
		},
	}
	withCommands(command, list, show)
	return command
}

var guardrailHeader = []string{"name", "id", "limit", "reset", "models", "providers"}

// guardrailRow is a guardrail under guardrailHeader.
func guardrailRow(g openrouter.Guardrail) []string {
	return []string{g.Name, g.ID, amountText(g.Limit, "none"), cmp.Or(g.Interval, "never"),
		allowed(g.AllowedModels, g.IgnoredModels), allowed(g.AllowedProviders, g.IgnoredProviders)}
}

// guardrail reads a guardrail, and says so where there is none.
func (a *app) guardrail(from openrouter.Admin, id string) (openrouter.Guardrail, error) {
	g, err := from.Guardrail(id)
	if openrouter.IsGone(err) {
		return g, exit{exitNotFound, fmt.Errorf("there is no guardrail %q; see latchkey guardrails list", id)}
	}
	return g, err
}

// allowed says what a guardrail lets pass.
func allowed(these, others []string) string {
	text := "all"
	if len(these) > 0 {
		text = strings.Join(these, ", ")
	}
	if len(others) > 0 {
		text += " but " + strings.Join(others, ", ")
	}
	return text
}
