package worker

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"latchkey/internal/answer"
	"latchkey/internal/edge"
	"latchkey/internal/seal"
)

// described returns the statuses in page/openapi.json of each method and path, as in
// "GET /healthz".
func described(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("page/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for path, item := range document.Paths {
		delete(item, "parameters")
		for method, encoded := range item {
			var operation struct {
				Responses map[string]json.RawMessage
			}
			if err := json.Unmarshal(encoded, &operation); err != nil {
				t.Fatal(err)
			}
			all[strings.ToUpper(method)+" "+path] = slices.Sorted(maps.Keys(operation.Responses))
		}
	}
	return all
}

func TestEveryRouteIsDescribedAndNothingElse(t *testing.T) {
	documented := described(t)
	var served []string
	for _, each := range routes {
		served = append(served, each.method+" "+each.pattern, "OPTIONS "+each.pattern)
	}
	for _, each := range served {
		if documented[each] == nil {
			t.Errorf("%s is not described", each)
		}
	}
	for each := range documented {
		if !slices.Contains(served, each) {
			t.Errorf("%s is described, and the Worker does not have it", each)
		}
	}
}

// What an object answers is checked in the end-to-end tests.
func TestEveryStatusOfTheFrontIsDescribed(t *testing.T) {
	const operators = "not-a-real-admin-token-not-a-real-admin-token"
	f, _ := testFront()
	f.settings.AdminToken = seal.NewSecret(operators)
	bad, _ := misconfigured()
	bad.settings.AdminToken = f.settings.AdminToken
	documented := described(t)
	for _, each := range routes {
		r := edge.Request{Method: each.method, Path: strings.Replace(each.pattern, "{id}", "u_42", 1)}
		with := func(change func(*edge.Request)) edge.Request {
			changed := r
			change(&changed)
			return changed
		}
		answers := map[string]answer.Answer{}
		for name, change := range map[string]func(*edge.Request){
			"without a token":      func(*edge.Request) {},
			"with a bad token":     func(r *edge.Request) { r.Authorization = "Bearer not-a-real-token" },
			"with too large a one": func(r *edge.Request) { r.Authorization = "Bearer " + strings.Repeat("x", 9<<10) },
			"with a large body":    func(r *edge.Request) { r.TooLarge = true },
			"a user's, malformed":  func(r *edge.Request) { r.Authorization, r.Query, r.Body = ada(t), "limit=x", "{" },
			"malformed":            func(r *edge.Request) { r.Authorization, r.Query, r.Body = "Bearer "+operators, "limit=x", "{" },
			"a preflight":          func(r *edge.Request) { r.Method = "OPTIONS" },
		} {
			answers[name], _ = ask(f, with(change))
		}
		answers["misconfigured"], _ = ask(bad, r)
		_, forwarded := ask(f, r)
		for failure := range failures {
			if forwarded == nil {
				break // no object is asked
			}
			c := &called{}
			f.Failed(c, r, failure, "a cause")
			answers["failed: "+string(failure)] = c.answer
		}
		for name, a := range answers {
			method := each.method
			if name == "a preflight" {
				method = "OPTIONS"
			}
			operation := method + " " + each.pattern
			if a.Status != 0 && !slices.Contains(documented[operation], strconv.Itoa(a.Status)) { // 0: an object answers it
				t.Errorf("%s, %s: %d is not described", operation, name, a.Status)
			}
		}
	}
}
