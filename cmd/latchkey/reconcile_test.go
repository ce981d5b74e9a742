package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
	"latchkey/internal/oplog"
)

// The requests of reconcile.
const (
	looked        = `POST /api/admin/reconcile {"dry_run":true,"force":false}`
	deleted       = `POST /api/admin/reconcile {"dry_run":false,"force":false}`
	lookedForced  = `POST /api/admin/reconcile {"dry_run":true,"force":true}`
	deletedForced = `POST /api/admin/reconcile {"dry_run":false,"force":true}`
)

func TestReconcileLooksBeforeItDeletes(t *testing.T) {
	for line, c := range map[string]struct {
		code  int
		asked []string
	}{
		"reconcile --dry-run":         {exitOK, []string{looked}},
		"reconcile --dry-run --yes":   {exitOK, []string{looked}},
		"reconcile --yes":             {exitOK, []string{looked, deleted}},
		"reconcile --yes --json":      {exitOK, []string{looked, deleted}},
		"reconcile --yes --force":     {exitOK, []string{lookedForced, deletedForced}},
		"reconcile --dry-run --force": {exitOK, []string{lookedForced}},
		// Nobody is there to be asked.
		"reconcile":         {exitUsage, []string{looked}},
		"reconcile --json":  {exitUsage, []string{looked}},
		"reconcile --csv":   {exitUsage, []string{looked}},
		"reconcile --force": {exitUsage, []string{lookedForced}},
	} {
		f := newFixture(t)
		p := f.run(t, strings.Fields(line)...).want(t, c.code)
		if got := f.Asked(); !slices.Equal(got, c.asked) {
			t.Errorf("%s: asked %q", line, got)
		}
		if c.code == exitUsage && (p.out != "" || !strings.Contains(p.stderr, "ours: 4, of no record: 2") || !strings.Contains(p.stderr, oplog.ShortHash(f.orphans[1])+"  latchkey:клас/Ada 1:op2") || !strings.Contains(p.stderr, "--yes")) {
			t.Errorf("%s: %v", line, p)
		}
	}
}

func TestReconcileWithoutOrphans(t *testing.T) {
	f := newFixture(t)
	f.run(t, "reconcile", "--yes").want(t, exitOK)
	asked := len(f.Asked())
	golden(t, "reconcile-none", f.run(t, "reconcile").want(t, exitOK).out)
	golden(t, "reconcile-none-json", f.run(t, "reconcile", "--json").want(t, exitOK).out)
	golden(t, "reconcile-none-csv", f.run(t, "reconcile", "--csv").want(t, exitOK).out)
	if got := f.Asked()[asked:]; !slices.Equal(got, []string{looked, looked, looked}) {
		t.Errorf("asked %q", got)
	}
}

// makeOrphans makes so many orphans that they are suspicious: 11 of 13 keys of ours.
func (f *fixture) makeOrphans() {
	for i := range 11 - len(f.orphans) {
		_, hash := f.NewKey(fmt.Sprintf("latchkey:u_%d:op", 100+i), time.Hour)
		f.orphans = append(f.orphans, hash)
	}
}

// live returns how many of the orphans are.
func (f *fixture) live() (n int) {
	for _, key := range f.OpenRouter.Live() {
		if slices.Contains(f.orphans, key.Hash) {
			n++
		}
	}
	return n
}

func TestSuspiciouslyManyOrphansAreLeftAlone(t *testing.T) {
	for _, flags := range []string{"", " --yes", " --dry-run", " --json", " --yes --json", " --yes --csv"} {
		f := newFixture(t)
		f.makeOrphans()
		p := f.run(t, strings.Fields("reconcile"+flags)...).want(t, exitFailed)
		if got := f.Asked(); !slices.Equal(got, []string{looked}) {
			t.Errorf("%s: asked %q", flags, got)
		}
		for _, want := range []string{"suspicious: 11 of 13", "fresh clone", "KEY_NAME_PREFIX", "--force"} {
			if !strings.Contains(p.stderr, want) {
				t.Errorf("%s: no %q in %v", flags, want, p)
			}
		}
		listed := strings.Count(p.out, "latchkey:u_1") + strings.Count(p.out, "latchkey:u_42:op1") + strings.Count(p.out, "клас/Ada")
		if strings.Contains(flags, "--json") && !strings.Contains(p.out, `"suspicious": true`) || listed != 11 || f.live() != 11 {
			t.Errorf("%s: %d live, %v", flags, f.live(), p)
		}
	}
	f := newFixture(t)
	f.makeOrphans()
	p := f.run(t, "reconcile", "--yes", "--force").want(t, exitOK)
	if !strings.Contains(p.out, "deleted: 11") || f.live() != 0 {
		t.Error(p)
	}
}

// More may come between the look and the deletion: the server is asked without
// force, and has the last word.
func TestOrphansThatBecomeSuspiciousAreLeftAlone(t *testing.T) {
	f := newFixture(t)
	f.answerWith(func(http.ResponseWriter) bool {
		if len(f.Asked()) == 2 {
			f.makeOrphans()
		}
		return false
	})
	if p := f.run(t, "reconcile", "--yes").want(t, exitFailed); !strings.Contains(p.stderr, "suspicious") || f.live() != 11 {
		t.Error(p)
	}
}

func TestWhatFailedMakesReconcileFail(t *testing.T) {
	for _, form := range []string{"", "--json", "--csv"} {
		f := newFixture(t)
		f.OpenRouter.Fail(openroutertest.OpDelete, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 503}, 1)
		p := f.run(t, strings.Fields("reconcile --yes "+form)...).want(t, exitFailed)
		if !strings.Contains(p.stderr, "1 failed") || form == "" && !strings.Contains(p.out, "deleted: 1, failed: 1") || form == "--json" && !strings.Contains(p.out, `"failed": 1`) {
			t.Error(p)
		}
	}
}

func TestJSONHasAllThatTheServerSent(t *testing.T) {
	f := newFixture(t)
	const report = `{"dry_run":true,"examined":1,"ours":1,"orphans":[{"hash":"h","name":"<n>","created_at":"c","new":{"a":[1.50]}}],"deleted":0,"failed":0,"news":12345678901234567890}`
	const state = `{"record":{"user_id":"u_42","new":1},"pending":{"assign":"aa","new":2},"background":[{"settle":"bb","live":true,"limit":1,"left":0.25,"new":3},{"new":4}],"d1":{"new":5},"alarm":null,"new":6}`
	for line, answer := range map[string]string{
		"reconcile --dry-run": report, "users show u_42": state, "users set --yes u_42 --total 1": "[" + state + "]",
		"users list": `[{"user_id":"u_42","new":1}]`, "users ledger u_42": `[{"seq":1,"new":1}]`, "users suspend --yes u_42": "[" + state + "]",
	} {
		f.answerWith(func(w http.ResponseWriter) bool {
			text := answer
			switch line {
			case "users list":
				text = `{"users":` + answer + `}`
			case "users ledger u_42":
				text = `{"entries":` + answer + `}`
			case "users suspend --yes u_42", "users set --yes u_42 --total 1":
				text = state
			}
			fmt.Fprint(w, text)
			return true
		})
		p := f.run(t, append(strings.Fields(line), "--json")...).want(t, exitOK)
		var compact strings.Builder
		for l := range strings.Lines(p.out) {
			compact.WriteString(strings.Replace(strings.TrimSpace(l), `": `, `":`, 1))
		}
		if compact.String() != answer || !json.Valid([]byte(p.out)) {
			t.Errorf("%s: got %s\nwant %s", line, &compact, answer)
		}
		f.run(t, strings.Fields(line)...).want(t, exitOK)
	}
}
