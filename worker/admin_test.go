package worker

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/admin"
	"latchkey/internal/adminapi"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

const adminToken = "not-a-real-token-not-a-real-token-"

const adminUsers = "/api/admin/users"

func adminFront(origins ...string) (*Front, *logged) {
	f, l := testFront(origins...)
	f.settings.AdminToken = seal.NewSecret(adminToken)
	return f, l
}

func TestAdminRequestsAreForwarded(t *testing.T) {
	credits := func(n int64) *account.Credits { c := account.Credits(n) * account.Credit; return &c }
	for _, c := range []struct {
		method, path, query, body string
		want                      *target
	}{
		{"GET", adminUsers, "", "", toAdmin(adminRequest{Action: "list", Query: admin.Query{Limit: 50}})},
		{"GET", adminUsers, "limit=2&cursor=abc&q=Ada%20L", "", toAdmin(adminRequest{Action: "list", Query: admin.Query{Limit: 2, Cursor: "abc", Text: "Ada L"}})},
		{"POST", "/api/admin/reconcile", "", `{"dry_run":true}`, toAdmin(adminRequest{Action: "reconcile", Reconcile: adminapi.ReconcileOptions{DryRun: true}})},
		{"POST", "/api/admin/reconcile", "", `{"dry_run":false,"force":true}`, toAdmin(adminRequest{Action: "reconcile", Reconcile: adminapi.ReconcileOptions{Force: true}})},
		{"POST", "/api/admin/reconcile", "", `{"dry_run":false}`, toAdmin(adminRequest{Action: "reconcile", Reconcile: adminapi.ReconcileOptions{}})},
		{"GET", adminUsers + "/u_42", "", "", toUser("u_42", durable.Request{Action: durable.Inspect})},
		{"GET", adminUsers + "/a%2Fb%20%D0%B6", "", "", toUser("a/b ж", durable.Request{Action: durable.Inspect})},
		{"GET", adminUsers + "/u_42/ledger", "", "", toUser("u_42", durable.Request{Action: durable.Ledger, Limit: 50})},
		{"GET", adminUsers + "/u_42/ledger", "cursor=7&limit=200", "", toUser("u_42", durable.Request{Action: durable.Ledger, Before: 7, Limit: 200})},
		{"POST", adminUsers + "/u_42/sync", "", "", toUser("u_42", durable.Request{Action: durable.Sync})},
		{"DELETE", adminUsers + "/u_42", "", "", toUser("u_42", durable.Request{Action: durable.Erase})},
		{"PATCH", adminUsers + "/u_42", "", `{"suspended":false}`, toUser("u_42", durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{Suspended: new(false)}})},
		{"PATCH", adminUsers + "/u_42", "", `{"total_limit":20,"remaining_limit":0}`,
			toUser("u_42", durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{TotalLimit: credits(20), RemainingLimit: credits(0)}})},
		{"PATCH", adminUsers + "/u_42", "", `{"total_limit":4000000,"remaining_limit":0.30000000000000004}`,
			toUser("u_42", durable.Request{Action: durable.Adjust, Adjustment: adminapi.Adjustment{TotalLimit: new(account.MaxCredits), RemainingLimit: new(3 * account.Credit / 10)}})},
		{"GET", adminUsers + "/...", "", "", toUser("...", durable.Request{Action: durable.Inspect})},
		{"GET", adminUsers + "/.%2F..", "", "", toUser("./..", durable.Request{Action: durable.Inspect})},
	} {
		f, l := adminFront()
		a, onward := ask(f, edge.Request{Method: c.method, Path: c.path, Query: c.query, Body: c.body, Authorization: "Bearer " + adminToken})
		if onward == nil {
			t.Errorf("%s %s?%s %s: answered %d %s", c.method, c.path, c.query, c.body, a.Status, a.Body)
			continue
		}
		if !reflect.DeepEqual(onward, c.want) {
			t.Errorf("%s %s?%s: forwarded %+v, want %+v", c.method, c.path, c.query, onward, c.want)
		}
		l.none(t) // the object logs it
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
		f, l := adminFront()
		a, onward := ask(f, edge.Request{Method: c.method, Path: c.path, Query: c.query, Body: c.body, Authorization: c.authorization})
		if onward != nil || a.Status != c.status || !strings.Contains(a.Body, `"`+c.code+`"`) {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.Status, a.Body, c.status, c.code)
		}
		if line := l.one(t); line.Outcome != oplog.Outcome(c.code) || strings.Contains(line.Path, "u_42") || strings.Contains(line.String(), adminToken) {
			t.Errorf("%s: logged %s", c.name, line)
		}
	}
}

// An error names what it is about, and says what is wanted there.
func TestAnErrorNamesItsFieldOrParameter(t *testing.T) {
	const credits, boolean, page, cursor = " is a number of credits from 0 to 4000000.", " is true or false.", " is a whole number from 1 to 200.", " is a next_cursor that was given out here."
	user := adminUsers + "/u_42"
	for _, c := range []struct{ method, path, query, body, detail string }{
		{"PATCH", user, "", `{"total_limit":"20"}`, "total_limit" + credits},
		{"PATCH", user, "", `{"total_limit":1e999}`, "total_limit" + credits},
		{"PATCH", user, "", `{"total_limit":5,"remaining_limit":[1]}`, "remaining_limit" + credits},
		{"PATCH", user, "", `{"remaining_limit":null}`, "remaining_limit" + credits},
		{"PATCH", user, "", `{"suspended":"yes"}`, "suspended" + boolean},
		{"PATCH", user, "", `{"suspended":0}`, "suspended" + boolean},
		{"PATCH", user, "", `{"suspended":null}`, "suspended" + boolean},
		{"PATCH", user, "", `{"Suspended":true}`, `"Suspended" is none of the fields here, which are total_limit, remaining_limit, suspended.`},
		{"PATCH", user, "", `{"suspended":true,"z":1,"a":{}}`, `"a" is none of the fields here, which are total_limit, remaining_limit, suspended.`},
		{"PATCH", user, "", `{}`, "Nothing to change: give total_limit, remaining_limit or suspended."},
		{"PATCH", user, "", `[]`, "The body has to be one JSON object."},
		{"PATCH", user, "", `null`, "The body has to be one JSON object."},
		{"PATCH", user, "", `{"suspended":true}{}`, "The body has to be one JSON object."},
		{"POST", "/api/admin/reconcile", "", `{}`, "dry_run" + boolean},
		{"POST", "/api/admin/reconcile", "", `{"force":true}`, "dry_run" + boolean},
		{"POST", "/api/admin/reconcile", "", `{"dry_run":1}`, "dry_run" + boolean},
		{"POST", "/api/admin/reconcile", "", `{"dry_run":null}`, "dry_run" + boolean},
		{"POST", "/api/admin/reconcile", "", `{"dry_run":true,"force":"yes"}`, "force" + boolean},
		{"POST", "/api/admin/reconcile", "", `{"dryrun":true}`, `"dryrun" is none of the fields here, which are dry_run, force.`},
		{"GET", adminUsers, "limit=0", "", "limit" + page},
		{"GET", user + "/ledger", "limit=201", "", "limit" + page},
		{"GET", user + "/ledger", "cursor=abc", "", "cursor" + cursor},
		{"GET", user + "/ledger", "cursor=0", "", "cursor" + cursor},
		{"GET", user + "/ledger", "cursor=-1", "", "cursor" + cursor},
		{"GET", user + "/ledger", "cursor=9223372036854775808", "", "cursor" + cursor},
		{"GET", user + "/ledger", "limit=%zz", "", "The query cannot be read."},
	} {
		f, _ := adminFront()
		a, onward := ask(f, edge.Request{Method: c.method, Path: c.path, Query: c.query, Body: c.body, Authorization: "Bearer " + adminToken})
		var told struct{ Code, Detail string }
		if err := json.Unmarshal([]byte(a.Body), &told); err != nil || onward != nil || a.Status != 400 || told.Code != problem.InvalidRequest || told.Detail != c.detail {
			t.Errorf("%s %s?%s %s: %d %s, want %s", c.method, c.path, c.query, c.body, a.Status, a.Body, c.detail)
		}
	}
}

func TestALimitOutOfBoundsIsNamed(t *testing.T) {
	for _, name := range []string{"total_limit", "remaining_limit"} {
		for _, value := range []string{"-1", "-0.000000001", "4000000.000000001", "4000001", "9223372036.854775808", "1e300"} {
			f, _ := adminFront()
			body := `{"suspended":true,"` + name + `":` + value + `}`
			a, onward := ask(f, edge.Request{Method: "PATCH", Path: adminUsers + "/u_42", Body: body, Authorization: "Bearer " + adminToken})
			if onward != nil || a.Status != 400 || !strings.Contains(a.Body, name+" is a number of credits from 0 to 4000000.") {
				t.Errorf("%s: %d %s", body, a.Status, a.Body)
			}
		}
	}
}

func TestWithoutATokenThereIsNoAdminAPI(t *testing.T) {
	for _, path := range []string{adminUsers, adminUsers + "/u_42", adminUsers + "/u_42/ledger", "/api/admin/reconcile"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			f, _ := testFront()
			if a, _ := ask(f, edge.Request{Method: method, Path: path, Authorization: "Bearer "}); a.Status != 404 {
				t.Errorf("%s %s: %d", method, path, a.Status)
			}
		}
	}
}
