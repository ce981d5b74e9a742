package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// confirmation is how a command asks before it changes or deletes what is there.
// All of them ask in the same way.
type confirmation struct{ yes bool }

// register adds --yes to a command.
func (c *confirmation) register(command *cobra.Command) {
	command.Flags().BoolVar(&c.yes, "yes", false, "do not ask")
}

// confirm asks on a terminal whether something is meant, after a line for each
// thing that it is about. Without a terminal there is nobody to ask.
func (a *app) confirm(command *cobra.Command, c confirmation, question string, about ...string) error {
	if c.yes {
		return nil
	}
	if !isTerminal(command.InOrStdin()) {
		return exit{exitUsage, errors.New("nobody is there to be asked whether this is meant: confirm it with --yes")}
	}
	for _, thing := range about {
		a.say("  %s", thing)
	}
	return ask(command.Context(), command.InOrStdin(), a.err, question)
}

// ask asks a question. Only the word yes will do.
func ask(ctx context.Context, in io.Reader, out io.Writer, question string) error {
	fmt.Fprintf(out, "%s Type yes: ", printable(question))
	answer := make(chan string, 1)
	go func() { // reading does not heed Ctrl-C
		line, _ := bufio.NewReader(in).ReadString('\n') // no answer is a no
		answer <- line
	}()
	select {
	case <-ctx.Done():
	case line := <-answer:
		if strings.TrimSpace(line) == "yes" {
			return nil
		}
	}
	return errors.New("nothing was done")
}
