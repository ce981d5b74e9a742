package openroutertest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

func TestCreateAnswersTheRecordAndTheSecretOnce(t *testing.T) {
	f := start(t)
	a := f.call("POST", "keys", `{"name":"ada","limit":1,"expires_at":"2026-09-01T00:00:00Z","external":{"user":"u_1"},"future":true}`, http.StatusCreated)

	secret := a.at("key").(string)
	if !regexp.MustCompile(`^sk-or-v1-[0-9a-f]{64}$`).MatchString(secret) {
		t.Errorf("key %q has not the form of a key", secret)
	}
	sum := sha256.Sum256([]byte(secret))
	hash := hex.EncodeToString(sum[:])
	for field, want := range map[string]string{
		"hash":                  `"` + hash + `"`,
		"name":                  `"ada"`,
		"label":                 fmt.Sprintf("%q", secret[:12]+"..."+secret[len(secret)-3:]),
		"disabled":              `false`,
		"limit":                 `1`,
		"limit_remaining":       `1`,
		"limit_reset":           `null`,
		"include_byok_in_limit": `false`,
		"usage":                 `0`,
		"usage_daily":           `0`,
		"usage_weekly":          `0`,
		"usage_monthly":         `0`,
		"byok_usage":            `0`,
		"created_at":            `"2026-08-12T12:00:00.123456+00:00"`,
		"updated_at":            `null`,
		"expires_at":            `"2026-09-01T00:00:00Z"`,
		"external_user":         `"u_1"`,
	} {
		a.want(want, "data", field)
	}

	got := f.call("GET", "keys/"+hash, "", http.StatusOK)
	if strings.Contains(got.body, secret) {
		t.Error("the secret is shown again")
	}
	got.want(`"ada"`, "data", "name")
}

func TestSameRandomnessGivesTheSameKeys(t *testing.T) {
	_, one := start(t).create(`{"name":"a"}`)
	_, two := start(t).create(`{"name":"a"}`)
	if one != two {
		t.Errorf("%s and %s differ", one, two)
	}
}

func TestCreateWithoutRandomnessIsAnInternalError(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.Rand = strings.NewReader("short") })
	f.call("POST", "keys", `{"name":"a"}`, http.StatusInternalServerError)
	if n := len(f.Keys()); n != 0 {
		t.Errorf("%d keys exist", n)
	}
}

func TestInvalidBodiesAreRefused(t *testing.T) {
	f := start(t)
	hash, _ := f.create(`{"name":"a","limit":1}`)
	create, patch := []string{"POST", "keys"}, []string{"PATCH", "keys/" + hash}
	for _, test := range []struct {
		call []string
		body string
	}{
		{create, ``},
		{create, `null`},
		{create, `[]`},
		{create, `{"name":"a"`},
		{create, `{}`},
		{create, `{"limit":1}`},
		{create, `{"Name":"a"}`},
		{create, `{"name":""}`},
		{create, `{"name":null}`},
		{create, `{"name":7}`},
		{create, `{"name":"a","limit":"1"}`},
		{create, `{"name":"a","limit":-1}`},
		{create, `{"name":"a","limit":1e400}`},
		{create, `{"name":"a","limit_reset":"hourly"}`},
		{create, `{"name":"a","limit_reset":""}`},
		{create, `{"name":"a","include_byok_in_limit":null}`},
		{create, `{"name":"a","expires_at":"2026-09-01T00:00Z"}`},
		{create, `{"name":"a","expires_at":"2026-09-01T00:00:00+02:00"}`},
		{create, `{"name":"a","expires_at":"2026-09-01"}`},
		{create, `{"name":"a","expires_at":5}`},
		{create, `{"name":"a","external":{}}`},
		{create, `{"name":"a","external":null}`},
		{patch, `{"name":""}`},
		{patch, `{"disabled":null}`},
		{patch, `{"disabled":"yes"}`},
		{patch, `{"limit":"none"}`},
		{patch, `{"limit_reset":"yearly"}`},
		{patch, `{"expires_at":"2026-09-01T00:00:00Z"}`},
		{patch, `{"expires_at":null}`},
		{patch, `7`},
	} {
		a := f.call(test.call[0], test.call[1], test.body, http.StatusBadRequest)
		a.want("400", "error", "code")
		if a.at("error", "message") == "" {
			t.Errorf("%s: no message", test.body)
		}
	}
	if keys := f.Keys(); len(keys) != 1 || !keys[0].UpdatedAt.IsZero() {
		t.Errorf("a refused call had an effect: %+v", keys)
	}
}

func TestInvalidFieldIsNamedInTheMetadata(t *testing.T) {
	start(t).call("POST", "keys", `{"name":"a","limit":true}`, http.StatusBadRequest).
		want(`"limit"`, "error", "metadata", "field")
}

func TestPatchHasThreeStates(t *testing.T) {
	for _, test := range []struct{ body, field, want string }{
		{`{}`, "limit", `2`},
		{`{"limit":null}`, "limit", `null`},
		{`{"limit":null}`, "limit_remaining", `null`},
		{`{"limit":0}`, "limit", `0`},
		{`{"limit":0.000000001}`, "limit", `1e-9`},
		{`{"name":"b"}`, "limit", `2`},
		{`{"name":"b"}`, "name", `"b"`},
		{`{}`, "name", `"a"`},
		{`{}`, "limit_reset", `"daily"`},
		{`{"limit_reset":null}`, "limit_reset", `null`},
		{`{"limit_reset":"weekly"}`, "limit_reset", `"weekly"`},
		{`{}`, "disabled", `false`},
		{`{"disabled":true}`, "disabled", `true`},
		{`{"include_byok_in_limit":false}`, "include_byok_in_limit", `false`},
		{`{}`, "include_byok_in_limit", `true`},
		{`{}`, "updated_at", `"2026-08-12T12:00:01.123456+00:00"`},
	} {
		t.Run(test.body+" "+test.field, func(t *testing.T) {
			f := start(t)
			hash, _ := f.create(`{"name":"a","limit":2,"limit_reset":"daily","include_byok_in_limit":true}`)
			f.clock.Advance(time.Second)
			f.call("PATCH", "keys/"+hash, test.body, http.StatusOK).want(test.want, "data", test.field)
			f.call("GET", "keys/"+hash, "", http.StatusOK).want(test.want, "data", test.field)
		})
	}
}

func TestDeletedKeyIsGone(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a"}`)
	if f.Deleted(hash) {
		t.Error("deleted before the delete")
	}
	f.call("DELETE", "keys/"+hash, "", http.StatusOK).want(`{"deleted":true}`)
	if !f.Deleted(hash) {
		t.Error("not deleted")
	}
	f.call("DELETE", "keys/"+hash, "", http.StatusNotFound).want("404", "error", "code")
	f.call("GET", "keys/"+hash, "", http.StatusNotFound)
	f.call("PATCH", "keys/"+hash, `{"disabled":true}`, http.StatusNotFound)
	f.callAs(secret, "GET", "key", "", http.StatusUnauthorized)
	if err := f.Spend(secret, 1); !errors.Is(err, openroutertest.ErrKeyNotFound) {
		t.Errorf("Spend: %v", err)
	}
	if names := f.call("GET", "keys?include_disabled=true", "", http.StatusOK).names(); names != "" {
		t.Errorf("listed: %s", names)
	}
	if len(f.Keys()) != 1 || len(f.Live()) != 0 {
		t.Errorf("Keys %v, Live %v", f.Keys(), f.Live())
	}
}

func TestListPagesNewestFirst(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.PageSize = 2 })
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		f.create(`{"name":"` + name + `"}`)
	}
	for query, want := range map[string]string{
		"":             "e d",
		"?offset=2":    "c b",
		"?offset=4":    "a",
		"?offset=5":    "",
		"?offset=9999": "",
	} {
		if got := f.call("GET", "keys"+query, "", http.StatusOK).names(); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"?offset=-1", "?offset=x", "?include_disabled=perhaps"} {
		f.call("GET", "keys"+query, "", http.StatusBadRequest)
	}
}

func TestListHoldsAHundredKeysAPage(t *testing.T) {
	f := start(t)
	for range 101 {
		f.create(`{"name":"same"}`)
	}
	for query, want := range map[string]int{"": 100, "?offset=100": 1} {
		if got := len(f.call("GET", "keys"+query, "", http.StatusOK).at("data").([]any)); got != want {
			t.Errorf("%q lists %d keys, want %d", query, got, want)
		}
	}
}

func TestListOldestFirstOnRequest(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.OldestFirst = true })
	f.create(`{"name":"a"}`)
	f.create(`{"name":"b"}`)
	if got := f.call("GET", "keys", "", http.StatusOK).names(); got != "a b" {
		t.Errorf("lists %q", got)
	}
}

func TestListHidesDisabledAndExpiredKeysUnlessAsked(t *testing.T) {
	f := start(t)
	disabled, _ := f.create(`{"name":"disabled"}`)
	f.create(`{"name":"expires","expires_at":"2026-08-12T13:00:00Z"}`)
	f.create(`{"name":"plain"}`)
	f.create(`{"name":"elsewhere","workspace_id":"w2"}`)
	f.call("PATCH", "keys/"+disabled, `{"disabled":true}`, http.StatusOK)

	list := func(query string) string { return f.call("GET", "keys"+query, "", http.StatusOK).names() }
	if got := list(""); got != "plain expires" {
		t.Errorf("before the expiry: %q", got)
	}
	f.clock.Advance(time.Hour)
	for query, want := range map[string]string{
		"":                                "plain",
		"?include_disabled=true":          "plain expires disabled",
		"?include_disabled=false":         "plain",
		"?include_disabled=true&offset=1": "expires disabled",
		"?workspace_id=w2":                "elsewhere",
		"?workspace_id=w3":                "",
	} {
		if got := list(query); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
}

func TestKeySeesItself(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	f.spend(secret, 0.25)
	a := f.callAs(secret, "GET", "key", "", http.StatusOK)
	a.want("0.25", "data", "usage")
	a.want("0.75", "data", "limit_remaining")
	a.want("false", "data", "is_provisioning_key")
	f.call("GET", "key", "", http.StatusOK).want("true", "data", "is_provisioning_key")

	f.callAs("", "GET", "key", "", http.StatusUnauthorized)
	f.callAs("sk-or-v1-none", "GET", "key", "", http.StatusUnauthorized)
	if err := f.SetDisabled(hash, true); err != nil {
		t.Fatal(err)
	}
	f.callAs(secret, "GET", "key", "", http.StatusUnauthorized)
}

func TestDirectMethodsActOnTheKeys(t *testing.T) {
	f := start(t)
	a, secret := f.create(`{"name":"a","limit":1}`)
	b, _ := f.create(`{"name":"b","expires_at":"2026-08-12T13:00:00Z"}`)
	f.spend(secret, 0.4)

	keys := f.Keys()
	if len(keys) != 2 || keys[0].Hash != a || keys[0].Secret != secret || keys[0].Usage != 400_000_000 || *keys[0].Limit != 1_000_000_000 {
		t.Fatalf("Keys() = %+v", keys)
	}
	*keys[0].Limit = 7
	if *f.Keys()[0].Limit != 1_000_000_000 {
		t.Error("a snapshot shares the limit with the server")
	}
	if encoded, _ := json.Marshal(keys); strings.Contains(string(encoded), secret) {
		t.Error("a Key as JSON contains the secret")
	}

	if err := f.SetLimit(a, new(2.5)); err != nil {
		t.Error(err)
	}
	f.call("GET", "keys/"+a, "", http.StatusOK).want("2.1", "data", "limit_remaining")
	if err := f.SetLimit(a, nil); err != nil {
		t.Error(err)
	}
	f.call("GET", "keys/"+a, "", http.StatusOK).want("null", "data", "limit_remaining")
	if err := f.SetLimit(a, new(-1.0)); err == nil {
		t.Error("a negative limit was set")
	}

	if err := f.SetDisabled(a, true); err != nil {
		t.Error(err)
	}
	if live := f.Live(); len(live) != 1 || live[0].Hash != b {
		t.Errorf("Live() = %+v, want b", live)
	}
	f.clock.Advance(time.Hour)
	if live := f.Live(); len(live) != 0 {
		t.Errorf("Live() = %+v after the expiry", live)
	}
	for _, err := range []error{f.SetDisabled("none", true), f.SetLimit("none", nil)} {
		if !errors.Is(err, openroutertest.ErrKeyNotFound) {
			t.Errorf("unknown key: %v", err)
		}
	}
}
