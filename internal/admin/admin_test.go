package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/openrouter"
	"latchkey/internal/openroutertest"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
	"latchkey/internal/users"
)

const op = "0123456789abcdef0123456789abcdef"

// table is D1: a hash for each user, the users of ledger entries by hash, and
// errors by what is asked of it.
type table struct {
	hashes map[string]string
	ledger map[string][]string
	errs   map[string]error // rows, held, earlier
}

func (d table) Batch(statements []users.Statement, _ func()) ([]json.RawMessage, error) {
	sql, args := statements[0].SQL, statements[0].Args
	if n := len(args); n < 1 || n > 100 {
		return nil, fmt.Errorf("%d parameters", n)
	}
	rows := []map[string]any{}
	var err error
	switch {
	case strings.Contains(sql, "FROM users WHERE user_id IN ("):
		err = d.errs["rows"]
		for _, id := range args {
			if hash, ok := d.hashes[id.(string)]; ok {
				rows = append(rows, map[string]any{"user_id": id, "hash": hash})
			}
		}
	case strings.Contains(sql, "FROM users WHERE hash IN ("):
		err = d.errs["held"]
		for _, hash := range d.hashes {
			if slices.Contains(args, any(hash)) {
				rows = append(rows, map[string]any{"hash": hash})
			}
		}
	case strings.Contains(sql, "FROM ledger WHERE hash IN ("):
		err = d.errs["earlier"]
		for _, hash := range args {
			for _, user := range d.ledger[hash.(string)] {
				rows = append(rows, map[string]any{"user_id": user, "hash": hash})
			}
		}
	default:
		err = errors.New("it is asked something else: " + sql)
	}
	encoded, _ := json.Marshal(rows)
	return []json.RawMessage{encoded}, err
}

// newService returns a service before an account with a key for each name, made
// two hours ago, and the hashes of those keys.
func newService(t *testing.T, names []string) (Service, *openroutertest.Server, map[string]string) {
	t.Helper()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	clock := now.Add(-2 * time.Hour)
	provisioning := seal.NewSecret("not-a-real-provisioning-key")
	server := openroutertest.New(openroutertest.Options{ProvisioningKey: provisioning.Reveal(), Now: func() time.Time { return clock }})
	o := Service{
		Prefix: "latchkey", Table: users.Table{DB: table{}},
		Keys:  openrouter.Client{BaseURL: "http://openrouter.test/api/v1", ProvisioningKey: provisioning, Transport: server, Now: func() time.Time { return now }},
		Knows: func(string, string) (bool, error) { return false, nil },
		Now:   func() time.Time { return now },
	}
	hashes := map[string]string{}
	for _, name := range names {
		_, hash, err := o.Keys.Create(openrouter.NewKey{Name: name, Limit: new(account.Credit)})
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
		o, server, hashes := newService(t, names)
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
		if _, _, err := o.Keys.Create(openrouter.NewKey{Name: "latchkey:young:" + op, Limit: new(account.Credit)}); err != nil {
			t.Fatal(err)
		}
		before := len(server.Live())

		report, err := o.Reconcile(adminapi.ReconcileOptions{DryRun: dryRun})
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
		o, server, _ := newService(t, names)
		o.Table = users.Table{DB: table{errs: map[string]error{"rows": errors.New("away")}}}
		report, err := o.Reconcile(adminapi.ReconcileOptions{})
		if err == nil || problem.From(err).Code != problem.UpstreamUnavailable || len(server.Live()) != 2 {
			t.Errorf("%+v, %v; %d keys live", report, err, len(server.Live()))
		}
	})
	t.Run("the list ends early", func(t *testing.T) {
		o, server, _ := newService(t, names)
		o.Table = users.Table{DB: table{}}
		server.Fail(openroutertest.OpList, openroutertest.Fault{Kind: openroutertest.KindCut, Applied: true}, 1)
		if report, err := o.Reconcile(adminapi.ReconcileOptions{}); err == nil || len(server.Live()) != 2 {
			t.Errorf("%+v, %v; %d keys live", report, err, len(server.Live()))
		}
	})
}

func TestACursorThatIsNoneIsRefused(t *testing.T) {
	for _, cursor := range []string{"nonsense", "e30x", "!!"} {
		_, err := Service{Table: users.Table{DB: table{}}}.List(Query{Limit: 10, Cursor: cursor})
		if err == nil || problem.From(err).Code != problem.InvalidRequest || !strings.HasPrefix(problem.From(err).Detail, "cursor is ") {
			t.Errorf("%q: %v", cursor, err)
		}
	}
}

// Another latchkey's keys look like orphans: nobody here knows them.
func TestSuspiciouslyManyAreLeftAloneUnlessForced(t *testing.T) {
	for _, c := range []struct {
		orphans, owned int
		suspicious     bool
	}{{0, 5, false}, {10, 0, false}, {11, 0, true}, {11, 5, true}, {11, 99, false}, {11, 98, true}} {
		var names []string
		for i := range c.orphans {
			names = append(names, fmt.Sprintf("latchkey:nobody%d:%s", i, op))
		}
		for i := range c.owned {
			names = append(names, fmt.Sprintf("latchkey:owned%d:%s", i, op))
		}
		for _, options := range []adminapi.ReconcileOptions{{}, {DryRun: true}, {Force: true}, {DryRun: true, Force: true}} {
			o, server, hashes := newService(t, names)
			d1 := table{hashes: map[string]string{}}
			for i := range c.owned {
				user := fmt.Sprintf("owned%d", i)
				d1.hashes[user] = hashes["latchkey:"+user+":"+op]
			}
			o.Table = users.Table{DB: d1}
			report, err := o.Reconcile(options)
			deleted := c.orphans
			if options.DryRun || c.suspicious && !options.Force {
				deleted = 0
			}
			if err != nil || report.Suspicious != c.suspicious || len(report.Orphans) != c.orphans || report.Deleted != deleted ||
				len(server.Live()) != c.orphans+c.owned-deleted {
				t.Errorf("%+v, %+v: reported %d orphans, %d deleted, suspicious %v, %v; %d keys live",
					c, options, len(report.Orphans), report.Deleted, report.Suspicious, err, len(server.Live()))
			}
		}
	}
}

// OpenRouter may change a name. The key is its user's all the same.
func TestAKeyIsItsUsersWhateverItsNameIs(t *testing.T) {
	const user = "e\u0301\u200b" // an accent of its own, and a space without width
	changed := "latchkey:\u00e9:" + op
	away := errors.New("away")
	for _, c := range []struct {
		name     string
		d1       table // "hash" stands for the key's
		known    map[string]bool
		errs     map[string]error // of the objects
		orphan   bool
		failed   int
		notAsked string
	}{
		{name: "nobody knows it", orphan: true},
		{name: "the row of another user has it", d1: table{hashes: map[string]string{user: "hash"}}},
		{name: "the user's row has it: nobody is asked", d1: table{hashes: map[string]string{"\u00e9": "hash"}}, notAsked: "\u00e9"},
		{name: "the user's row has another", d1: table{hashes: map[string]string{"\u00e9": strings.Repeat("0", 64)}}, orphan: true},
		{name: "the user's object knows it", known: map[string]bool{"\u00e9": true}},
		{name: "the user's object is away", errs: map[string]error{"\u00e9": away}, failed: 1},
		{name: "the object of one who had it knows it", d1: table{ledger: map[string][]string{"hash": {"another", user}}}, known: map[string]bool{user: true}},
		{name: "the object of one who had it is away", d1: table{ledger: map[string][]string{"hash": {"another", user}}}, errs: map[string]error{user: away}, failed: 1},
		{name: "those who had it know it no more", d1: table{ledger: map[string][]string{"hash": {"another", user, "\u00e9"}}}, orphan: true},
		{name: "the rows cannot be asked", d1: table{errs: map[string]error{"held": away}}, failed: 1},
		{name: "the ledger cannot be asked", d1: table{errs: map[string]error{"earlier": away}}, failed: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, server, made := newService(t, []string{changed})
			hash := made[changed]
			for user, held := range c.d1.hashes {
				if held == "hash" {
					c.d1.hashes[user] = hash
				}
			}
			c.d1.ledger = map[string][]string{hash: c.d1.ledger["hash"]}
			o.Table = users.Table{DB: c.d1}
			asked := map[string]int{}
			o.Knows = func(user, of string) (bool, error) {
				if asked[user]++; of != hash || asked[user] > 1 || user == c.notAsked {
					t.Errorf("%q is asked for %s", user, of)
				}
				return c.known[user], c.errs[user]
			}
			report, err := o.Reconcile(adminapi.ReconcileOptions{})
			if err != nil || report.Failed != c.failed || (report.Cause != nil) != (c.failed > 0) || c.failed > 0 && !errors.Is(report.Cause, away) {
				t.Errorf("reported %+v, %v", report, err)
			}
			deleted := 0
			if c.orphan {
				deleted = 1
			}
			if len(report.Orphans) != deleted || report.Deleted != deleted || server.Deleted(hash) != c.orphan {
				t.Errorf("reported %+v; the key is gone: %v", report, server.Deleted(hash))
			}
		})
	}
}

func TestManyChangedNamesAreAskedForInPortions(t *testing.T) {
	var names []string
	d1 := table{hashes: map[string]string{}}
	for i := range 350 {
		names = append(names, fmt.Sprintf("latchkey:changed%d:%s", i, op))
	}
	o, server, hashes := newService(t, names)
	for i, name := range names {
		if i%70 != 0 {
			d1.hashes[fmt.Sprint("user", i)] = hashes[name]
		}
	}
	o.Table = users.Table{DB: d1}
	report, err := o.Reconcile(adminapi.ReconcileOptions{})
	if err != nil || report.Deleted != 5 || report.Failed != 0 || len(server.Live()) != 345 {
		t.Errorf("reported %+v, %v", report, err)
	}
}

// wild answers a list with keys that have these hashes, and fails on all else.
type wild []string

func (w wild) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		return nil, errors.New("a " + r.Method + " of " + r.URL.Path)
	}
	var keys []openrouter.Listed
	for i, hash := range w {
		keys = append(keys, openrouter.Listed{Hash: hash, Name: fmt.Sprintf("latchkey:u%d:%s", i, op), CreatedAt: "2026-01-01T00:00:00Z"})
	}
	body, _ := json.Marshal(map[string]any{"data": keys})
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

func TestWhatIsNoHashIsNeverDeleted(t *testing.T) {
	hex := strings.Repeat("0f", 32)
	hashes := wild{"", "../credits", hex[1:], hex + "0", strings.ToUpper(hex), strings.Repeat("g", 64), hex[:63] + "/", hex[:30] + "🔑" + hex[:30], "sk-or-v1-" + hex}
	o, _, _ := newService(t, nil)
	o.Keys.Transport = hashes
	o.Knows = func(user, hash string) (bool, error) {
		t.Errorf("%s is asked for %q", user, hash)
		return false, nil
	}
	for _, options := range []adminapi.ReconcileOptions{{}, {DryRun: true}, {Force: true}} {
		report, err := o.Reconcile(options)
		if err != nil || report.Ours != len(hashes) || report.Failed != len(hashes) || len(report.Orphans) != 0 || report.Deleted != 0 || report.Suspicious {
			t.Errorf("%+v: reported %+v, %v", options, report, err)
		}
		if report.Cause == nil || !strings.Contains(report.Cause.Error(), "hash") || strings.Contains(report.Cause.Error(), hex) {
			t.Errorf("the cause is %v", report.Cause)
		}
	}
}

func TestAKeyThatCannotBeDeletedCountsAsFailed(t *testing.T) {
	o, server, _ := newService(t, []string{"latchkey:a:" + op, "latchkey:b:" + op})
	server.Fail(openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 500}, 1)
	report, err := o.Reconcile(adminapi.ReconcileOptions{})
	if err != nil || report.Deleted != 1 || report.Failed != 1 || report.Cause == nil || len(server.Live()) != 1 {
		t.Errorf("reported %+v, %v", report, err)
	}
}

// Two deployments with one account have two prefixes.
func TestKeysOfAnotherPrefixAreNobodysBusiness(t *testing.T) {
	o, server, _ := newService(t, []string{"latchkey:u:" + op, "other:u:" + op, "latchkey-2:u:" + op})
	o.Prefix = "other"
	report, err := o.Reconcile(adminapi.ReconcileOptions{Force: true})
	if err != nil || report.Examined != 3 || report.Ours != 1 || report.Deleted != 1 || len(server.Live()) != 2 {
		t.Errorf("reported %+v, %v", report, err)
	}
}

func TestAReportIsWrittenAsDocumented(t *testing.T) {
	for want, report := range map[string]adminapi.ReconcileReport{
		`{"dry_run":true,"examined":0,"ours":0,"orphans":[],"deleted":0,"failed":0}`: {DryRun: true, Orphans: []adminapi.Orphan{}},
		`{"dry_run":false,"examined":3,"ours":2,"orphans":[{"hash":"0f","name":"n","created_at":"t"}],"deleted":0,"failed":1,"suspicious":true}`: {
			Examined: 3, Ours: 2, Orphans: []adminapi.Orphan{{Hash: "0f", Name: "n", CreatedAt: "t"}}, Failed: 1, Suspicious: true,
		},
	} {
		if got, err := json.Marshal(report); err != nil || string(got) != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}
