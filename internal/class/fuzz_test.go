package class

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRoster: whatever a file holds, it is refused or is a list of people who can be told
// apart, each with a name of a file that no other has.
func FuzzRoster(f *testing.F) {
	for _, seed := range []string{
		"id,name,email\nada,Ada,ada@example.org\nbob,Bob,bob@example.org\n", "email\nada@example.org\nADA@example.org\n", "\ufeffid\r\n1\r\n",
		"id;name\n1;Ada\n", "id\n=HYPERLINK(1)\n", "id\n\"a\"\"b\n", "id,id\n1,2\n", "name\n../../x\n", "id\n\x00\n", "id\n\xff\n", "", "id\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		roster, err := ReadRoster(strings.NewReader(text))
		if err != nil {
			return
		}
		if len(roster.People) == 0 {
			t.Error("a roster of nobody")
		}
		ids, files := map[string]bool{}, map[string]bool{}
		for _, p := range roster.People {
			id := strings.ToLower(p.ID)
			if id == "" || !utf8.ValidString(p.ID) || ids[id] {
				t.Errorf("the id %q is empty, no text, or another's too", p.ID)
			}
			file := fileName(p.ID)
			if files[file] || file == "" || file[0] == '.' || strings.ContainsAny(file, "/\\\x00") || len(file) > 255 {
				t.Errorf("the file %q of %q is another's too, or none", file, p.ID)
			}
			ids[id], files[file] = true, true
		}
	})
}

// FuzzManifest: a manifest is refused, or read up to where its last whole line ends, and
// what was read can be read again.
func FuzzManifest(f *testing.F) {
	for _, seed := range []string{
		`{"at":"2026-11-24T12:00:00Z","state":"begun","class":"c","identity":"id","limit":1}` + "\n",
		`{"at":"2026-11-24T12:00:00Z","state":"begun","class":"c","identity":"id"}` + "\n" + `{"at":"2026-11-24T12:00:01Z","state":"asked","person":"ada","key_name":"class:c:ada:1"}` + "\n" + `{"at":"20`,
		"", "\n", "{}", "null\n", "[]\n", "\x00", `{"state":"begun"}` + "\n" + `{"state":"begun"}` + "\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, whole, err := readManifest("manifest.jsonl", strings.NewReader(text))
		if err != nil {
			return
		}
		if whole < 0 || whole > int64(len(text)) || whole > 0 && text[whole-1] != '\n' {
			t.Fatalf("%d of %d bytes are said to be whole", whole, len(text))
		}
		again, same, err := readManifest("manifest.jsonl", strings.NewReader(text[:whole]))
		if err != nil || same != whole || again.Keys() != c.Keys() {
			t.Errorf("what was whole is read as %d bytes, %d keys, %v; not %d, %d", same, again.Keys(), err, whole, c.Keys())
		}
	})
}
