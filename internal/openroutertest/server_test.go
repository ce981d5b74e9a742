package openroutertest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

func TestManagementCallsDemandTheProvisioningKey(t *testing.T) {
	for _, forbid := range []bool{false, true} {
		f := start(t, func(o *openroutertest.Options) { o.ForbidUserKeys = forbid })
		_, secret := f.create(`{"name":"a"}`)
		userKey := http.StatusUnauthorized
		if forbid {
			userKey = http.StatusForbidden
		}
		for token, want := range map[string]int{"": http.StatusUnauthorized, "sk-or-v1-none": http.StatusUnauthorized, secret: userKey} {
			for _, call := range [][2]string{
				{"GET", "keys"}, {"POST", "keys"}, {"GET", "keys/x"}, {"PATCH", "keys/x"}, {"DELETE", "keys/x"},
				{"GET", "activity"}, {"GET", "credits"}, {"POST", "guardrails/x/assignments/keys"}, {"POST", "guardrails"}, {"GET", "guardrails"},
				{"GET", "guardrails/x"}, {"PATCH", "guardrails/x"}, {"DELETE", "guardrails/x"}, {"GET", "guardrails/x/assignments/keys"},
			} {
				f.callAs(token, call[0], call[1], `{"name":"b"}`, want).want(fmt.Sprint(want), "error", "code")
			}
		}
	}
}

func TestNoProvisioningKeyAcceptsNoBearer(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.ProvisioningKey = "" })
	f.callAs("", "GET", "keys", "", http.StatusUnauthorized)
}

func TestUnknownPathsAnswerHTML(t *testing.T) {
	f := start(t)
	for _, call := range [][2]string{{"GET", "/"}, {"GET", "/api/v1/nothing"}, {"PUT", "/api/v1/keys"}, {"GET", "/_control/nothing"}} {
		a := f.call(call[0], call[1], "", http.StatusNotFound)
		if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(a.body, "<html>") {
			t.Errorf("%v answers %s: %s", call, a.header.Get("Content-Type"), a.body)
		}
	}
}

func TestAnswersVaryAsOptionsSay(t *testing.T) {
	for name, test := range map[string]struct {
		adapt func(*openroutertest.Options)
		check func(f *fixture, record map[string]any)
	}{
		"unknown fields": {
			func(o *openroutertest.Options) { o.ExtraFields = true },
			func(f *fixture, record map[string]any) {
				if _, ok := record["x_added_later"]; !ok {
					f.Error("no unknown field in the record")
				}
				f.call("GET", "keys", "", http.StatusOK).at("x_added_later")
				f.call("GET", "keys/none", "", http.StatusNotFound).at("error", "x_added_later")
				f.call("GET", "/_control/calls", "", http.StatusOK).want(`{"create":1,"get":1,"list":1}`, "calls")
			},
		},
		"optional fields missing": {
			func(o *openroutertest.Options) { o.OmitOptional = true },
			func(f *fixture, record map[string]any) {
				var fields []string
				for field := range record {
					fields = append(fields, field)
				}
				slices.Sort(fields)
				want := "created_at disabled hash label limit limit_remaining name updated_at usage"
				if got := strings.Join(fields, " "); got != want {
					f.Errorf("fields %s, want %s", got, want)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, test.adapt)
			a := f.call("POST", "keys", `{"name":"a","limit":1}`, http.StatusCreated)
			test.check(f, a.at("data").(map[string]any))
		})
	}
	t.Run("create status", func(t *testing.T) {
		f := start(t, func(o *openroutertest.Options) { o.CreateStatus = http.StatusOK })
		f.call("POST", "keys", `{"name":"a"}`, http.StatusOK).at("key")
	})
}

func TestCallsAreCountedAndLogged(t *testing.T) {
	f := start(t)
	hash, _ := f.create(`{"name":"a"}`)
	f.call("GET", "keys?offset=0", "", http.StatusOK)
	f.clock.Advance(time.Second)
	f.call("DELETE", "keys/none", "", http.StatusNotFound)

	at := newClock().Now()
	want := []openroutertest.Call{
		{Op: openroutertest.OpCreate, Method: "POST", Path: "/api/v1/keys", Name: "a", Hash: hash, Status: 201, At: at},
		{Op: openroutertest.OpList, Method: "GET", Path: "/api/v1/keys", Query: "offset=0", Status: 200, At: at},
		{Op: openroutertest.OpDelete, Method: "DELETE", Path: "/api/v1/keys/none", Hash: "none", Status: 404, At: at.Add(time.Second)},
	}
	if got := f.CallLog(); !slices.Equal(got, want) {
		t.Errorf("log\n%+v\nwant\n%+v", got, want)
	}
	if calls := f.Calls(); calls[openroutertest.OpCreate] != 1 || calls[openroutertest.OpList] != 1 || len(calls) != 3 {
		t.Errorf("calls %v", calls)
	}
	f.ResetCalls()
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("after the reset: %v", calls)
	}
}

func TestOversizedBodyIsRefused(t *testing.T) {
	f := start(t)
	a, err := f.send("POST", "keys", provisioningKey, `{"name":"`+strings.Repeat("x", 2<<20)+`"}`)
	// The server may close before it has read everything.
	if err == nil && a.status != http.StatusBadRequest || len(f.Keys()) != 0 {
		t.Errorf("status %d, error %v, keys %v", a.status, err, f.Keys())
	}
}

func TestConcurrentCallsAreSafe(t *testing.T) {
	f := start(t)
	client := &http.Client{Transport: f.Server}
	done := make(chan error)
	for range 8 {
		go func() {
			request, _ := http.NewRequest("POST", "http://standin/api/v1/keys", strings.NewReader(`{"name":"a","limit":1}`))
			request.Header.Set("Authorization", "Bearer "+provisioningKey)
			response, err := client.Do(request)
			if err != nil {
				done <- err
				return
			}
			var created struct{ Key string }
			err = errors.Join(json.NewDecoder(response.Body).Decode(&created), f.Spend(created.Key, 0.5))
			_, _ = io.Copy(io.Discard, response.Body)
			f.Keys()
			f.CallLog()
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if len(f.Live()) != 8 || f.Calls()[openroutertest.OpCreate] != 8 {
		t.Errorf("%d keys, calls %v", len(f.Live()), f.Calls())
	}
}
