package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/backoff"
	"latchkey/internal/class"
	"latchkey/internal/roster"
)

const (
	// maxParallel keeps a class from being taken for an attack.
	maxParallel = 8
	// classTries is how often a call is made before a class is given up for now.
	classTries = 10
	// classPatience is longer than any Retry-After that a client reports: a
	// class has time.
	classPatience = 2 * time.Hour
)

// provisionFlags are the flags of provision that are not about the keys.
type provisionFlags struct {
	out    string
	dryRun bool
	roster rosterFlags
	work   workFlags
}

// workFlags are the flags of all commands that work on the keys of a class.
type workFlags struct {
	parallel     int
	settle       time.Duration
	confirmation confirmation
}

func (w *workFlags) register(command *cobra.Command) {
	command.Flags().IntVar(&w.parallel, "parallel", 4, fmt.Sprintf("`number` of keys that are asked for at a time, at most %d", maxParallel))
	command.Flags().DurationVar(&w.settle, "settle", 30*time.Second, "how long a request that was not answered may still take effect at OpenRouter")
	w.confirmation.register(command)
}

func (w *workFlags) check() error {
	if w.parallel < 1 || w.parallel > maxParallel {
		return exit{exitUsage, fmt.Errorf("--parallel %d is not from 1 to %d", w.parallel, maxParallel)}
	}
	if w.settle < 0 {
		return exit{exitUsage, fmt.Errorf("--settle %v is negative", w.settle)}
	}
	return nil
}

func (a *app) provisionCommand() *cobra.Command {
	var limits keyLimits
	var flags provisionFlags
	var revoke, workspace, guardrail string
	command := &cobra.Command{
		Use:   "provision FILE.csv --limit CREDITS",
		Short: "Create a key for everyone in a CSV file, as for a class",
		Long: `Create a key for everyone in a CSV file, as for a class: one file for each
person, and a manifest of all.

FILE.csv is what Canvas, Moodle, Blackboard, Google Forms or Classroom, GitHub
Classroom or Excel export, or has columns name, email and id, or some of them. The
first that is there of id, email and name tells people apart. A column limit is the
limit of a person's own key; other columns are ignored. Which columns were taken
and which rows were skipped is said before anything is done. What is not clear is
refused, with the line, and the flag that decides it.

The keys are in the folder --out, in files named after the people, and so is
manifest.jsonl, the journal of it all, which has no keys in it. Nobody else can
read them: the folder has mode 0700, the files 0600.

This can be interrupted at any time, in any way. Run the same command again and it
goes on: whoever has a key keeps it, and a key that was made but did not reach its
file is deleted. More people can be added to FILE.csv; "latchkey class extend"
changes --limit, --reset and --expires. A file may be moved to where it is needed:
the manifest remembers whose key was made.

With --guardrail, each key is put under a guardrail of OpenRouter, which says what
models it may call, before it is in its file.

--revoke MANIFEST deletes all keys of a class; that can be interrupted as well. It
reads each key before, and touches none whose name is not of that class, whatever
hash the manifest has: such a key is named and counted as failed. On a terminal it
asks first; elsewhere it wants --yes.`,
		Example: `  latchkey provision class.csv --limit 2 --reset weekly --expires 2027-02-01 --out keys/
  latchkey provision class.csv --limit 2 --out keys/ --dry-run
  latchkey provision liste.csv --limit 2 --encoding windows-1252 --id-column Kürzel
  latchkey provision --revoke keys/`,
		Args: usage(func(command *cobra.Command, args []string) error {
			if revoke != "" {
				return cobra.NoArgs(command, args)
			}
			return cobra.ExactArgs(1)(command, args)
		}),
		RunE: func(command *cobra.Command, args []string) error {
			if err := flags.work.check(); err != nil {
				return err
			}
			if revoke != "" {
				return a.revokeClass(command, revoke, flags)
			}
			key, err := limits.limited(a.now())
			if err != nil {
				return err
			}
			people, err := a.readRoster(args[0], flags.roster)
			if err != nil {
				return exit{exitUsage, err}
			}
			terms := class.Terms{Limit: *key.Limit, Reset: key.LimitReset, ExpiresAt: key.ExpiresAt, Workspace: workspace, Guardrail: guardrail}
			if flags.dryRun {
				return a.planClass(command.Context(), people, terms, flags)
			}
			return a.provideClass(command.Context(), people, terms, flags)
		},
	}
	limits.register(command)
	flags.roster.register(command)
	f := command.Flags()
	f.StringVar(&flags.out, "out", "keys", "`folder` for the keys and the manifest")
	f.BoolVar(&flags.dryRun, "dry-run", false, "say what would be done, and do nothing")
	f.StringVar(&workspace, "workspace", "", "`id` of the workspace of OpenRouter in which the keys are made; else its default one")
	f.StringVar(&guardrail, "guardrail", "", "`id` of the guardrail that the keys are put under; see latchkey guardrails list")
	f.StringVar(&revoke, "revoke", "", "delete all keys of the class with this `manifest`; its folder will do")
	flags.work.register(command)
	return command
}

// rosterFlags are the flags that decide what a file of people leaves open.
type rosterFlags struct {
	options roster.Options
	columns [4]string // as of rosterColumns
}

// rosterColumns are what a column can be named for.
var rosterColumns = [4]string{"id", "email", "name", "limit"}

func (r *rosterFlags) register(command *cobra.Command) {
	f := command.Flags()
	f.StringVar(&r.options.Encoding, "encoding", "", "`name` of the encoding of the file, as windows-1252; else UTF-8, or what its mark says")
	f.StringVar(&r.options.Delimiter, "delimiter", "", "what separates the columns: comma, semicolon or tab; else what the header shows")
	for i, as := range rosterColumns {
		f.StringVar(&r.columns[i], as+"-column", "", fmt.Sprintf("`header` of the column that has the %s; %s: none has", as, roster.None))
	}
}

// readRoster reads a file of people, and says what it took of it.
func (a *app) readRoster(path string, flags rosterFlags) (roster.Roster, error) {
	flags.options.Columns = map[string]string{}
	for i, as := range rosterColumns {
		if header := flags.columns[i]; header != "" {
			flags.options.Columns[as] = header
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return roster.Roster{}, err
	}
	people, err := roster.Read(file, flags.options)
	if err = errors.Join(err, file.Close()); err != nil {
		return roster.Roster{}, errors.Join(fmt.Errorf("%s: nothing was done:", path), err)
	}
	for _, line := range people.Told() {
		a.notice(path + ": " + line)
	}
	return people, nil
}

func (a *app) planClass(ctx context.Context, people roster.Roster, terms class.Terms, flags provisionFlags) error {
	if terms.Guardrail != "" {
		account, err := a.account(ctx)
		if err != nil {
			return err
		}
		if _, err := a.guardrail(account, terms.Guardrail); err != nil {
			return err
		}
	}
	c, err := class.Peek(flags.out)
	if err != nil {
		return err
	}
	results, err := c.Plan(people, terms, a.notice)
	if err != nil {
		return err
	}
	return a.showClass(results)
}

func (a *app) provideClass(ctx context.Context, people roster.Roster, terms class.Terms, flags provisionFlags) error {
	options, progress, err := a.classOptions(ctx, flags.work, len(people.People))
	if err != nil {
		return err
	}
	if terms.Guardrail != "" {
		if _, err := a.guardrail(options.Account, terms.Guardrail); err != nil {
			return err
		}
	}
	c, err := class.OpenFolder(flags.out)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := stopGently(ctx, progress)
	provided, err := c.Provide(ctx, people, terms, options)
	stop()
	progress.end()
	if provided.Results == nil {
		return err // nothing was begun
	}
	sum := fmt.Sprintf("%d of %d people have a key: %d made now, %d before", provided.Made+provided.Had, len(people.People), provided.Made, provided.Had)
	if provided.Orphans > 0 {
		sum += fmt.Sprintf("; deleted %d that had reached nobody", provided.Orphans)
	}
	a.notice(sum)
	if err != nil {
		err = errors.Join(err, errors.New("The class is not done: run the same command again to go on"))
	}
	return errors.Join(a.showClass(provided.Results), err)
}

// openManifest opens the manifest of a class that is there.
func openManifest(path string) (*class.Class, error) {
	c, err := class.OpenManifest(path)
	return c, orNoClass(path, err)
}

// orNoClass says where there is no class.
func orNoClass(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return exit{exitNotFound, fmt.Errorf("there is no class in %s: give its folder, or the manifest in it (%w)", path, err)}
	}
	return err
}

// revokeClass deletes all keys of a class.
func (a *app) revokeClass(command *cobra.Command, path string, flags provisionFlags) error {
	c, err := openManifest(path)
	if err != nil {
		return err
	}
	defer c.Close()
	if flags.dryRun {
		return a.showClass(c.PlanRevocation())
	}
	keys := c.Keys()
	if err := a.confirm(command, flags.work.confirmation, fmt.Sprintf("Delete the %d keys of the class in %s for good?", keys, path)); err != nil {
		return err
	}
	options, progress, err := a.classOptions(command.Context(), flags.work, keys)
	if err != nil {
		return err
	}
	stop := stopGently(command.Context(), progress)
	results, refused, err := c.Revoke(command.Context(), options)
	stop()
	progress.end()
	if err != nil {
		err = errors.Join(err, errors.New("Not all keys are deleted: run the same command again to go on"))
	}
	if len(refused) > 0 {
		refused = append(refused, fmt.Errorf("refused: %d of the keys in %s", len(refused), path))
	}
	return errors.Join(a.showClass(results), err, errors.Join(refused...))
}

func (a *app) classOptions(ctx context.Context, flags workFlags, keys int) (class.Options, *progress, error) {
	progress := a.newProgress(keys)
	wait := &backoff.Backoff{Ctx: ctx, Tries: classTries, Longest: classPatience, Say: progress.say}
	// An interruption ends waiting, and what was not begun. A call that is under
	// way is waited for: it may be making a key.
	account, err := a.accountWith(context.WithoutCancel(ctx), wait)
	return class.Options{
		Account: account, Backoff: wait, Parallel: flags.parallel, Settle: flags.settle,
		Now: a.now, Say: progress.say, Done: progress.add,
	}, progress, err
}

// stopGently lets the first Ctrl-C finish the calls that are under way, and the
// second end the program, which does no harm either. It returns what ends that.
func stopGently(ctx context.Context, progress *progress) func() bool {
	return context.AfterFunc(ctx, func() {
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		progress.say("stopping once the calls under way are answered; interrupt again to stop at once")
	})
}

func (a *app) showClass(results []class.Result) error {
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Person, r.State, a.hashCell(r.Hash), r.File}
	}
	return a.show(results, []string{"person", "state", "hash", "file"}, rows)
}
