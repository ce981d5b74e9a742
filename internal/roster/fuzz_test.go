package roster

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRead: whatever a file holds, it is refused or is a list of people who can be told
// apart.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"id,name,email\nada,Ada,ada@example.org\nbob,Bob,bob@example.org\n", "email\nada@example.org\nADA@example.org\n", "\ufeffid\r\n1\r\n",
		"id;name\n1;Ada\n", "id\n=HYPERLINK(1)\n", "id\n\"a\"\"b\n", "id,id\n1,2\n", "name\n../../x\n", "id\n\x00\n", "id\n\xff\n", "", "id\n",
		"sep=;\nNom;Pr\u00e9nom;Limit\nA;B;1.5\n;;\n", "\xff\xfei\x00d\x00\n\x001\x00", "\xfe\xff\x00i\x00d\x00\n\xd8\x00", "Student\tID\tSIS Login ID\n\"Student, Test\"\t1\tx\n", "id\r\r1\r",
	} {
		f.Add(seed, "")
	}
	f.Add("name\nZo\xeb\n", "windows-1252")
	f.Fuzz(func(t *testing.T, text, encoding string) {
		roster, err := Read(strings.NewReader(text), Options{Encoding: encoding})
		if err != nil {
			return
		}
		if len(roster.People) == 0 {
			t.Error("a roster of nobody")
		}
		ids := map[string]bool{}
		for _, p := range roster.People {
			if p.ID == "" || !utf8.ValidString(p.ID) || ids[p.ID] || p.ID != Key(p.ID) || len(p.ID) > 2*maxValueBytes {
				t.Errorf("the id %q is empty, no text, or another's too", p.ID)
			}
			ids[p.ID] = true
		}
		if told := roster.Told(); len(told) != 2 {
			t.Errorf("told %q", told)
		}
	})
}
