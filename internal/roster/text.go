package roster

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
)

// marks are how files begin that are in an encoding (byte order marks).
var marks = []struct{ mark, encoding string }{
	{"\xef\xbb\xbf", "utf-8"}, {"\xff\xfe", "utf-16le"}, {"\xfe\xff", "utf-16be"},
}

// workbooks are how the files of spreadsheets begin: .xlsx, .ods and .numbers are
// ZIP files, .xls is a compound file.
var workbooks = []string{"PK\x03\x04", "\xd0\xcf\x11\xe0"}

// decode returns the text of a file, with \n at the end of each line, and the name
// of its encoding. label is the encoding that was asked for, or "".
func decode(data []byte, label string) (text, encoding string, err error) {
	for _, mark := range workbooks {
		if bytes.HasPrefix(data, []byte(mark)) {
			return "", "", errors.New(`the file is a workbook of a spreadsheet (.xlsx, .ods, .xls), not CSV: open it, and save the sheet with the people as CSV. ` +
				`Excel: File, Save As, "CSV UTF-8 (Comma delimited)". Google Sheets: File, Download, "Comma Separated Values". ` +
				`LibreOffice: File, Save As, "Text CSV". Numbers: File, Export To, CSV`)
		}
	}
	if label != "" {
		asked, err := htmlindex.Get(label)
		if err != nil {
			return "", "", fmt.Errorf("--encoding %q is not known: it can be utf-8, utf-16le, utf-16be, windows-1252 or another name that HTML has for an encoding", label)
		}
		encoding, _ = htmlindex.Name(asked) // which it was found by
	}
	for _, m := range marks {
		if rest, ok := bytes.CutPrefix(data, []byte(m.mark)); ok {
			utf16 := strings.HasPrefix(encoding, "utf-16") && strings.HasPrefix(m.encoding, "utf-16")
			if encoding != "" && encoding != m.encoding && !utf16 {
				return "", "", fmt.Errorf("--encoding %s: the file begins with the mark of %s; leave --encoding out", label, m.encoding)
			}
			data, encoding = rest, m.encoding
			break
		}
	}
	switch {
	case encoding == "" && bytes.IndexByte(data, 0) >= 0:
		return "", "", errors.New("the file looks like UTF-16 without its mark: try --encoding utf-16le")
	case encoding == "" || encoding == "utf-8":
		encoding = "utf-8"
		if !utf8.Valid(data) {
			return "", "", fmt.Errorf("line %d: is not UTF-8. If an older Excel wrote the file, say --encoding windows-1252; else save it as UTF-8", invalidLine(data))
		}
	case encoding == "utf-16le":
		data, err = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder().Bytes(data)
	case encoding == "utf-16be":
		data, err = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder().Bytes(data)
	default:
		found, _ := htmlindex.Get(encoding) // as above
		data, err = found.NewDecoder().Bytes(data)
	}
	if err != nil {
		return "", "", fmt.Errorf("the file is not %s: %w", encoding, err)
	}
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data)), encoding, nil
}

// invalidLine is the line of the first bytes that are not UTF-8.
func invalidLine(data []byte) int {
	for n, line := range bytes.SplitAfter(data, []byte("\n")) {
		if !utf8.Valid(line) {
			return n + 1
		}
	}
	return 1
}

var delimiterNames = map[rune]string{',': "commas", ';': "semicolons", '\t': "tabs"}

// delimiterOf returns what separates the cells: what is asked for, what a first line
// like sep=; says, which Excel understands, or what makes known columns of the header.
func delimiterOf(text *string, options Options) (rune, error) {
	if name := options.Delimiter; name != "" {
		for delimiter, plural := range delimiterNames {
			if name == string(delimiter) || name+"s" == plural {
				return delimiter, nil
			}
		}
		return 0, fmt.Errorf("--delimiter %q is not comma, semicolon or tab", name)
	}
	first, _, _ := strings.Cut(*text, "\n")
	if sep, ok := strings.CutPrefix(strings.ToLower(first), "sep="); ok && len(sep) == 1 && delimiterNames[rune(sep[0])] != "" {
		*text = (*text)[len(first):] // its line stays, and is blank
		return rune(sep[0]), nil
	}
	best, most, unsure := ',', -1, false
	var header []string
	for _, delimiter := range []rune{',', ';', '\t'} {
		cells := firstRow(*text, delimiter)
		// A known column counts for more than any number of others.
		score := len(cells)
		for _, cell := range cells {
			if options.knows(cell) {
				score += 1_000_000
			}
		}
		switch {
		case score > most:
			best, most, header, unsure = delimiter, score, cells, false
		case score == most && most >= 1_000_000 && !slices.Equal(cells, header):
			unsure = true
		}
	}
	if unsure {
		return 0, errors.New("line 1: commas, semicolons or tabs could separate the columns: --delimiter says which")
	}
	return best, nil
}

// firstRow returns the cells of the first row that is not blank.
func firstRow(text string, delimiter rune) []string {
	for reader := newReader(text, delimiter); ; {
		cells, err := reader.Read()
		if err != nil && !errors.Is(err, csv.ErrFieldCount) {
			return nil
		}
		for i, cell := range cells {
			cells[i] = clean(cell)
		}
		if !(row{cells: cells}).blank() {
			return cells
		}
	}
}
