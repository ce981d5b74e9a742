package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"latchkey/internal/account"
)

// Secrets that are none.
const (
	adminToken = "fake-admin-token-of-the-tests-0123456789"
	jwtSecret  = "fake-jwt-secret-of-the-tests-01234567890"
)

// fakeAdmin is the admin API, with users that forget nothing between requests.
type fakeAdmin struct {
	*httptest.Server

	mu      sync.Mutex
	states  []*adminState // in the order of the list
	ledgers map[string][]adminEntry
	orphans []adminOrphan
	stuck   int                              // keys that cannot be deleted
	calls   []string                         // method, path and body of each
	answer  func(w http.ResponseWriter) bool // answers in the API's stead; nil, or false: it does not
}

// fakeHash is a hash that begins so.
func fakeHash(begin string) string { return begin + strings.Repeat("0", 64-len(begin)) }

func credits(text string) account.Credits {
	c, err := account.ParseCredits(text)
	if err != nil {
		panic(err)
	}
	return c
}

// newFakeAdmin has three users: one is well, one is suspended and has a name
// that would upset a terminal, and one has unfinished work of every kind.
func newFakeAdmin(t *testing.T) *fakeAdmin {
	t.Helper()
	f := &fakeAdmin{ledgers: map[string][]adminEntry{}}
	alarm := "2026-11-22T09:30:04Z"
	f.states = []*adminState{
		{
			Record: adminRecord{adminUser{
				"u_42", "Ada", "ada@example.org", fakeHash("1a2b3c4d"), credits("10"), credits("9.4"), credits("0.4"), 3,
				"2026-11-20T08:00:00.000Z", "2026-11-22T09:12:31.250Z", false, "",
			}, "sk-or-v1-0a1...9f8"},
			Background: []adminJob{}, D1: adminLag{Seq: 3},
		},
		{
			Record: adminRecord{adminUser{
				"клас/Ada 1", "Eve\x1b[31m\u202e", "", "", credits("10"), credits("0.05"), 0, 12,
				"2026-11-01T08:00:00.000Z", "2026-11-21T17:45:00.000Z", true, "",
			}, ""},
			Background: []adminJob{}, D1: adminLag{Seq: 12},
		},
		{
			Record: adminRecord{adminUser{
				"u_7", "Grace", "grace@example.com", fakeHash("77aa77aa"), credits("10"), credits("7.123456789"), credits("1"), 8,
				"2026-11-02T08:00:00.000Z", "2026-11-20T10:00:00.000Z", false, "",
			}, ""},
			Pending: &adminJob{Delete: fakeHash("77aa77aa"), Since: "2026-11-22T09:29:00Z", Tries: 1, Due: alarm},
			Background: []adminJob{
				{Orphan: "op9", Since: "2026-11-22T09:20:00Z", Tries: 4, Due: "2026-11-22T09:31:00Z"},
				{Settle: fakeHash("66bb66bb"), Since: "2026-11-22T09:25:00Z", Due: "2026-11-22T09:35:00Z"},
			},
			D1:    adminLag{Seq: 6, Behind: true, Tries: 2, Due: "2026-11-22T09:30:10Z"},
			Alarm: &alarm,
		},
	}
	f.ledgers["u_42"] = []adminEntry{
		{1, "2026-11-20T08:00:00.000Z", "provision", credits("1"), credits("10"), fakeHash("0f0e0d0c")},
		{2, "2026-11-22T09:12:31.000Z", "charge", credits("0.6"), credits("9.4"), fakeHash("0f0e0d0c")},
		{3, "2026-11-22T09:12:31.250Z", "rotate", credits("1"), credits("9.4"), fakeHash("1a2b3c4d")},
	}
	f.orphans = []adminOrphan{
		{fakeHash("dead0001"), "latchkey:u_42:op1", "2026-11-21T10:00:00Z"},
		{fakeHash("dead0002"), "latchkey:клас/Ada 1:op2", "2026-11-21T11:00:00Z"},
	}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

// damage adds a user of whom nothing but the id can be read.
func (f *fakeAdmin) damage(id, why string) {
	user := adminUser{UserID: id, Damaged: why}
	f.states = append(f.states, &adminState{Record: adminRecord{user, ""}, Background: []adminJob{}, Damaged: why})
}

// answerWith has all further requests answered in the API's stead.
func (f *fakeAdmin) answerWith(answer func(w http.ResponseWriter) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// asked returns the requests so far.
func (f *fakeAdmin) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fakeAdmin) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body) // many requests have none
	encoded, _ := json.Marshal(body)
	f.calls = append(f.calls, r.Method+" "+r.URL.RequestURI()+" "+string(encoded))
	switch {
	case f.answer != nil && f.answer(w):
		return
	case r.Header.Get("Authorization") != "Bearer "+adminToken:
		problemDocument(w, 401, "invalid_token", "The token is not valid.")
		return
	}
	if r.Method == "POST" && r.URL.Path == "/api/admin/reconcile" {
		f.reconcile(w, body["dry_run"] == true, body["force"] == true)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api/admin/users")
	parts := strings.Split(rest, "/")
	id, _ := url.PathUnescape(parts[min(1, len(parts)-1)])
	i := slices.IndexFunc(f.states, func(s *adminState) bool { return s.Record.UserID == id })
	switch {
	case ok && rest == "" && r.Method == "GET":
		f.list(w, r.URL.Query())
	case ok && len(parts) == 3 && parts[2] == "ledger" && r.Method == "GET" && (i >= 0 || f.ledgers[id] != nil):
		f.ledger(w, id, r.URL.Query().Get("after"))
	case ok && len(parts) == 3 && parts[2] == "sync" && r.Method == "POST" && i >= 0:
		respond(w, 202, map[string]string{"status": "syncing"})
	case !ok || len(parts) != 2 || i < 0:
		problemDocument(w, 404, "not_found", "There is no such user.")
	case r.Method == "GET":
		respond(w, 200, f.states[i])
	case r.Method == "PATCH":
		f.patch(f.states[i], body)
		respond(w, 200, f.states[i])
	case r.Method == "DELETE":
		if f.states[i].Pending != nil {
			respond(w, 202, map[string]string{"status": "erasing"})
			return
		}
		f.states = slices.Delete(f.states, i, i+1)
		w.WriteHeader(204)
	default:
		problemDocument(w, 405, "method_not_allowed", "Not this method.")
	}
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func problemDocument(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{
		"type": "urn:latchkey:problem:" + code, "title": code, "status": status, "detail": detail, "code": code,
	})
}

// list has the number of users before the next page for a cursor.
func (f *fakeAdmin) list(w http.ResponseWriter, query url.Values) {
	var found []adminUser
	for _, s := range f.states {
		if u := s.Record.adminUser; strings.Contains(u.UserID+"\n"+u.UserName+"\n"+u.Email, query.Get("q")) {
			found = append(found, u)
		}
	}
	from, _ := strconv.Atoi(query.Get("cursor"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	to := min(from+limit, len(found))
	page := map[string]any{"users": found[from:to], "next_cursor": nil}
	if to < len(found) {
		page["next_cursor"] = strconv.Itoa(to)
	}
	respond(w, 200, page)
}

// ledger has two entries on a page.
func (f *fakeAdmin) ledger(w http.ResponseWriter, id, after string) {
	seq, _ := strconv.ParseInt(after, 10, 64)
	entries := slices.DeleteFunc(slices.Clone(f.ledgers[id]), func(e adminEntry) bool { return e.Seq <= seq })
	page := map[string]any{"entries": entries, "next_after": nil}
	if len(entries) > 2 {
		page["entries"], page["next_after"] = entries[:2], entries[1].Seq
	}
	respond(w, 200, page)
}

func (f *fakeAdmin) patch(s *adminState, body map[string]any) {
	s.Record.Seq++
	s.D1.Seq++
	s.Record.UpdatedAt = "2026-11-22T09:30:00.000Z"
	if total, ok := body["total_limit"].(float64); ok {
		s.Record.TotalLimit, _ = account.CreditsOf(total)
	}
	if remaining, ok := body["remaining_limit"].(float64); ok {
		s.Record.RemainingLimit, _ = account.CreditsOf(remaining)
	}
	if suspended, ok := body["suspended"].(bool); ok {
		if s.Record.Suspended = suspended; suspended && s.Record.Hash != "" {
			s.Background = append(s.Background, adminJob{Delete: s.Record.Hash, Since: "2026-11-22T09:30:00Z", Due: "2026-11-22T09:30:05Z"})
			s.Record.Hash, s.Record.Key = "", ""
		}
	}
}

func (f *fakeAdmin) reconcile(w http.ResponseWriter, dryRun, force bool) {
	report := adminReport{DryRun: dryRun, Examined: 120, Ours: 104, Orphans: f.orphans, Suspicious: len(f.orphans) > 10 && !force}
	if !dryRun && !report.Suspicious {
		report.Failed = f.stuck
		report.Deleted, f.orphans = len(f.orphans)-f.stuck, f.orphans[:f.stuck]
	}
	respond(w, 200, report)
}

// env is an environment with the secrets.
func (f *fakeAdmin) env() map[string]string {
	return map[string]string{"ADMIN_TOKEN": adminToken, "JWT_SECRET_CLOUD": jwtSecret, "LATCHKEY_URL": f.URL}
}

// run runs the command line and checks that it printed no secret, and nothing
// that controls a terminal.
func (f *fakeAdmin) run(t *testing.T, args ...string) printed {
	t.Helper()
	p := latchkey(t.Context(), f.env(), args...)
	checkPrinted(t, p, slices.Contains(args, "--csv"))
	return p
}

func checkPrinted(t *testing.T, p printed, exact bool) {
	t.Helper()
	all := p.out + p.stderr
	for _, secret := range []string{adminToken, jwtSecret} {
		if strings.Contains(all, secret) {
			t.Errorf("a secret was printed: %v", p)
		}
	}
	if !exact && strings.ContainsAny(all, "\x1b\x07") {
		t.Errorf("control characters were printed: %q", all)
	}
}

// want checks the exit code.
func (p printed) want(t *testing.T, code int) printed {
	t.Helper()
	if p.code != code {
		t.Fatalf("want exit code %d, got %v", code, p)
	}
	return p
}

// Every command, in every form. Each has a server of its own, so that they do
// not depend on each other.
func TestPrintedForms(t *testing.T) {
	for name, line := range map[string]string{
		"users-list":         "users list",
		"users-list-page":    "users list --limit 2",
		"users-list-q":       "users list --q example.org",
		"users-show":         "users show u_42",
		"users-show-busy":    "users show u_7",
		"users-ledger":       "users ledger u_42",
		"users-ledger-empty": "users ledger u_7",
		"users-suspend":      "users suspend u_42 u_7",
		"users-resume":       "users resume u_42",
		"users-set":          "users set u_42 --total 20 --remaining 12.5",
		"users-erase":        "users erase --yes u_42 u_7",
		"users-show-damaged": "users show u_9",
		"users-list-damaged": "users list --q u_9",
		"reconcile":          "reconcile --yes",
		"reconcile-dry-run":  "reconcile --dry-run",
	} {
		for form, flag := range map[string]string{"": "", "-json": " --json", "-csv": " --csv"} {
			t.Run(name+form, func(t *testing.T) {
				f := newFakeAdmin(t)
				if strings.HasSuffix(name, "-damaged") {
					f.damage("u_9", "the stored record is \x1b[31mno JSON")
				}
				p := f.run(t, strings.Fields(line+flag)...).want(t, exitOK)
				if flag == " --json" && !json.Valid([]byte(p.out)) {
					t.Errorf("no JSON: %s", p.out)
				}
				golden(t, name+form, p.out+p.stderr)
			})
		}
	}
}

func TestHelp(t *testing.T) {
	f := newFakeAdmin(t)
	for _, command := range []string{
		"users", "users list", "users show", "users ledger", "users suspend", "users resume", "users set", "users erase", "users watch", "users sync", "reconcile", "token",
	} {
		p := f.run(t, append(strings.Fields(command), "--help")...).want(t, exitOK)
		if !strings.Contains(p.out, "Examples:") {
			t.Errorf("%s has no examples", command)
		}
		// The default of --url is this server's.
		golden(t, "help-"+strings.ReplaceAll(command, " ", "-"), strings.ReplaceAll(p.out, f.URL, "http://127.0.0.1:8787"))
	}
}

func TestWrongUsage(t *testing.T) {
	f := newFakeAdmin(t)
	for _, args := range [][]string{
		{"users", "nonsense"}, {"users", "list", "u_42"}, {"users", "list", "--limit", "0"}, {"users", "list", "--limit", "201"},
		{"users", "list", "--limit", "many"}, {"users", "list", "--nonsense"},
		{"users", "show"}, {"users", "show", "u_42", "u_7"}, {"users", "show", ""}, {"users", "show", "."}, {"users", "show", ".."}, {"users", "show", "\xff"},
		{"users", "ledger"}, {"users", "suspend"}, {"users", "resume"}, {"users", "suspend", "u_42", ".."},
		{"users", "set"}, {"users", "set", "u_42"}, {"users", "set", "u_42", "--total", "much"}, {"users", "set", "u_42", "--remaining", "-1"},
		{"users", "set", "u_42", "--total", ""}, {"users", "set", "u_42", "--total", "NaN"},
		{"users", "erase"}, {"users", "erase", "--yes"}, {"users", "erase", "u_42"},
		{"users", "watch"}, {"users", "watch", "u_42", "--interval", "0s"}, {"users", "watch", "u_42", "--interval", "soon"},
		{"reconcile", "now"}, {"users", "sync"}, {"users", "sync", "--from-keys", "u_42"}, {"users", "sync", "--from-keys", "--prefix", "Latchkey:"},
		{"token"}, {"token", "u_42"}, {"token", "--user", "u_42", "--for", "0s"}, {"token", "--user", strings.Repeat("x", 257)}, {"token", "--user", "\xff"},
		{"users", "list", "--url", "127.0.0.1:8787"}, {"users", "list", "--url", "ftp://example.org"},
		{"users", "list", "--url", "http://me:secret@127.0.0.1"}, {"users", "list", "--url", "http://127.0.0.1/?x=1"},
	} {
		p := f.run(t, args...).want(t, exitUsage)
		if p.out != "" || p.stderr == "" {
			t.Errorf("%q: %v", args, p)
		}
	}
	if asked := f.asked(); len(asked) > 0 {
		t.Errorf("the latchkey was asked all the same: %q", asked)
	}
}

func TestExitCodesOfAnswers(t *testing.T) {
	f := newFakeAdmin(t)
	commands := [][]string{
		{"users", "list"}, {"users", "show", "u_42"}, {"users", "ledger", "u_42"}, {"users", "suspend", "u_42"}, {"users", "resume", "u_42"},
		{"users", "set", "u_42", "--total", "1"}, {"users", "erase", "--yes", "u_42"}, {"users", "watch", "u_42"}, {"reconcile"},
	}
	for status, code := range map[int]int{
		400: exitFailed, 404: exitNotFound, 401: exitRefused, 403: exitRefused, 409: exitFailed, 429: exitUnavailable,
		500: exitUnavailable, 502: exitUnavailable, 503: exitUnavailable, 302: exitFailed,
	} {
		for _, args := range commands {
			f.answerWith(func(w http.ResponseWriter) bool {
				w.Header().Set("Retry-After", "7")
				problemDocument(w, status, "some_code", "What went \x1b[31mwrong.")
				return true
			})
			p := f.run(t, args...).want(t, code)
			if p.out != "" || !strings.Contains(p.stderr, strconv.Itoa(status)) {
				t.Errorf("%d to %q: %v", status, args, p)
			}
			if again := strings.Contains(p.stderr, "7 s"); again != (code == exitUnavailable) {
				t.Errorf("%d to %q: %v", status, args, p)
			}
		}
	}
	f.Close()
	for _, args := range commands {
		f.run(t, args...).want(t, exitUnavailable)
	}
}

func TestAnswersOfSomethingElse(t *testing.T) {
	f := newFakeAdmin(t)
	for _, page := range []string{"<html>Welcome</html>", "", "[]"} {
		f.answerWith(func(w http.ResponseWriter) bool {
			fmt.Fprint(w, page)
			return true
		})
		for _, args := range [][]string{{"users", "list"}, {"users", "show", "u_42"}, {"reconcile"}} {
			p := f.run(t, args...).want(t, exitFailed)
			if !strings.Contains(p.stderr, "is it a latchkey?") {
				t.Errorf("%q: %v", args, p)
			}
		}
	}
	f.answerWith(func(w http.ResponseWriter) bool { panic(http.ErrAbortHandler) })
	f.run(t, "users", "list").want(t, exitUnavailable)
}

func TestWrongTokenAndNoAdminAPI(t *testing.T) {
	f := newFakeAdmin(t)
	env := f.env()
	env["ADMIN_TOKEN"] = "another-token-that-is-long-enough-0123456789"
	p := latchkey(t.Context(), env, "users", "list").want(t, exitRefused)
	if !strings.Contains(p.stderr, "ADMIN_TOKEN") || strings.Contains(p.stderr, env["ADMIN_TOKEN"]) {
		t.Error(p)
	}
	f.answerWith(func(w http.ResponseWriter) bool {
		problemDocument(w, 404, "not_found", "There is nothing at this path.")
		return true
	})
	if p := f.run(t, "users", "list").want(t, exitNotFound); !strings.Contains(p.stderr, "the admin API is off") {
		t.Error(p)
	}
	f.run(t, "users", "show", "u_42").want(t, exitNotFound)
	f.run(t, "reconcile").want(t, exitNotFound)
}

func TestPlainHTTPToElsewhereIsNoted(t *testing.T) {
	for address, noted := range map[string]bool{
		"http://latchkey.invalid": true, "https://latchkey.invalid": false, "http://127.0.0.1:1": false, "http://localhost:1": false, "http://[::1]:1": false,
	} {
		a := newApp(nil, &strings.Builder{}, func(string) string { return adminToken })
		a.adminURL = address
		if _, err := a.admin(); err != nil {
			t.Fatal(err)
		}
		if said := a.err.(*strings.Builder).String(); (said != "") != noted {
			t.Errorf("%s: %q", address, said)
		}
	}
}

func TestSecretsFile(t *testing.T) {
	f := newFakeAdmin(t)
	path := filepath.Join(t.TempDir(), "secrets")
	content := "# of the tests\nADMIN_TOKEN=" + adminToken + "\nJWT_SECRET_CLOUD=\"" + jwtSecret + "\"\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"LATCHKEY_URL": f.URL}
	for mode, code := range map[os.FileMode]int{
		0o600: exitOK, 0o400: exitOK, 0o644: exitUsage, 0o640: exitUsage, 0o604: exitUsage, 0o660: exitUsage, 0o700: exitUsage,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"users", "list"}, {"token", "--user", "u_42"}, {"reconcile", "--dry-run"}} {
			p := latchkey(t.Context(), env, append([]string{"--secrets", path}, args...)...).want(t, code)
			checkPrinted(t, p, false)
			if code == exitUsage && !strings.Contains(p.stderr, fmt.Sprintf("has mode %04o", mode)) {
				t.Error(p)
			}
		}
	}
	latchkey(t.Context(), env, "users", "list").want(t, exitUsage)
	latchkey(t.Context(), env, "users", "list", "--secrets", filepath.Join(t.TempDir(), "none")).want(t, exitUsage)
	if asked := f.asked(); len(asked) != 4 {
		t.Errorf("asked %q", asked)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if p := latchkey(t.Context(), nil, "completion", shell).want(t, exitOK); !strings.Contains(p.out, "latchkey") {
			t.Errorf("%s: %v", shell, p)
		}
	}
	p := latchkey(t.Context(), nil, "__complete", "users", "").want(t, exitOK)
	for _, name := range []string{"list", "show", "ledger", "suspend", "resume", "set", "erase", "watch"} {
		if !strings.Contains(p.out, "\n"+name+"\t") && !strings.HasPrefix(p.out, name+"\t") {
			t.Errorf("%s is not offered: %s", name, p.out)
		}
	}
	for _, args := range [][]string{{"users", "show", ""}, {"token", ""}} {
		// 4: nothing to offer, and no names of files either.
		if p := latchkey(t.Context(), nil, append([]string{"__complete"}, args...)...); !strings.Contains(p.out, ":4\n") {
			t.Errorf("%q: %v", args, p)
		}
	}
}
