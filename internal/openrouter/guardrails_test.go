package openrouter

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"latchkey/internal/account"
	"latchkey/internal/openroutertest"
)

func TestGuardrailsAreListedToTheLast(t *testing.T) {
	s, c := standIn()
	for n := range 201 {
		s.AddGuardrail(fmt.Sprint("g", n), "openai/gpt-4o-mini")
	}
	admin, _ := adminOf(c)
	all, err := admin.Guardrails()
	if err != nil || len(all) != 201 || all[200].Name != "g200" || all[0].AllowedModels[0] != "openai/gpt-4o-mini" {
		t.Fatalf("%d guardrails, %v", len(all), err)
	}
	admin.Workspace = "another"
	if others, err := admin.Guardrails(); err != nil || len(others) != 0 {
		t.Errorf("%v, %v", others, err)
	}
	one, err := admin.Guardrail(all[7].ID)
	if err != nil || one.Name != "g7" || one.Limit != nil {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := admin.Guardrail("none"); !IsGone(err) {
		t.Errorf("%v", err)
	}
}

func TestGuardrailsEndEvenIfOffsetIsIgnored(t *testing.T) {
	var page strings.Builder
	for i := range 100 {
		fmt.Fprintf(&page, `,{"id":"%d"}`, i)
	}
	admin := Admin{Client: clientOf(answering(http.StatusOK, nil, `{"data":[`+page.String()[1:]+`]}`))}
	if all, err := admin.Guardrails(); err != nil || len(all) != 100 {
		t.Errorf("%d guardrails, %v", len(all), err)
	}
	for _, body := range []string{`{}`, `null`, `{"data":null}`, `<html>`} {
		admin = Admin{Client: clientOf(answering(http.StatusOK, nil, body))}
		if all, err := admin.Guardrails(); err == nil {
			t.Errorf("%s: %v", body, all)
		}
		if one, err := admin.Guardrail("id"); err == nil {
			t.Errorf("%s: %v", body, one)
		}
	}
}

// To assign a key twice is to assign it, unlike to make one.
func TestAnAssignmentIsRepeated(t *testing.T) {
	s, c := standIn()
	id := s.AddGuardrail("g")
	_, hash := create(t, c, "n", account.Credit)
	admin, _ := adminOf(c)
	s.Fail(openroutertest.OpAssign, openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 2)
	if err := admin.Assign(id, hash); err != nil || s.Keys()[0].GuardrailID != id || s.Calls()[openroutertest.OpAssign] != 3 {
		t.Errorf("%v, %+v", err, s.Keys()[0])
	}
}

func TestSetLimitChangesWhatItIsAskedTo(t *testing.T) {
	weekly, none := Weekly, ""
	for want, reset := range map[string]*string{`{"limit":2.5}`: nil, `{"limit":2.5,"limit_reset":"weekly"}`: &weekly, `{"limit":2.5,"limit_reset":null}`: &none} {
		sent := ""
		s, c := standIn()
		limit := account.Credit
		_, hash, err := c.Create(NewKey{Name: "n", Limit: &limit, LimitReset: Daily})
		if err != nil {
			t.Fatal(err)
		}
		c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			text, err := io.ReadAll(body)
			sent = string(text)
			if err != nil {
				return nil, err
			}
			return s.RoundTrip(r)
		})
		admin, _ := adminOf(c)
		key, err := admin.SetLimit(hash, 5*account.Credit/2, reset)
		after := Daily
		if reset != nil {
			after = *reset
		}
		if err != nil || sent != want || key.Limit.String() != "2.5" || key.LimitReset != after {
			t.Errorf("sent %s, want %s: %+v, %v", sent, want, key, err)
		}
	}
	other := Admin{Client: clientOf(answering(http.StatusOK, nil, `{"data":{"hash":"`+userKeyHash+`","limit":1}}`))}
	if _, err := other.SetLimit(userKeyHash, 2*account.Credit, nil); err == nil {
		t.Error("another limit is taken for the one that was set")
	}
}
