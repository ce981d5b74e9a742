package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"latchkey/internal/class"
)

func (a *app) classHandoutCommand(of *classOf) *cobra.Command {
	var out string
	command := &cobra.Command{
		Use:   "handout",
		Short: "Write a CSV file with everybody's name, address and key, for a mail merge",
		Long: `Write a CSV file with everybody's name, address and key, for a mail merge. The keys
come from their files in the folder; OpenRouter is not asked. It is UTF-8 with a mark,
as Excel wants it. Whose address a spreadsheet would take for a formula is named, and
left out.

Whoever gets hold of this file can spend what is left on all keys of the class. It
has mode 0600. Send to each person their own line alone, and remove it then.`,
		Example: `  latchkey class handout --out handout.csv`,
		Args:    usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			c, err := readManifest(of.manifest)
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join(c.Folder(), "handout.csv")
			}
			handed, missing := c.Handout()
			lost := len(missing)
			handed = slices.DeleteFunc(handed, func(h class.Handed) bool {
				// With an apostrophe it would be another address, and the key would go there.
				formula := csvCell(h.Email) != h.Email
				if formula {
					missing = append(missing, fmt.Errorf("%s: a spreadsheet takes the address %q for a formula: give them their file", h.Name, h.Email))
				}
				return formula
			})
			if len(handed) == 0 {
				return errors.Join(append(missing, exit{exitNotFound, errors.New("there is nobody to hand a key to: nothing was written")})...)
			}
			text, err := handoutText(handed)
			if err != nil {
				return err
			}
			if err := class.WriteHandout(out, text); err != nil {
				return err
			}
			a.notice(fmt.Sprintf("%s has the keys of %s: whoever gets hold of it can spend what is left on all of them. Send to each their own line alone, and remove it then", out, count(len(handed), "person", "people")))
			if len(missing) > 0 {
				left := count(len(missing), "person is", "people are") + " not in it"
				if lost > 0 {
					left += ": `latchkey class replace` makes another key for one that is lost"
				}
				missing = append(missing, errors.New(left))
			}
			return errors.Join(missing...)
		},
	}
	command.Flags().StringVar(&out, "out", "", "`file` to write, which is not there yet; handout.csv in the folder of the class if not given")
	return command
}

// handoutText is one of the few places where keys leave the program. A name from a
// roster is no formula in it. Programs for mail merges are those of offices: without
// its mark (BOM), Excel does not take the text for UTF-8.
func handoutText(handed []class.Handed) (string, error) {
	text := bytes.NewBufferString("\ufeff")
	w := csv.NewWriter(text)
	rows := [][]string{{"name", "email", "key"}}
	for _, h := range handed {
		rows = append(rows, []string{csvCell(h.Name), csvCell(h.Email), h.Key.Reveal()})
	}
	err := w.WriteAll(rows)
	return text.String(), err
}
