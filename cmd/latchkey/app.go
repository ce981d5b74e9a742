package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"latchkey/internal/account"
)

// app is what all commands share.
type app struct {
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time

	asJSON, asCSV bool
	secretsFile   string
	adminURL      string // of the running latchkey
	openrouterURL string
	proxyURL      string
	renewAt       creditsFlag // what RENEW_AT is set to at the latchkey
}

func newApp(out, err io.Writer, getenv func(string) string) *app {
	return &app{out: out, err: err, getenv: getenv, now: time.Now, renewAt: creditsFlag(account.Credit / 10)}
}

// root is the command that holds all others.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "latchkey",
		Short: "Manage the users of a latchkey and the keys of its OpenRouter account",
		Long: `Manage the users of a latchkey and the keys of its OpenRouter account.

Secrets come from the environment or from a file with mode 0600 (--secrets, or
LATCHKEY_SECRETS), which is read as wrangler reads .dev.vars; never from flags:

  ADMIN_TOKEN                for users, reconcile and reseal
  OPENROUTER_MANAGEMENT_KEY  for keys, activity, credits, guardrails, provision and
                             class, and beside the other for users activity and
                             users sync --from-keys
  JWT_SECRET_CLOUD           for token

OpenRouter called the management key a provisioning key before, and so
OPENROUTER_PROVISIONING_API_KEY is a name for it too. They are sent over https or
to this machine only, and through no proxy but --proxy.

A command that changes or deletes what is there asks first, on a terminal;
elsewhere it wants --yes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 token or key
refused, 5 not available just now.`,
		Version:      version(),
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(command *cobra.Command, _ []string) error {
			if a.asJSON && a.asCSV {
				return exit{exitUsage, errors.New("--json and --csv exclude each other")}
			}
			return nil
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.BoolVar(&a.asJSON, "json", false, "print JSON")
	flags.BoolVar(&a.asCSV, "csv", false, "print CSV")
	flags.StringVar(&a.secretsFile, "secrets", a.env("LATCHKEY_SECRETS", ""), "`file` with secrets, mode 0600 (LATCHKEY_SECRETS)")
	flags.StringVar(&a.adminURL, "url", a.env("LATCHKEY_URL", "http://127.0.0.1:8787"), "`URL` of the latchkey (LATCHKEY_URL)")
	flags.StringVar(&a.openrouterURL, "openrouter", a.env("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1"), "`URL` of OpenRouter's API (OPENROUTER_BASE_URL)")
	flags.StringVar(&a.proxyURL, "proxy", a.env("LATCHKEY_PROXY", ""), "`URL` of a proxy on the way to both (LATCHKEY_PROXY; HTTPS_PROXY is not heeded)")
	withCommands(root,
		a.usersCommand(), a.reconcileCommand(), a.resealCommand(), a.tokenCommand(),
		a.keysCommand(), a.activityCommand(), a.creditsCommand(), a.provisionCommand(), a.classCommand(), a.guardrailsCommand(), a.versionCommand(),
	)
	// cobra's own commands pass an unknown name over.
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, command := range root.Commands() {
		switch command.Name() {
		case "completion":
			withCommands(command)
		case "help":
			help := command.Run
			command.Run, command.RunE = nil, func(command *cobra.Command, args []string) error {
				about, rest, err := root.Find(args)
				if err == nil && about.HasSubCommands() && len(rest) > 0 {
					return unknownCommand(about, rest[0])
				}
				help(command, args)
				return err
			}
		}
	}
	return root
}

func (a *app) env(name, standard string) string {
	if value := a.getenv(name); value != "" {
		return value
	}
	return standard
}

// withCommands makes a command one that holds others, and does nothing itself.
func withCommands(command *cobra.Command, others ...*cobra.Command) {
	command.AddCommand(others...)
	command.Args = cobra.ArbitraryArgs
	command.RunE = func(command *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(command, args[0])
		}
		return command.Help()
	}
}

// unknownCommand is the error of a name that is none of a command's, with those that
// may be meant.
func unknownCommand(command *cobra.Command, name string) error {
	command.SuggestionsMinimumDistance = slips(name)
	err := fmt.Errorf("unknown command %q for %q", name, command.CommandPath())
	return exit{exitUsage, meant(err, command.SuggestionsFor(name))}
}

// flagError makes a bad flag wrong usage, and names those that may be meant.
func flagError(command *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		// cobra finds what may be meant among commands alone.
		flags := &cobra.Command{SuggestionsMinimumDistance: slips(unknown.GetSpecifiedName())}
		command.Flags().VisitAll(func(f *pflag.Flag) {
			flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		})
		names := flags.SuggestionsFor(unknown.GetSpecifiedName())
		for i := range names {
			names[i] = "--" + names[i]
		}
		err = meant(err, names)
	}
	return exit{exitUsage, err}
}

// slips is how many letters may be wrong in what was typed: in few letters, few. Two
// that changed places are two.
func slips(typed string) int { return min(len(typed)/2, 2) }

// meant adds to an error what may have been meant.
func meant(err error, names []string) error {
	if len(names) == 0 {
		return err
	}
	slices.Sort(names)
	return fmt.Errorf("%w; did you mean %s?", err, strings.Join(names, " or "))
}

// usage makes the failure of an argument check wrong usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if err := check(command, args); err != nil {
			return exit{exitUsage, fmt.Errorf("%w; see %s --help", err, command.CommandPath())}
		}
		return nil
	}
}
