package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/seal"
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
}

func newApp(out, err io.Writer, getenv func(string) string) *app {
	return &app{out: out, err: err, getenv: getenv, now: time.Now}
}

// root is the command that holds all others.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "latchkey",
		Short: "Manage the users of a latchkey and the keys of its OpenRouter account",
		Long: `Manage the users of a latchkey and the keys of its OpenRouter account.

Secrets come from the environment or from a file with mode 0600 (--secrets),
which has one NAME=value a line, as .dev.vars has; never from flags:

  ADMIN_TOKEN                for users and reconcile
  OPENROUTER_MANAGEMENT_KEY  for keys, activity, credits and provision
  JWT_SECRET_CLOUD           for token

OpenRouter called the management key a provisioning key before, and so
OPENROUTER_PROVISIONING_API_KEY is a name for it too.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 token or key
refused, 5 not available just now.`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(command *cobra.Command, _ []string) error {
			if a.asJSON && a.asCSV {
				return exit{exitUsage, errors.New("--json and --csv exclude each other")}
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return exit{exitUsage, fmt.Errorf("unknown command %q", args[0])}
			}
			return command.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit{exitUsage, err} })
	flags := root.PersistentFlags()
	flags.BoolVar(&a.asJSON, "json", false, "print JSON")
	flags.BoolVar(&a.asCSV, "csv", false, "print CSV")
	flags.StringVar(&a.secretsFile, "secrets", "", "file with secrets, mode 0600")
	flags.StringVar(&a.adminURL, "url", a.env("LATCHKEY_URL", "http://127.0.0.1:8787"), "URL of the latchkey (LATCHKEY_URL)")
	flags.StringVar(&a.openrouterURL, "openrouter", a.env("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1"), "URL of OpenRouter's API (OPENROUTER_BASE_URL)")
	root.AddCommand(
		a.usersCommand(), a.reconcileCommand(), a.tokenCommand(),
		a.keysCommand(), a.activityCommand(), a.creditsCommand(), a.provisionCommand(),
	)
	return root
}

func (a *app) env(name, standard string) string {
	if value := a.getenv(name); value != "" {
		return value
	}
	return standard
}

// secret returns a secret from the environment, or else from the secrets file.
func (a *app) secret(name string) (seal.Secret, error) {
	value, err := a.lookup(name)
	if err == nil && value == "" {
		err = a.notSet(name)
	}
	return seal.NewSecret(value), err
}

// The names of the secret for OpenRouter's key API: what it is called now, and
// what it was called before.
const (
	managementName   = "OPENROUTER_MANAGEMENT_KEY"
	provisioningName = "OPENROUTER_PROVISIONING_API_KEY"
)

// managementKey returns the secret for OpenRouter's key API under either name.
func (a *app) managementKey() (seal.Secret, error) {
	key, err := a.lookup(managementName)
	if err != nil {
		return seal.Secret{}, err
	}
	before, err := a.lookup(provisioningName)
	switch {
	case err != nil:
	case key != "" && before != "" && key != before:
		err = exit{exitUsage, fmt.Errorf("%s and %s are different keys: they are two names of one, set one of them", managementName, provisioningName)}
	case key == "" && before == "":
		err = a.notSet(managementName + " (or " + provisioningName + ", its name before)")
	}
	return seal.NewSecret(cmp.Or(key, before)), err
}

func (a *app) notSet(name string) error {
	if a.secretsFile == "" {
		return exit{exitUsage, fmt.Errorf("%s is not set: put it into the environment, or into a file for --secrets", name)}
	}
	return exit{exitUsage, fmt.Errorf("%s is set neither in the environment nor in %s", name, a.secretsFile)}
}

// lookup returns what a name stands for in the environment, or else in the
// secrets file; "" where it is not set.
func (a *app) lookup(name string) (string, error) {
	if value := a.getenv(name); value != "" || a.secretsFile == "" {
		return value, nil
	}
	file, err := os.Open(a.secretsFile)
	if err != nil {
		return "", exit{exitUsage, err}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&^fs.FileMode(0o600) != 0 {
		return "", exit{exitUsage, fmt.Errorf("%s has mode %04o: others could read it; make it 0600", a.secretsFile, mode)}
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.TrimSpace(key) == name {
			return strings.Trim(strings.TrimSpace(value), `"'`), nil
		}
	}
	return "", lines.Err()
}
