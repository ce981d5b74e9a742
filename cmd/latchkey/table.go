package main

import (
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// table is rows for people.
type table struct {
	header   []string // nil: there is none
	rows     [][]string
	alarming func(row []string) bool // whose last cell is red; nil: none
	whole    bool                    // no cell is cut: each row is a field and its value
}

const (
	// columnGap is between two columns.
	columnGap = 2
	// How much of a text is left while a longer one can be cut, while another column
	// can, and while there is anything but numbers.
	longText, enoughText, leastText = 40, 12, 4
)

// print prints a table. On a terminal no row is wider than that, unless the table
// is to be whole: a cell that is too long ends with an ellipsis.
func (t table) print(a *app) error {
	lines, widths := t.lines()
	if room := terminalWidth(a.out); room > 0 && !t.whole {
		fit(widths, t.numbers(len(widths)), room)
	}
	var b strings.Builder
	for i, line := range lines {
		row := i - (len(lines) - len(t.rows)) // below 0: the header
		for column, cell := range line {
			cell = cut(cell, widths[column])
			pad := widths[column] - displayWidth(cell) + columnGap
			if column == len(line)-1 {
				if pad = 0; row >= 0 && t.alarming != nil && t.alarming(t.rows[row]) {
					cell = a.red(cell)
				}
			}
			b.WriteString(cell + strings.Repeat(" ", pad))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

// lines returns header and rows as a terminal may have them, and how wide the
// columns are.
func (t table) lines() (lines [][]string, widths []int) {
	if t.header != nil {
		header := make([]string, len(t.header))
		for i, name := range t.header {
			header[i] = strings.ToUpper(name)
		}
		lines = append(lines, header)
	}
	for _, row := range t.rows {
		lines = append(lines, printableRow(row))
	}
	for _, line := range lines {
		for column, cell := range line {
			if column == len(widths) {
				widths = append(widths, 0)
			}
			widths[column] = max(widths[column], displayWidth(cell))
		}
	}
	return lines, widths
}

// amountCell is a number, or what stands in its place.
var amountCell = regexp.MustCompile(`^(|-|unlimited|-?[0-9]+(\.[0-9]+)?)$`)

// numbers tells which columns hold nothing but numbers.
func (t table) numbers(columns int) []bool {
	numbers := slices.Repeat([]bool{true}, columns)
	for _, row := range t.rows {
		for column, cell := range row {
			numbers[column] = numbers[column] && amountCell.MatchString(cell)
		}
	}
	return numbers
}

// rowWidth is how wide a row of such columns is.
func rowWidth(widths []int) int {
	sum := max(len(widths)-1, 0) * columnGap
	for _, w := range widths {
		sum += w
	}
	return sum
}

// fit lowers the widths of columns until a row has room, always that of the
// widest, as far as that goes: a column keeps one cell. The first column, by which a
// row is known, is cut after other texts, if it is not long beyond measure, and a
// number last: a part of it says something else.
func fit(widths []int, numbers []bool, room int) {
	over := rowWidth(widths) - room
	for _, keep := range []struct{ first, text, number int }{
		{longText, longText, math.MaxInt}, {longText, enoughText, math.MaxInt}, {enoughText, enoughText, math.MaxInt}, {leastText, leastText, math.MaxInt}, {1, 1, 1},
	} {
		for ; over > 0; over-- {
			widest := -1
			for column, w := range widths {
				least := keep.text
				switch {
				case numbers[column]:
					least = keep.number
				case column == 0:
					least = keep.first
				}
				if w > least && (widest < 0 || w > widths[widest]) {
					widest = column
				}
			}
			if widest < 0 {
				break
			}
			widths[widest]--
		}
	}
}

const ellipsis = "…"

// cut leaves as much of a text as there is room for.
func cut(text string, room int) string {
	if displayWidth(text) <= room {
		return text
	}
	used := 0
	for i, r := range text {
		if used += runeWidth(r); used > room-displayWidth(ellipsis) {
			return text[:i] + ellipsis
		}
	}
	return text
}

// displayWidth is how many cells of a terminal a text takes that is printable.
func displayWidth(text string) int {
	sum := 0
	for _, r := range text {
		sum += runeWidth(r)
	}
	return sum
}

// runeWidth is how many cells of a terminal a rune takes: none where it stands on
// the one before it, two in the scripts of East Asia and for most pictures.
func runeWidth(r rune) int {
	const firstVowel, lastFinal = 0x1160, 0x11ff // of Hangul, which join the consonant before them
	if unicode.In(r, unicode.Mn, unicode.Me) || firstVowel <= r && r <= lastFinal {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
