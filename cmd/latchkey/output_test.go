package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminapitest"
)

// wild is text that no terminal may get as it is, of every kind that there is,
// but for what is not UTF-8.
const wild = "a\x00\x07\x08\x1b[31m\r\n\t\x7f\u0085\u009b31m\u00ad\u034f\u061c\u115f\u180e\u200b\u200c\u200d\u200e\u200f" +
	"\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\u3164\ufe0f\ufeff\ufff9\U000e0041\U000e0100\ue000z"

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"Ada Lovelace": "Ada Lovelace", "山田　花子": "山田　花子", "👩🏽": "👩🏽", "कविता": "कविता", "e\u0301": "e\u0301", "\ufffd": "\ufffd", `a\b"'`: `a\b"'`,
		"a\nb\tc": `a\nb\tc`, "\x1b[31m": `\x1b[31m`, "\u202eabc": `\u202eabc`, "a\u2028b": `a\u2028b`, "\u0085": `\u0085`, "\x00": `\x00`, "\ufeff": `\ufeff`,
		"\x7f": `\x7f`, "\u009b": `\u009b`, "\x9b": `\x9b`, "\xff\xfe": `\xff\xfe`, "é\xc3": `é\xc3`, "\U000e0041": `\U000e0041`, "a\u200db": `a\u200db`,
		"\u061c\u200e\u200f\u2066\u2069": `\u061c\u200e\u200f\u2066\u2069`, "\u3164": `\u3164`, "❤\ufe0f": `❤\ufe0f`,
	} {
		if got := printable(text); got != want || printable(got) != want {
			t.Errorf("printable(%q) = %q", text, got)
		}
	}
}

func TestPrintableJSONHasTheSameValue(t *testing.T) {
	encoded, err := json.Marshal(wild + "山田👩🏽\U000e0041")
	if err != nil {
		t.Fatal(err)
	}
	got := printableJSON(encoded)
	var text string
	if err := json.Unmarshal(got, &text); err != nil || text != wild+"山田👩🏽\U000e0041" || !strings.Contains(string(got), "山田👩🏽") {
		t.Errorf("%q, %v", got, err)
	}
	checkVisible(t, "printableJSON", string(got))
	// What is not UTF-8 has no value in JSON; Go's decoder reads the same.
	if got := printableJSON([]byte("\"\xff\"\n")); string(got) != `"\ufffd"`+"\n" {
		t.Errorf("%q", got)
	}
}

func TestACellOfCSVIsNoFormula(t *testing.T) {
	for text, want := range map[string]string{
		"=1+1": "'=1+1", `=HYPERLINK("https://evil.example")`: `'=HYPERLINK("https://evil.example")`, "+1@example.org": "'+1@example.org",
		"-2+3": "'-2+3", "@sum(a1)": "'@sum(a1)", "\t=1": "'\t=1", "\r=1": "'\r'=1", "-": "'-", "+": "'+", "=": "'=", "+41": "'+41", "-1e5": "'-1e5", "-1\n=2": "'-1\n'=2",
		"Ada;=1": "Ada;'=1", `Ada;"=1`: `Ada;"'=1`, "a;b;-1": "a;b;'-1", ";@sum(a1)": ";'@sum(a1)", "a\r+1": "a\r'+1", "a; b": "a; b", "a;": "a;",
		"": "", "0": "0", "-1": "-1", "-0.000000001": "-0.000000001", "12.5": "12.5", "ada@example.org": "ada@example.org", "2026-11-22": "2026-11-22",
		"a=1": "a=1", "'=1": "'=1", " =1": " =1", "山田": "山田",
	} {
		if got := csvCell(text); got != want {
			t.Errorf("csvCell(%q) = %q, want %q", text, got, want)
		}
	}
	var out strings.Builder
	a := newApp(&out, nil, nil)
	if err := a.printCSV([]string{"=header", "n"}, []string{"@cell", "-1"}); err != nil || out.String() != "'=header,n\n'@cell,-1\n" {
		t.Errorf("%q, %v", &out, err)
	}
}

// What others can name: keys, people of a class, users.
func TestNamesReachASpreadsheetAsText(t *testing.T) {
	const name = `=HYPERLINK("https://evil.example")`
	f := newAccount(t, nil)
	f.runWithKeys(0, "keys", "create", name, "--limit", "1")
	class := filepath.Join(t.TempDir(), "class.csv")
	if err := os.WriteFile(class, []byte("id\n"+`"=HYPERLINK(""https://evil.example"")"`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := newFixture(t)
	admin.D1.Exec(t, "DELETE FROM users")
	admin.put(adminapitest.User{Record: account.Record{UserID: "u_1", UserName: name, RemainingLimit: -account.Credit, CreatedAt: testTime, UpdatedAt: testTime}})
	for _, c := range []struct {
		env  map[string]string
		args []string
	}{
		{f.env, []string{"keys", "list"}},
		{f.env, []string{"provision", class, "--limit", "1", "--dry-run", "--out", t.TempDir()}},
		{admin.env(), []string{"users", "list"}},
	} {
		p := latchkey(t.Context(), c.env, append(c.args, "--csv")...)
		rows, err := csv.NewReader(strings.NewReader(p.out)).ReadAll()
		if err != nil || p.code != exitOK || len(rows) != 2 || !slices.ContainsFunc(rows[1], func(cell string) bool { return strings.EqualFold(cell, "'"+name) }) {
			t.Errorf("%q: %v, %v", c.args, p, err)
		}
		if c.args[0] == "users" && !slices.Contains(rows[1], "-1") {
			t.Errorf("a number became text: %v", rows)
		}
		if p := latchkey(t.Context(), c.env, append(c.args, "--json")...); p.code != exitOK || !strings.Contains(strings.ToUpper(p.out), `"=HYPERLINK(`) {
			t.Errorf("%q: %v", c.args, p)
		}
	}
}

func TestALineOfAnErrorIsOneThatWasJoined(t *testing.T) {
	one, two := errors.New("one\nlatchkey: forged"), exit{exitNotFound, errors.Join(errors.New("two"), errors.New("three"))}
	var out strings.Builder
	a := newApp(nil, &out, func(string) string { return "" })
	if code := a.fail(errors.Join(fmt.Errorf("really: %w", one), two)); code != exitNotFound || out.String() != "latchkey: really: one\\nlatchkey: forged\ntwo\nthree\n" {
		t.Errorf("%d %q", code, &out)
	}
	out.Reset()
	if code := a.fail(nil); code != exitOK || out.String() != "" {
		t.Errorf("%d %q", code, &out)
	}
}

// checkVisible demands that there is nothing in a text that a terminal would not
// show as it is.
func checkVisible(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if _, size := utf8.DecodeRuneInString(text[i:]); r != '\n' && !visible(r) || r == utf8.RuneError && size == 1 {
			t.Errorf("%s printed %q: %q", what, r, text[max(0, i-20):min(len(text), i+20)])
			return
		}
	}
}

// Nothing that a latchkey says reaches a terminal as it is.
func TestNothingOfALatchkeyReachesATerminalAsItIs(t *testing.T) {
	f := newFixture(t)
	env := withBoth(f, newAccount(t, nil))
	id := strings.ReplaceAll(wild, "\x00", "") // as arguments cannot have it
	user := adminapi.User{UserID: id, UserName: wild, Email: wild, Hash: wild, CreatedAt: wild, UpdatedAt: wild}
	state := adminapi.State{
		Record: adminapi.Record{User: user, Key: wild}, Pending: &adminapi.Task{Assign: wild},
		Background: []adminapi.Task{{Settle: wild}, {Orphan: wild}, {Create: wild}, {Delete: wild}}, D1: adminapi.D1{Behind: true},
	}
	damaged := user
	damaged.Damaged = wild
	known := func(w http.ResponseWriter) bool { // an answer to whatever is asked
		respond(w, 200, struct {
			adminapi.State
			adminapi.UsersPage
			Entries []account.Entry `json:"entries"`
			adminapi.ReconcileReport
		}{
			state, adminapi.UsersPage{Users: []adminapi.User{user, damaged}}, []account.Entry{{Seq: 1, Kind: account.Kind(wild), Hash: wild}},
			adminapi.ReconcileReport{Orphans: []adminapi.Orphan{{Hash: wild, Name: wild, CreatedAt: wild}}},
		})
		return true
	}
	broken := func(w http.ResponseWriter) bool {
		respond(w, 200, map[string]any{"damaged": wild, "record": map[string]any{"user_id": wild}, "users": []any{}, "entries": []any{map[string]any{"at": wild}}, "next_cursor": wild})
		return true
	}
	refused := func(w http.ResponseWriter) bool {
		w.Header().Set("Retry-After", "\u009b\u202e7")
		problemDocument(w, 503, wild, wild)
		return true
	}
	notJSON := func(w http.ResponseWriter) bool { fmt.Fprint(w, wild+"\xff"); return true }
	invalid := func(w http.ResponseWriter) bool {
		fmt.Fprint(w, "{\"users\":[{\"user_name\":\"\xff\"}],\"record\":{\"email\":\"\xff\"}}")
		return true
	}
	for _, args := range [][]string{
		{"users", "list"}, {"users", "show", id}, {"users", "show", "nobody" + id}, {"users", "ledger", id}, {"users", "activity", id, "--by", "key"}, {"users", "set", "--yes", id, "--total", "1"}, {"users", "set", id, "--total", "1"},
		{"users", "suspend", "--yes", id}, {"users", "resume", "--yes", id}, {"users", "sync", id, "nobody" + id}, {"reconcile", "--dry-run"}, {"reconcile"}, {"users", "erase", id},
		{"reconcile", "--yes"}, {"users", "erase", "--yes", id}, {"users", wild}, {"users", "list", "--url", "http://" + wild}, {"users", "list", "--" + wild},
	} {
		for _, answer := range []func(http.ResponseWriter) bool{known, broken, refused, notJSON, invalid} {
			for _, form := range []string{"", "--json"} {
				f.answerWith(answer)
				args := slices.Clone(args)
				if form != "" {
					args = append(args, form)
				}
				p := latchkey(t.Context(), env, args...)
				checkVisible(t, fmt.Sprintf("%q", args), p.out+p.stderr)
			}
		}
	}
}

// Nothing that OpenRouter says reaches a terminal as it is.
func TestNothingOfOpenRouterReachesATerminalAsItIs(t *testing.T) {
	hash := fakeHash("abcd")
	key := map[string]any{"hash": hash, "name": wild, "label": wild, "limit_reset": wild, "limit": 1, "limit_remaining": 1}
	status := 200
	f := newAccount(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := map[string]any{"data": key}
			switch {
			case status != 200:
				body = map[string]any{"error": map[string]any{"code": status, "message": wild}}
			case r.URL.Path == "/api/v1/keys" && r.Method == "GET":
				body["data"] = []any{key}
			case r.URL.Path == "/api/v1/activity":
				body["data"] = []any{map[string]any{"date": "2026-11-20" + wild, "model": wild, "endpoint_id": wild, "provider_name": wild, "usage": 1, "requests": 1}}
			case r.URL.Path == "/api/v1/credits":
				body["data"] = map[string]any{"total_credits": 2, "total_usage": 1}
			}
			respond(w, status, body)
		})
	})
	for _, status = range []int{200, 400, 401, 403, 404} {
		for _, line := range []string{
			"keys list", "keys show abcd", "keys show " + hash, "keys disable --yes abcd", "keys enable --yes abcd", "keys delete abcd", "keys delete --yes abcd", "keys create x --limit 1",
			"activity", "activity --by day", "activity --by model", "activity --by provider", "credits",
		} {
			for _, form := range []string{"", " --json"} {
				p := latchkey(t.Context(), f.env, strings.Fields(line+form)...)
				checkVisible(t, line+form, p.out+p.stderr)
				if status != 200 && p.code == exitOK && !strings.Contains(line, "--yes") {
					t.Errorf("%s, %d: %v", line, status, p)
				}
			}
		}
	}
}
