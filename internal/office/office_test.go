package office

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/openrouter/openroutertest"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
	"latchkey/internal/users"
)

const op = "0123456789abcdef0123456789abcdef"

func TestOwnerReadsOnlyNamesOfOurs(t *testing.T) {
	for name, want := range map[string]string{
		"latchkey:u_42:" + op: "u_42", "latchkey:a:b:" + op: "a:b", "latchkey:пользователь:" + op: "пользователь", "latchkey: :" + op: " ",
		"": "", "latchkey:": "", "latchkey:" + op: "", "latchkey::" + op: "", "latchkey:u:": "",
		"latchkey-class:u:" + op: "", "Latchkey:u:" + op: "", "x latchkey:u:" + op: "",
	} {
		if got, ours := Owner(name); got != want || ours != (want != "") {
			t.Errorf("Owner(%q) = %q, %v; want %q", name, got, ours, want)
		}
	}
}

// table is D1 with a hash for each user, or an error.
type table struct {
	hashes map[string]string
	err    error
}

func (d table) Batch(statements []users.Statement) ([]json.RawMessage, error) {
	rows := []map[string]any{}
	for _, id := range statements[0].Args {
		if hash, ok := d.hashes[id.(string)]; ok {
			rows = append(rows, map[string]any{"user_id": id, "hash": hash})
		}
	}
	if n := len(statements[0].Args); n > 100 {
		return nil, fmt.Errorf("%d parameters", n)
	}
	encoded, _ := json.Marshal(rows)
	return []json.RawMessage{encoded}, d.err
}

// newOffice returns an office before an account with a key for each name, made
// two hours ago, and the hashes of those keys.
func newOffice(t *testing.T, names []string) (Office, *openroutertest.Server, map[string]string) {
	t.Helper()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	clock := now.Add(-2 * time.Hour)
	provisioning := seal.NewSecret("not-a-real-provisioning-key")
	server := openroutertest.New(openroutertest.Options{ProvisioningKey: provisioning.Reveal(), Now: func() time.Time { return clock }})
	o := Office{
		Keys:  openrouter.Client{BaseURL: "http://openrouter.test/api/v1", ProvisioningKey: provisioning, Transport: server, Now: func() time.Time { return now }},
		Knows: func(string, string) (bool, error) { return false, nil },
		Now:   func() time.Time { return now },
	}
	hashes := map[string]string{}
	for _, name := range names {
		_, hash, err := o.Keys.Create(name, account.Credit)
		if err != nil {
			t.Fatal(err)
		}
		hashes[name] = hash
	}
	clock = now
	return o, server, hashes
}

func TestReconcileDeletesWhatNobodyKnows(t *testing.T) {
	var names []string
	for i := range 250 {
		names = append(names, fmt.Sprintf("latchkey:owned%d:%s", i, op))
	}
	names = append(names, "somebody else's", "latchkey:inflight:"+op, "latchkey:unasked:"+op, "latchkey:orphan:"+op, "latchkey:owned7:"+strings.Repeat("0", 32))
	for _, dryRun := range []bool{true, false} {
		o, server, hashes := newOffice(t, names)
		d1 := table{hashes: map[string]string{}}
		for i := range 250 {
			user := fmt.Sprintf("owned%d", i)
			d1.hashes[user] = hashes["latchkey:"+user+":"+op]
		}
		o.Table = users.Table{DB: d1}
		o.Knows = func(user, hash string) (bool, error) {
			if user == "unasked" {
				return false, errors.New("the object is away")
			}
			return user == "inflight", nil
		}
		if _, _, err := o.Keys.Create("latchkey:young:"+op, account.Credit); err != nil {
			t.Fatal(err)
		}
		before := len(server.Live())

		report, err := o.Reconcile(dryRun)
		if err != nil {
			t.Fatal(err)
		}
		deleted := 2 // orphan, and the second key of owned7
		if report.DryRun != dryRun || report.Examined != 256 || report.Ours != 255 || len(report.Orphans) != 2 || report.Failed != 1 {
			t.Errorf("dry run %v: reported %+v", dryRun, report)
		}
		if dryRun {
			deleted = 0
		}
		if report.Deleted != deleted || len(server.Live()) != before-deleted {
			t.Errorf("dry run %v: %d deleted, %d of %d keys live", dryRun, report.Deleted, len(server.Live()), before)
		}
	}
}

// Half an answer must not make keys look as if nobody owned them.
func TestReconcileDeletesNothingOnHalfAnAnswer(t *testing.T) {
	names := []string{"latchkey:a:" + op, "latchkey:b:" + op}
	t.Run("D1 is away", func(t *testing.T) {
		o, server, _ := newOffice(t, names)
		o.Table = users.Table{DB: table{err: errors.New("away")}}
		if report, err := o.Reconcile(false); err == nil || len(server.Live()) != 2 {
			t.Errorf("%+v, %v; %d keys live", report, err, len(server.Live()))
		}
	})
	t.Run("the list ends early", func(t *testing.T) {
		o, server, _ := newOffice(t, names)
		o.Table = users.Table{DB: table{}}
		server.Fail(openroutertest.OpList, openroutertest.Fault{Kind: openroutertest.KindCut, Applied: true}, 1)
		if report, err := o.Reconcile(false); err == nil || len(server.Live()) != 2 {
			t.Errorf("%+v, %v; %d keys live", report, err, len(server.Live()))
		}
	})
}

func TestACursorThatIsNoneIsRefused(t *testing.T) {
	for _, cursor := range []string{"nonsense", "e30x", "!!"} {
		_, err := Office{Table: users.Table{DB: table{}}}.List(Query{Limit: 10, Cursor: cursor})
		if err == nil || problem.From(err).Code != problem.InvalidRequest {
			t.Errorf("%q: %v", cursor, err)
		}
	}
}

// Another latchkey's keys look like orphans: nobody here knows them.
func TestTheDailyRunLeavesSuspiciouslyManyAlone(t *testing.T) {
	for _, c := range []struct {
		orphans, owned int
		suspicious     bool
	}{{0, 5, false}, {10, 0, false}, {11, 0, true}, {11, 5, true}, {11, 100, false}} {
		var names []string
		for i := range c.orphans {
			names = append(names, fmt.Sprintf("latchkey:nobody%d:%s", i, op))
		}
		for i := range c.owned {
			names = append(names, fmt.Sprintf("latchkey:owned%d:%s", i, op))
		}
		o, server, hashes := newOffice(t, names)
		d1 := table{hashes: map[string]string{}}
		for i := range c.owned {
			user := fmt.Sprintf("owned%d", i)
			d1.hashes[user] = hashes["latchkey:"+user+":"+op]
		}
		o.Table = users.Table{DB: d1}
		report, err := o.ReconcileDaily()
		want := c.owned
		if c.suspicious {
			want += c.orphans
		}
		if err != nil || report.Suspicious != c.suspicious || len(server.Live()) != want {
			t.Errorf("%+v: reported %+v, %v; %d keys live", c, report, err, len(server.Live()))
		}
	}
}
