package roster

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// role is what a column is taken for.
type role = string

const (
	asID     role = "id"
	asEmail  role = "email"
	asName   role = "name"
	asGiven  role = "given name"
	asFamily role = "family name"
	asLimit  role = "limit"
)

// known are the headers of other programs, of forms and of lists that people keep.
// Of several ids that are there the first here is taken: each of them tells people
// apart. Of anything else there may be one.
var known = []struct {
	as      role
	headers []string
}{
	{asID, []string{
		"ID", "Identifier", // Canvas, GitHub Classroom
		"ID number", "ID-Nummer", "Numéro d'identification", "Número de ID", "Número de identificación", // Moodle
		"SIS User ID", "SIS Login ID", // Canvas
		"Username", "Benutzername", "Anmeldename", "Nom d'utilisateur", "Nombre de usuario", // Blackboard, Moodle
		"Student ID", "Student number", "Student no", "User ID", "Login",
		"Matrikelnummer", "Matrikel-Nr.", "Kennung",
		"Identifiant", "Matricule", "Numéro étudiant", "Numéro d'étudiant", "N° étudiant",
		"Identificador", "Matrícula", "Usuario", "Número de estudiante",
	}},
	{asEmail, []string{
		"Email", "Mail", "Email Address", "Mail Address", "Student email", "School email", "Primary email",
		"E-Mail-Adresse", "Mailadresse",
		"Courriel", "Adresse e-mail", "Adresse mail", "Adresse de courriel", "Adresse électronique", "Adresse de messagerie",
		"Correo", "Correo electrónico", "Dirección de correo", "Dirección de correo electrónico", "Dirección de email",
	}},
	{asName, []string{
		"Name", "Student", "Student name", "Full name", "Display name",
		"Vollständiger Name", "Vor- und Nachname", "Teilnehmer/in",
		"Nom", "Nom complet", "Nom et prénom", "Prénom et nom", "Étudiant",
		"Nombre", "Nombre completo", "Nombre y apellidos", "Apellidos y nombre", "Estudiante", "Alumno",
	}},
	{asGiven, []string{"First name", "Given name", "Forename", "Vorname", "Prénom", "Nombre de pila"}},
	{asFamily, []string{"Last name", "Family name", "Surname", "Nachname", "Familienname", "Nom de famille", "Apellido", "Apellidos"}},
	{asLimit, []string{"Limit"}},
}

// plain is a header as it is compared: its letters and digits, in lower case and
// without accents.
func plain(header string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, norm.NFD.String(header)))
}

// rank says what a known header is taken for, and which of its kind comes first.
type rank struct {
	as    role
	order int
}

var ranks = func() map[string]rank {
	ranks := map[string]rank{}
	for _, k := range known {
		for i, header := range k.headers {
			ranks[plain(header)] = rank{k.as, i}
		}
	}
	return ranks
}()

// notPeople are what stands in the place of a name in rows that are about the
// columns, at Canvas and at Google Classroom.
var notPeople = map[string]bool{"pointspossible": true, "manualposting": true, "points": true, "date": true, "classaverage": true}

// knows tells whether a header is known, or was named.
func (o Options) knows(header string) bool {
	if _, known := ranks[plain(header)]; known {
		return true
	}
	for _, name := range o.Columns {
		if _, err := columnNamed([]string{header}, name); err == nil {
			return true
		}
	}
	return false
}

// taken is which column is taken for what.
type taken struct {
	identity  role
	column    map[role]int
	canvas    bool // the file is one of Canvas
	idIsEmail bool // each id is an address, and there is no other
}

func (t taken) value(row row, as role) string {
	if i, ok := t.column[as]; ok {
		return row.cells[i]
	}
	return ""
}

// columns are those that are taken, in the order of the file.
func (t taken) columns(header []string) []Column {
	var columns []Column
	for i, cell := range header {
		for as, at := range t.column {
			if as == asID && t.idIsEmail {
				as = "id and email"
			}
			if at == i {
				columns = append(columns, Column{cell, as})
			}
		}
	}
	return columns
}

// otherwise says which flag tells people apart in another way.
func (t taken) otherwise() string {
	_, email := t.column[asEmail]
	switch {
	case t.identity == asID && email:
		return ": --id-column " + None + " tells people apart by email"
	case t.identity == asName:
		return ": --id-column or --email-column names a column that tells them apart"
	}
	return ": --id-column names another column that tells them apart"
}

// takeColumns decides which columns are taken. asked are the headers that were asked
// for, by role. A column that is empty in all rows is not taken unless it was.
func takeColumns(header []string, rows []row, asked map[role]string) (taken, error) {
	t := taken{column: map[role]int{}}
	chosen := map[role]rank{}
	for i, cell := range header {
		found, ok := ranks[plain(cell)]
		if plain(cell) == "sisloginid" || plain(cell) == "sisuserid" {
			t.canvas = true
		}
		_, decided := asked[found.as]
		if !ok || decided || !slices.ContainsFunc(rows, func(r row) bool { return r.cells[i] != "" }) {
			continue
		}
		other, twice := t.column[found.as]
		switch before := chosen[found.as]; {
		case !twice, found.as == asID && found.order < before.order:
			t.column[found.as], chosen[found.as] = i, found
		case found.as == asID && found.order > before.order:
		case !slices.ContainsFunc(rows, func(r row) bool { return Key(r.cells[i]) != Key(r.cells[other]) }): // they say the same
		default:
			return t, fmt.Errorf("the columns %q and %q could both be the %s: %s says which", brief(header[other]), brief(cell), found.as, flagFor(found.as))
		}
	}
	for as, name := range asked {
		if name == None {
			continue
		}
		i, err := columnNamed(header, name)
		if err != nil {
			return t, fmt.Errorf("%s: %w", flagFor(as), err)
		}
		t.column[as] = i
	}
	t.sortNames(header, asked)
	if at, ok := t.column[asID]; ok && asked[asEmail] != None {
		_, email := t.column[asEmail]
		t.idIsEmail = !email && !slices.ContainsFunc(rows, func(r row) bool { return !strings.Contains(r.cells[at], "@") })
	}
	for _, as := range []role{asName, asEmail, asID} { // the last that is there
		if _, ok := t.column[as]; ok {
			t.identity = as
		}
	}
	if _, given := t.column[asGiven]; t.identity == "" && given {
		t.identity = asName
	} else if _, family := t.column[asFamily]; t.identity == "" && family {
		t.identity = asName
	}
	if t.identity == "" {
		return t, fmt.Errorf("no column with something in it is known to be an id, an email address or a name. The columns are %s: --id-column, --email-column or --name-column says which to take", quoted(header))
	}
	return t, nil
}

// partNames are headers of a whole name, or of the part that has no column of its own.
var partNames = map[string]bool{"name": true, "nom": true, "nombre": true}

// sortNames settles what a name is where there are parts of it.
func (t *taken) sortNames(header []string, asked map[role]string) {
	at, name := t.column[asName]
	_, given := t.column[asGiven]
	_, family := t.column[asFamily]
	_, decided := asked[asName]
	switch {
	case decided, name && given && family, name && !partNames[plain(header[at])]:
		delete(t.column, asGiven)
		delete(t.column, asFamily)
	case name && given:
		t.column[asFamily] = at
		delete(t.column, asName)
	case name && family:
		t.column[asGiven] = at
		delete(t.column, asName)
	}
}

func flagFor(as role) string {
	if as == asGiven || as == asFamily {
		as = asName
	}
	return "--" + as + "-column"
}

// columnNamed finds the column with a header, as it stands there or nearly so.
func columnNamed(header []string, name string) (int, error) {
	for _, form := range []func(string) string{clean, plain} {
		found := []int{}
		for i, cell := range header {
			if form(cell) == form(name) && form(name) != "" {
				found = append(found, i)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		return 0, fmt.Errorf("there are %d columns %q: rename one of them", len(found), name)
	}
	return 0, fmt.Errorf("there is no column %q. The columns are %s", name, quoted(header))
}

// brief is as much of a cell as an error needs: in a file that is no roster one can
// be as long as the file.
func brief(cell string) string {
	const most = 60
	if len(cell) <= most {
		return cell
	}
	return strings.ToValidUTF8(cell[:most], "") + "…"
}

// quoted lists headers, and not all of very many.
func quoted(header []string) string {
	const most = 40
	texts := make([]string, 0, most)
	for _, cell := range header[:min(len(header), most)] {
		texts = append(texts, fmt.Sprintf("%q", brief(cell)))
	}
	if len(header) > most {
		texts = append(texts, fmt.Sprintf("and %d more", len(header)-most))
	}
	return strings.Join(texts, ", ")
}
