package main

import (
	"slices"
	"testing"
)

func TestReconcileAsksForWhatIsMeant(t *testing.T) {
	f := newFakeAdmin(t)
	f.run(t, "reconcile", "--dry-run").want(t, exitOK)
	f.run(t, "reconcile").want(t, exitOK)
	want := []string{`POST /api/admin/reconcile {"dry_run":true}`, `POST /api/admin/reconcile {"dry_run":false}`}
	if got := f.asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
}

func TestReconcileWithoutOrphans(t *testing.T) {
	f := newFakeAdmin(t)
	f.run(t, "reconcile").want(t, exitOK)
	golden(t, "reconcile-none", f.run(t, "reconcile").want(t, exitOK).out)
	golden(t, "reconcile-none-json", f.run(t, "reconcile", "--json").want(t, exitOK).out)
	golden(t, "reconcile-none-csv", f.run(t, "reconcile", "--csv").want(t, exitOK).out)
}
