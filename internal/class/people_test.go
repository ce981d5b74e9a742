package class

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"latchkey/internal/account"
	"latchkey/internal/roster"
)

func TestPeopleAreFoundByWhatTellsThemApartOrAddressOrName(t *testing.T) {
	c, _, err := readManifest("m", strings.NewReader(`{"state":"begun","class":"c","identity":"id","limit":2}`+"\n"+
		`{"state":"absent","person":"s1","name":"Ada","email":"ada@example.org","key_name":"n1","file":"s1.key"}`+"\n"+
		`{"state":"absent","person":"s2","name":"Ada","email":"s1","key_name":"n2","file":"s2.key"}`+"\n"+
		`{"state":"absent","person":"s3","key_name":"n3","file":"s3.key"}`+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for meant, want := range map[string]string{"S1 ": "s1", "ADA@example.org": "s1", "ada": `"ada" can be s1 or s2: say which`, "bob": `nobody in m is "bob"`, "": `nobody in m is ""`} {
		found, err := c.Find([]string{meant, meant})
		got := strings.Join(found, " ")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s", meant, got)
		}
	}
	if all, err := c.Find(nil); err != nil || !slices.Equal(all, []string{"s1", "s2", "s3"}) {
		t.Errorf("%v, %v", all, err)
	}
}

func TestFilesOfARosterAreEachOnes(t *testing.T) {
	c := newFixture(t).peek()
	for in, want := range map[string]string{
		"name\nA B\nA/B\n":         `line 3: "a/b" would have the file a-b.key, as line 2: --id-column names a column that tells them apart`,
		"name\n...\n":              `line 2: no file can be named after "...": --id-column names another column that tells people apart`,
		"name\n../../etc/passwd\n": "etc-passwd.key",
		"name\n陳小明\n":              "陳小明.key",
	} {
		r, err := roster.Read(strings.NewReader(in), roster.Options{})
		if err != nil {
			t.Fatal(err)
		}
		results, err := c.Plan(r, Terms{Limit: account.Credit}, func(string) {})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = filepath.Base(results[0].File)
		}
		if got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

// Whoever is in the manifest keeps their file, even if it was moved away or their key deleted.
func TestAFileOfSomebodyInTheManifestIsNobodyElses(t *testing.T) {
	for name, c := range map[string]struct{ last, rows, want string }{
		"a key that is live":    {"live", "a-b\n", `line 2: "a-b" would have the file a-b.key, as "a/b" in the manifest: --id-column names a column that tells them apart`},
		"a key of before":       {"replaced", "a-b\n", `line 2: "a-b" would have the file a-b.key, as "a/b" in the manifest: --id-column names a column that tells them apart`},
		"a key that is deleted": {"removed", "a-b\n", `line 2: "a-b" would have the file a-b.key, as "a/b" in the manifest: --id-column names a column that tells them apart`},
		"the same person":       {"absent", "A/B\n", ""},
		"another file":          {"live", "c\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, err := readManifest("m", strings.NewReader(`{"state":"begun","class":"c","identity":"id","limit":2}`+"\n"+
				`{"state":"`+c.last+`","person":"a/b","key_name":"n","hash":"`+strings.Repeat("0", 64)+`","file":"a-b.key"}`+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := roster.Read(strings.NewReader("id\n"+c.rows), roster.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if _, err := m.Plan(r, Terms{Limit: 2 * account.Credit}, func(string) {}); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestWhoIsNotInTheFileAnyMoreIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if _, err := f.provide(t.Context(), 3, 1); err != nil {
			t.Fatal(err)
		}
		f.said = nil
		if _, err := f.peek().Plan(people(t, 2), Terms{Limit: 2 * account.Credit}, func(text string) { f.said = append(f.said, text) }); err != nil {
			t.Fatal(err)
		}
		if len(f.said) != 1 || !strings.HasPrefix(f.said[0], "p2@example.org has a key, and is not in the file") {
			t.Errorf("said %q", f.said)
		}
	})
}
