package openroutertest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

// control calls the control surface, which asks for no credentials.
func (f *fixture) control(method, path, body string, status int) answer {
	f.Helper()
	return f.callAs("", method, "/_control/"+path, body, status)
}

func TestControlInjectsAndClearsFaults(t *testing.T) {
	f := start(t)
	f.control("POST", "faults", `{"op":"create","kind":"status","applied":true,"status":429,"retry_after":"3","times":1}`, http.StatusNoContent)
	if got := f.call("POST", "keys", `{"name":"a"}`, 429).header.Get("Retry-After"); got != "3" {
		t.Errorf("Retry-After %q", got)
	}
	if len(f.Keys()) != 1 {
		t.Error("the create was not applied")
	}
	f.create(`{"name":"b"}`)

	f.control("POST", "faults", `{"op":"list","kind":"slow","delay_ms":1,"times":1}`, http.StatusNoContent)
	f.call("GET", "keys", "", http.StatusOK)
	f.control("POST", "faults", `{"op":"list","kind":"html"}`, http.StatusNoContent)
	f.call("GET", "keys", "", http.StatusBadGateway)
	f.call("GET", "keys", "", http.StatusBadGateway)
	f.control("DELETE", "faults", "", http.StatusNoContent)
	f.call("GET", "keys", "", http.StatusOK)
}

func TestControlShowsAndResetsCalls(t *testing.T) {
	f := start(t)
	f.create(`{"name":"a"}`)
	f.call("GET", "keys/none", "", http.StatusNotFound)
	a := f.control("GET", "calls", "", http.StatusOK)
	a.want(`{"create":1,"get":1}`, "calls")
	a.want(`"create"`, "log", 0, "op")
	a.want(`"a"`, "log", 0, "name")
	a.want(`404`, "log", 1, "status")
	a.want(`"none"`, "log", 1, "hash")
	f.control("DELETE", "calls", "", http.StatusNoContent)
	f.control("GET", "calls", "", http.StatusOK).want(`{"calls":{},"log":[]}`)
}

func TestControlShowsKeysWithoutSecrets(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	gone, _ := f.create(`{"name":"b"}`)
	f.spend(secret, 0.25)
	f.call("DELETE", "keys/"+gone, "", http.StatusOK)
	a := f.control("GET", "keys", "", http.StatusOK)
	if strings.Contains(a.body, secret) {
		t.Error("a secret is shown")
	}
	for field, want := range map[string]string{
		"hash": `"` + hash + `"`, "name": `"a"`, "limit": "1", "usage": "0.25", "disabled": "false", "deleted": "false",
	} {
		a.want(want, "keys", 0, field)
	}
	a.want("true", "keys", 1, "deleted")
	a.want("null", "keys", 1, "limit")
}

func TestControlSpends(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	f.control("POST", "spend", `{"key":"`+secret+`","credits":0.6,"model":"m"}`, http.StatusNoContent)
	f.control("POST", "spend", `{"hash":"`+hash+`","credits":0.6}`, http.StatusNoContent)
	f.control("POST", "spend", `{"hash":"`+hash+`","credits":0.1}`, http.StatusForbidden).
		want(`"Key limit exceeded (total limit)"`, "error", "message")
	f.control("POST", "spend", `{"hash":"none","credits":0.1}`, http.StatusNotFound)
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("-0.2", "data", "limit_remaining")
}

func TestControlChangesKeys(t *testing.T) {
	f := start(t)
	hash, _ := f.create(`{"name":"a","limit":1}`)
	for _, test := range []struct{ body, field, want string }{
		{`{"disabled":true}`, "disabled", "true"},
		{`{"limit":null}`, "limit", "null"},
		{`{"limit":2.5}`, "limit", "2.5"},
		{`{"disabled":false}`, "limit", "2.5"},
		{`{}`, "disabled", ""},
	} {
		if test.want == "" {
			f.control("PATCH", "keys/"+hash, test.body, http.StatusBadRequest)
			continue
		}
		f.control("PATCH", "keys/"+hash, test.body, http.StatusNoContent)
		f.call("GET", "keys/"+hash, "", http.StatusOK).want(test.want, "data", test.field)
	}
	f.control("PATCH", "keys/none", `{"disabled":true}`, http.StatusNotFound)
	f.control("PATCH", "keys/none", `{"limit":1}`, http.StatusNotFound)
}

func TestControlSetsTheLag(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	f.control("PUT", "lag", `{"ms":1500}`, http.StatusNoContent)
	f.spend(secret, 0.5)
	f.clock.Advance(1499 * time.Millisecond)
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("0", "data", "usage")
	f.clock.Advance(time.Millisecond)
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("0.5", "data", "usage")
}

func TestControlRefusesBadInput(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.ExtraFields = true })
	hash, _ := f.create(`{"name":"a"}`)
	for _, test := range []struct{ method, path, body, says string }{
		{"POST", "faults", ``, "bad body"},
		{"POST", "faults", `{"op":"create","kind":"drop"} {}`, "more than one"},
		{"POST", "faults", `{"op":"create","kind":"drop","tmies":1}`, "tmies"},
		{"POST", "faults", `{"op":"craete","kind":"drop"}`, "craete"},
		{"POST", "faults", `{"op":"create","kind":"explode"}`, "explode"},
		{"POST", "faults", `{"op":"create","kind":"status","status":42}`, "42"},
		{"POST", "faults", `{"op":"create","kind":"slow","delay_ms":-1}`, "delay"},
		{"POST", "faults", `{"op":"get","kind":"alter"}`, "patch"},
		{"POST", "faults", `{"op":"get","kind":"alter","patch":{]}`, "bad body"},
		{"POST", "faults", `{"op":"get","kind":"alter","nulls":[]}`, "nulls"},
		{"POST", "faults", `{"op":"get","kind":"alter","nulls":[""]}`, "nulls"},
		{"POST", "faults", `{"op":"get","kind":"stale"}`, "delay"},
		{"POST", "faults", `{"op":"update","kind":"stale","delay_ms":1}`, "update"},
		{"POST", "faults", `{"op":"get","kind":"huge"}`, "bytes"},
		{"POST", "faults", `{"op":"get","kind":"huge","bytes":536870913}`, "536870912"},
		{"POST", "spend", `{"credits":1}`, "either key or hash"},
		{"POST", "spend", `{"key":"k","hash":"h","credits":1}`, "either key or hash"},
		{"POST", "spend", `{"hash":"` + hash + `"}`, "credits"},
		{"POST", "spend", `{"hash":"` + hash + `","credits":-1}`, "cost"},
		{"PATCH", "keys/" + hash, `{"limit":-1}`, "limit"},
		{"PATCH", "keys/" + hash, `{"limit":"x"}`, "bad body"},
		{"PATCH", "keys/" + hash, `{"disabled":1}`, "bad body"},
		{"PUT", "lag", `{}`, "ms"},
		{"PUT", "lag", `{"ms":-1}`, "ms"},
		{"POST", "spend", `{"hash":"` + hash + `","credits":1,"partial":1}`, "bad body"},
		{"PUT", "names", `{}`, "form"},
		{"PUT", "names", `{"form":"nfd"}`, "form"},
	} {
		a := f.control(test.method, test.path, test.body, http.StatusBadRequest)
		if message := fmt.Sprint(a.at("error", "message")); !strings.Contains(message, test.says) {
			t.Errorf("%s %s: %q does not say %q", test.path, test.body, message, test.says)
		}
	}
}
