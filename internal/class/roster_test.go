package class

import (
	"strings"
	"testing"
)

func TestReadRoster(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"names":                   {"name\nAda\nGrace Hopper\n", "ada=ada.key grace hopper=grace-hopper.key"},
		"email before name":       {"name,email\nAda,Ada@x.org\nAda,ada2@x.org\n", "ada@x.org=ada@x.org.key ada2@x.org=ada2@x.org.key"},
		"id before all":           {"Email, ID ,Group\nada@x.org,s-1,A\n,s-2,B\n", "s-1=s-1.key s-2=s-2.key"},
		"a mark of Excel, CRLF":   {"\ufeffname\r\nAda\r\n", "ada=ada.key"},
		"empty lines":             {"name\n\nAda\n\n", "ada=ada.key"},
		"other scripts":           {"name\n陳小明\nZoë\n", "陳小明=陳小明.key zoë=zoë.key"},
		"a path":                  {"name\n../../etc/passwd\n", "../../etc/passwd=etc-passwd.key"},
		"nothing":                 {"", "the file is empty: its first line has to name the columns"},
		"nobody":                  {"name\n", "there is nobody in the file"},
		"no known column":         {"first,last\nAda,L\n", "line 1: there is no column name, email or id"},
		"semicolons":              {"name;email\nAda;a@x.org\n", "line 1: there is no column name, email or id; save the file with commas, not semicolons"},
		"a column twice":          {"name,name\nAda,Ada\n", `line 1: there are two columns "name"`},
		"a person twice":          {"email\na@x.org\nb@x.org\nA@x.org\n", `line 4: has the same "email a@x.org" as line 2`},
		"an email twice":          {"id,email\n1,a@x.org\n2,A@x.org\n", `line 3: has the same "email a@x.org" as line 2`},
		"a file twice":            {"name\nA B\nA/B\n", `line 3: has the same "file a-b.key" as line 2`},
		"too few fields":          {"name,email\nAda\nB,b@x.org\nC\n", "line 2: has 1 fields, and the header has 2\nline 4: has 1 fields, and the header has 2"},
		"no identity":             {"email,name\n,Ada\n", "line 2: has no email"},
		"no email":                {"email\nada\nAda <ada@x.org>\n", "line 2: \"ada\" is not an email address\nline 3: \"Ada <ada@x.org>\" is not an email address"},
		"a quote that never ends": {"name\nAda\n\"Grace\n", `line 3: extraneous or missing " in quoted-field`},
		"a line break":            {"name\n\"A\nB\"\n", "line 2: a value has a line break or a control character in it"},
		"no file name":            {"name\n...\n", `line 2: no file can be named after "..."`},
		"too long":                {"name\n" + strings.Repeat("x", 201) + "\n", "line 2: a value is longer than 200 bytes"},
		"not UTF-8":               {"name\nZo\xeb\n", "the file is not UTF-8"},
		"too many problems":       {"email\n" + strings.Repeat("x\n", 25), strings.Repeat("*", 20) + "and 5 more"},
	} {
		t.Run(name, func(t *testing.T) {
			roster, err := ReadRoster(strings.NewReader(c.in))
			var got []string
			for _, p := range roster.People {
				got = append(got, p.ID+"="+p.File)
			}
			text := strings.Join(got, " ")
			if err != nil {
				text = err.Error()
			}
			if stars, end, ok := strings.Cut(c.want, "and 5"); ok {
				if lines := strings.Count(text, "\n"); lines != len(stars) || !strings.HasSuffix(text, "and 5"+end) {
					t.Errorf("got %s", text)
				}
			} else if text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}
