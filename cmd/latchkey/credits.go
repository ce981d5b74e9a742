package main

import (
	"github.com/spf13/cobra"

	"latchkey/internal/openrouter"
)

func (a *app) creditsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "credits",
		Short: "Show what was bought for the OpenRouter account, and what is left of it",
		Long: `Show the credits (US dollars) that were ever bought for the OpenRouter account,
what was used of them, and what remains for all keys together. A key whose limit
is higher than that cannot be used up.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			total, used, err := account.Credits()
			if err != nil {
				return err
			}
			remaining := openrouter.Amount{Credits: total.Credits - used.Credits}
			return a.show(struct {
				Total     openrouter.Amount `json:"total"`
				Used      openrouter.Amount `json:"used"`
				Remaining openrouter.Amount `json:"remaining"`
			}{total, used, remaining},
				[]string{"total", "used", "remaining"},
				[][]string{{total.String(), used.String(), remaining.String()}})
		},
	}
}
