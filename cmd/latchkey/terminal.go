package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// Everything that the program prints goes through show, print, say, ask and fail,
// which escape what they are given, so that no command can forget it.

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

const red = "\x1b[31m"

// red colours text for people at a terminal that can. NO_COLOR is heeded.
func (a *app) red(text string) string {
	if !isTerminal(a.out) || a.dumb() || a.getenv("NO_COLOR") != "" {
		return text
	}
	return red + text + "\x1b[0m"
}

// dumb tells whether the terminal can do nothing but print.
func (a *app) dumb() bool { return a.getenv("TERM") == "dumb" }

// isTerminal tells whether people look at what is written, or type what is read.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// terminalWidth is how many cells a line has where people look at what is written;
// 0 elsewhere.
func terminalWidth(out any) int {
	file, ok := out.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0 // it is no terminal
	}
	return columns
}

// warnOfMode warns where a secret is about to be written to a file that others can
// read.
func (a *app) warnOfMode() {
	file, ok := a.out.(*os.File)
	if !ok {
		return
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return
	}
	a.notice(fmt.Sprintf("others can read the file that this goes to: it has mode %04o. chmod 600 it, and next time set umask 077 before", info.Mode().Perm()))
}
