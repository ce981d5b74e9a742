package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/class"
)

func (a *app) classSetCommand(of *classOf) *cobra.Command {
	var limits keyLimits
	var work workFlags
	command := &cobra.Command{
		Use:   "set PERSON… --limit CREDITS",
		Short: "Give people a limit of their own",
		Long: `Give people a limit of their own. It takes effect within half a minute; what they
have spent stays spent. "latchkey class extend" changes the limit of everybody.`,
		Example: `  latchkey class set ada@example.edu --limit 10`,
		Args:    usage(cobra.MinimumNArgs(1)),
		RunE: func(command *cobra.Command, args []string) error {
			key, err := limits.limited(a.now())
			if err != nil {
				return err
			}
			question := fmt.Sprintf("Give these people a limit of %v credits?", key.Limit)
			return a.changeClass(command, of, work, args, question, func(ctx context.Context, c *class.Class, people []string, options class.Options) (class.Change, error) {
				return c.SetLimit(ctx, people, *key.Limit, options)
			})
		},
	}
	command.Flags().StringVar(&limits.limit, "limit", "", "what may be spent on a key, in `credits` (US dollars)")
	work.register(command)
	return command
}

func (a *app) classPauseCommand(of *classOf, pause bool) *cobra.Command {
	var work workFlags
	verb, short := "resume", "Let keys that were paused be used again"
	if pause {
		verb, short = "pause", "Keep keys from being used, until they are resumed"
	}
	command := &cobra.Command{
		Use:     verb + " [PERSON…]",
		Short:   short,
		Long:    short + ". Without a PERSON: those of everybody in the class.",
		Example: "  latchkey class " + verb + "\n  latchkey class " + verb + " ada@example.edu",
		RunE: func(command *cobra.Command, args []string) error {
			question := fmt.Sprintf("%s%s the keys of these people?", strings.ToUpper(verb[:1]), verb[1:])
			return a.changeClass(command, of, work, args, question, func(ctx context.Context, c *class.Class, people []string, options class.Options) (class.Change, error) {
				return c.Pause(ctx, people, pause, options)
			})
		},
	}
	work.register(command)
	return command
}

func (a *app) classReplaceCommand(of *classOf) *cobra.Command {
	var work workFlags
	var revoke bool
	command := &cobra.Command{
		Use:   "replace PERSON…",
		Short: "Give people a new key, as after a loss",
		Long: `Give people a new key, as after a loss. It is in their file, stands in the manifest,
and has their whole limit, whatever was spent on the old one.

With --revoke, every older key of theirs is deleted once the new one is in its
file. Without, the old one goes on working beside it, up to its limit, until
"latchkey class remove --replaced" or the revocation of the class.

Whoever was removed from the class is in it again.`,
		Example: `  latchkey class replace ada@example.edu --revoke`,
		Args:    usage(cobra.MinimumNArgs(1)),
		RunE: func(command *cobra.Command, args []string) error {
			question := "Make new keys for these people, and leave the old ones?"
			if revoke {
				question = "Make new keys for these people, and delete the old ones for good?"
			}
			kept := false
			err := a.changeClass(command, of, work, args, question, func(ctx context.Context, c *class.Class, people []string, options class.Options) (class.Change, error) {
				change, err := c.Replace(ctx, people, revoke, options)
				kept = slices.ContainsFunc(change.Results, func(r class.Result) bool { return r.State == class.Replaced })
				return change, err
			})
			if err == nil && kept {
				a.notice("a key that was replaced goes on working; `latchkey class remove --replaced` takes it back")
			}
			return err
		},
	}
	command.Flags().BoolVar(&revoke, "revoke", false, "delete the older keys of these people")
	work.register(command)
	return command
}

func (a *app) classRemoveCommand(of *classOf) *cobra.Command {
	var work workFlags
	var replaced bool
	command := &cobra.Command{
		Use:   "remove PERSON…",
		Short: "Delete the keys of people who leave the class",
		Long: `Delete the keys of people who leave the class, and their files. They get no other
by "latchkey provision", even if they are in its file; "latchkey class replace"
takes them in again.

With --replaced, only keys in whose place there is another are deleted: of these
people, or without a PERSON of everybody.`,
		Example: `  latchkey class remove ada@example.edu
  latchkey class remove --replaced`,
		Args: usage(func(command *cobra.Command, args []string) error {
			if replaced {
				return nil
			}
			return cobra.MinimumNArgs(1)(command, args)
		}),
		RunE: func(command *cobra.Command, args []string) error {
			question := "Delete the keys of these people for good, and take them out of the class?"
			if replaced {
				question = "Delete the keys of these people that were replaced?"
			}
			return a.changeClass(command, of, work, args, question, func(ctx context.Context, c *class.Class, people []string, options class.Options) (class.Change, error) {
				return c.Remove(ctx, people, replaced, options)
			})
		},
	}
	command.Flags().BoolVar(&replaced, "replaced", false, "only keys that were replaced")
	work.register(command)
	return command
}

func (a *app) classExtendCommand(of *classOf) *cobra.Command {
	var limits keyLimits
	var work workFlags
	var revoke bool
	command := &cobra.Command{
		Use:   "extend [--limit CREDITS] [--reset WINDOW] [--expires TIME]",
		Short: "Change limit, reset or end for everybody in a class",
		Long: `Change limit, reset or end for everybody in a class, and for whoever is added later.
A limit of a person's own is changed too.

--limit and --reset change the keys that are there: within half a minute, and what
was spent stays spent.

OpenRouter cannot change the end of a key. So --expires gives everybody a new key,
with nothing spent on it, which has to be handed out again. The old ones work up to
their own end, if they have one, or with --revoke are deleted once the new ones are in their files;
"latchkey class remove --replaced" does it later.`,
		Example: `  latchkey class extend --limit 5
  latchkey class extend --expires 2027-07-31
  latchkey class extend --reset never`,
		Args: usage(cobra.NoArgs),
		RunE: func(command *cobra.Command, _ []string) error {
			extension, err := a.extension(limits)
			if err != nil {
				return exit{exitUsage, err}
			}
			return a.extendClass(command, of, work, extension, revoke)
		},
	}
	f := command.Flags()
	f.StringVar(&limits.limit, "limit", "", "what may be spent on a key, in `credits` (US dollars)")
	f.StringVar(&limits.reset, "reset", "", "count the limit anew: daily, weekly or monthly, at midnight UTC, or never")
	f.StringVar(&limits.expires, "expires", "", "`time` from which keys are refused: 2027-01-31 (0:00 UTC) or 2027-01-31T18:00:00+01:00, or never")
	f.BoolVar(&revoke, "revoke", false, "with --expires, delete the old keys")
	work.register(command)
	return command
}

// never is what --reset and --expires are for none.
const never = "never"

// extension is what the flags of extend ask for.
func (a *app) extension(limits keyLimits) (class.Extension, error) {
	var extension class.Extension
	if limits.reset == never {
		limits.reset, extension.Reset = "", new("")
	}
	if limits.expires == never {
		limits.expires, extension.ExpiresAt = "", new(time.Time{})
	}
	key, err := limits.key(a.now())
	if err != nil {
		return extension, err
	}
	extension.Limit = key.Limit
	if key.LimitReset != "" {
		extension.Reset = &key.LimitReset
	}
	if !key.ExpiresAt.IsZero() {
		extension.ExpiresAt = &key.ExpiresAt
	}
	if extension == (class.Extension{}) {
		return extension, errors.New("give --limit, --reset or --expires")
	}
	return extension, nil
}

func (a *app) extendClass(command *cobra.Command, of *classOf, work workFlags, extension class.Extension, revoke bool) error {
	if err := work.check(); err != nil {
		return err
	}
	c, err := openManifest(of.manifest)
	if err != nil {
		return err
	}
	defer c.Close()
	replaced, changed := c.PlanExtension(extension)
	question := fmt.Sprintf("Change %d keys?", changed)
	if replaced > 0 {
		question = fmt.Sprintf("OpenRouter cannot change the end of a key: make %d new keys, to be handed out again, and leave the old ones up to their own end, if they have one?", replaced)
		if revoke {
			question = fmt.Sprintf("OpenRouter cannot change the end of a key: make %d new keys, to be handed out again, and delete the old ones?", replaced)
		}
	}
	if err := a.confirm(command, work.confirmation, question); err != nil {
		return err
	}
	err = a.runChange(command.Context(), work, replaced+changed, func(ctx context.Context, options class.Options) (class.Change, error) {
		return c.Extend(ctx, extension, revoke, options)
	})
	if err == nil && replaced > 0 {
		a.notice("the new keys have to be handed out: `latchkey class handout`")
		if !revoke {
			a.notice("the old keys work up to their own end, if they have one; `latchkey class remove --replaced` takes them back")
		}
	}
	return err
}
