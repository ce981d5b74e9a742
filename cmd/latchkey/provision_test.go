package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/class"
	"latchkey/internal/class/classtest"
	"latchkey/internal/openroutertest"
)

// aClass writes the CSV file of n people, and returns it and the folder for
// their keys, which is not there yet.
func aClass(t *testing.T, n int) (file, out string) {
	t.Helper()
	rows := "name,email\n"
	for i := range n {
		rows += fmt.Sprintf("Person %d,p%d@example.org\n", i, i)
	}
	dir := classtest.MemoryDir(t)
	file, out = filepath.Join(dir, "class.csv"), filepath.Join(dir, "keys")
	if err := os.WriteFile(file, []byte(rows), 0o644); err != nil {
		t.Fatal(err)
	}
	return file, out
}

// keyFiles returns the keys in a folder, by the names of their files.
func keyFiles(t *testing.T, out string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(out, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := entry.Info()
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", entry.Name(), info.Mode(), err)
		}
		switch {
		case entry.Name() == class.ManifestName:
			if strings.Contains(string(text), "sk-or-v1-") {
				t.Errorf("the manifest has a key in it")
			}
		default:
			keys[entry.Name()] = strings.TrimSuffix(string(text), "\n")
		}
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	return keys
}

// provided demands that n people have one key each, which works, and that there
// is no other.
func (f *accountFixture) provided(out string, n int) {
	f.Helper()
	live, files := f.Live(), keyFiles(f.T, out)
	if len(live) != n || len(files) != n {
		f.Errorf("%d live keys and %d files, want %d", len(live), len(files), n)
	}
	owner := map[string]string{}
	for name, key := range files {
		if owner[key] != "" {
			f.Errorf("%s and %s have the same key", name, owner[key])
		}
		owner[key] = name
	}
	for _, key := range live {
		file := owner[key.Secret]
		if file == "" {
			f.Errorf("nobody has the key %s", key.Name)
		} else if person := strings.Split(key.Name, ":")[2]; file != person+".key" {
			f.Errorf("%s has the key %s", file, key.Name)
		}
		if key.Limit == nil || key.Limit.Credits() != 2 {
			f.Errorf("the key %s has the limit %v", key.Name, key.Limit)
		}
		if err := f.Spend(key.Secret, 0.001); err != nil {
			f.Errorf("the key %s: %v", key.Name, err)
		}
	}
}

func TestProvisionGolden(t *testing.T) {
	for form, flag := range map[string][]string{"": nil, "-json": {"--json"}, "-csv": {"--csv"}} {
		f := newAccount(t, nil)
		file, out := aClass(t, 3)
		run := func(name string, args ...string) {
			t.Helper()
			p := f.run(0, slices.Concat([]string{"provision", "--parallel", "1"}, args, flag)...)
			golden(t, name+form, strings.ReplaceAll(p.String(), filepath.Dir(file), "DIR"))
		}
		run("provision-dry-run", file, "--limit", "2", "--reset", "weekly", "--out", out, "--dry-run")
		if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) || len(f.CallLog()) > 0 {
			t.Errorf("a dry run did something: %v, %v", err, f.CallLog())
		}
		run("provision", file, "--limit", "2", "--reset", "weekly", "--expires", "2027-01-31", "--out", out)
		f.provided(out, 3)
		for _, key := range f.Keys() {
			if key.LimitReset != "weekly" || !key.ExpiresAt.Equal(time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("made %+v", key)
			}
		}

		// More people come, and one takes their file away.
		rows, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(file, append(rows, "Zoë,ZOE@example.org\n"...), 0o644), os.Remove(filepath.Join(out, "p1@example.org.key"))); err != nil {
			t.Fatal(err)
		}
		run("provision-dry-run-again", file, "--limit", "2", "--reset", "weekly", "--expires", "2027-01-31", "--out", out, "--dry-run")
		f.ResetCalls()
		run("provision-again", file, "--limit", "2", "--reset", "weekly", "--expires", "2027-01-31", "--out", out)
		if posts := f.Calls()[openroutertest.OpCreate]; posts != 1 || len(f.Live()) != 4 {
			t.Errorf("%d creates, %d live keys", posts, len(f.Live()))
		}

		manifest := filepath.Join(out, class.ManifestName)
		f.run(exitUsage, "provision", "--revoke", manifest) // nobody is there to be asked
		run("revoke-dry-run", "--revoke", manifest, "--dry-run")
		if len(f.Live()) != 4 {
			t.Error("a dry run did something")
		}
		run("revoke", "--revoke", manifest, "--yes")
		run("revoke-again", "--revoke", manifest, "--yes")
		if len(f.Live()) != 0 {
			t.Errorf("%d live keys", len(f.Live()))
		}
		f.run(exitUsage, "provision", file, "--limit", "2", "--reset", "weekly", "--expires", "2027-01-31", "--out", out)
	}
}

func TestTheHelpCallsParallelANumber(t *testing.T) {
	if p := newAccount(t, nil).run(0, "provision", "--help"); !strings.Contains(p.out, "--parallel number ") {
		t.Error(p)
	}
}

func TestNothingIsMadeForAFileWithErrors(t *testing.T) {
	f := newAccount(t, nil)
	file, out := aClass(t, 3)
	rows, _ := os.ReadFile(file)
	if err := os.WriteFile(file, append(rows, "Again,P1@example.org\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	p := f.run(exitUsage, "provision", file, "--limit", "2", "--out", out)
	if len(f.CallLog()) > 0 {
		t.Errorf("%v", f.CallLog())
	}
	golden(t, "provision-faulty", strings.ReplaceAll(p.String(), filepath.Dir(file), "DIR"))
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Error("a folder was made")
	}
}

func TestAClassStaysWhatItWas(t *testing.T) {
	f := newAccount(t, nil)
	file, out := aClass(t, 2)
	rewrite := func(rows string) string {
		other := filepath.Join(t.TempDir(), "other.csv")
		if err := os.WriteFile(other, []byte(rows), 0o644); err != nil {
			t.Fatal(err)
		}
		return other
	}
	f.run(0, "provision", file, "--limit", "2", "--out", out)
	f.ResetCalls()
	for name, args := range map[string][]string{
		"another limit":        {file, "--limit", "3"},
		"another reset":        {file, "--limit", "2", "--reset", "daily"},
		"another expiry":       {file, "--limit", "2", "--expires", "2027-01-01"},
		"another identity":     {rewrite("id,email\n1,p0@example.org\n"), "--limit", "2"},
		"no limit":             {file},
		"too many at a time":   {file, "--limit", "2", "--parallel", "9"},
		"none at a time":       {file, "--limit", "2", "--parallel", "0"},
		"never settling":       {file, "--limit", "2", "--settle", "-1s"},
		"a file in the middle": {rewrite("email\nnew@example.org\n"), "--limit", "2"},
	} {
		if name == "a file in the middle" {
			if err := os.WriteFile(filepath.Join(out, "new@example.org.key"), []byte("mine\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f.run(exitUsage, slices.Concat([]string{"provision", "--out", out}, args)...)
	}
	if err := os.Chmod(out, 0o750); err != nil {
		t.Fatal(err)
	}
	f.run(exitUsage, "provision", file, "--limit", "2", "--out", out)
	if len(f.CallLog()) > 0 {
		t.Errorf("%v", f.CallLog())
	}
}

func TestAnIDThatChangesGivesNobodyASecondKey(t *testing.T) {
	f := newAccount(t, nil)
	dir := t.TempDir()
	file, out := filepath.Join(dir, "class.csv"), filepath.Join(dir, "keys")
	for i, rows := range []string{"id,email\ns1,ada@example.org\n", "id,email\ns2,Ada@example.org\n"} {
		if err := os.WriteFile(file, []byte(rows), 0o644); err != nil {
			t.Fatal(err)
		}
		f.run([]int{0, exitUsage}[i], "provision", file, "--limit", "2", "--out", out)
	}
	f.provided(out, 1)
}

func TestRevokeTouchesOnlyKeysOfTheManifest(t *testing.T) {
	for name, c := range map[string]struct {
		other string   // the name of a key that is not this person's
		edits []string // OWN and OTHER are the hashes of both keys, NAME is the name of the person's
		code  int
		said  string
		live  int // keys, after it
	}{
		"the hash of another key":              {"latchkey:u_42:op", []string{"OWN", "OTHER"}, exitFailed, `is named "latchkey:u_42:op"`, 1},
		"the hash of another key of the class": {"CLASS:other:0123", []string{"OWN", "OTHER"}, exitFailed, `:other:0123", not`, 1},
		"hash and name of another key":         {"latchkey:u_42:op", []string{"OWN", "OTHER", "NAME", "latchkey:u_42:op"}, exitFailed, `is named "latchkey:u_42:op"`, 2},
		"the name of another key, not answered": {"latchkey:u_42:op",
			[]string{`"live"`, `"asked"`, `"hash":"OWN",`, "", "NAME", "latchkey:u_42:op"}, exitOK, "", 2},
		"a hash that is gone": {"latchkey:u_42:op", []string{"OWN", fakeHash("00")}, exitOK, "", 1},
		"a hash that is none": {"latchkey:u_42:op", []string{"OWN", "../credits"}, exitFailed, "64 hex digits", 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newAccount(t, nil)
			file, out := aClass(t, 1)
			f.run(0, "provision", file, "--limit", "2", "--out", out)
			own := f.Keys()[0]
			ownClass := strings.Join(strings.Split(own.Name, ":")[:2], ":")
			f.runWithKeys(0, "keys", "create", strings.Replace(c.other, "CLASS", ownClass, 1), "--limit", "1")
			other := f.Keys()[1]

			path := filepath.Join(out, class.ManifestName)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i, edit := range c.edits {
				c.edits[i] = strings.NewReplacer("OWN", own.Hash, "OTHER", other.Hash, "NAME", own.Name).Replace(edit)
			}
			edited := strings.NewReplacer(c.edits...).Replace(string(text))
			if err := errors.Join(os.WriteFile(path, []byte(edited), 0o600), os.Remove(filepath.Join(out, "p0@example.org.key"))); err != nil {
				t.Fatal(err)
			}
			for range 2 { // it can be run again
				p := f.run(c.code, "provision", "--revoke", path, "--yes", "--settle", "10ms")
				if !strings.Contains(p.stderr, c.said) || strings.Contains(p.stderr, "refused: 1 of the keys in") != strings.Contains(p.stderr, "is named") {
					t.Error(p)
				}
			}
			live := f.Live()
			if len(live) != c.live || !slices.ContainsFunc(live, func(key openroutertest.Key) bool { return key.Hash == other.Hash }) {
				t.Errorf("live: %+v", live)
			}
		})
	}
}

func TestKeysThatAreGoneAreTold(t *testing.T) {
	f := newAccount(t, nil)
	file, out := aClass(t, 2)
	args := []string{"provision", file, "--limit", "2", "--out", out, "--parallel", "1"}
	f.run(0, args...)
	f.run(0, "keys", "delete", "--yes", f.Keys()[0].Hash)
	if err := os.WriteFile(filepath.Join(out, "p1@example.org.key"), []byte(f.Keys()[0].Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := f.run(0, args...)
	if !strings.Contains(p.stderr, "the key of p0@example.org") || !strings.Contains(p.stderr, "p1@example.org.key holds another key") || len(f.Keys()) != 2 {
		t.Error(p)
	}
}

func TestBar(t *testing.T) {
	for done, want := range map[int]string{
		0:  "[----------------------------------------] 0/8",
		3:  "[###############-------------------------] 3/8",
		8:  "[########################################] 8/8",
		10: "[########################################] 10/8",
	} {
		if got := barOf(done, 8); got != want {
			t.Errorf("%d: %s", done, got)
		}
	}
}
