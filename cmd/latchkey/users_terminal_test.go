//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/term"

	latchkeyaccount "latchkey/internal/account"
	"latchkey/internal/adminapi/adminapitest"
	"latchkey/internal/oplog"
)

// terminal returns both ends of a new terminal: what people type into and look
// at, and what a program has.
func terminal(t *testing.T) (people, program *os.File) {
	t.Helper()
	people, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals here:", err)
	}
	t.Cleanup(func() { people.Close() })
	var number, unlock uint32
	for request, value := range map[uintptr]*uint32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &unlock} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, people.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Skip("there are no terminals here:", errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals here:", err)
	}
	t.Cleanup(func() { program.Close() })
	if _, err := term.MakeRaw(int(program.Fd())); err != nil { // no echo, no \r
		t.Fatal(err)
	}
	return people, program
}

// onTerminal runs the command line on a terminal and returns what it printed
// there.
func onTerminal(t *testing.T, env map[string]string, typed string, args ...string) (code int, shown string) {
	t.Helper()
	return onTerminalOf(t, 0, env, typed, args...)
}

// onTerminalOf is onTerminal where a line has so many cells; 0: nobody knows.
func onTerminalOf(t *testing.T, columns uint16, env map[string]string, typed string, args ...string) (code int, shown string) {
	t.Helper()
	people, program := terminal(t)
	size := [4]uint16{24, columns}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, program.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); errno != 0 {
		t.Fatal(errno)
	}
	if _, err := people.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	a := newApp(program, program, func(name string) string { return env[name] })
	a.now = func() time.Time { return testTime }
	root := a.root()
	root.SetArgs(args)
	root.SetIn(program)
	code = a.fail(root.ExecuteContext(t.Context()))
	fmt.Fprint(program, "<end>")
	for buffer := make([]byte, 4096); !strings.Contains(shown, "<end>"); {
		n, err := people.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		shown += string(buffer[:n])
	}
	return code, shown
}

func TestColoursOnATerminalAlone(t *testing.T) {
	f := newFixture(t)
	coloured := red + "suspended\x1b[0m"
	for _, c := range []struct {
		args          string
		noColor, term string
		want          bool
	}{
		{"users list", "", "", true}, {"users list", "", "xterm-256color", true}, {"users list", "1", "", false}, {"users list", "", "dumb", false},
		{"users list --json", "", "", false}, {"users list --csv", "", "", false}, {"users suspend --yes u_42", "", "", true},
	} {
		env := f.env()
		env["NO_COLOR"], env["TERM"] = c.noColor, c.term
		code, shown := onTerminal(t, env, "", strings.Fields(c.args)...)
		if code != exitOK || strings.Contains(shown, coloured) != c.want {
			t.Errorf("%+v: exit code %d\n%q", c, code, shown)
		}
		checkVisible(t, c.args, strings.NewReplacer(red, "", "\x1b[0m", "").Replace(shown))
	}
	// Colours take no room in the table.
	_, plain := onTerminal(t, map[string]string{"ADMIN_TOKEN": adminToken, "LATCHKEY_URL": f.URL, "NO_COLOR": "1"}, "", "users", "list")
	_, shown := onTerminal(t, f.env(), "", "users", "list")
	if strings.NewReplacer(red, "", "\x1b[0m", "").Replace(shown) != plain {
		t.Errorf("got\n%s\nwant\n%s", shown, plain)
	}
}

// No row is wider than the terminal, however long a name is; files and programs get
// all of it.
func TestTablesFitTheTerminal(t *testing.T) {
	name := strings.Repeat("Ada ", 75) + "山田花子"
	f, account := newFixture(t), newAccount(t, nil)
	f.put(adminapitest.User{Record: latchkeyaccount.Record{UserID: strings.Repeat("山", 40), UserName: name, Email: "ada@" + strings.Repeat("x", 80) + ".example", RemainingLimit: credits("7.123456789"), CreatedAt: testTime, UpdatedAt: testTime}})
	account.runWithKeys(0, "keys", "create", name, "--limit", "0.123456789")
	account.at(testTime.AddDate(0, 0, -1))
	account.spend(account.Keys()[0].Hash, 0.01, name, "A provider")
	account.at(testTime)
	env := withBoth(f, account)
	for _, line := range []string{"users list", "keys list", "activity", "activity --by model"} {
		args := strings.Fields(line)
		for _, columns := range []uint16{40, 80, 120, 1000} {
			code, shown := onTerminalOf(t, columns, env, "", args...)
			shown = strings.NewReplacer("<end>", "", red, "", "\x1b[0m", "").Replace(shown)
			widest := 0
			for row := range strings.Lines(shown) {
				widest = max(widest, displayWidth(strings.TrimSuffix(row, "\n")))
			}
			if code != exitOK || widest > int(columns) || strings.Contains(shown, ellipsis) != (columns < 1000) {
				t.Errorf("%s on %d: exit code %d, %d wide\n%s", line, columns, code, widest, shown)
			}
			if columns >= 120 && strings.HasPrefix(line, "users") && (!strings.Contains(shown, "  7.123456789  ") || !strings.Contains(shown, strings.Repeat("山", 5))) {
				t.Errorf("%s on %d: an amount is cut, or an id before a name\n%s", line, columns, shown)
			}
		}
		for _, form := range []string{"--csv", "--json"} {
			if _, shown := onTerminalOf(t, 40, env, "", append(args, form)...); !strings.Contains(shown, name) {
				t.Errorf("%s %s cuts: %s", line, form, shown)
			}
		}
		if p := latchkey(t.Context(), env, args...); !strings.Contains(p.out, name) {
			t.Errorf("%s into a file cuts: %v", line, p)
		}
	}
	// A field and its value are no row of a table: they are copied from here.
	for line, hash := range map[string]string{"users show u_42": f.users["u_42"].Record.Hash, "keys show " + account.Keys()[0].Hash[:8]: account.Keys()[0].Hash} {
		if _, shown := onTerminalOf(t, 40, env, "", strings.Fields(line)...); !strings.Contains(shown, hash) {
			t.Errorf("%s: %s", line, shown)
		}
	}
}

func TestErasingAsksOnATerminal(t *testing.T) {
	f := newFixture(t)
	code, shown := onTerminal(t, f.env(), "no\n", "users", "erase", "u_42")
	if code != exitFailed || !strings.Contains(shown, "Erase this user for good?") || len(f.Asked()) != 0 {
		t.Errorf("exit code %d, asked %q\n%s", code, f.Asked(), shown)
	}
	code, shown = onTerminal(t, f.env(), "yes\n", "users", "erase", "u_42")
	if code != exitOK || !strings.Contains(shown, "erased") || len(f.Asked()) != 1 {
		t.Errorf("exit code %d, asked %q\n%s", code, f.Asked(), shown)
	}
}

// Every command that changes what is there asks in the same way.
func TestEveryChangeAsksOnATerminal(t *testing.T) {
	for line, question := range map[string]string{
		"users suspend u_42 u_7": "Suspend these 2 users?", "users resume u_42": "Resume this user?",
		"users set u_42 --total 1": "Change the quota of this user?", "users erase u_42": "Erase this user for good?",
	} {
		f := newFixture(t)
		for _, typed := range []string{"no\n", "y\n"} {
			code, shown := onTerminal(t, f.env(), typed, strings.Fields(line)...)
			if code != exitFailed || !strings.Contains(shown, "  u_42") || !strings.Contains(shown, question+" Type yes: ") || !strings.Contains(shown, "nothing was done") || len(f.Asked()) != 0 {
				t.Errorf("%s: exit code %d, asked %q\n%s", line, code, f.Asked(), shown)
			}
		}
		if code, shown := onTerminal(t, f.env(), "yes\n", strings.Fields(line)...); code != exitOK || len(f.Asked()) == 0 {
			t.Errorf("%s: exit code %d, asked %q\n%s", line, code, f.Asked(), shown)
		}
		if code, shown := onTerminal(t, f.env(), "", append(strings.Fields(line), "--yes")...); strings.Contains(shown, "Type yes") || code != exitOK && !strings.Contains(line, "erase") {
			t.Errorf("%s --yes: exit code %d\n%s", line, code, shown)
		}
	}
}

func TestReconcilingAsksOnATerminal(t *testing.T) {
	f := newFixture(t)
	code, shown := onTerminal(t, f.env(), "no\n", "reconcile")
	if code != exitFailed || !strings.Contains(shown, oplog.ShortHash(f.orphans[0])+"  latchkey:u_42:op1") || !strings.Contains(shown, "Delete these 2 keys for good?") || !slices.Equal(f.Asked(), []string{looked}) {
		t.Errorf("exit code %d, asked %q\n%s", code, f.Asked(), shown)
	}
	code, shown = onTerminal(t, f.env(), "yes\n", "reconcile")
	if code != exitOK || !strings.Contains(shown, "deleted: 2") || len(f.Asked()) != 3 {
		t.Errorf("exit code %d, asked %q\n%s", code, f.Asked(), shown)
	}
	// Nothing to delete is nothing to ask about.
	if code, shown = onTerminal(t, f.env(), "", "reconcile"); code != exitOK || strings.Contains(shown, "?") {
		t.Errorf("exit code %d\n%s", code, shown)
	}
}

func TestDeletingKeysAsksOnATerminal(t *testing.T) {
	f := newAccount(t, nil)
	hashes := f.someKeys()
	for _, typed := range []string{"no\n", "y\n", "yes\n"} {
		code, shown := onTerminal(t, f.env, typed, "keys", "delete", hashes[3])
		if yes := typed == "yes\n"; (code == exitOK) != yes || f.Keys()[3].Deleted != yes || !strings.Contains(shown, `  evil\x1b[31m\tname (`) {
			t.Errorf("%q: exit code %d\n%s", typed, code, shown)
		}
	}
}

func TestUsersActivityHasABar(t *testing.T) {
	_, _, env := rotatedUser(t, nil)
	for term, want := range map[string]bool{"xterm": true, "dumb": false} {
		env["TERM"] = term
		if code, shown := onTerminalOf(t, 100, env, "", "users", "activity", "u_80"); code != exitOK || strings.Contains(shown, "] 3/3"+clearLine) != want || strings.Contains(shown, "\x1b") != want {
			t.Errorf("TERM=%s: exit code %d\n%q", term, code, shown)
		}
	}
}
