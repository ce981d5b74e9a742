package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Everything that the program prints goes through this file: show, print, say,
// ask and fail escape what they are given, so that no command can forget it.

// visible tells whether a terminal shows a rune as itself, in its place and
// without effect on its neighbours. Control and format characters are not
// visible, nor are those that take no room or look like nothing: with them two
// different names could look the same.
func visible(r rune) bool {
	return unicode.IsGraphic(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// printable is text of users or servers as a terminal may have it, on one line:
// what is not visible is escaped, as is what is not UTF-8. Escaping twice is
// escaping once.
func printable(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch _, size := utf8.DecodeRuneInString(text[i:]); {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case visible(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

func printableRow(row []string) []string {
	cells := make([]string, len(row))
	for i, cell := range row {
		cells[i] = printable(cell)
	}
	return cells
}

// printableJSON is JSON of the same value in which all that is not visible is
// escaped. Outside of texts there is nothing of that kind but line breaks.
func printableJSON(text []byte) []byte {
	var b []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == '\n' || visible(r) && (r != utf8.RuneError || size > 1) {
			b = append(b, text[:size]...)
		} else {
			for _, unit := range utf16.AppendRune(nil, r) {
				b = fmt.Appendf(b, `\u%04x`, unit)
			}
		}
		text = text[size:]
	}
	return b
}

// show prints data as JSON, or the rows as CSV or as a table for people.
func (a *app) show(data any, header []string, rows [][]string) error {
	return a.showAlarming(data, header, rows, func([]string) bool { return false })
}

// showAlarming is show that colours the last cell of the rows that are alarming.
// tabwriter takes colours for text: only the last cell of a row can have one.
func (a *app) showAlarming(data any, header []string, rows [][]string, alarming func(row []string) bool) error {
	switch {
	case a.asJSON:
		return a.printJSON(data, "  ")
	case a.asCSV:
		return a.printCSV(append([][]string{header}, rows...)...)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if header != nil {
		fmt.Fprintln(w, strings.ToUpper(strings.Join(header, "\t")))
	}
	for _, row := range rows {
		cells := printableRow(row)
		if last := len(cells) - 1; alarming(row) {
			cells[last] = a.red(cells[last])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// printJSON prints a value, on one line where indent is empty.
func (a *app) printJSON(value any, indent string) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", indent)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := a.out.Write(printableJSON(text.Bytes()))
	return err
}

// plainNumber is a number as the commands print one, below zero or not.
var plainNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// csvCell is a cell that no spreadsheet takes for a formula: an apostrophe makes
// it text. A number is no formula.
func csvCell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) && !plainNumber.MatchString(text) {
		return "'" + text
	}
	return text
}

// printCSV prints rows for a program, each cell as csvCell has it, and escaped
// where a terminal would show them.
func (a *app) printCSV(rows ...[]string) error {
	w := csv.NewWriter(a.out)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = csvCell(cell)
		}
		if isTerminal(a.out) {
			cells = printableRow(cells)
		}
		if err := w.Write(cells); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// print prints a line of what is asked for.
func (a *app) print(text string, alarming bool) error {
	line := printable(text)
	if alarming {
		line = a.red(line)
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}

// say prints a line for people beside what is asked for.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.err, printable(fmt.Sprintf(format, args...)))
}

func (a *app) notice(text string) { a.say("latchkey: %s", text) }

// fail prints an error, if it is one, and returns the exit code that it stands
// for.
func (a *app) fail(err error) int {
	if err != nil {
		a.notice(errorLines(err)[0])
		for _, line := range errorLines(err)[1:] {
			a.say("%s", line)
		}
	}
	return exitCode(err)
}

// errorLines returns the lines of an error, one for each that was joined. A line
// break within one of them came from elsewhere and begins no line.
func errorLines(err error) []string {
	var lines []string
	switch e := err.(type) {
	case exit:
		return errorLines(e.error)
	case interface{ Unwrap() []error }:
		for _, joined := range e.Unwrap() {
			lines = append(lines, errorLines(joined)...)
		}
		return lines
	}
	return []string{err.Error()}
}

const red = "\x1b[31m"

// red colours text for people at a terminal. NO_COLOR is heeded.
func (a *app) red(text string) string {
	if !isTerminal(a.out) || a.getenv("NO_COLOR") != "" {
		return text
	}
	return red + text + "\x1b[0m"
}

// isTerminal tells whether people look at what is written, or type what is read.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// confirm asks on a terminal whether something is meant that cannot be taken
// back, after a line for each thing that it is about. Without a terminal there
// is nobody to ask.
func (a *app) confirm(command *cobra.Command, question string, about ...string) error {
	if !isTerminal(command.InOrStdin()) {
		return exit{exitUsage, errors.New("this cannot be taken back, and nobody is there to be asked: confirm it with --yes")}
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
