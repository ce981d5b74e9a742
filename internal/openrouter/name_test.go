package openrouter

import (
	"strings"
	"testing"
)

func TestOnlyNamesOfOursAreRead(t *testing.T) {
	const op = "0123456789abcdef0123456789abcdef"
	for name, want := range map[string]string{
		"latchkey:u_42:" + op: "u_42", "latchkey:a:b:" + op: "a:b", "latchkey:пользователь:" + op: "пользователь", "latchkey: :" + op: " ",
		"latchkey:::" + op: ":", "latchkey:u::" + op: "u:",
		"": "", "latchkey": "", "latchkey:": "", "latchkey::": "", "latchkey:" + op: "", "latchkey::" + op: "", "latchkey:u:": "",
		"latchkey-class:u:" + op: "", "Latchkey:u:" + op: "", "x latchkey:u:" + op: "", "latch:u:" + op: "",
	} {
		user, got, ok := ParseKeyName("latchkey", name)
		if user != want || ok != (want != "") || ok && got != op || !ok && got != "" {
			t.Errorf("%q is of %q, %q, %v; want %q", name, user, got, ok, want)
		}
	}
}

func FuzzANameThatIsMadeIsRead(f *testing.F) {
	for _, seed := range [][3]string{
		{"latchkey", "u_42", "0f"}, {"a-1", "a:b", "x"}, {"latchkey", ":", "0"}, {"p", "пользователь", "9"}, {"p", "\x00\xff", "\n"}, {"", "u", "o"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, prefix, user, op string) {
		if strings.Contains(prefix, ":") || user == "" || op == "" || strings.Contains(op, ":") {
			t.Skip("no name is made of these")
		}
		name := KeyName(prefix, user, op)
		if gotUser, gotOp, ok := ParseKeyName(prefix, name); !ok || gotUser != user || gotOp != op {
			t.Errorf("%q is read as %q, %q, %v", name, gotUser, gotOp, ok)
		}
		if _, _, ok := ParseKeyName(prefix+"x", name); ok {
			t.Errorf("%q is taken for a key of %q too", name, prefix+"x")
		}
	})
}
