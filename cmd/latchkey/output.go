package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"latchkey/internal/class"
	"latchkey/internal/oplog"
)

// show prints data as JSON, or the rows as CSV or as a table for people. Rows without a
// header are fields of one thing.
func (a *app) show(data any, header []string, rows [][]string) error {
	return a.showTable(data, table{header: header, rows: rows, whole: header == nil})
}

// showTable is show of a table with more to say about it.
func (a *app) showTable(data any, t table) error {
	switch {
	case a.asJSON:
		return a.printJSON(data, "  ")
	case a.asCSV:
		return a.printCSV(append([][]string{t.header}, t.rows...)...)
	}
	return t.print(a)
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
// it text. A spreadsheet in German, French or Spanish separates at semicolons, and
// perhaps inside of quotes: what would begin a cell there has an apostrophe, too. A number
// is no formula.
func csvCell(text string) string {
	if plainNumber.MatchString(text) {
		return text
	}
	var cell strings.Builder
	begins := true
	for i := range len(text) {
		if begins && strings.IndexByte("=+-@\t\r", text[i]) >= 0 {
			cell.WriteByte('\'')
		}
		cell.WriteByte(text[i])
		begins = strings.IndexByte(";\r\n", text[i]) >= 0 || begins && text[i] == '"' // which is no part of its cell
	}
	return cell.String()
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
		if hint := hint(err); hint != "" {
			a.say("%s", hint)
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
	case *class.Unsuitable:
		return errorLines(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, joined := range e.Unwrap() {
			lines = append(lines, errorLines(joined)...)
		}
		return lines
	}
	return []string{err.Error()}
}

// hashCell is a hash in a row: for people, or whole with --csv.
func (a *app) hashCell(hash string) string {
	if a.asCSV {
		return hash
	}
	return oplog.ShortHash(hash)
}

// timeText is a time to the second, which is the form of all times but in JSON.
func timeText(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format(time.RFC3339)
}

// timeOf is timeText of a time that came as text. What is no time stays as it is.
func timeOf(text string) string {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return timeText(at)
}

// count is a number of things, with their name.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
