package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
	"latchkey/internal/seal"
)

func (a *app) keysCreateCommand() *cobra.Command {
	var limits keyLimits
	var unlimited bool
	create := &cobra.Command{
		Use:   "create NAME (--limit CREDITS | --unlimited)",
		Short: "Create a key and print it, this once",
		Long: `Create a key and print it. Nobody can show it a second time.

The key alone goes to the standard output, what it may do to the standard error. A
file that it is sent to has to be private, which the shell does not see to: hence
the umask. A file that others can read is warned of.`,
		Example: `  latchkey keys create demo --limit 5 --reset monthly
  (umask 077; latchkey keys create ci --limit 0.5 --expires 2027-01-31 > ci.key)`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := limits.key(a.now())
			switch {
			case err != nil:
				return exit{exitUsage, err}
			case strings.TrimSpace(args[0]) == "":
				return exit{exitUsage, errors.New("a key needs a name")}
			case (key.Limit != nil) == unlimited:
				return exit{exitUsage, errors.New("give a --limit in credits, or --unlimited for a key that may spend all there is")}
			}
			key.Name = args[0]
			a.warnOfMode()
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			// Dying between this call and the print leaves a key that nobody
			// has. It has no other mark than its name, which need not be unique:
			// that it is not wanted only its owner can tell.
			secret, hash, err := account.Create(key)
			if e := (*openrouter.Error)(nil); errors.As(err, &e) && e.Uncertain {
				return fmt.Errorf("%w; a key %q may have been created all the same, which nobody can use: look for it with `latchkey keys list --name`, and delete it", err, key.Name)
			}
			if err != nil {
				return err
			}
			return a.printNewKey(key, secret, hash)
		},
	}
	limits.register(create)
	create.Flags().BoolVar(&unlimited, "unlimited", false, "no limit: the key may spend all there is")
	return create
}

// printNewKey is one of the few places where a key leaves the program.
func (a *app) printNewKey(key openrouter.NewKey, secret seal.Secret, hash string) error {
	limit := ""
	if key.Limit != nil {
		limit = key.Limit.String()
	}
	expires := ""
	if !key.ExpiresAt.IsZero() {
		expires = key.ExpiresAt.Format(time.RFC3339)
	}
	if a.asJSON || a.asCSV {
		return a.show(struct {
			Name       string           `json:"name"`
			Hash       string           `json:"hash"`
			Limit      *account.Credits `json:"limit"`
			LimitReset string           `json:"limit_reset,omitempty"`
			ExpiresAt  time.Time        `json:"expires_at,omitzero"`
			Key        string           `json:"key"`
		}{key.Name, hash, key.Limit, key.LimitReset, key.ExpiresAt, secret.Reveal()},
			[]string{"name", "hash", "limit", "reset", "expires", "key"},
			[][]string{{key.Name, hash, limit, key.LimitReset, expires, secret.Reveal()}})
	}
	a.say("Created %q, hash %s: limit %s, reset %s, expires %s. The key is not shown again:",
		key.Name, oplog.ShortHash(hash), cmp.Or(limit, "none"), cmp.Or(key.LimitReset, "never"), cmp.Or(expires, "never"))
	return a.print(secret.Reveal(), false)
}

// keyLimits are the flags that say what a new key may do.
type keyLimits struct{ limit, reset, expires string }

func (l *keyLimits) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.limit, "limit", "", "what may be spent on a key, in `credits` (US dollars)")
	cmd.Flags().StringVar(&l.reset, "reset", "", "count the limit anew: daily, weekly or monthly, at midnight UTC")
	cmd.Flags().StringVar(&l.expires, "expires", "", "`time` from which a key is refused: 2027-01-31 (0:00 UTC) or 2027-01-31T18:00:00+01:00")
	_ = cmd.RegisterFlagCompletionFunc("reset", cobra.FixedCompletions([]string{openrouter.Daily, openrouter.Weekly, openrouter.Monthly}, cobra.ShellCompDirectiveNoFileComp))
}

// key is what the flags ask for. Without --limit, Limit is nil: it is for the
// caller to say what that means.
func (l *keyLimits) key(now time.Time) (openrouter.NewKey, error) {
	key := openrouter.NewKey{LimitReset: l.reset}
	if l.limit != "" {
		limit, err := account.ParseCredits(l.limit)
		if err != nil {
			return key, fmt.Errorf("--limit: %w", err)
		}
		if limit <= 0 {
			return key, fmt.Errorf("--limit %s: nothing could be spent", l.limit)
		}
		key.Limit = &limit
	}
	switch l.reset {
	case "", openrouter.Daily, openrouter.Weekly, openrouter.Monthly:
	default:
		return key, fmt.Errorf("--reset %q is not daily, weekly or monthly", l.reset)
	}
	if l.expires != "" {
		at, err := time.Parse(time.RFC3339, l.expires)
		if err != nil {
			at, err = time.Parse(time.DateOnly, l.expires)
		}
		if err != nil {
			return key, fmt.Errorf("--expires %q is not a time like 2027-01-31 or 2027-01-31T18:00:00Z", l.expires)
		}
		if !at.After(now) {
			return key, fmt.Errorf("--expires %s is past", l.expires)
		}
		key.ExpiresAt = at.UTC().Truncate(time.Second) // all that OpenRouter takes
	}
	return key, nil
}

// limited is key where a limit is wanted. Its errors are of usage.
func (l *keyLimits) limited(now time.Time) (openrouter.NewKey, error) {
	key, err := l.key(now)
	if err == nil && key.Limit == nil {
		err = errors.New("give a --limit in credits")
	}
	if err != nil {
		return key, exit{exitUsage, err}
	}
	return key, nil
}
