package adminclient

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/adminapi/adminapitest"
	"latchkey/internal/seal"
)

const token = "fake-admin-token-of-the-tests-0123456789"

var testTime = time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC)

func clock() time.Time { return testTime }

// busy is a user with a value in every field.
func busy(s *adminapitest.Server) adminapitest.User {
	key, hash := s.NewKey("latchkey:u_7:op1", 24*time.Hour)
	entries := []account.Entry{}
	for seq := int64(1); seq <= 7; seq++ {
		entries = append(entries, account.Entry{Seq: seq, At: testTime.Add(time.Duration(seq-60) * time.Minute), Kind: account.Charge, Credits: account.Credits(seq), RemainingLimit: 10*account.Credit - account.Credits(seq), Hash: hash})
	}
	return adminapitest.User{
		Record: account.Record{
			UserID: "u_7", UserName: "Grace", Email: "grace@example.com", Key: key, Hash: hash,
			TotalLimit: 10 * account.Credit, RemainingLimit: 7_123_456_789, UsageLimit: account.Credit, Suspended: true, Seq: 8,
			CreatedAt: testTime.Add(-time.Hour), UpdatedAt: testTime.Add(-time.Minute),
		},
		Ledger: entries,
		Rest: `"pending":{"delete":"` + hash + `","since":"2026-11-22T09:29:00Z","tries":1,"due":"2026-11-22T09:30:04Z"},
			"chores":[{"orphan":"op9","since":"2026-11-22T09:20:00Z","tries":4,"due":"2026-11-22T09:31:00Z"},
				{"settle":"` + strings.Repeat("6b", 32) + `","live":true,"left":0.25,"limit":1,"since":"2026-11-22T09:25:00Z","tries":1,"due":"2026-11-22T09:35:00Z"}],
			"d1":{"seq":6,"since":"2026-11-22T09:29:00Z","tries":2,"due":"2026-11-22T09:30:10Z"},"alarm":"2026-11-22T09:30:04Z","at":"2026-11-22T09:29:00Z"`,
	}
}

func newClient(t *testing.T, address string) *Client {
	t.Helper()
	c, err := New(address, seal.NewSecret(token), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// agree demands that server and client mean the same by an answer: that all that
// was sent is known here, and all that is known here was sent.
func agree[T any](t *testing.T, what string, part Sent[T]) {
	t.Helper()
	again, err := json.Marshal(part.Known)
	if err != nil {
		t.Fatal(err)
	}
	var sent, known any
	if err := errors.Join(json.Unmarshal(part.all, &sent), json.Unmarshal(again, &known)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(sent, known) {
		t.Errorf("%s: the server sent %s, and the client knows %s", what, part.all, again)
	}
}

func TestServerAndClientAgreeOnEveryField(t *testing.T) {
	s := adminapitest.New(t, token, clock)
	u := busy(s)
	s.Put(u)
	s.PutState("u_9", "not JSON", nil)
	c, ctx := newClient(t, s.URL), t.Context()

	state, err := c.User(ctx, "u_7")
	if err != nil {
		t.Fatal(err)
	}
	agree(t, "a state", state)
	if k := state.Known; k.Record.Hash != u.Record.Hash || k.Record.RemainingLimit != u.Record.RemainingLimit || k.Pending == nil || k.Pending.Delete != u.Record.Hash ||
		len(k.Background) != 2 || *k.Background[1].Left != account.Credit/4 || !k.D1.Behind || k.D1.Tries != 2 || k.Alarm == nil {
		t.Errorf("a state: %+v", k)
	}
	damaged, err := c.User(ctx, "u_9")
	if err != nil {
		t.Fatal(err)
	}
	if damaged.Known.Damaged == "" || damaged.Known.Record.Damaged != damaged.Known.Damaged {
		t.Errorf("a damaged state: %+v", damaged.Known)
	}
	for page, err := range c.Users(ctx, "u_7", 10) {
		if err != nil || len(page.Items) != 1 {
			t.Fatalf("%d users, %v", len(page.Items), err)
		}
		agree(t, "a user", page.Items[0])
		if page.Items[0].Known.UserName != "Grace" {
			t.Errorf("a user: %+v", page.Items[0].Known)
		}
	}
	var seqs []int64
	for page, err := range c.Ledger(ctx, "u_7", 3) {
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range page.Items {
			agree(t, "an entry", entry)
			seqs = append(seqs, entry.Known.Seq)
		}
	}
	if !slices.Equal(seqs, []int64{7, 6, 5, 4, 3, 2, 1}) {
		t.Errorf("the ledger has %v", seqs)
	}
	s.NewKey("latchkey:nobody:op", time.Hour)
	report, err := c.Reconcile(ctx, adminapi.ReconcileOptions{DryRun: true})
	if err != nil || len(report.Known.Orphans) != 1 || report.Known.Ours != 2 {
		t.Fatalf("a report: %+v, %v", report.Known, err)
	}
	agree(t, "a report", report)

	s.ChangeEncryptionKey()
	parts := 0
	for page, err := range c.Reseal(ctx, 1) {
		if err != nil {
			t.Fatal(err)
		}
		anew := page.Items[0]
		if parts++; parts != 1 || anew.Known.Resealed != 1 || anew.Known.Remaining != 0 || anew.Known.NextCursor != nil {
			t.Errorf("a reseal: %+v", anew.Known)
		}
		agree(t, "a reseal", anew)
	}
	if parts != 1 {
		t.Errorf("%d parts of a reseal", parts)
	}

	total := 20 * account.Credit
	if state, err = c.Adjust(ctx, "u_7", adminapi.Adjustment{TotalLimit: &total, Suspended: new(false)}); err != nil || state.Known.Record.TotalLimit != total || state.Known.Record.Suspended {
		t.Errorf("adjusted: %+v, %v", state.Known, err)
	}
	agree(t, "an adjusted state", state)
	if err := c.Sync(ctx, "u_7"); err != nil {
		t.Error(err)
	}
	if done, err := c.Erase(ctx, "u_7"); err != nil || !done {
		t.Errorf("erased: %t, %v", done, err)
	}
	if _, err := c.User(ctx, "u_7"); !refusedWith(err, 404) {
		t.Errorf("an erased user: %v", err)
	}
}

func refusedWith(err error, status int) bool {
	refusal, ok := errors.AsType[*Refusal](err)
	return ok && refusal.Status == status
}

func TestAWalkEndsOnceNobodyWantsMore(t *testing.T) {
	s := adminapitest.New(t, token, clock)
	s.Put(busy(s))
	for page, err := range newClient(t, s.URL).Ledger(t.Context(), "u_7", 2) {
		if err != nil || len(page.Items) != 2 || !page.More {
			t.Fatalf("%+v, %v", page, err)
		}
		break
	}
	if asked := s.Asked(); !slices.Equal(asked, []string{"GET /api/admin/users/u_7/ledger?limit=2"}) {
		t.Errorf("asked %q", asked)
	}
}

// hostile is a client of a server that answers as it is told.
func hostile(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return newClient(t, server.URL)
}

// Whatever the server does, a walk ends: n is the number of the page.
func TestAWalkThatLeadsNowhereEnds(t *testing.T) {
	users := func(ids ...int) string {
		var list []string
		for _, id := range ids {
			list = append(list, fmt.Sprintf(`{"user_id":"u_%d"}`, id))
		}
		return `"users":[` + strings.Join(list, ",") + `]`
	}
	entries := func(seqs ...int) string {
		var list []string
		for _, seq := range seqs {
			list = append(list, fmt.Sprintf(`{"seq":%d}`, seq))
		}
		return `"entries":[` + strings.Join(list, ",") + `]`
	}
	next := func(cursor any) string { return fmt.Sprintf(`,"next_cursor":"%v"`, cursor) }
	for name, page := range map[string]func(n int) string{
		"the same cursor again": func(int) string { return users(1) + next("x") },
		"two cursors in turn":   func(n int) string { return users(1) + next(n%2) },
		"ever new cursors":      func(n int) string { return users(1) + next(n) },
		"nobody on a page":      func(n int) string { return users() + next(n) },
		"no list at all":        func(n int) string { return `"x":1` + next(n) },
		"an empty cursor":       func(n int) string { return users(1) + next("") },

		"the same entries again":   func(int) string { return entries(2, 1) + next("x") },
		"two pages in turn":        func(n int) string { return entries(1+n%2) + next(n%2) },
		"pages going forwards":     func(n int) string { return entries(n) + next(n) },
		"pages that overlap":       func(n int) string { return entries(101-n, 100-n) + next(n) },
		"entries out of order":     func(int) string { return entries(1, 2) },
		"a seq of 0":               func(int) string { return entries(0) },
		"a seq below 0":            func(n int) string { return entries(-n) + next(n) },
		"no entry on a page":       func(n int) string { return entries() + next(n) },
		"a list of something else": func(n int) string { return users(n) + next(n) },
	} {
		n := 0
		c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
			n++
			fmt.Fprint(w, "{"+page(n)+"}")
		})
		var err error
		if strings.Contains(page(1), `"users"`) && name != "a list of something else" || name == "no list at all" {
			for _, err = range c.Users(t.Context(), "", 10) {
			}
		} else {
			for _, err = range c.Ledger(t.Context(), "u_42", 10) {
			}
		}
		if n > 3 || err == nil || !strings.Contains(err.Error(), "do not get further") {
			t.Errorf("%s: after %d pages: %v", name, n, err)
		}
	}
}

// A list that always gets a bit further has an end too.
func TestAListWithoutEndEnds(t *testing.T) {
	n := 0
	c := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		fmt.Fprintf(w, `{"entries":[{"seq":%d}],"next_cursor":"%d"}`, math.MaxInt64-n, n)
	})
	c.maxPages = 7
	var err error
	for _, err = range c.Ledger(t.Context(), "u_42", 10) {
	}
	if n != 7 || err == nil || !strings.Contains(err.Error(), "more than 7 pages") {
		t.Errorf("after %d pages: %v", n, err)
	}
}

func TestAListOfLargePagesEnds(t *testing.T) {
	n := 0
	padding := strings.Repeat(" ", 1<<20)
	c := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		fmt.Fprintf(w, `{"users":[{"user_id":"%d"}],"next_cursor":"%d"%s}`, n, n, padding)
	})
	c.maxList = 5 << 20
	var err error
	for _, err = range c.Users(t.Context(), "", 10) {
	}
	if n != 5 || err == nil || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("after %d pages: %v", n, err)
	}
}

// However much is sent, and in whatever coding, no more is read than the bound.
func TestAnAnswerIsBounded(t *testing.T) {
	junk := bytes.Repeat([]byte(" "), 1<<20)
	for _, coding := range []string{"", "gzip"} {
		sent := make(chan int, 1)
		c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
			var to io.Writer = w
			if coding == "gzip" {
				w.Header().Set("Content-Encoding", coding)
				z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // a level that there is
				to = z
			}
			n := 0
			for range 8 * MaxAnswer / len(junk) {
				if _, err := to.Write(junk); err != nil || r.Context().Err() != nil {
					break // the client has hung up
				}
				n += len(junk)
			}
			sent <- n
		})
		if _, err := c.User(t.Context(), "u_42"); err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
			t.Errorf("%q: %v", coding, err)
		}
		if n := <-sent; n >= 8*MaxAnswer {
			t.Errorf("%q: all of it was read", coding)
		}
	}
}

func TestAHeaderIsBounded(t *testing.T) {
	c := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Junk", strings.Repeat("x", 1<<20))
		fmt.Fprint(w, "{}")
	})
	_, err := c.User(t.Context(), "u_42")
	if _, ok := errors.AsType[*Unreached](err); !ok {
		t.Errorf("%v", err)
	}
}

func TestARedirectionIsNotFollowed(t *testing.T) {
	told := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told = true }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		c := hostile(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		if _, err := c.Erase(t.Context(), "u_42"); !refusedWith(err, status) || !strings.Contains(err.Error(), "not followed") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if told {
		t.Error("the token went elsewhere")
	}
}

func TestTheTokenGoesToHTTPSOrToThisMachineOnly(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://latchkey.example": true, "https://latchkey.example/path/": true, "http://127.0.0.1:8787": true, "http://localhost:1": true, "http://[::1]:1": true, "http://127.9.9.9": true,
		"http://latchkey.example": false, "http://10.0.0.1": false, "http://localhost.example": false, "http://127.0.0.1.example": false, "http://0.0.0.0": false, "http://[::]": false, "http://2130706433": false,
		"ftp://127.0.0.1": false, "127.0.0.1:8787": false, "": false, "https://": false, "http://:80": false, "https://me:secret@latchkey.example": false, "https://latchkey.example?x=1": false, "https://latchkey.example#x": false, "http://127.0.0.1@latchkey.example": false,
	} {
		if _, err := New(address, seal.NewSecret(token), nil); (err == nil) != ok || err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestNoProxyIsAskedThatWasNotAskedFor(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	t.Cleanup(here.Close)
	through, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		proxy   *url.URL
		want    []string
	}{
		{"https://latchkey.invalid", nil, nil},
		{here.URL, nil, nil},
		{here.URL, through, nil}, // it would be told the token
		{"https://latchkey.invalid", through, []string{"CONNECT latchkey.invalid:443 "}},
	} {
		asked = nil
		client, err := New(c.address, seal.NewSecret(token), c.proxy)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = client.User(ctx, "u_42")
		if !slices.Equal(asked, c.want) {
			t.Errorf("%s, proxy %v: the proxy was asked %q", c.address, c.proxy, asked)
		}
	}
}

func TestIDsThatNoURLCanNameAreRefused(t *testing.T) {
	for id, ok := range map[string]bool{"u_42": true, "a/../b": true, "...": true, "клас/Ada 1": true, "": false, ".": false, "..": false, "\xff": false} {
		if err := CheckID(id); (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
	}
}
