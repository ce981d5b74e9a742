package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
	"latchkey/internal/seal"
)

// aClass writes the CSV file of n people, and returns it and the folder for
// their keys, which is not there yet.
func aClass(t *testing.T, n int) (file, out string) {
	t.Helper()
	rows := "name,email\n"
	for i := range n {
		rows += fmt.Sprintf("Person %d,p%d@example.org\n", i, i)
	}
	dir := t.TempDir()
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
		case entry.Name() == manifestName:
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

		manifest := filepath.Join(out, manifestName)
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

func TestReadPeople(t *testing.T) {
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
			people, _, err := readPeople(strings.NewReader(c.in))
			var got []string
			for _, p := range people {
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
	if !strings.Contains(p.stderr, "line 5: has the same") || len(f.CallLog()) > 0 {
		t.Error(p)
	}
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

func TestTwoProgramsDoNotWorkOnOneClass(t *testing.T) {
	f := newAccount(t, nil)
	file, out := aClass(t, 1)
	m, err := openFolder(out)
	if err != nil {
		t.Fatal(err)
	}
	f.run(exitUnavailable, "provision", file, "--limit", "2", "--out", out)
	m.close()
	f.run(0, "provision", file, "--limit", "2", "--out", out)
	f.provided(out, 1)
}

// TestARunAgainMendsWhatDyingLeaves puts on disk what a run leaves that dies
// between two of its steps, while it works for the last of three people.
func TestARunAgainMendsWhatDyingLeaves(t *testing.T) {
	const name = "p2@example.org.key"
	for what, c := range map[string]struct {
		spoil  func(t *testing.T, out string, lines []string) []string // returns the manifest's lines
		posts  int                                                     // of the next run
		closed manifestState                                           // of the attempt
	}{
		"after the key was live": {func(_ *testing.T, _ string, lines []string) []string { return lines }, 0, keyLive},
		"after the file was written": {func(_ *testing.T, _ string, lines []string) []string {
			return lines[:len(lines)-1]
		}, 0, keyLive},
		"within the line that says so": {func(_ *testing.T, _ string, lines []string) []string {
			last := lines[len(lines)-1]
			return append(lines[:len(lines)-1], last[:len(last)/2])
		}, 0, keyLive},
		"but for the end of that line": {func(_ *testing.T, _ string, lines []string) []string {
			last := lines[len(lines)-1]
			return append(lines[:len(lines)-1], strings.TrimSuffix(last, "\n"))
		}, 0, keyLive},
		"before the file was renamed": {func(t *testing.T, out string, lines []string) []string {
			if err := os.Rename(filepath.Join(out, name), filepath.Join(out, temporary+name)); err != nil {
				t.Fatal(err)
			}
			return lines[:len(lines)-1]
		}, 1, keyDeleted},
		"while the file was written": {func(t *testing.T, out string, lines []string) []string {
			if err := errors.Join(os.Remove(filepath.Join(out, name)), os.WriteFile(filepath.Join(out, temporary+name), []byte("sk-or"), 0o600)); err != nil {
				t.Fatal(err)
			}
			return lines[:len(lines)-1]
		}, 1, keyDeleted},
		"after the key was made": {func(t *testing.T, out string, lines []string) []string {
			if err := os.Remove(filepath.Join(out, name)); err != nil {
				t.Fatal(err)
			}
			return lines[:len(lines)-1]
		}, 1, keyDeleted},
	} {
		t.Run(what, func(t *testing.T) {
			f := newAccount(t, nil)
			file, out := aClass(t, 3)
			args := []string{"provision", file, "--limit", "2", "--out", out, "--parallel", "1", "--settle", "10ms"}
			f.run(0, args...)
			path := filepath.Join(out, manifestName)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
			lines[len(lines)-1] += "\n"
			var last manifestLine
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.File != name {
				t.Fatalf("%+v, %v", last, err)
			}
			if err := os.WriteFile(path, []byte(strings.Join(c.spoil(t, out, lines), "")), 0o600); err != nil {
				t.Fatal(err)
			}
			f.ResetCalls()
			f.run(0, args...)
			f.provided(out, 3)
			if posts := f.Calls()[openroutertest.OpCreate]; posts != c.posts {
				t.Errorf("%d creates, want %d", posts, c.posts)
			}
			m, err := peekManifest(out)
			if err != nil {
				t.Fatal(err)
			}
			defer m.close()
			if attempt, _ := m.named(last.KeyName); attempt.State != c.closed {
				t.Errorf("the attempt is %s, want %s", attempt.State, c.closed)
			}
		})
	}
}

func TestAnAttemptThatWasNeverSentIsClosed(t *testing.T) {
	f := newAccount(t, nil)
	file, out := aClass(t, 1)
	args := []string{"provision", file, "--limit", "2", "--out", out, "--settle", "300ms"}
	f.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 400}, 1)
	f.run(exitFailed, args...) // refused: surely not made
	m, err := openManifest(filepath.Join(out, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	if attempt, _ := m.of("p0@example.org"); attempt.State != keyAbsent {
		t.Errorf("the attempt is %s", attempt.State)
	}
	if err := m.add(manifestLine{State: keyAsked, Person: "p0@example.org", KeyName: "never sent", File: "p0@example.org.key"}); err != nil {
		t.Fatal(err)
	}
	m.close()
	began := time.Now()
	f.run(0, args...)
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("it took %v: no second look", took)
	}
	f.provided(out, 1)
	if left := len(openAttempts(t, out)); left != 0 {
		t.Errorf("%d attempts are open", left)
	}
}

func openAttempts(t *testing.T, out string) []manifestLine {
	t.Helper()
	m, err := peekManifest(out)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	return m.in(keyAsked)
}

func TestProvisionUnderFaults(t *testing.T) {
	status := func(status int, applied bool) openroutertest.Fault {
		return openroutertest.Fault{Kind: openroutertest.KindStatus, Status: status, Applied: applied}
	}
	for name, c := range map[string]struct {
		op    openroutertest.Op
		fault openroutertest.Fault
		times int
	}{
		"busy, for a second":      {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "1"}, 3},
		"busy, nobody knows when": {openroutertest.OpCreate, status(429, false), 2},
		"busy, and yet done":      {openroutertest.OpCreate, status(429, true), 1},
		"dropped and done":        {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 3},
		"dropped and not done":    {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindDrop}, 3},
		"cut and done":            {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindCut, Applied: true}, 2},
		"cut and not done":        {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindCut}, 2},
		"500 and done":            {openroutertest.OpCreate, status(500, true), 2},
		"500 and not done":        {openroutertest.OpCreate, status(500, false), 2},
		"HTML":                    {openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindHTML, Applied: true}, 1},
		"a list that fails":       {openroutertest.OpList, status(503, false), 2},
		"a delete that fails":     {openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newAccount(t, nil)
			file, out := aClass(t, 12)
			if c.op == openroutertest.OpDelete { // only what was lost is deleted
				f.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 1)
			}
			f.Fail(c.op, c.fault, c.times)
			f.run(0, "provision", file, "--limit", "2", "--out", out, "--settle", "50ms")
			f.provided(out, 12)
			if left := len(openAttempts(t, out)); left != 0 {
				t.Errorf("%d attempts are open", left)
			}
		})
	}
}

// TestAKeyThatIsMadeLateIsFound drops a create, and lets it take effect only
// after the first look for its key.
func TestAKeyThatIsMadeLateIsFound(t *testing.T) {
	var posts atomic.Int32
	var late sync.WaitGroup
	f := newAccount(t, func(standin http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || posts.Add(1) != 2 {
				standin.ServeHTTP(w, r)
				return
			}
			body, _ := io.ReadAll(r.Body)
			again := httptest.NewRequest(r.Method, r.URL.String(), strings.NewReader(string(body)))
			again.Header = r.Header.Clone()
			late.Go(func() {
				time.Sleep(1200 * time.Millisecond)
				standin.ServeHTTP(httptest.NewRecorder(), again)
			})
			panic(http.ErrAbortHandler)
		})
	})
	file, out := aClass(t, 3)
	args := []string{"provision", file, "--limit", "2", "--out", out, "--settle", "2s"}
	p := f.run(0, args...)
	late.Wait()
	f.provided(out, 3)
	// That an attempt is closed later than the one after it hides no key.
	f.run(0, args...)
	f.provided(out, 3)
	if keys := len(f.Keys()); keys != 4 {
		t.Errorf("%d keys were made", keys)
	}
	if !strings.Contains(p.stderr, "once more") || !strings.Contains(p.stderr, "deleted 1 that had reached nobody") {
		t.Error(p)
	}
}

func TestAnInterruptionLosesNothing(t *testing.T) {
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	var posts atomic.Int32
	f := newAccount(t, func(standin http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && posts.Add(1) == 5 {
				interrupt()
			}
			time.Sleep(10 * time.Millisecond)
			standin.ServeHTTP(w, r)
		})
	})
	file, out := aClass(t, 20)
	args := []string{"provision", file, "--limit", "2", "--out", out}
	p := latchkey(ctx, f.env, args...)
	if p.code != exitFailed || !strings.Contains(p.stderr, "interrupted") {
		t.Error(p)
	}
	made := len(f.Keys())
	if made < 5 || made > 9 {
		t.Errorf("%d keys", made)
	}
	f.provided(out, made)
	f.run(0, args...)
	f.provided(out, 20)
	if len(f.Keys()) != 20 {
		t.Errorf("%d keys were made", len(f.Keys()))
	}
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
			class := strings.Join(strings.Split(own.Name, ":")[:2], ":")
			f.runWithKeys(0, "keys", "create", strings.Replace(c.other, "CLASS", class, 1), "--limit", "1")
			other := f.Keys()[1]

			path := filepath.Join(out, manifestName)
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

func TestAFolderThatCannotBeWrittenMakesNoOrphan(t *testing.T) {
	if os.Geteuid() == 0 {
		// root writes everywhere: a folder in the place of the file has to do.
		f := newAccount(t, nil)
		file, out := aClass(t, 1)
		if err := os.MkdirAll(filepath.Join(out, temporary+"p0@example.org.key", "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		f.run(exitFailed, "provision", file, "--limit", "2", "--out", out)
		if len(f.Live()) != 0 {
			t.Errorf("%d live keys", len(f.Live()))
		}
		return
	}
	f := newAccount(t, nil)
	file, out := aClass(t, 1)
	m, err := openFolder(out)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
	if err := os.Chmod(out, 0o500); err != nil {
		t.Fatal(err)
	}
	f.run(exitFailed, "provision", file, "--limit", "2", "--out", out)
	if err := os.Chmod(out, 0o700); err != nil {
		t.Fatal(err)
	}
	if len(f.Live()) != 0 {
		t.Errorf("%d live keys", len(f.Live()))
	}
	f.run(0, "provision", file, "--limit", "2", "--out", out, "--settle", "10ms")
	f.provided(out, 1)
}

func TestADamagedManifestIsNotGuessedAt(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":           "{\n",
		"no class":          `{"state":"asked","person":"a","key_name":"n","file":"f"}` + "\n",
		"an unknown state":  `{"state":"begun","class":"c","identity":"id","limit":2}` + "\n" + `{"state":"new","person":"a"}` + "\n",
		"a path for a file": `{"state":"begun","class":"c","identity":"id","limit":2}` + "\n" + `{"state":"live","person":"a","key_name":"n","hash":"h","file":"../f"}` + "\n",
	} {
		if _, _, err := readManifest("m", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v", name, err)
		}
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

// TestProvisionOfAHundredKilledAtRandom is the promise of provision: whenever it
// is killed, and whatever OpenRouter does meanwhile, run again until it ends it
// leaves everybody with one key. LATCHKEY_SEED=n replays the times and faults
// as far as a machine can.
func TestProvisionOfAHundredKilledAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("LATCHKEY_SEED"); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LATCHKEY_SEED=%d", seed)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	upTo := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}

	binary := filepath.Join(t.TempDir(), "latchkey")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f := newAccount(t, func(standin http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Some take effect only after the program that sent them was killed.
			delay := upTo(15)
			if upTo(10) == 0 {
				delay = 80
			}
			time.Sleep(time.Duration(delay) * time.Millisecond)
			standin.ServeHTTP(w, r)
		})
	})
	run := func(kill bool, args ...string) int {
		t.Helper()
		var output strings.Builder
		cmd := exec.Command(binary, args...)
		cmd.Env = []string{"OPENROUTER_PROVISIONING_API_KEY=" + provisioningKey, "OPENROUTER_BASE_URL=" + f.url}
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if kill {
			time.AfterFunc(time.Duration(20+upTo(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		}
		_ = cmd.Wait() // the exit code tells
		f.holdsNoKey(output.String())
		code := cmd.ProcessState.ExitCode()
		if code != 0 && (code != -1 || !kill) && code != exitUnavailable {
			t.Fatalf("exit code %d: %s", code, output.String())
		}
		return code
	}
	// untilItEnds runs the program again and again, and returns how often it
	// was killed. Later runs are let be, so that it ends.
	untilItEnds := func(faults []openroutertest.Fault, op openroutertest.Op, args ...string) (killed int) {
		t.Helper()
		for n := range 40 {
			f.ClearFaults()
			if len(faults) > 0 && n%3 == 0 {
				f.Fail(op, faults[upTo(len(faults))], 1)
			}
			switch run(n < 25, args...) {
			case 0:
				return killed
			case -1:
				killed++
			}
		}
		t.Fatal("it does not end")
		return 0
	}

	faults := []openroutertest.Fault{
		{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "1"},
		{Kind: openroutertest.KindDrop, Applied: true}, {Kind: openroutertest.KindDrop},
		{Kind: openroutertest.KindCut, Applied: true}, {Kind: openroutertest.KindStatus, Status: 500, Applied: true},
	}
	const people = 100
	file, out := aClass(t, people)
	args := []string{"provision", file, "--limit", "2", "--out", out, "--settle", "300ms"}
	killed := untilItEnds(faults, openroutertest.OpCreate, args...)
	f.provided(out, people)
	if left := len(openAttempts(t, out)); left != 0 {
		t.Errorf("%d attempts are open", left)
	}
	t.Logf("killed %d times; %d keys were made, %d of them deleted again", killed, len(f.Keys()), len(f.Keys())-people)

	f.ClearFaults()
	f.ResetCalls()
	run(false, args...)
	if calls := f.Calls(); calls[openroutertest.OpCreate]+calls[openroutertest.OpDelete] != 0 {
		t.Errorf("one more run makes or deletes keys: %v", calls)
	}

	killed = untilItEnds([]openroutertest.Fault{{Kind: openroutertest.KindDrop, Applied: true}}, openroutertest.OpDelete,
		"provision", "--revoke", filepath.Join(out, manifestName), "--yes", "--settle", "300ms")
	if len(f.Live()) != 0 {
		t.Errorf("%d keys are live after --revoke", len(f.Live()))
	}
	t.Logf("revoked, killed %d times", killed)
}

func TestAKeyFileIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	path, before := filepath.Join(dir, "ada.key"), filepath.Join(dir, "before")
	if err := errors.Join(os.WriteFile(path, []byte("old\n"), 0o600), os.Link(path, before)); err != nil {
		t.Fatal(err)
	}
	if err := writeKeyFile(dir, "ada.key", seal.NewSecret("new")); err != nil {
		t.Fatal(err)
	}
	// Written in place, the file would have been empty for a moment, and the
	// other name would show the new key as well.
	for name, want := range map[string]string{path: "new\n", before: "old\n"} {
		if text, err := os.ReadFile(name); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}
