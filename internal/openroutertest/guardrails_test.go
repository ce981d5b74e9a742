package openroutertest_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

// assign assigns keys to a guardrail.
func (f *fixture) assign(guardrail string, status int, hashes ...string) answer {
	f.Helper()
	body := `{"key_hashes":["` + strings.Join(hashes, `","`) + `"]}`
	return f.call("POST", "guardrails/"+guardrail+"/assignments/keys", body, status)
}

func TestGuardrailLivesAndDies(t *testing.T) {
	f := start(t)
	a := f.call("POST", "guardrails", `{"name":"g","limit_usd":2.5,"reset_interval":"daily","allowed_models":["m"],"future":1}`, http.StatusCreated)
	id := a.at("data", "id").(string)
	for field, want := range map[string]string{
		"name": `"g"`, "limit_usd": `2.5`, "reset_interval": `"daily"`, "allowed_models": `["m"]`, "allowed_providers": `null`,
		"include_byok_in_budgets": `false`, "created_at": `"2026-08-12T12:00:00.123456+00:00"`, "updated_at": `null`,
	} {
		a.want(want, "data", field)
		f.call("GET", "guardrails/"+id, "", http.StatusOK).want(want, "data", field)
	}
	other := f.AddGuardrail("other")
	a = f.call("GET", "guardrails", "", http.StatusOK)
	a.want(`"g"`, "data", 0, "name")
	a.want(`"other"`, "data", 1, "name")
	a.want(`2`, "total_count")

	f.clock.Advance(time.Second)
	for _, step := range []struct{ body, field, want string }{
		{`{}`, "name", `"g"`},
		{`{}`, "updated_at", `"2026-08-12T12:00:01.123456+00:00"`},
		{`{"name":"h"}`, "name", `"h"`},
		{`{"name":"h"}`, "limit_usd", `2.5`},
		{`{"allowed_models":null,"allowed_providers":["p"]}`, "allowed_models", `null`},
		{`{}`, "allowed_providers", `["p"]`},
		{`{"limit_usd":null,"reset_interval":null}`, "limit_usd", `null`},
		{`{"include_byok_in_budgets":true}`, "include_byok_in_budgets", `true`},
	} {
		f.call("PATCH", "guardrails/"+id, step.body, http.StatusOK).want(step.want, "data", step.field)
	}

	f.call("DELETE", "guardrails/"+id, "", http.StatusOK).want(`{"deleted":true}`)
	for _, call := range [][3]string{
		{"GET", "", ""}, {"PATCH", "", `{}`}, {"DELETE", "", ""},
		{"GET", "/assignments/keys", ""}, {"POST", "/assignments/keys", `{"key_hashes":["x"]}`},
	} {
		f.call(call[0], "guardrails/"+id+call[1], call[2], http.StatusNotFound).want("404", "error", "code")
	}
	if again := f.AddGuardrail("again"); again == id || again == other {
		t.Errorf("the ID %s is given again", again)
	}
}

func TestBadGuardrailsAreRefused(t *testing.T) {
	f := start(t)
	id := f.AddGuardrail("g", "m")
	hash, _ := f.create(`{"name":"a"}`)
	create, patch := [2]string{"POST", "guardrails"}, [2]string{"PATCH", "guardrails/" + id}
	assign := [2]string{"POST", "guardrails/" + id + "/assignments/keys"}
	for _, test := range []struct {
		call        [2]string
		body, field string
	}{
		{create, `{}`, "name"},
		{create, `{"name":""}`, "name"},
		{create, `{"name":"g","limit_usd":1}`, "reset_interval"},
		{create, `{"name":"g","limit_usd":-1,"reset_interval":"daily"}`, "limit_usd"},
		{create, `{"name":"g","limit_usd":"1","reset_interval":"daily"}`, "limit_usd"},
		{create, `{"name":"g","reset_interval":"hourly"}`, "reset_interval"},
		{create, `{"name":"g","allowed_models":"m"}`, "allowed_models"},
		{create, `{"name":"g","workspace_id":null}`, "workspace_id"},
		{patch, `{"name":null}`, "name"},
		{patch, `{"name":"h","limit_usd":1}`, "reset_interval"},
		{patch, `{"allowed_providers":[1]}`, "allowed_providers"},
		{assign, `{}`, "key_hashes"},
		{assign, `{"key_hashes":null}`, "key_hashes"},
		{assign, `{"key_hashes":[]}`, "key_hashes"},
		{assign, `{"key_hashes":"` + hash + `"}`, "key_hashes"},
		{assign, `{"key_hashes":["` + hash + `","none"]}`, "key_hashes"},
		{[2]string{"GET", "guardrails?offset=-1"}, ``, "offset"},
		{[2]string{"GET", "guardrails?limit=0"}, ``, "limit"},
		{[2]string{"GET", "guardrails/" + id + "/assignments/keys?limit=101"}, ``, "limit"},
	} {
		f.call(test.call[0], test.call[1], test.body, http.StatusBadRequest).want(`"`+test.field+`"`, "error", "metadata", "field")
	}
	for _, call := range [][2]string{create, patch, assign} {
		f.call(call[0], call[1], `[]`, http.StatusBadRequest)
	}
	f.call("GET", "guardrails", "", http.StatusOK).want("1", "total_count")
	f.call("GET", "guardrails/"+id, "", http.StatusOK).want(`"g"`, "data", "name")
	if got := f.Keys()[0].GuardrailID; got != "" {
		t.Errorf("the key was given the guardrail %s", got)
	}
}

func TestKeyHasOneGuardrail(t *testing.T) {
	f := start(t)
	one, two := f.AddGuardrail("one"), f.AddGuardrail("two")
	a, _ := f.create(`{"name":"a"}`)
	b, _ := f.create(`{"name":"b"}`)
	c, _ := f.create(`{"name":"c"}`)
	f.call("DELETE", "keys/"+c, "", http.StatusOK)

	has := func(want ...string) {
		t.Helper()
		for i, key := range f.Keys() {
			if key.GuardrailID != want[i] {
				t.Errorf("%s has guardrail %q, want %q", key.Name, key.GuardrailID, want[i])
			}
		}
	}
	listed := func(guardrail, query, hashes string, total int) {
		t.Helper()
		answer := f.call("GET", "guardrails/"+guardrail+"/assignments/keys"+query, "", http.StatusOK)
		answer.want(fmt.Sprint(total), "total_count")
		got := []string{}
		for i := range answer.at("data").([]any) {
			got = append(got, answer.at("data", i, "key_name").(string))
		}
		if strings.Join(got, " ") != hashes {
			t.Errorf("%s%s has %v, want %s", guardrail, query, got, hashes)
		}
	}

	has("", "", "")
	f.assign(one, http.StatusOK, a, b, a).want(`{"assigned_count":2}`)
	has(one, one, "")
	f.assign(two, http.StatusOK, b).want(`{"assigned_count":1}`)
	f.assign(two, http.StatusOK, b).want(`{"assigned_count":1}`)
	has(one, two, "")
	f.assign(one, http.StatusBadRequest, b, c) // c is deleted
	f.assign("none", http.StatusNotFound, b)
	has(one, two, "")
	listed(one, "", "a", 1)
	listed(two, "", "b", 1)
	f.assign(one, http.StatusOK, b)
	listed(one, "?offset=1&limit=1", "b", 2)
	listed(one, "?limit=1", "a", 2)
	listed(one, "?offset=5", "", 2)
	f.call("DELETE", "keys/"+a, "", http.StatusOK)
	listed(one, "", "b", 1)
	f.control("GET", "keys", "", http.StatusOK).want(`"`+one+`"`, "keys", 1, "guardrail_id")
	f.call("DELETE", "guardrails/"+one, "", http.StatusOK)
	has("", "", "")

	calls := f.Calls()
	if log := f.CallLog(); calls[openroutertest.OpAssign] != 6 || calls[openroutertest.OpGuardrails] != 7 || log[4].Hash != a {
		t.Errorf("calls %v, the first assignment is logged as %+v", calls, log[4])
	}
}

func TestAssignmentFaults(t *testing.T) {
	for _, test := range []struct {
		fault    string
		status   int
		assigned bool
	}{
		{`"kind":"status","status":404`, 404, false},
		{`"kind":"status","status":500,"applied":true`, 500, true},
		{`"kind":"replay"`, 500, false},
		{`"kind":"alter","patch":{"assigned_count":null}`, 200, true},
		{`"kind":"huge","bytes":100000`, 200, true},
	} {
		f := start(t)
		guardrail := f.AddGuardrail("g")
		hash, _ := f.create(`{"name":"a"}`)
		f.fault(`{"op":"assign","times":1,` + test.fault + `}`)
		f.assign(guardrail, test.status, hash)
		if got := f.Keys()[0].GuardrailID == guardrail; got != test.assigned {
			t.Errorf("%s: assigned %v", test.fault, got)
		}
	}
}

func TestGuardrailAllowsItsModelsOnly(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a"}`)
	for _, test := range []struct {
		models []string
		body   string
		status int
	}{
		{nil, `{"model":"m"}`, http.StatusOK},
		{[]string{"m"}, `{"model":"m"}`, http.StatusOK},
		{[]string{"l", "m"}, `{"model":"m"}`, http.StatusOK},
		{[]string{"m"}, `{"model":"n"}`, http.StatusForbidden},
		{[]string{"m"}, `{}`, http.StatusForbidden}, // the default model
	} {
		f.assign(f.AddGuardrail("g", test.models...), http.StatusOK, hash)
		f.callAs(secret, "POST", "chat/completions", test.body, test.status)
	}
	if err := f.Spend(secret, 1); !errors.Is(err, openroutertest.ErrModelNotAllowed) {
		t.Errorf("Spend: %v", err)
	}
	f.control("POST", "spend", `{"hash":"`+hash+`","credits":1,"model":"m"}`, http.StatusNoContent)
	f.control("POST", "spend", `{"hash":"`+hash+`","credits":1,"model":"n"}`, http.StatusForbidden)
}
