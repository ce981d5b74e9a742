package main

import (
	"reflect"
	"strings"
	"testing"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/admin"
	"latchkey/internal/adminapi"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

const adminToken = "not-a-real-token-not-a-real-token-"

func newAdminFront() (*front, *logged) {
	f, l := newFront()
	f.settings.AdminToken = seal.NewSecret(adminToken)
	return f, l
}

func TestAdminRequestsAreForwarded(t *testing.T) {
	credits := func(n int64) *account.Credits { c := account.Credits(n) * account.Credit; return &c }
	for _, c := range []struct {
		method, path, query, body string
		want                      *forward
	}{
		{"GET", adminUsers, "", "", toAdmin("list", adminRequest{List: &admin.Query{Limit: 50}})},
		{"GET", adminUsers, "limit=2&cursor=abc&q=Ada%20L", "", toAdmin("list", adminRequest{List: &admin.Query{Limit: 2, Cursor: "abc", Text: "Ada L"}})},
		{"POST", "/api/admin/reconcile", "", `{"dry_run":true}`, toAdmin("reconcile", adminRequest{Reconcile: &adminapi.ReconcileOptions{DryRun: true}})},
		{"POST", "/api/admin/reconcile", "", `{"dry_run":false,"force":true}`, toAdmin("reconcile", adminRequest{Reconcile: &adminapi.ReconcileOptions{Force: true}})},
		{"POST", "/api/admin/reconcile", "", `{}`, toAdmin("reconcile", adminRequest{Reconcile: &adminapi.ReconcileOptions{}})},
		{"GET", adminUsers + "/u_42", "", "", toUser("u_42", durable.Request{Action: durable.Inspect})},
		{"GET", adminUsers + "/a%2Fb%20%D0%B6", "", "", toUser("a/b ж", durable.Request{Action: durable.Inspect})},
		{"GET", adminUsers + "/u_42/ledger", "", "", toUser("u_42", durable.Request{Action: durable.Ledger, Limit: 100})},
		{"GET", adminUsers + "/u_42/ledger", "after=7&limit=3", "", toUser("u_42", durable.Request{Action: durable.Ledger, After: 7, Limit: 3})},
		{"POST", adminUsers + "/u_42/sync", "", "", toUser("u_42", durable.Request{Action: durable.Sync})},
		{"DELETE", adminUsers + "/u_42", "", "", toUser("u_42", durable.Request{Action: durable.Erase})},
		{"PATCH", adminUsers + "/u_42", "", `{"suspended":false}`, toUser("u_42", durable.Request{Action: durable.Adjust, Adjustment: durable.Adjustment{Suspended: new(false)}})},
		{"PATCH", adminUsers + "/u_42", "", `{"total_limit":20,"remaining_limit":0}`,
			toUser("u_42", durable.Request{Action: durable.Adjust, Adjustment: durable.Adjustment{TotalLimit: credits(20), RemainingLimit: credits(0)}})},
		{"PATCH", adminUsers + "/u_42", "", `{"total_limit":4000000,"remaining_limit":0.30000000000000004}`,
			toUser("u_42", durable.Request{Action: durable.Adjust, Adjustment: durable.Adjustment{TotalLimit: new(account.MaxCredits), RemainingLimit: new(3 * account.Credit / 10)}})},
		{"GET", adminUsers + "/...", "", "", toUser("...", durable.Request{Action: durable.Inspect})},
		{"GET", adminUsers + "/.%2F..", "", "", toUser("./..", durable.Request{Action: durable.Inspect})},
	} {
		f, l := newAdminFront()
		a, onward := f.serve(request{method: c.method, path: c.path, query: c.query, body: c.body, authorization: "Bearer " + adminToken})
		if onward == nil {
			t.Errorf("%s %s?%s %s: answered %d %s", c.method, c.path, c.query, c.body, a.Status, a.Body)
			continue
		}
		if !reflect.DeepEqual(onward, c.want) {
			t.Errorf("%s %s?%s: forwarded %+v, want %+v", c.method, c.path, c.query, onward, c.want)
		}
		if line := l.one(t); strings.Contains(line.Path, "u_42") || line.User == adminName || line.Outcome != "forwarded" {
			t.Errorf("logged %s", line)
		}
	}
}

func TestAdminRequestsAreRefused(t *testing.T) {
	const good = "Bearer " + adminToken
	user := adminUsers + "/u_42"
	for _, c := range []struct {
		name, method, path, query, body, authorization string
		status                                         int
		code                                           string
	}{
		{"no token", "GET", user, "", "", "", 401, problem.MissingToken},
		{"a wrong token", "GET", user, "", "", "Bearer " + adminToken + "x", 401, problem.InvalidToken},
		{"a user's token", "GET", user, "", "", ada(t), 401, problem.InvalidToken},
		{"a method that is none", "POST", user, "", "", good, 405, problem.MethodNotAllowed},
		{"PUT reconcile", "PUT", "/api/admin/reconcile", "", "", good, 405, problem.MethodNotAllowed},
		{"an unknown path", "GET", "/api/admin/nothing", "", "", good, 404, problem.NotFound},
		{"below a user", "GET", user + "/nothing", "", "", good, 404, problem.NotFound},
		{"a slash at the end", "GET", user + "/", "", "", good, 404, problem.NotFound},
		{"no id", "GET", adminUsers + "/", "", "", good, 404, problem.NotFound},
		{"an id that is too long", "GET", adminUsers + "/" + strings.Repeat("x", 257), "", "", good, 404, problem.NotFound},
		{"the admin object", "GET", adminUsers + "/" + strings.ReplaceAll(adminName, " ", "%20"), "", "", good, 404, problem.NotFound},
		{"the id .", "GET", adminUsers + "/.", "", "", good, 404, problem.NotFound},
		{"the id ..", "DELETE", adminUsers + "/..", "", "", good, 404, problem.NotFound},
		{"the id . in an escape", "GET", adminUsers + "/%2E", "", "", good, 404, problem.NotFound},
		{"the id .. in escapes", "PATCH", adminUsers + "/%2e%2E", "", `{"suspended":true}`, good, 404, problem.NotFound},
		{"the id .. half in an escape", "GET", adminUsers + "/.%2E/ledger", "", "", good, 404, problem.NotFound},
		{"the id . to be written anew", "POST", adminUsers + "/%2E/sync", "", "", good, 404, problem.NotFound},
		{"an id that is no text", "GET", adminUsers + "/%FF", "", "", good, 404, problem.NotFound},
		{"a bad escape", "GET", adminUsers + "/%zz", "", "", good, 404, problem.NotFound},
		{"limit 0", "GET", adminUsers, "limit=0", "", good, 400, problem.InvalidRequest},
		{"limit 201", "GET", adminUsers, "limit=201", "", good, 400, problem.InvalidRequest},
		{"a limit in words", "GET", adminUsers, "limit=ten", "", good, 400, problem.InvalidRequest},
		{"after -1", "GET", user + "/ledger", "after=-1", "", good, 400, problem.InvalidRequest},
		{"no body", "PATCH", user, "", "", good, 400, problem.InvalidRequest},
		{"nothing to change", "PATCH", user, "", "{}", good, 400, problem.InvalidRequest},
		{"an unknown field", "PATCH", user, "", `{"suspend":true}`, good, 400, problem.InvalidRequest},
		{"a limit in quotes", "PATCH", user, "", `{"total_limit":"20"}`, good, 400, problem.InvalidRequest},
		{"a limit below 0", "PATCH", user, "", `{"remaining_limit":-1}`, good, 400, problem.InvalidRequest},
		{"a limit below 0 by next to nothing", "PATCH", user, "", `{"total_limit":-1e-300}`, good, 400, problem.InvalidRequest},
		{"a limit beyond all", "PATCH", user, "", `{"total_limit":1e999}`, good, 400, problem.InvalidRequest},
		{"force in words", "POST", "/api/admin/reconcile", "", `{"force":"yes"}`, good, 400, problem.InvalidRequest},
		{"suspended in words", "PATCH", user, "", `{"suspended":"yes"}`, good, 400, problem.InvalidRequest},
		{"two bodies", "PATCH", user, "", `{"suspended":true}{"suspended":false}`, good, 400, problem.InvalidRequest},
		{"an array", "POST", "/api/admin/reconcile", "", `[]`, good, 400, problem.InvalidRequest},
	} {
		f, l := newAdminFront()
		a, onward := f.serve(request{method: c.method, path: c.path, query: c.query, body: c.body, authorization: c.authorization})
		if onward != nil || a.Status != c.status || !strings.Contains(a.Body, `"`+c.code+`"`) {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.Status, a.Body, c.status, c.code)
		}
		if line := l.one(t); line.Outcome != c.code || strings.Contains(line.String(), adminToken) {
			t.Errorf("%s: logged %s", c.name, line)
		}
	}
}

func TestALimitOutOfBoundsIsNamed(t *testing.T) {
	for _, name := range []string{"total_limit", "remaining_limit"} {
		for _, value := range []string{"-1", "-0.000000001", "4000000.000000001", "4000001", "9223372036.854775808", "1e300"} {
			f, _ := newAdminFront()
			body := `{"suspended":true,"` + name + `":` + value + `}`
			a, onward := f.serve(request{method: "PATCH", path: adminUsers + "/u_42", body: body, authorization: "Bearer " + adminToken})
			if onward != nil || a.Status != 400 || !strings.Contains(a.Body, name+" is a number of credits from 0 to 4000000.") {
				t.Errorf("%s: %d %s", body, a.Status, a.Body)
			}
		}
	}
}

func TestWithoutATokenThereIsNoAdminAPI(t *testing.T) {
	for _, path := range []string{adminUsers, adminUsers + "/u_42", adminUsers + "/u_42/ledger", "/api/admin/reconcile"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			f, _ := newFront()
			if a, _ := f.serve(request{method: method, path: path, authorization: "Bearer "}); a.Status != 404 {
				t.Errorf("%s %s: %d", method, path, a.Status)
			}
		}
	}
}
