//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

const adminToken = "fake-admin-token-of-the-e2e-tests-0123456789"

// administered are settings with the admin API switched on.
var administered = with{secrets: map[string]string{"ADMIN_TOKEN": adminToken}}

// admin sends a request to the admin API and decodes its answer.
func (w *worker) admin(t *testing.T, method, path, body string, status int, into any) answer {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + adminToken}}
	a, err := w.send(t.Context(), method, "/api/admin"+path, header, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if a.status != status {
		t.Fatalf("%s %s: want %d, got %v", method, path, status, a)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.body), into); err != nil {
			t.Fatalf("%s %s: %v in %v", method, path, err, a)
		}
	}
	if plainKey.MatchString(a.body) && !strings.Contains(a.body, "...") {
		t.Errorf("%s %s shows a key: %v", method, path, a)
	}
	return a
}

// held is what an object holds, as GET /api/admin/users/{id} tells.
type held struct {
	Record struct {
		ID        string  `json:"user_id"`
		Name      string  `json:"user_name"`
		Key       string  `json:"key"`
		Hash      string  `json:"hash"`
		Total     float64 `json:"total_limit"`
		Remaining float64 `json:"remaining_limit"`
		Suspended bool    `json:"suspended"`
	} `json:"record"`
	Pending    any   `json:"pending"`
	Background []any `json:"background"`
}

func (u *user) path() string { return "/users/" + url.PathEscape(u.id) }

// ledger is the user's ledger as an operator sees it, oldest entry first.
func (u *user) ledger() string {
	u.t.Helper()
	var page struct {
		Entries []map[string]any `json:"entries"`
	}
	u.w.admin(u.t, "GET", u.path()+"/ledger?limit=200", "", 200, &page)
	slices.Reverse(page.Entries)
	return kinds(page.Entries)
}

func TestAdmin(t *testing.T) {
	w := start(t, administered)

	t.Run("who may", func(t *testing.T) {
		for _, c := range []struct {
			authorization string
			code          string
		}{{"", "missing_token"}, {"Bearer wrong", "invalid_token"}, {"Bearer " + newUser(t, w).token(), "invalid_token"}} {
			a := w.ask(t, "GET", "/api/admin/users", http.Header{"Authorization": {c.authorization}})
			problem(t, a, 401, c.code)
		}
	})

	t.Run("show", func(t *testing.T) {
		u := newUser(t, w)
		u.id = "ж/" + u.id + " ?"
		var none map[string]any
		w.admin(t, "GET", u.path(), "", 404, &none)
		v := u.provisioned()
		var h held
		w.admin(t, "GET", u.path(), "", 200, &h)
		if h.Record.ID != u.id || h.Record.Hash != v.Hash || h.Record.Remaining != 10 ||
			h.Record.Key != v.Key[:12]+"..."+v.Key[len(v.Key)-3:] {
			t.Errorf("shown is %+v", h)
		}
		eventually(t, 5*time.Second, "the state in the log", func() (string, bool) {
			for _, line := range w.log.lines(u.id) {
				if line["evt"] == "state" && line["state"] != nil {
					return "", true
				}
			}
			return fmt.Sprint(w.log.lines(u.id)), false
		})
	})

	t.Run("suspend and resume", func(t *testing.T) {
		u := newUser(t, w)
		v := u.provisioned()
		u.spend(v, 0.2)
		var h held
		w.admin(t, "PATCH", u.path(), `{"suspended":true}`, 200, &h)
		if !h.Record.Suspended || h.Record.Key != "" || h.Record.Remaining != 9.8 || !w.openrouter.Deleted(v.Hash) {
			t.Errorf("suspended is %+v, key deleted: %v", h, w.openrouter.Deleted(v.Hash))
		}
		problem(t, u.get(), 403, "suspended")
		problem(t, u.refresh(), 403, "suspended")
		w.admin(t, "PATCH", u.path(), `{"suspended":false}`, 200, &h)
		v = u.expect(u.get(), "rotated", 9.8, 1)
		u.settles(v)
		if got, want := u.ledger(), "provision 1 10, charge 0.2 9.8, suspend 0 9.8, resume 0 9.8, rotate 1 9.8"; got != want {
			t.Errorf("the ledger is %s, want %s", got, want)
		}
	})

	t.Run("suspend while OpenRouter is away", func(t *testing.T) {
		u := newUser(t, w)
		v := u.provisioned()
		w.openrouter.Fail(openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindStatus}, 1)
		w.openrouter.Fail(openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindStatus}, 1)
		w.admin(t, "PATCH", u.path(), `{"suspended":true}`, 200, nil)
		problem(t, u.get(), 403, "suspended")
		eventually(t, 30*time.Second, "the key's deletion by the alarm", func() (string, bool) {
			return "", w.openrouter.Deleted(v.Hash)
		})
	})

	t.Run("limits", func(t *testing.T) {
		u := newUser(t, w)
		u.spend(u.provisioned(), 0.2)
		u.expect(u.get(), "kept", 9.8, 0.8)
		var h held
		w.admin(t, "PATCH", u.path(), `{"total_limit":20}`, 200, &h)
		if h.Record.Total != 20 || h.Record.Remaining != 19.8 {
			t.Errorf("after raising the total: %+v", h)
		}
		w.admin(t, "PATCH", u.path(), `{"remaining_limit":5}`, 200, &h)
		if h.Record.Total != 20 || h.Record.Remaining != 5 {
			t.Errorf("after setting what remains: %+v", h)
		}
		if got, want := u.ledger(), "provision 1 10, charge 0.2 9.8, adjust -10 19.8, adjust 14.8 5"; got != want {
			t.Errorf("the ledger is %s, want %s", got, want)
		}
	})

	t.Run("erase", func(t *testing.T) {
		u := newUser(t, w)
		v := u.provisioned()
		u.inD1(v, 20*time.Second)
		w.admin(t, "DELETE", u.path(), "", 204, nil)
		if !w.openrouter.Deleted(v.Hash) {
			t.Error("the key lives")
		}
		if row, ledger := u.rows(); row != nil || kinds(ledger) != "provision 1 10, erase 0 0" {
			t.Errorf("in D1 there are %v and %s", row, kinds(ledger))
		}
		var none map[string]any
		w.admin(t, "GET", u.path(), "", 404, &none)
		w.admin(t, "DELETE", u.path(), "", 404, &none)
		again := u.expect(u.get(), "provisioned", 10, 1)
		if got := kinds(u.inD1(again, 20*time.Second)); got != "provision 1 10, erase 0 0, provision 1 10" {
			t.Errorf("the ledger is %s", got)
		}
	})

	t.Run("rebuild what D1 lost", func(t *testing.T) {
		u := newUser(t, w)
		v := u.provisioned()
		u.inD1(v, 20*time.Second)
		w.query(t, "DELETE FROM users WHERE user_id = '"+u.id+"'; DELETE FROM ledger WHERE user_id = '"+u.id+"'")
		w.admin(t, "POST", u.path()+"/sync", "", 202, nil)
		if got := kinds(u.inD1(v, 20*time.Second)); got != "provision 1 10" {
			t.Errorf("the ledger is %s", got)
		}
	})

	t.Run("list", func(t *testing.T) {
		var ids []string
		for i := range 5 {
			u := newUser(t, w)
			u.name = fmt.Sprintf("Listed %d", i)
			u.inD1(u.provisioned(), 20*time.Second)
			ids = append([]string{u.id}, ids...) // newest change first
		}
		var got []string
		path := "/users?limit=2&q=LISTED"
		for cursor := ""; ; {
			var page struct {
				Users []map[string]any `json:"users"`
				Next  *string          `json:"next_cursor"`
			}
			w.admin(t, "GET", path+cursor, "", 200, &page)
			for _, row := range page.Users {
				got = append(got, row["user_id"].(string))
				if _, has := row["key"]; has {
					t.Errorf("a key is listed: %v", row)
				}
			}
			if page.Next == nil {
				break
			}
			cursor = "&cursor=" + url.QueryEscape(*page.Next)
		}
		if strings.Join(got, " ") != strings.Join(ids, " ") {
			t.Errorf("listed are %v, want %v", got, ids)
		}
		problem(t, w.admin(t, "GET", "/users?cursor=nonsense", "", 400, nil), 400, "invalid_request")
	})

	t.Run("reconcile", func(t *testing.T) {
		u := newUser(t, w)
		w.behind.Store(int64(time.Hour))
		v := u.provisioned() // old, and owned
		orphans := 0
		const op = "0123456789abcdef0123456789abcdef"
		for _, name := range []string{"latchkey:" + u.id + ":" + op, "latchkey:nobody-" + u.id + ":" + op} {
			u.operator("POST", "/keys", `{"name":"`+name+`","limit":1}`)
			orphans++
		}
		for _, name := range []string{"somebody else's", "latchkeys:" + u.id + ":" + op, "course-b:" + u.id + ":" + op, "latchkey-class:x:" + op} {
			u.operator("POST", "/keys", `{"name":"`+name+`","limit":1}`)
		}
		w.behind.Store(0)
		u.operator("POST", "/keys", `{"name":"latchkey:`+u.id+`:`+strings.Repeat("0", 32)+`","limit":1}`) // young
		before := len(w.openrouter.Live())

		var report struct {
			DryRun  bool             `json:"dry_run"`
			Orphans []map[string]any `json:"orphans"`
			Deleted int              `json:"deleted"`
		}
		w.admin(t, "POST", "/reconcile", `{"dry_run":true}`, 200, &report)
		if !report.DryRun || len(report.Orphans) != orphans || report.Deleted != 0 || len(w.openrouter.Live()) != before {
			t.Errorf("the dry run reports %+v; %d keys live, %d did", report, len(w.openrouter.Live()), before)
		}
		w.admin(t, "POST", "/reconcile", `{"dry_run":false}`, 200, &report)
		if report.DryRun || report.Deleted != orphans || len(w.openrouter.Live()) != before-orphans {
			t.Errorf("reported %+v; %d keys live, %d did", report, len(w.openrouter.Live()), before)
		}

		// And once a day, by itself.
		w.behind.Store(int64(time.Hour))
		u.operator("POST", "/keys", `{"name":"latchkey:`+u.id+`:`+op+`","limit":1}`)
		w.behind.Store(0)
		if a := w.ask(t, "GET", "/cdn-cgi/handler/scheduled", nil); a.status != 200 {
			t.Errorf("the cron trigger: %v", a)
		}
		eventually(t, 20*time.Second, "the daily reconciliation", func() (string, bool) {
			return fmt.Sprint(len(w.openrouter.Live())), len(w.openrouter.Live()) == before-orphans
		})
		u.expect(u.get(), "kept", 10, 1)
		if w.openrouter.Deleted(v.Hash) {
			t.Error("a key that a record owns was deleted")
		}
	})
}

func TestWithoutATokenThereIsNoAdminAPI(t *testing.T) {
	w := useShared(t)
	for _, path := range []string{"/users", "/users/u_42", "/users/u_42/ledger", "/reconcile"} {
		problem(t, w.admin(t, "GET", path, "", 404, nil), 404, "not_found")
	}
}
