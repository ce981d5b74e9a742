package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
)

func (a *app) keysCommand() *cobra.Command {
	keys := &cobra.Command{
		Use:   "keys",
		Short: "List and manage the keys of the OpenRouter account",
		Long: `List and manage the keys of the OpenRouter account, with the management key, which
OpenRouter called provisioning key before.

The keys that a running latchkey hands out are among them, with names that begin
with KEY_NAME_PREFIX ("latchkey:"). Leave those to it, and use "latchkey users" to change them.`,
	}
	withCommands(keys, a.keysListCommand(), a.keysShowCommand(), a.keysCreateCommand(),
		a.keysChangeCommand(keyChange{"disable", "disabled", "Disable keys: they stay, and nothing can be spent on them", disableKey}),
		a.keysChangeCommand(keyChange{"enable", "enabled", "Enable keys that are disabled", enableKey}),
		a.keysChangeCommand(keyChange{"delete", "deleted", "Delete keys for good", deleteKey}))
	return keys
}

func (a *app) keysListCommand() *cobra.Command {
	var all bool
	var name string
	var order order
	list := &cobra.Command{
		Use:   "list",
		Short: "List the keys, newest first",
		Long: `List the keys of the account, newest first: every page of them.

Tables show the first 8 digits of a hash; --json and --csv have all of it.`,
		Example: `  latchkey keys list --all --name class
  latchkey keys list --sort -usage
  latchkey keys list --json | jq -r '.[] | select(.limit == null) | .hash'`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := order.check(); err != nil {
				return err
			}
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			found := []openrouter.KeyRecord{}
			err = account.EachRecord(all, func(key openrouter.KeyRecord) error {
				if strings.Contains(strings.ToLower(key.Name), strings.ToLower(name)) {
					found = append(found, key)
				}
				return nil
			})
			if err != nil {
				return err
			}
			sortBy(order, found, func(key openrouter.KeyRecord, column string) string {
				return exactKeyRow(key)[slices.Index(keyHeader, column)]
			})
			rows := make([][]string, len(found))
			for i, key := range found {
				rows[i] = a.keyRow(key)
			}
			return a.show(found, keyHeader, rows)
		},
	}
	list.Flags().BoolVar(&all, "all", false, "disabled and expired keys too")
	list.Flags().StringVar(&name, "name", "", "only keys with this in their `name`, in upper or lower case")
	order.register(list, keyHeader)
	return list
}

func (a *app) keysShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show HASH",
		Short: "Show one key",
		Long:  "Show one key. HASH is its hash, or as many of its first digits as tell it from all others.",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			found, err := findKeys(account, args)
			if err != nil {
				return err
			}
			key := found[0]
			if a.asJSON || a.asCSV {
				return a.show(key, keyHeader, [][]string{a.keyRow(key)})
			}
			return a.show(key, nil, [][]string{
				{"name", key.Name}, {"label", key.Label}, {"hash", key.Hash},
				{"limit", limitText(key.Limit)}, {"usage", key.Usage.String()},
				{"  today", key.UsageDaily.String()}, {"  this week", key.UsageWeekly.String()}, {"  this month", key.UsageMonthly.String()},
				{"remaining", amountText(key.Remaining, "-")}, {"reset", cmp.Or(key.LimitReset, "never")},
				{"disabled", yesNo(key.Disabled)},
				{"created", timeText(key.CreatedAt)}, {"updated", timeText(key.UpdatedAt)}, {"expires", timeText(key.ExpiresAt)},
			})
		},
	}
}

var keyHeader = []string{"name", "label", "hash", "limit", "usage", "remaining", "reset", "disabled", "created"}

// keyRow is a key under keyHeader: for people, or with --csv for programs.
func (a *app) keyRow(key openrouter.KeyRecord) []string {
	if a.asCSV {
		return exactKeyRow(key)
	}
	return []string{key.Name, key.Label, oplog.ShortHash(key.Hash), limitText(key.Limit), key.Usage.String(), amountText(key.Remaining, "-"),
		cmp.Or(key.LimitReset, "-"), yesNo(key.Disabled), timeText(key.CreatedAt)}
}

// exactKeyRow is a key for programs: what there is not is empty.
func exactKeyRow(key openrouter.KeyRecord) []string {
	return []string{key.Name, key.Label, key.Hash, amountText(key.Limit, ""), key.Usage.String(), amountText(key.Remaining, ""),
		key.LimitReset, strconv.FormatBool(key.Disabled), timeText(key.CreatedAt)}
}

func amountText(amount *openrouter.Amount, none string) string {
	if amount == nil {
		return none
	}
	return amount.String()
}

func limitText(limit *openrouter.Amount) string { return amountText(limit, "unlimited") }
