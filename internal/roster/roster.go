// Package roster reads who is in a class, from CSV as other programs export it:
// Canvas, Moodle, Blackboard, Google Forms and Classroom, GitHub Classroom, Excel
// in English, German, French or Spanish.
//
// It promises to guess nothing: what it takes and what it skips can be told before
// anything is done with it ([Roster.Told]), and what it cannot be sure of it
// refuses, with the line, and with the flag of the command line that decides it.
// One person is one person, whatever white space, invisible characters and upper
// case stand in their rows.
package roster

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"latchkey/internal/account"
)

// Roster is the people of a class.
type Roster struct {
	People   []Person // at least one
	Identity string   // what tells them apart: id, email or name
	Columns  []Column // that were taken, in the order of the file
	Skipped  []Skip   // rows that are nobody, or nobody new
	Form     string   // encoding and delimiter, for people
}

// Person is one of them.
type Person struct {
	ID    string // tells people apart, see [Key]
	Name  string
	Email string
	Limit *account.Credits // of their key; nil: that of the class
	Line  int              // of the file
}

// Column is a column of the file, and what is taken from it.
type Column struct{ Header, As string }

// Skip is rows that are skipped for one reason.
type Skip struct {
	Why   string
	Lines []int
}

// Options decide what a file leaves open. The zero value decides nothing.
type Options struct {
	Encoding  string            // as in HTML: windows-1252, utf-16le, …
	Delimiter string            // a comma, a semicolon or a tab
	Columns   map[string]string // the header of the column for id, email, name or limit; [None]: there is none
}

// None in the place of a header says that no column is to be taken.
const None = "none"

const (
	// maxBytes is far above a roster of everybody at a university.
	maxBytes = 16 << 20
	// maxValueBytes keeps file names that are made of a value within the 255 bytes
	// that systems allow.
	maxValueBytes = 200
	// maxProblems is how many of the errors in a file are told at once.
	maxProblems = 20
)

// Key is the form of an id, an address or a name in which those of one person are
// equal: in lower case, composed (NFC), without white space and invisible characters
// around it. It is composed last: some letters are composed in lower case alone, as ǰ.
func Key(text string) string { return norm.NFC.String(strings.ToLower(clean(text))) }

// clean removes white space and invisible characters around a value.
func clean(text string) string {
	return norm.NFC.String(strings.TrimFunc(text, func(r rune) bool { return unicode.IsSpace(r) || invisible(r) }))
}

// invisible tells whether a rune looks like nothing.
func invisible(r rune) bool {
	const brailleBlank = '\u2800'
	return r == brailleBlank || unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

var errNobody = errors.New("there is nobody in the file")

// row is a row of the file, its cells cleaned.
type row struct {
	line  int
	cells []string
}

func (r row) blank() bool {
	return !slices.ContainsFunc(r.cells, func(cell string) bool { return cell != "" })
}

// Read reads a file whose first row that is not blank names its columns. It fails
// unless every row is sound, and tells all that is wrong, with line numbers.
func Read(from io.Reader, options Options) (Roster, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxBytes+1))
	if err != nil {
		return Roster{}, err
	}
	if len(data) > maxBytes {
		return Roster{}, fmt.Errorf("the file has more than %d MiB: it is no roster", maxBytes>>20)
	}
	text, encoding, err := decode(data, options.Encoding)
	if err != nil {
		return Roster{}, err
	}
	delimiter, err := delimiterOf(&text, options)
	if err != nil {
		return Roster{}, err
	}
	header, rows, blank, err := readRows(text, delimiter)
	if err != nil {
		return Roster{}, err
	}
	if len(rows) == 0 {
		return Roster{}, errNobody
	}
	taken, err := takeColumns(header.cells, rows, options.Columns)
	if err != nil {
		return Roster{}, fmt.Errorf("line %d: %w", header.line, err)
	}
	r := Roster{Identity: taken.identity, Columns: taken.columns(header.cells), Form: encoding + ", " + delimiterNames[delimiter]}
	r.skip("blank", blank...)
	if err := r.takePeople(taken, rows); err != nil {
		return Roster{}, err
	}
	return r, nil
}

func (r *Roster) skip(why string, lines ...int) {
	if len(lines) == 0 {
		return
	}
	for i := range r.Skipped {
		if r.Skipped[i].Why == why {
			r.Skipped[i].Lines = append(r.Skipped[i].Lines, lines...)
			return
		}
	}
	r.Skipped = append(r.Skipped, Skip{why, lines})
}

// Told says what was taken and what was skipped, in lines for people.
func (r Roster) Told() []string {
	columns := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		columns[i] = fmt.Sprintf("%s from %q", c.As, brief(c.Header))
	}
	told := []string{fmt.Sprintf("%s; %s; people are told apart by %s", r.Form, strings.Join(columns, ", "), r.Identity)}
	rows, whys := 0, []string{}
	for _, s := range r.Skipped {
		rows += len(s.Lines)
		whys = append(whys, fmt.Sprintf("%d %s (line %s)", len(s.Lines), s.Why, lineList(s.Lines)))
	}
	found := count(len(r.People), "person", "people") + ", no row skipped"
	if rows > 0 {
		found = fmt.Sprintf("%s, %s skipped: %s", count(len(r.People), "person", "people"), count(rows, "row", "rows"), strings.Join(whys, ", "))
	}
	return append(told, found)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// lineList names lines, and not all of very many.
func lineList(lines []int) string {
	const most = 5
	text := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(lines[:min(len(lines), most)])), ", "), "[]")
	if len(lines) > most {
		text += ", …"
	}
	return text
}

// readRows reads the header, which is the first row that is not blank, the rows
// below it that are not blank, and the lines of those that are.
func readRows(text string, delimiter rune) (header row, rows []row, blank []int, err error) {
	reader := newReader(text, delimiter)
	var problems []error
	next, read := 1, int64(0) // the line after the last row, and where it begins
	blanks := func(until int) {
		for ; next < until; next++ {
			if header.cells != nil {
				blank = append(blank, next)
			}
		}
	}
	for {
		cells, err := reader.Read()
		if err == io.EOF {
			break
		}
		if broken := (*csv.ParseError)(nil); errors.As(err, &broken) {
			problems = append(problems, fmt.Errorf("line %d: %w", broken.Line, broken.Err))
			return header, nil, nil, Problems(problems) // where the next row begins is anyone's guess
		} else if err != nil {
			return header, nil, nil, err
		}
		line, _ := reader.FieldPos(0)
		blanks(line)
		// A quoted cell can have line breaks in it; those in front are blank rows.
		record := strings.Trim(text[read:reader.InputOffset()], "\n")
		next, read = line+strings.Count(record, "\n")+1, reader.InputOffset()
		for i, cell := range cells {
			cells[i] = clean(cell)
		}
		r := row{line, cells}
		switch {
		case r.blank():
			if header.cells != nil {
				blank = append(blank, line)
			}
		case header.cells == nil:
			for r.cells[len(r.cells)-1] == "" {
				r.cells = r.cells[:len(r.cells)-1]
			}
			header = r
		default:
			if n := len(header.cells); len(cells) < n || !(row{line, cells[n:]}).blank() {
				problems = append(problems, fmt.Errorf("line %d: has %d fields, and the header has %d", line, len(cells), n))
				continue
			}
			rows = append(rows, r)
		}
	}
	blanks(1 + strings.Count(text, "\n"))
	if header.cells == nil {
		return header, nil, nil, errors.New("the file is empty: its first line has to name the columns")
	}
	return header, rows, blank, Problems(problems)
}

func newReader(text string, delimiter rune) *csv.Reader {
	reader := csv.NewReader(strings.NewReader(text))
	reader.Comma = delimiter
	reader.FieldsPerRecord = -1                 // told with all other problems
	reader.TrimLeadingSpace = delimiter != '\t' // which would be trimmed itself
	return reader
}

// Problems joins the problems of a file, of very many the first ones; nil where there
// are none.
func Problems(problems []error) error {
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems:maxProblems], fmt.Errorf("and %d more", more))
	}
	return errors.Join(problems...)
}

// takePeople takes a person from each row that is one.
func (r *Roster) takePeople(taken taken, rows []row) error {
	var problems []error
	problem := func(line int, format string, args ...any) {
		problems = append(problems, fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...)))
	}
	byID, byEmail := map[string]Person{}, map[string]Person{}
	for _, row := range rows {
		p := taken.person(row)
		if why := taken.nobody(p, row); why != "" {
			r.skip(why, row.line)
			continue
		}
		wrong := taken.wrong(p)
		if wrong == "" {
			p.Limit, wrong = taken.limit(row)
		}
		if wrong != "" {
			problem(row.line, "%s", wrong)
			continue
		}
		before, again := byID[p.ID]
		if !again && p.Email != "" {
			before, again = byEmail[Key(p.Email)]
		}
		// Whoever gets two rows would get two keys. Two people with one name are
		// two people, or not.
		switch {
		case again && r.Identity != "name" && p.same(before):
			r.skip("of a person in a row above", row.line)
		case again && p.ID == before.ID:
			problem(row.line, "has the same %s %q as line %d%s", r.Identity, p.ID, before.Line, taken.otherwise())
		case again:
			problem(row.line, "has the same email %q as line %d, and another %s%s", p.Email, before.Line, r.Identity, taken.otherwise())
		default:
			byID[p.ID] = p
			if p.Email != "" {
				byEmail[Key(p.Email)] = p
			}
			r.People = append(r.People, p)
		}
	}
	if len(problems) > 0 {
		return Problems(problems)
	}
	if len(r.People) == 0 {
		return errNobody
	}
	return nil
}

// same tells whether two rows say the same of a person.
func (p Person) same(other Person) bool {
	limits := p.Limit == other.Limit || p.Limit != nil && other.Limit != nil && *p.Limit == *other.Limit
	return p.ID == other.ID && Key(p.Name) == Key(other.Name) && Key(p.Email) == Key(other.Email) && limits
}

// person reads a row. It may make no sense.
func (t taken) person(row row) Person {
	value := func(as role) string { return t.value(row, as) }
	p := Person{Name: value(asName), Email: value(asEmail), Line: row.line}
	if p.Name == "" {
		p.Name = strings.TrimSpace(value(asGiven) + " " + value(asFamily))
	}
	switch t.identity {
	case asID:
		p.ID = Key(value(asID))
		if t.idIsEmail {
			p.Email = value(asID)
		}
	case asEmail:
		p.ID = Key(p.Email)
	default:
		p.ID = Key(p.Name)
	}
	return p
}

// nobody says why a row is no person; "" where it may be one.
func (t taken) nobody(p Person, row row) string {
	name := plain(p.Name)
	switch {
	case (p.ID == "" || t.identity == asName) && p.Email == "" && notPeople[name]:
		return fmt.Sprintf("%q", p.Name)
	case p.ID == "" && p.Name == "" && p.Email == "" && slices.ContainsFunc(row.cells, func(cell string) bool { return plain(cell) == "manualposting" }):
		return `"Manual Posting"`
	case t.canvas && (name == "studenttest" || name == "teststudent"):
		return "test student of Canvas"
	case strings.HasSuffix(p.ID, "_previewuser"):
		return "preview user of Blackboard"
	}
	return ""
}

// wrong says what is not sound in a person; "" where nothing is.
func (t taken) wrong(p Person) string {
	address, err := mail.ParseAddress(p.Email)
	switch values := p.ID + p.Name + p.Email; {
	case p.ID == "":
		return fmt.Sprintf("has no %s%s", t.identity, t.otherwise())
	case len(p.ID) > maxValueBytes || len(p.Name) > maxValueBytes || len(p.Email) > maxValueBytes:
		return fmt.Sprintf("a value is longer than %d bytes", maxValueBytes)
	case strings.ContainsFunc(values, unicode.IsControl):
		return "a value has a line break or a control character in it"
	case strings.ContainsRune(values, unicode.ReplacementChar):
		return fmt.Sprintf("%q has a character that was lost: --encoding says how the file is encoded", cmp.Or(p.Name, p.ID))
	case strings.ContainsFunc(p.Email, invisible), t.identity != asName && strings.ContainsFunc(p.ID, invisible):
		return fmt.Sprintf("%+q has an invisible character in it", cmp.Or(p.Email, p.ID))
	case p.Email != "" && (err != nil || address.Address != p.Email):
		return fmt.Sprintf("%q is not an email address: --email-column names the column that has them", p.Email)
	}
	return ""
}

// limit reads the limit of a person's key, nil where the row has none, or says what
// is wrong with it. A comma could be one of decimals or one of thousands.
func (t taken) limit(row row) (*account.Credits, string) {
	text := t.value(row, asLimit)
	if text == "" {
		return nil, ""
	}
	limit, err := account.ParseCredits(text)
	if err != nil || limit <= 0 {
		return nil, fmt.Sprintf("%q is no limit in credits, as 2.5: --limit-column %s takes no limits from the file", brief(text), None)
	}
	return &limit, ""
}
