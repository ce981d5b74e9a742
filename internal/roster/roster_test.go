package roster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// summary is the people of a roster, id=name=email and a limit, and what was told
// of it; or why it was refused.
func summary(r Roster, err error) string {
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, p := range r.People {
		fmt.Fprintf(&b, "%s=%s=%s", p.ID, p.Name, p.Email)
		if p.Limit != nil {
			fmt.Fprintf(&b, "=%v", p.Limit)
		}
		b.WriteString("\n")
	}
	return b.String() + strings.Join(r.Told(), "\n")
}

func TestRostersAsOtherProgramsExportThem(t *testing.T) {
	for file, c := range map[string]struct {
		options Options
		want    string
	}{
		"canvas.csv": {want: `40113=Lovelace, Ada=
40114=Hopper, Grace "Amazing"=
40115=Ångström, Zoë=
utf-8, commas; name from "Student", id from "ID"; people are told apart by id
3 people, 3 rows skipped: 1 "Manual Posting" (line 2), 1 "Points Possible" (line 3), 1 test student of Canvas (line 7)`},
		"moodle.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
grace@example.edu=Grace Hopper=grace@example.edu
zoe@example.edu=Zoë Ångström=zoe@example.edu
utf-8, commas; given name from "First name", family name from "Last name", email from "Email address"; people are told apart by email
3 people, no row skipped`},
		"moodle-de.csv": {want: `m-1001=Ada Lovelace=ada@example.edu
m-1002=Jürgen Groß=juergen@example.edu
utf-8, semicolons; given name from "Vorname", family name from "Nachname", id from "ID-Nummer", email from "E-Mail-Adresse"; people are told apart by id
2 people, no row skipped`},
		"moodle-fr.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
noel@example.edu=Noël Lefèvre=noel@example.edu
utf-8, commas; given name from "Prénom", family name from "Nom de famille", email from "Adresse de courriel"; people are told apart by email
2 people, no row skipped`},
		"moodle-es.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
inigo@example.edu=Íñigo Muñoz Peña=inigo@example.edu
utf-8, commas; given name from "Nombre", family name from "Apellido(s)", email from "Dirección de correo"; people are told apart by email
2 people, no row skipped`},
		"blackboard.xls": {want: `adal=Ada Lovelace=
zoea=Zoë Ångström=
utf-16le, tabs; family name from "Last Name", given name from "First Name", id from "Username"; people are told apart by id
2 people, 1 row skipped: 1 preview user of Blackboard (line 4)`},
		"google-forms.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
grace@example.edu=Grace Hopper=Grace@Example.edu
utf-8, commas; email from "Email Address", name from "Full name"; people are told apart by email
2 people, 1 row skipped: 1 of a person in a row above (line 4)`},
		"google-forms-de.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
juergen@example.edu=Jürgen Groß=juergen@example.edu
utf-8, commas; email from "E-Mail-Adresse", name from "Vor- und Nachname"; people are told apart by email
2 people, no row skipped`},
		"google-classroom.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
grace@example.edu=Grace Hopper=grace@example.edu
utf-8, commas; family name from "Last Name", given name from "First Name", email from "Email Address"; people are told apart by email
2 people, 3 rows skipped: 1 "Date" (line 2), 1 "Points" (line 3), 1 "Class average" (line 4)`},
		"github-classroom.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
grace@example.edu==grace@example.edu
utf-8, commas; id and email from "identifier", name from "name"; people are told apart by id
2 people, no row skipped`},
		"excel-en.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
grace@example.edu=Grace Hopper=grace@example.edu
utf-8, commas; name from "Name", email from "Email"; people are told apart by email
2 people, 2 rows skipped: 2 blank (line 3, 5)`},
		"excel-de.csv": {Options{Encoding: "windows-1252"}, `ada@example.edu=Ada Lovelace=ada@example.edu
juergen@example.edu=Jürgen Groß=juergen@example.edu
windows-1252, semicolons; family name from "Name", given name from "Vorname", email from "E-Mail"; people are told apart by email
2 people, 2 rows skipped: 2 blank (line 4, 5)`},
		"excel-fr.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
noel@example.edu=Noël Lefèvre=noel@example.edu
utf-8, semicolons; family name from "Nom", given name from "Prénom", email from "Adresse e-mail"; people are told apart by email
2 people, no row skipped`},
		"excel-es.txt": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
inigo@example.edu=Íñigo Muñoz Peña=inigo@example.edu=2.5
utf-16le, tabs; given name from "Nombre", family name from "Apellidos", email from "Correo electrónico", limit from "Limit"; people are told apart by email
2 people, no row skipped`},
		"mac.csv": {want: `ada@example.edu=Ada Lovelace=ada@example.edu
zoe@example.edu=Zoë Ångström=zoe@example.edu
utf-8, commas; name from "name", email from "email"; people are told apart by email
2 people, no row skipped`},
	} {
		t.Run(file, func(t *testing.T) {
			from, err := os.Open(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			if got := summary(Read(from, c.options)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// people is what Read made of a text: ids, or the error.
func people(text string, options Options) string {
	r, err := Read(strings.NewReader(text), options)
	if err != nil {
		return err.Error()
	}
	var ids []string
	for _, p := range r.People {
		ids = append(ids, p.ID)
	}
	return strings.Join(ids, " ")
}

func TestRead(t *testing.T) {
	columns := func(pairs ...string) Options {
		o := Options{Columns: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			o.Columns[pairs[i]] = pairs[i+1]
		}
		return o
	}
	for name, c := range map[string]struct {
		in      string
		options Options
		want    string
	}{
		"names":                 {"name\nAda\nGrace Hopper\n", Options{}, "ada grace hopper"},
		"email before name":     {"name,email\nAda,Ada@x.org\nAda,ada2@x.org\n", Options{}, "ada@x.org ada2@x.org"},
		"id before all":         {"Email, ID ,Group\nada@x.org,s-1,A\n,s-2,B\n", Options{}, "s-1 s-2"},
		"a mark of Excel, CRLF": {"\ufeffname\r\nAda\r\n", Options{}, "ada"},
		"empty lines":           {"\n\nname\n\nAda\n  \n\n", Options{}, "ada"},
		"other scripts":         {"name\n陳小明\nZoë\n", Options{}, "陳小明 zoë"},
		"no end of the line":    {"name\nAda", Options{}, "ada"},
		"a quoted comma":        {"name,email\n\"Lovelace, Ada\",ada@x.org\n", Options{}, "ada@x.org"},
		"a quoted semicolon":    {"name;email\n\"A;B\";ada@x.org\n", Options{}, "ada@x.org"},
		"cells past the end":    {"email\nada@x.org,,\n", Options{}, "ada@x.org"},
		"an empty header":       {"email,,\nada@x.org,1,\n", Options{}, "line 2: has 3 fields, and the header has 1"},
		"nothing":               {"", Options{}, "the file is empty: its first line has to name the columns"},
		"only a mark":           {"\ufeff\n", Options{}, "the file is empty: its first line has to name the columns"},
		"nobody":                {"name\n", Options{}, "there is nobody in the file"},
		"nobody, in rows":       {"name,ID\nPoints Possible,\n", Options{}, "there is nobody in the file"},
		"no known column":       {"first;last\nAda;L\n", Options{}, "line 1: no column with something in it is known to be an id, an email address or a name. The columns are \"first\", \"last\": --id-column, --email-column or --name-column says which to take"},
		"a column of one's own": {"who;group\nAda;A\nBob;B\n", columns("name", "who"), "ada bob"},
		"of another spelling":   {"Wer genau?\nAda\n", columns("name", "wer genau"), "ada"},
		"and two delimiters":    {"Wer genau?;a,b,c,d\nAda;1,2,3,4\n", columns("name", "wer genau"), "ada"},
		"a column not there":    {"name\nAda\n", columns("id", "nr"), "line 1: --id-column: there is no column \"nr\". The columns are \"name\""},
		"a column named twice":  {"nr,nr\n1,2\n", columns("id", "nr"), "line 1: --id-column: there are 2 columns \"nr\": rename one of them"},
		"no id wanted":          {"id,email\n1,ada@x.org\n,bob@x.org\n", columns("id", "none"), "ada@x.org bob@x.org"},
		"a column twice":        {"name,name\nAda,Grace\n", Options{}, `line 1: the columns "name" and "name" could both be the name: --name-column says which`},
		"two addresses":         {"Email Address,Email\na@x.org,b@x.org\n", Options{}, `line 1: the columns "Email Address" and "Email" could both be the email: --email-column says which`},
		"twice the same":        {"Email Address,Email\na@x.org,A@x.org \n", Options{}, "a@x.org"},
		"a person twice":        {"email\na@x.org\nb@x.org\nA@x.org\n", Options{}, "a@x.org b@x.org"},
		"an id, two addresses":  {"id,email\n1,a@x.org\n1,b@x.org\n", Options{}, `line 3: has the same id "1" as line 2: --id-column none tells people apart by email`},
		"an address, two ids":   {"id,email\n1,a@x.org\n2,A@x.org\n", Options{}, `line 3: has the same email "A@x.org" as line 2, and another id: --id-column none tells people apart by email`},
		"an address, two names": {"name,email\nAda,a@x.org\nBob,a@x.org\n", Options{}, `line 3: has the same email "a@x.org" as line 2: --id-column names another column that tells them apart`},
		"a name twice":          {"name\nAda\nada\n", Options{}, `line 3: has the same name "ada" as line 2: --id-column or --email-column names a column that tells them apart`},
		"too few fields":        {"name,email\nAda\nB,b@x.org\nC\n", Options{}, "line 2: has 1 fields, and the header has 2\nline 4: has 1 fields, and the header has 2"},
		"no identity":           {"email,name\n,Ada\nb@x.org,\n", Options{}, "line 2: has no email: --id-column names another column that tells them apart"},
		"some have no id":       {"id,email\n1,a@x.org\n,b@x.org\n", Options{}, "line 3: has no id: --id-column none tells people apart by email"},
		"no email":              {"email\nada\nAda <ada@x.org>\n", Options{}, "line 2: \"ada\" is not an email address: --email-column names the column that has them\nline 3: \"Ada <ada@x.org>\" is not an email address: --email-column names the column that has them"},
		"a limit":               {"email,limit\na@x.org,\"2,5\"\n", Options{}, `line 2: "2,5" is no limit in credits, as 2.5: --limit-column none takes no limits from the file`},
		"a limit of nothing":    {"email,limit\na@x.org,0\n", Options{}, `line 2: "0" is no limit in credits, as 2.5: --limit-column none takes no limits from the file`},
		"a quote never ends":    {"name\nAda\n\"Grace\n", Options{}, `line 3: extraneous or missing " in quoted-field`},
		"a line break":          {"name\n\"A\nB\"\n", Options{}, "line 2: a value has a line break or a control character in it"},
		"lines after a break":   {"name,email\n\"A\nB\",\n\nC,c\n", columns("name", "none"), "line 2: has no email: --id-column names another column that tells them apart\nline 5: \"c\" is not an email address: --email-column names the column that has them"},
		"too long":              {"name\n" + strings.Repeat("x", 201) + "\n", Options{}, "line 2: a value is longer than 200 bytes"},
		"not UTF-8":             {"name\nZo\xeb\n", Options{}, "line 2: is not UTF-8. If an older Excel wrote the file, say --encoding windows-1252; else save it as UTF-8"},
		"Windows-1252":          {"name\nZo\xeb\n", Options{Encoding: "CP1252"}, "zoë"},
		"lost before":           {"name\nZo\ufffd\n", Options{}, `line 2: "Zo` + "\ufffd" + `" has a character that was lost: --encoding says how the file is encoded`},
		"UTF-16 without a mark": {"n\x00a\x00m\x00e\x00\n\x00A\x00\n\x00", Options{}, "the file looks like UTF-16 without its mark: try --encoding utf-16le"},
		"and asked for":         {"n\x00a\x00m\x00e\x00\n\x00A\x00\n\x00", Options{Encoding: "utf-16le"}, "a"},
		"UTF-16, big end first": {"\xfe\xff\x00n\x00a\x00m\x00e\x00\n\x00A\x00\n", Options{}, "a"},
		"a mark of another":     {"\ufeffname\nA\n", Options{Encoding: "windows-1252"}, "--encoding windows-1252: the file begins with the mark of utf-8; leave --encoding out"},
		"no encoding":           {"name\nA\n", Options{Encoding: "ebcdic"}, `--encoding "ebcdic" is not known: it can be utf-8, utf-16le, utf-16be, windows-1252 or another name that HTML has for an encoding`},
		"no delimiter":          {"name\nA\n", Options{Delimiter: "|"}, `--delimiter "|" is not comma, semicolon or tab`},
		"two delimiters":        {"name,x;email\nA,x;a@x.org\n", Options{}, "line 1: commas, semicolons or tabs could separate the columns: --delimiter says which"},
		"and one asked for":     {"name,x;email\nA,x;a@x.org\n", Options{Delimiter: "semicolon"}, "a@x.org"},
		"commas in one column":  {"name\nLovelace, Ada\n", Options{}, "line 2: has 2 fields, and the header has 1"},
		"as they should be":     {"name\nLovelace, Ada\n", Options{Delimiter: "tab"}, "lovelace, ada"},
		"invisible inside":      {"email\na\u200bda@x.org\n", Options{}, `line 2: "a\u200bda@x.org" has an invisible character in it`},
		"joined by one":         {"name\nعلی\u200cرضا\n", Options{}, "علی\u200cرضا"},
		"too many problems":     {"email,x\n" + strings.Repeat("x\n", 25), Options{}, strings.Repeat("*", 20) + "and 5 more"},
	} {
		t.Run(name, func(t *testing.T) {
			got := people(c.in, c.options)
			if stars, end, ok := strings.Cut(c.want, "and 5"); ok {
				if lines := strings.Count(got, "\n"); lines != len(stars) || !strings.HasSuffix(got, "and 5"+end) {
					t.Errorf("got %s", got)
				}
			} else if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestANameIsWholeOrOfItsParts(t *testing.T) {
	for in, want := range map[string]string{
		"Name,Vorname\nLovelace,Ada\n":                             "Ada Lovelace",
		"Name,Surname\nAda,Lovelace\n":                             "Ada Lovelace",
		"Full name,First name\nAda Lovelace,Ada\n":                 "Ada Lovelace",
		"Name,First name,Last name\nLovelace (Ada),Ada,Lovelace\n": "Lovelace (Ada)",
		"First name\nAda\n":                                        "Ada",
		"Surname\nLovelace\n":                                      "Lovelace",
	} {
		r, err := Read(strings.NewReader(in), Options{})
		if err != nil || r.People[0].Name != want {
			t.Errorf("%q: %+v, %v", in, r.People, err)
		}
	}
}

func TestOnePersonIsOnePersonWhateverStandsAround(t *testing.T) {
	for _, around := range []string{" ", "\t", "\u00a0", "\u2007", "\u202f", "\u3000", "\u200b", "\u200e", "\u2060", "\ufeff", "\u00ad", "\u2800", "\u3164", "\u2028", "\u0085", "\ufe0f"} {
		for _, text := range []string{around + "ada@x.org", "ADA@x.org" + around, around + around + "Ada@X.ORG" + around} {
			in := "email\nada@x.org\n\"" + text + "\"\n"
			if got := people(in, Options{}); got != "ada@x.org" {
				t.Errorf("%+q: %s", in, got)
			}
		}
	}
	for one, other := range map[string]string{"Zoe\u0308 ": "ZO\u00cb", "J\u030can": "\u01f0an"} {
		if a, b := Key(one), Key(other); a != b || Key(a) != a {
			t.Errorf("%q, %q", a, b)
		}
	}
}

func TestAWorkbookIsToldFromCSV(t *testing.T) {
	for _, begin := range []string{"PK\x03\x04\x14\x00", "\xd0\xcf\x11\xe0\xa1\xb1"} {
		if got := people(begin+strings.Repeat("\x00", 100), Options{}); !strings.Contains(got, "CSV UTF-8") || !strings.Contains(got, ".xlsx") {
			t.Errorf("%q: %s", begin, got)
		}
	}
}

func TestAnErrorIsShortWhateverTheFile(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, in := range []string{long + "\n1\n", strings.Repeat("x,", 1<<19) + "\n" + strings.Repeat("1,", 1<<19), "email,limit\na@x.org," + long + "\n", "email\n" + long + "@x.org\n"} {
		if got := people(in, Options{}); len(got) > 4000 || !strings.Contains(got, "line ") {
			t.Errorf("%d bytes: %s", len(got), got[:min(len(got), 300)])
		}
	}
}

func TestAFileThatIsTooLargeIsRefused(t *testing.T) {
	if got := people(strings.Repeat("a", maxBytes+1), Options{}); !strings.Contains(got, "MiB") {
		t.Error(got)
	}
}

// No known header is two things: the table would not say which.
func TestEveryKnownHeaderIsOneThing(t *testing.T) {
	seen := map[string]string{}
	for _, k := range known {
		for _, header := range k.headers {
			if other, twice := seen[plain(header)]; twice {
				t.Errorf("%s is %s and %s", header, k.as, other)
			}
			seen[plain(header)] = k.as
		}
	}
}
