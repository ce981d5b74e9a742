package class

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Roster is the people of a class.
type Roster struct {
	People   []Person
	Identity string // the column that tells them apart: id, email or name
}

// Person is one of them, a row of a CSV file.
type Person struct {
	ID    string // what tells people apart, in lower case
	Name  string
	Email string
	File  string // the name of the key's file
	line  int
}

// identities are the columns that can tell people apart: of those that are
// there, the first does.
var identities = []string{"id", "email", "name"}

const (
	// maxPersonBytes keeps file names within the 255 bytes that systems allow.
	maxPersonBytes = 200
	// maxProblems is how many of the errors in a file are told at once.
	maxProblems = 20
)

// ReadRoster reads a CSV file with a header that has one or more of the columns
// id, email and name, of which the first that is there tells people apart. It
// fails unless every row is sound, and tells all that is wrong, with line numbers.
func ReadRoster(from io.Reader) (Roster, error) {
	people, identity, err := readPeople(from)
	if err != nil {
		return Roster{}, err
	}
	return Roster{people, identity}, nil
}

func readPeople(from io.Reader) (people []Person, identity string, err error) {
	text, err := io.ReadAll(from)
	if err != nil {
		return nil, "", err
	}
	if !utf8.Valid(text) {
		return nil, "", errors.New("the file is not UTF-8")
	}
	rows := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff"))) // Excel begins files with that mark
	rows.TrimLeadingSpace = true
	header, err := rows.Read()
	if err == io.EOF {
		return nil, "", errors.New("the file is empty: its first line has to name the columns")
	}
	if err != nil {
		return nil, "", err
	}
	column := map[string]int{}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := column[name]; twice && slices.Contains(identities, name) {
			return nil, "", fmt.Errorf("line 1: there are two columns %q", name)
		}
		column[name] = i
	}
	for _, name := range identities {
		if _, ok := column[name]; ok && identity == "" {
			identity = name
		}
	}
	if identity == "" {
		hint := ""
		if strings.Contains(header[0], ";") {
			hint = "; save the file with commas, not semicolons"
		}
		return nil, "", fmt.Errorf("line 1: there is no column name, email or id%s", hint)
	}

	var problems []error
	problem := func(line int, format string, args ...any) {
		problems = append(problems, fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...)))
	}
	seen := map[string]int{} // a value that nobody may share -> its line
	for {
		row, err := rows.Read()
		if err == io.EOF {
			break
		}
		var broken *csv.ParseError
		switch {
		case errors.As(err, &broken) && errors.Is(err, csv.ErrFieldCount):
			problem(broken.Line, "has %d fields, and the header has %d", len(row), len(header))
			continue
		case errors.As(err, &broken):
			problem(broken.Line, "%v", broken.Err)
			return nil, "", told(problems) // where the next row begins is anyone's guess
		case err != nil:
			return nil, "", err
		}
		line, _ := rows.FieldPos(0)
		value := func(name string) string {
			if i, ok := column[name]; ok {
				return strings.TrimSpace(row[i])
			}
			return ""
		}
		p := Person{ID: strings.ToLower(value(identity)), Name: value("name"), Email: value("email"), line: line}
		p.File = fileName(p.ID)
		switch address, err := mail.ParseAddress(p.Email); {
		case p.ID == "":
			problem(line, "has no %s", identity)
			continue
		case len(p.ID) > maxPersonBytes || len(p.Name) > maxPersonBytes || len(p.Email) > maxPersonBytes:
			problem(line, "a value is longer than %d bytes", maxPersonBytes)
			continue
		case strings.ContainsFunc(p.ID+p.Name+p.Email, unicode.IsControl):
			problem(line, "a value has a line break or a control character in it")
			continue
		case p.Email != "" && (err != nil || address.Address != p.Email):
			problem(line, "%q is not an email address", p.Email)
			continue
		case p.File == "":
			problem(line, "no file can be named after %q", p.ID)
			continue
		}
		// A person who is there twice would get two keys. Two whose files have
		// the same name would share one.
		shared := []string{identity + " " + p.ID, "email " + strings.ToLower(p.Email), "file " + p.File}
		if p.Email == "" {
			shared[1] = shared[0]
		}
		for _, what := range slices.Compact(shared) {
			if before, twice := seen[what]; twice {
				problem(line, "has the same %q as line %d", what, before)
				break
			}
			seen[what] = line
		}
		people = append(people, p)
	}
	if len(problems) > 0 {
		return nil, "", told(problems)
	}
	if len(people) == 0 {
		return nil, "", errors.New("there is nobody in the file")
	}
	return people, identity, nil
}

func told(problems []error) error {
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems:maxProblems], fmt.Errorf("and %d more", more))
	}
	return errors.Join(problems...)
}

// fileName is the name of the file for a person's key, or "".
func fileName(id string) string {
	safe := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || strings.ContainsRune("@._+-", r) {
			return r
		}
		return '-'
	}, id)
	safe = strings.TrimLeft(safe, ".-") // neither hidden nor taken for a flag
	if safe == "" {
		return ""
	}
	return safe + ".key"
}
