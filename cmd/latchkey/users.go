package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"latchkey/internal/adminapi/adminclient"
)

func (a *app) usersCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "users",
		Short: "List, look at, change, suspend and erase users",
		Long: `List, look at, change, suspend and erase users, through the admin API of a
running latchkey (--url, or LATCHKEY_URL). ADMIN_TOKEN has to be the one that
is set there.

Ids are taken as they are, in any script. Put -- before one that begins with a
hyphen. Tables for people show shortened hashes, and escape whatever in a name
would upset a terminal; --json has everything as it is, and --csv too, but that
what a spreadsheet would take for a formula begins with an apostrophe.`,
		Example: `  export LATCHKEY_URL=https://latchkey.example.workers.dev
  latchkey --secrets .admin.env users list --q example.org
  latchkey --secrets .admin.env users list --all --csv > users.csv
  latchkey --secrets .admin.env users show u_42
  latchkey --secrets .admin.env users suspend u_42 u_43`,
	}
	command.PersistentFlags().Var(&a.renewAt, "renew-at", "what RENEW_AT is set to: who has no more `credits` left than that is exhausted")
	withCommands(command,
		a.usersListCommand(), a.usersShowCommand(), a.usersLedgerCommand(), a.usersActivityCommand(), a.usersWatchCommand(),
		a.usersSuspendCommand(true), a.usersSuspendCommand(false), a.usersSetCommand(), a.usersEraseCommand(),
		a.usersSyncCommand(),
	)
	return command
}

// ids checks the arguments of a command about users: one, or any number of them.
func ids(several bool) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) == 0 || len(args) > 1 && !several {
			return exit{exitUsage, fmt.Errorf("usage: %s", command.UseLine())}
		}
		for _, id := range args {
			if err := adminclient.CheckID(id); err != nil {
				return exit{exitUsage, err}
			}
		}
		return nil
	}
}

// none refuses arguments.
func none(command *cobra.Command, args []string) error {
	if len(args) > 0 {
		return exit{exitUsage, fmt.Errorf("usage: %s", command.UseLine())}
	}
	return nil
}

const untilOneFails = `

An id that is not found does not stop the others; any other failure does. Doing
it again does no harm.`

// each does something to users one after the other. One that is not found is
// passed over; what went wrong is all in the error.
func each(ids []string, do func(id string) error) error {
	var failed []error
	for i, id := range ids {
		err := do(id)
		if err == nil {
			continue
		}
		failed = append(failed, err)
		if exitCode(err) != exitNotFound {
			if rest := len(ids) - i - 1; rest > 0 {
				failed = append(failed, fmt.Errorf("not tried any more: %d of %d", rest, len(ids)))
			}
			// Its exit code is the one that counts.
			return exit{exitCode(err), errors.Join(failed...)}
		}
	}
	return errors.Join(failed...)
}
