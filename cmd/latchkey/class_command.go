package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"latchkey/internal/class"
)

// classOf is the flag that says which class a command is about.
type classOf struct{ manifest string }

func (a *app) classCommand() *cobra.Command {
	var of classOf
	command := &cobra.Command{
		Use:   "class",
		Short: "Look at and change the keys of a class that was provisioned",
		Long: `Look at and change the keys of a class, which "latchkey provision" made.

--manifest says which class: the folder of its keys, or the manifest in it. PERSON
is what tells people apart in the manifest, an address or a name.

What changes something can be interrupted in any way, and the same command goes on.
It touches no key that is not of the class, whatever hash the manifest has.`,
		Example: `  latchkey class status --sort used
  latchkey class replace ada@example.edu --revoke --manifest keys/
  latchkey class extend --limit 5`,
	}
	command.PersistentFlags().StringVar(&of.manifest, "manifest", "keys", "`folder` of the class, or its manifest")
	withCommands(command,
		a.classStatusCommand(&of), a.classSetCommand(&of), a.classPauseCommand(&of, true), a.classPauseCommand(&of, false),
		a.classReplaceCommand(&of), a.classRemoveCommand(&of), a.classExtendCommand(&of), a.classHandoutCommand(&of))
	return command
}

// changeClass changes the keys of people of a class, of all of them without args.
func (a *app) changeClass(command *cobra.Command, of *classOf, work workFlags, args []string, question string,
	change func(ctx context.Context, c *class.Class, people []string, options class.Options) (class.Change, error)) error {
	if err := work.check(); err != nil {
		return err
	}
	c, err := openManifest(of.manifest)
	if err != nil {
		return err
	}
	defer c.Close()
	people, err := c.Find(args)
	if err != nil {
		return err
	}
	about := people
	const most = 20
	if len(about) > most {
		about = append(people[:most:most], fmt.Sprintf("and %d more", len(people)-most))
	}
	if err := a.confirm(command, work.confirmation, question, about...); err != nil {
		return err
	}
	return a.runChange(command.Context(), work, len(people), func(ctx context.Context, options class.Options) (class.Change, error) {
		return change(ctx, c, people, options)
	})
}

// runChange changes keys, with a bar for so many, and shows what became of them.
func (a *app) runChange(ctx context.Context, work workFlags, keys int, change func(context.Context, class.Options) (class.Change, error)) error {
	options, progress, err := a.classOptions(ctx, work, keys)
	if err != nil {
		return err
	}
	stop := stopGently(ctx, progress)
	changed, err := change(ctx, options)
	stop()
	progress.end()
	if changed.Results == nil {
		if err == nil {
			a.notice("there was nothing to do")
		}
		return err
	}
	if err != nil {
		err = errors.Join(err, errors.New("Not all is done: run the same command again to go on"))
	}
	refused := changed.Refused
	if len(refused) > 0 {
		refused = append(refused, fmt.Errorf("refused: %d keys", len(refused)))
	}
	return errors.Join(a.showClass(changed.Results), err, errors.Join(refused...))
}
