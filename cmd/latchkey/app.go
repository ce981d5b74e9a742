package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

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

  ADMIN_TOKEN                       for users and reconcile
  OPENROUTER_PROVISIONING_API_KEY   for keys, activity, credits and provision
  JWT_SECRET_CLOUD                  for token

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
	if value := a.getenv(name); value != "" {
		return seal.NewSecret(value), nil
	}
	if a.secretsFile == "" {
		return seal.Secret{}, exit{exitUsage, fmt.Errorf("%s is not set: put it into the environment, or into a file for --secrets", name)}
	}
	file, err := os.Open(a.secretsFile)
	if err != nil {
		return seal.Secret{}, exit{exitUsage, err}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return seal.Secret{}, err
	}
	if mode := info.Mode().Perm(); mode&^fs.FileMode(0o600) != 0 {
		return seal.Secret{}, exit{exitUsage, fmt.Errorf("%s has mode %04o: others could read it; make it 0600", a.secretsFile, mode)}
	}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.TrimSpace(key) == name {
			return seal.NewSecret(strings.Trim(strings.TrimSpace(value), `"'`)), nil
		}
	}
	return seal.Secret{}, exit{exitUsage, fmt.Errorf("%s is neither in the environment nor in %s", name, a.secretsFile)}
}

// show prints data as JSON, or the rows as CSV or as a table for people.
func (a *app) show(data any, header []string, rows [][]string) error {
	switch {
	case a.asJSON:
		encoder := json.NewEncoder(a.out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(data)
	case a.asCSV:
		w := csv.NewWriter(a.out)
		return errors.Join(w.Write(header), w.WriteAll(rows))
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(header, "\t")))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// terminal tells whether people read what is printed: only then there are
// colours and progress bars. NO_COLOR is heeded.
func (a *app) terminal() bool {
	file, ok := a.out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && a.getenv("NO_COLOR") == ""
}
