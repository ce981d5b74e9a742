package worker

import (
	"testing"

	"latchkey/internal/account"
	"latchkey/internal/edge"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

// FuzzAdminRequest: whatever an operator sends to whatever path, it is asked of the
// object that the path names and within what an object takes, or it is answered 4xx.
func FuzzAdminRequest(f *testing.F) {
	const token = "not-a-real-admin-token-not-a-real-admin-token"
	for _, seed := range [][4]string{
		{"PATCH", "/api/admin/users/u_42", "", `{"total_limit":10,"suspended":true}`}, {"PATCH", "/api/admin/users/u_42", "", `{"remaining_limit":1e308}`},
		{"PATCH", "/api/admin/users/%ff", "", `{"remaining_limit":-0}`}, {"GET", "/api/admin/users", "limit=1&cursor=x&q=%00", ""},
		{"GET", "/api/admin/users/a%2Fb/ledger", "cursor=9223372036854775808&limit=0", ""}, {"POST", "/api/admin/reconcile", "", `{"dry_run":true,"dry_run":false}`},
		{"POST", "/api/admin/reseal", "", `{"limit":-1,"cursor":"AAAA"}`}, {"DELETE", "/api/admin/users/..", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		front, _ := testFront()
		front.settings.AdminToken = seal.NewSecret(token)
		_, to, err := front.serve(edge.Request{Method: method, Path: path, Query: query, Body: body, Authorization: "Bearer " + token})
		if err != nil {
			if status := problem.From(err).Answer().Status; status < 400 || status >= 500 {
				t.Errorf("answered %d: %v", status, err)
			}
			return
		}
		if to == nil || to.object == adminName {
			return
		}
		if found := front.find(path); found.id != to.object {
			t.Errorf("it is for %q, and goes to %q", found.id, to.object)
		}
		for _, limit := range []*account.Credits{to.user.Adjustment.TotalLimit, to.user.Adjustment.RemainingLimit} {
			if limit != nil && (*limit < 0 || *limit > account.MaxCredits) {
				t.Errorf("a limit of %s", *limit)
			}
		}
		if to.user.Limit < 0 || to.user.Limit > 200 || to.user.Before < 0 {
			t.Errorf("a page of %d before %d", to.user.Limit, to.user.Before)
		}
	})
}
