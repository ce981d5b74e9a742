//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// operations returns the log's lines about requests.
func (w *worker) operations() []string {
	var lines []string
	for text := range strings.Lines(w.log.String()) {
		var line struct{ Evt, Op, Outcome, Path string }
		if json.Unmarshal([]byte(text), &line) == nil && (line.Evt == "request" || line.Evt == "key" || line.Evt == "admin") {
			lines = append(lines, strings.Join(strings.Fields(line.Evt+" "+line.Op+" "+line.Outcome+" "+line.Path), " "))
		}
	}
	return lines
}

// Whoever answers a request logs it, once.
func TestARequestIsOneLine(t *testing.T) {
	w := start(t, administered)
	u := newUser(t, w)
	operator := http.Header{"Authorization": {"Bearer " + adminToken}}
	w.ask(t, "GET", "/last", nil)
	eventually(t, pollLog, "the lines of what was asked while the Worker started", func() (string, bool) {
		lines := w.operations()
		return fmt.Sprint(lines), len(lines) > 0 && lines[len(lines)-1] == "request not_found"
	})
	for _, c := range []struct {
		method, path string
		header       http.Header
		line         string
	}{
		{"GET", "/healthz", nil, "request /healthz"},
		{"GET", me, nil, "request missing_token /api/users/me"},
		{"GET", me, bearer(u.token()), "key me provisioned"},
		{"GET", me, bearer(u.token()), "key me kept"},
		{"POST", refresh, bearer(u.token()), "key refresh rotated"},
		{"PUT", me, bearer(u.token()), "request method_not_allowed /api/users/me"},
		{"OPTIONS", refresh, nil, "request " + refresh},
		{"GET", "/nothing", bearer(u.token()), "request not_found"},
		{"GET", "/api/admin/users", operator, "admin list done"},
		{"GET", "/api/admin" + u.path() + "/ledger", operator, "admin ledger done"},
		{"GET", "/api/admin" + u.path() + "x", operator, "admin inspect not_found"},
		{"GET", "/api/admin/users?limit=0", operator, "request invalid_request /api/admin/users"},
		{"GET", "/api/admin" + u.path() + "/ledger?cursor=x", operator, "request invalid_request /api/admin/users/{id}/ledger"},
	} {
		before := len(w.operations())
		w.ask(t, c.method, c.path, c.header)
		// A second line would come before that of the request that follows.
		w.ask(t, "GET", "/last", nil)
		eventually(t, pollLog, "the line of "+c.method+" "+c.path, func() (string, bool) {
			lines := w.operations()[before:]
			return fmt.Sprint(lines), len(lines) >= 2 && lines[len(lines)-1] == "request not_found"
		})
		if lines := w.operations()[before:]; len(lines) != 2 || lines[0] != c.line {
			t.Errorf("%s %s: logged %q, want %q", c.method, c.path, lines[:len(lines)-1], c.line)
		}
	}
}

// entries are those of a page of the user's own ledger.
func (u *user) entries(query string) (entries []map[string]any, next *string) {
	u.t.Helper()
	a := u.w.ask(u.t, "GET", me+"/ledger"+query, bearer(u.token()))
	var page struct {
		Entries []map[string]any `json:"entries"`
		Next    *string          `json:"next_cursor"`
	}
	if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != 200 || page.Entries == nil || a.header.Get("Cache-Control") != "no-store" {
		u.t.Fatalf("the ledger: %v, %v", a, err)
	}
	return page.Entries, page.Next
}

func TestAUserReadsTheirOwnLedger(t *testing.T) {
	w := start(t, administered)
	u, other := newUser(t, w), newUser(t, w)
	other.provisioned()

	t.Run("of somebody who has none", func(t *testing.T) {
		if entries, next := u.entries(""); len(entries) != 0 || next != nil {
			t.Errorf("entries %v, next %v", entries, next)
		}
		u.called("")
		w.admin(t, "GET", u.path(), "", 404, nil)
		if row, ledger := u.rows(); row != nil || len(ledger) != 0 {
			t.Errorf("in D1 there are %v and %v", row, ledger)
		}
	})

	t.Run("in pages, newest first", func(t *testing.T) {
		u.spend(u.provisioned(), 0.6)
		u.spend(u.expect(u.get(), "rotated", 9.4, 1), 0.2)
		u.expect(u.get(), "kept", 9.2, 0.8)
		u.mark()
		const all = "charge 0.2 9.2, rotate 1 9.4, charge 0.6 9.4, provision 1 10"
		for _, limit := range []int{1, 2, 3, 4, 50} {
			var got []map[string]any
			pages := 0
			for cursor := ""; ; pages++ {
				entries, next := u.entries(fmt.Sprintf("?limit=%d%s", limit, cursor))
				if got = append(got, entries...); len(entries) > limit || pages > 5 {
					t.Fatalf("page %d has %d entries", pages, len(entries))
				}
				if next == nil {
					break
				}
				cursor = "&cursor=" + *next
			}
			if kinds(got) != all {
				t.Errorf("with limit %d: %s, want %s", limit, kinds(got), all)
			}
		}
		if entries, _ := u.entries(""); kinds(entries) != all {
			t.Errorf("without a limit: %s", kinds(entries))
		}
		if hash, seq := fieldOf(u, "hash"), fieldOf(u, "seq"); hash == nil || seq == nil {
			t.Errorf("hash %v, seq %v", hash, seq)
		}
		u.called("") // of OpenRouter
	})

	t.Run("or is told what is wrong", func(t *testing.T) {
		problem(t, w.ask(t, "GET", me+"/ledger", nil), 401, "missing_token")
		problem(t, w.ask(t, "POST", me+"/ledger", bearer(u.token())), 405, "method_not_allowed")
		for query, name := range map[string]string{"?limit=0": "limit", "?limit=201": "limit", "?cursor=x": "cursor", "?limit=5&cursor=-1": "cursor"} {
			a := problem(t, w.ask(t, "GET", me+"/ledger"+query, bearer(u.token())), 400, "invalid_request")
			if !strings.Contains(a.body, `"detail":"`+name+" is ") {
				t.Errorf("%s: %v", query, a)
			}
		}
	})
}

// fieldOf is a field of the user's newest entry.
func fieldOf(u *user, name string) any {
	entries, _ := u.entries("?limit=1")
	return entries[0][name]
}
