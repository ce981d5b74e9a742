package openrouter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"latchkey/internal/account"
	"latchkey/internal/openroutertest"
	"latchkey/internal/seal"
)

const (
	provisioningKey = "sk-or-v1-provisioning-not-a-real-one"
	userKey         = "sk-or-v1-0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
)

var (
	now         = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	userKeyHash = hashOf(userKey)
)

var hashOf = HashOf

func clientOf(transport http.RoundTripper) Client {
	return Client{
		BaseURL: "https://openrouter.test/api/v1", ProvisioningKey: seal.NewSecret(provisioningKey), Transport: transport,
		Now: func() time.Time { return now },
	}
}

func standIn(adapt ...func(*openroutertest.Options)) (*openroutertest.Server, Client) {
	o := openroutertest.Options{ProvisioningKey: provisioningKey, Now: func() time.Time { return now }}
	for _, f := range adapt {
		f(&o)
	}
	s := openroutertest.New(o)
	return s, clientOf(s)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering gives every request the same answer.
func answering(status int, header http.Header, body string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func newKey(name string, limit account.Credits) NewKey { return NewKey{Name: name, Limit: &limit} }

// operations are the calls that a client makes, with nothing but the error.
var operations = map[string]func(Client) error{
	"create":  func(c Client) error { _, _, err := c.Create(newKey("name", account.Credit)); return err },
	"get":     func(c Client) error { _, err := c.Get(userKeyHash); return err },
	"disable": func(c Client) error { return c.Disable(userKeyHash) },
	"delete":  func(c Client) error { return c.Delete(userKeyHash) },
	"list":    func(c Client) error { return c.Each(func(Listed) error { return nil }) },
	"assign":  func(c Client) error { return c.Assign("guardrail", userKeyHash) },
}

// standInOp is what the stand-in calls an operation.
func standInOp(op string) openroutertest.Op {
	if op == "disable" {
		return openroutertest.OpUpdate
	}
	return openroutertest.Op(op)
}

// fails demands an *Error.
func fails(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is %v, not an *Error", err)
	}
	return e
}

func create(t *testing.T, c Client, name string, limit account.Credits) (key, hash string) {
	t.Helper()
	secret, hash, err := c.Create(newKey(name, limit))
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal(), hash
}

func TestCreateReturnsTheKeyAndItsHash(t *testing.T) {
	for name, adapt := range map[string]func(*openroutertest.Options){
		"201":                  func(*openroutertest.Options) {},
		"200":                  func(o *openroutertest.Options) { o.CreateStatus = http.StatusOK },
		"unknown fields":       func(o *openroutertest.Options) { o.ExtraFields = true },
		"optional ones absent": func(o *openroutertest.Options) { o.OmitOptional = true },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := standIn(adapt)
			key, hash := create(t, c, "latchkey:u_42:op", account.Credit)
			made := s.Keys()[0]
			if key != made.Secret || hash != made.Hash || made.Name != "latchkey:u_42:op" || *made.Limit != openroutertest.Nano(account.Credit) {
				t.Errorf("hash %s, made %+v", hash, made)
			}
		})
	}
}

func TestCreateAlwaysSendsTheLimitExactly(t *testing.T) {
	for limit, want := range map[account.Credits]string{
		0: "0", 1: "0.000000001", account.Credit / 2: "0.5", account.Credit: "1", 9_400_000_001: "9.400000001",
	} {
		t.Run(want, func(t *testing.T) {
			s, c := standIn()
			var sent map[string]json.RawMessage
			c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				body, _ := io.ReadAll(r.Body)
				if err := json.Unmarshal(body, &sent); err != nil {
					t.Errorf("%s: %v", body, err)
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				return s.RoundTrip(r)
			})
			create(t, c, "name", limit)
			if string(sent["limit"]) != want {
				t.Errorf("limit %s was sent, want %s", sent["limit"], want)
			}
			if made := s.Keys()[0].Limit; made == nil || *made != openroutertest.Nano(limit) {
				t.Errorf("the key was made with limit %v, want %d", made, limit)
			}
		})
	}
}

func TestNamesReachOpenRouterUnchanged(t *testing.T) {
	for _, name := range []string{"latchkey:пользователь-用户-🔑:op", `a"b\c<&>`, "Ἀδα\u0301\u2028", "مستخدم", strings.Repeat("字", 400)} {
		s, c := standIn()
		_, hash := create(t, c, name, 1)
		if key, err := c.Get(hash); s.Keys()[0].Name != name || err != nil || key.Name != name {
			t.Errorf("%q became %q, and was read as %q, %v", name, s.Keys()[0].Name, key.Name, err)
		}
	}
}

func TestCreateRefusesWhatItCouldNotUse(t *testing.T) {
	for _, c := range []struct {
		name, body string
		kind       Kind
	}{
		{"another hash", `{"key":"` + userKey + `","data":{"hash":"` + strings.Repeat("0", 64) + `"}}`, Refused},
		{"no hash", `{"key":"` + userKey + `","data":{}}`, Refused},
		{"no data", `{"key":"` + userKey + `"}`, Refused},
		{"upper-case hash", `{"key":"` + userKey + `","data":{"hash":"` + strings.ToUpper(userKeyHash) + `"}}`, Refused},
		{"another name", `{"key":"` + userKey + `","data":{"hash":"` + userKeyHash + `","name":"other","limit":0.000000001}}`, Unavailable},
		{"no name", `{"key":"` + userKey + `","data":{"hash":"` + userKeyHash + `","limit":0.000000001}}`, Unavailable},
		{"another limit", `{"key":"` + userKey + `","data":{"hash":"` + userKeyHash + `","name":"name","limit":1}}`, Unavailable},
		{"no limit", `{"key":"` + userKey + `","data":{"hash":"` + userKeyHash + `","name":"name"}}`, Unavailable},
		{"a limit of null", `{"key":"` + userKey + `","data":{"hash":"` + userKeyHash + `","name":"name","limit":null}}`, Unavailable},
		{"a key of 1 KiB", `{"key":"` + strings.Repeat("k", 1024) + `","data":{"name":"name","limit":0.000000001}}`, Refused},
		{"no key", `{"data":{"hash":"` + userKeyHash + `"}}`, Unavailable},
		{"key inside data", `{"data":{"hash":"` + userKeyHash + `","key":"` + userKey + `"}}`, Unavailable},
		{"empty key", `{"key":"","data":{"hash":"` + hashOf("") + `"}}`, Unavailable},
		{"null key", `{"key":null,"data":{"hash":"` + userKeyHash + `"}}`, Unavailable},
		{"key is a number", `{"key":1,"data":{"hash":"` + userKeyHash + `"}}`, Unavailable},
		{"null", `null`, Unavailable},
		{"an array", `[]`, Unavailable},
		{"an empty body", ``, Unavailable},
		{"half a body", `{"key":"` + userKey, Unavailable},
		{"an error with status 201", `{"error":{"code":500,"message":"Internal Server Error"}}`, Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, hash, err := clientOf(answering(http.StatusCreated, nil, c.body)).Create(newKey("name", 1))
			e := fails(t, err)
			if e.Kind != c.kind || !e.Uncertain || key.Reveal() != "" || hash != "" {
				t.Errorf("%+v, hash %q", e, hash)
			}
			holdsNoKey(t, err)
		})
	}
}

func TestGetReadsAKey(t *testing.T) {
	for _, c := range []struct {
		name, remaining string
		want            Key
	}{
		{"a whole number", "1", Key{Left: account.Credit}},
		{"nothing left", "0", Key{}},
		{"minus nothing", "-0", Key{}},
		{"overdrawn", "-0.8", Key{Left: -800_000_000}},
		{"nine decimals", "0.123456789", Key{Left: 123_456_789}},
		{"the noise of doubles", "0.09999999999999998", Key{Left: 100_000_000}},
		{"more noise", "0.30000000000000004", Key{Left: 300_000_000}},
		{"just above the threshold", "0.5000000006", Key{Left: 500_000_001}},
		{"an exponent", "1e-9", Key{Left: 1}},
		{"the limit was lifted", "null", Key{Uncapped: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := `{"data":{"hash":"` + userKeyHash + `","name":"n","disabled":true,"limit":1,"limit_remaining":` + c.remaining + `,"later":[{}]}}`
			c.want.Hash, c.want.Name, c.want.Disabled = userKeyHash, "n", true
			got, err := clientOf(answering(http.StatusOK, nil, body)).Get(userKeyHash)
			if err != nil || got.Limit == nil || *got.Limit != account.Credit {
				t.Fatalf("%+v, %v", got, err)
			}
			if got.Limit = nil; got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestGetRefusesWhatIsNoReading(t *testing.T) {
	for name, data := range map[string]string{
		"limit_remaining absent":       `{"hash":"` + userKeyHash + `","limit":null}`,
		"limit_remaining a string":     `{"hash":"` + userKeyHash + `","limit_remaining":"1"}`,
		"limit_remaining an object":    `{"hash":"` + userKeyHash + `","limit_remaining":{}}`,
		"limit_remaining a boolean":    `{"hash":"` + userKeyHash + `","limit_remaining":true}`,
		"limit_remaining out of range": `{"hash":"` + userKeyHash + `","limit_remaining":1e300}`,
		"the lowest number there is":   `{"hash":"` + userKeyHash + `","limit_remaining":-9223372036.854775808}`,
		"another key's record":         `{"hash":"` + strings.Repeat("0", 64) + `","limit_remaining":1}`,
		"no hash":                      `{"limit_remaining":1}`,
		"disabled is no boolean":       `{"hash":"` + userKeyHash + `","disabled":"no","limit_remaining":1}`,
		"above the limit":              `{"hash":"` + userKeyHash + `","limit":1,"limit_remaining":1.5}`,
		"far too much":                 `{"hash":"` + userKeyHash + `","limit_remaining":10000.1}`,
		"far too little":               `{"hash":"` + userKeyHash + `","limit":1,"limit_remaining":-10000.1}`,
		"4 million":                    `{"hash":"` + userKeyHash + `","limit":4000000,"limit_remaining":4000000}`,
		"a limit of 4 million":         `{"hash":"` + userKeyHash + `","limit":4000000,"limit_remaining":1}`,
		"a limit below 0":              `{"hash":"` + userKeyHash + `","limit":-1,"limit_remaining":-2}`,
		"a limit that is a string":     `{"hash":"` + userKeyHash + `","limit":"1","limit_remaining":1}`,
		"null":                         `null`,
		"a list":                       `[{"hash":"` + userKeyHash + `","limit_remaining":1}]`,
		"cut short":                    `{"hash":"` + userKeyHash + `","limit_remaining":1,"usage":`,
		"more than one object":         `{"hash":"` + userKeyHash + `","limit_remaining":1}}{"data":null`,
		"something after it":           `{"hash":"` + userKeyHash + `","limit_remaining":1}},{"data":null`,
	} {
		t.Run(name, func(t *testing.T) {
			key, err := clientOf(answering(http.StatusOK, nil, `{"data":`+data+`}`)).Get(userKeyHash)
			if e := fails(t, err); e.Kind != Unavailable || key != (Key{}) {
				t.Errorf("%+v, key %+v", e, key)
			}
		})
	}
}

func TestGetFollowsAKeyThroughItsLife(t *testing.T) {
	s, c := standIn(func(o *openroutertest.Options) { o.FloatNoise = true })
	key, hash := create(t, c, "name", account.Credit)
	read := func(want Key) {
		t.Helper()
		want.Hash, want.Name = hash, "name"
		if !want.Uncapped {
			want.Limit = new(account.Credit)
		}
		if got, err := c.Get(hash); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	read(Key{Left: account.Credit})
	if err := s.Spend(key, 0.9); err != nil {
		t.Fatal(err)
	}
	read(Key{Left: 100_000_000})
	if err := s.Spend(key, 0.9); err != nil {
		t.Fatal(err)
	}
	read(Key{Left: -800_000_000})
	if err := errors.Join(s.SetDisabled(hash, true), s.SetLimit(hash, nil)); err != nil {
		t.Fatal(err)
	}
	read(Key{Uncapped: true, Disabled: true})
	if err := c.Delete(hash); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(hash); !IsGone(err) {
		t.Errorf("reading a deleted key: %v", err)
	}
}

func TestDeleteConfirmsThatTheKeyIsGone(t *testing.T) {
	s, c := standIn()
	_, hash := create(t, c, "name", 1)
	for range 2 { // the second one gets 404
		if err := c.Delete(hash); err != nil || !s.Deleted(hash) {
			t.Errorf("deleted %t: %v", s.Deleted(hash), err)
		}
	}
	for _, a := range []struct {
		status int
		body   string
	}{
		{200, `{"deleted":true}`}, {200, ``}, {200, `{}`}, {204, ``}, {202, "\n"}, {404, `{"error":{"code":404,"message":"API key not found"}}`},
	} {
		if err := clientOf(answering(a.status, nil, a.body)).Delete(hash); err != nil {
			t.Errorf("%d %q: %v", a.status, a.body, err)
		}
	}
}

func TestADisabledKeyCanStillBeRead(t *testing.T) {
	s, c := standIn()
	key, hash := create(t, c, "name", account.Credit)
	if err := s.Spend(key, 0.25); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Disable(hash); err != nil {
			t.Error(err)
		}
	}
	if got, err := c.Get(hash); err != nil || !got.Disabled || got.Left != 750_000_000 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.Delete(hash); err != nil {
		t.Fatal(err)
	}
	if err := c.Disable(hash); err != nil {
		t.Errorf("disabling a deleted key: %v", err)
	}
}

func TestAPageOfHTMLIsNotGone(t *testing.T) {
	for _, page := range []string{"<!DOCTYPE html><h1>404</h1>", "\r\n  <html></html>", "<"} {
		for op, call := range operations {
			e := fails(t, call(clientOf(answering(http.StatusNotFound, nil, page))))
			if IsGone(e) || e.Kind != Refused || e.Uncertain {
				t.Errorf("%s: %q: %+v", op, page, e)
			}
		}
	}
}

func TestIsGoneIsAboutGoneAlone(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {errors.New("gone"), false}, {&Error{Kind: Refused, Status: 404}, false},
		{&Error{Kind: Gone}, true}, {fmt.Errorf("reading: %w", &Error{Kind: Gone}), true},
	} {
		if got := IsGone(c.err); got != c.want {
			t.Errorf("IsGone(%v) = %t", c.err, got)
		}
	}
}

func TestFailuresTellWhatCanBeDone(t *testing.T) {
	status := func(status int) openroutertest.Fault {
		return openroutertest.Fault{Kind: openroutertest.KindStatus, Status: status}
	}
	html := func(status int) openroutertest.Fault {
		return openroutertest.Fault{Kind: openroutertest.KindHTML, Status: status}
	}
	for _, c := range []struct {
		name      string
		fault     openroutertest.Fault
		kind      Kind
		uncertain bool
		status    int // -1: whatever a success has
	}{
		{"400", status(400), Refused, false, 400},
		{"401", status(401), Refused, false, 401},
		{"402", status(402), Refused, false, 402},
		{"403", status(403), Refused, false, 403},
		{"422", status(422), Refused, false, 422},
		{"HTML 403", html(403), Refused, false, 403},
		{"301", html(301), Refused, true, 301},
		{"302", html(302), Refused, true, 302},
		{"307", html(307), Refused, true, 307},
		{"429", status(429), Unavailable, false, 429},
		{"HTML 429", html(429), Unavailable, false, 429},
		{"408", status(408), Unavailable, true, 408},
		{"500", status(500), Unavailable, true, 500},
		{"502", status(502), Unavailable, true, 502},
		{"503", status(503), Unavailable, true, 503},
		{"504", status(504), Unavailable, true, 504},
		{"599", status(599), Unavailable, true, 599},
		{"HTML 502", html(502), Unavailable, true, 502},
		{"HTML 200", html(200), Unavailable, true, 200},
		{"HTML 201", html(201), Unavailable, true, 201},
		{"no answer", openroutertest.Fault{Kind: openroutertest.KindDrop}, Unavailable, true, 0},
		{"cut short", openroutertest.Fault{Kind: openroutertest.KindCut}, Unavailable, true, -1},
	} {
		for op, call := range operations {
			t.Run(c.name+"/"+op, func(t *testing.T) {
				s, client := standIn()
				s.Fail(standInOp(op), c.fault, 1)
				e := fails(t, call(client))
				if e.Op != op || e.Kind != c.kind || e.Uncertain != c.uncertain || c.status >= 0 && e.Status != c.status {
					t.Errorf("%+v", e)
				}
				if calls := s.Calls()[standInOp(op)]; calls != 1 {
					t.Errorf("%d calls", calls)
				}
			})
		}
	}
}

func TestAWrongProvisioningKeyIsRefused(t *testing.T) {
	for _, forbid := range []bool{false, true} {
		s, c := standIn(func(o *openroutertest.Options) { o.ForbidUserKeys = forbid })
		key, _ := create(t, c, "name", 1)
		c.ProvisioningKey = seal.NewSecret(key) // the key of a user
		for op, call := range operations {
			err := call(c)
			if e := fails(t, err); e.Kind != Refused || e.Uncertain {
				t.Errorf("%s: %+v", op, e)
			}
			if strings.Contains(err.Error(), key) {
				t.Errorf("%s: the error holds the key", op)
			}
		}
		if len(s.Keys()) != 1 {
			t.Errorf("%d keys", len(s.Keys()))
		}
	}
}

func TestTheKeyOfALostAnswerIsFoundByItsName(t *testing.T) {
	for _, kind := range []openroutertest.Kind{openroutertest.KindDrop, openroutertest.KindCut, openroutertest.KindStatus, openroutertest.KindHTML} {
		t.Run(string(kind), func(t *testing.T) {
			s, c := standIn()
			s.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: kind, Applied: true}, 1)
			_, _, err := c.Create(newKey("latchkey:u:lost", 1))
			if e := fails(t, err); !e.Uncertain {
				t.Errorf("%+v", e)
			}
			if found := visited(t, c)["latchkey:u:lost"]; found != s.Keys()[0].Hash {
				t.Errorf("found %q", found)
			}
		})
	}
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	for _, c := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"7", 7 * time.Second},
		{"0", 0},
		{"-5", 0},
		{"-99999999999999999999", 0},
		{"soon", 0},
		{"1.5", 0},
		{"7 seconds", 0},
		{"3600", time.Hour},
		{"3601", time.Hour},
		{"2147483647", time.Hour},
		{"2147483648", time.Hour},
		{"99999999999999999999", time.Hour},
		{now.Add(30 * time.Second).Format(http.TimeFormat), 30 * time.Second},
		{"Saturday, 21-Nov-26 12:01:00 GMT", time.Minute},
		{now.Add(-time.Hour).Format(http.TimeFormat), 0},
		{now.AddDate(100, 0, 0).Format(http.TimeFormat), time.Hour},
		{"Mon, 01 Jan 9999 00:00:00 GMT", time.Hour},
		{now.Format(time.RFC3339), 0}, // no form of this header
	} {
		for _, status := range []int{429, 503} {
			s, client := standIn()
			s.Fail(openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: status, RetryAfter: c.value}, 1)
			if e := fails(t, operations["get"](client)); e.RetryAfter != c.want {
				t.Errorf("%d with Retry-After %q: %v, want %v", status, c.value, e.RetryAfter, c.want)
			}
		}
	}
}

// holdsNoKey demands that no key is in an error, however it is printed.
func holdsNoKey(t *testing.T, err error, further ...string) {
	t.Helper()
	if err == nil {
		return
	}
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for _, key := range append(further, provisioningKey, userKey) {
		if strings.Contains(text, key) {
			t.Errorf("the error holds a key: %v", err)
		}
	}
}

func TestNoErrorHoldsAKey(t *testing.T) {
	message := func(text string) string {
		encoded, _ := json.Marshal(text)
		return `{"error":{"code":400,"message":` + string(encoded) + `}}`
	}
	for _, c := range []struct{ name, body string }{
		{"the provisioning key in the message", message("Invalid credentials: Bearer " + provisioningKey)},
		{"a user's key in the message", message("Key limit exceeded: " + userKey)},
		{"a key across the end of what is shown", message(strings.Repeat("x", 150) + userKey)},
		{"a key after a long message", message(strings.Repeat("x", 500) + userKey)},
		{"a key with escapes", `{"error":{"message":"sk\u002d` + userKey[3:] + `"}}`},
		{"a page of HTML", "<html>" + provisioningKey + userKey + "</html>"},
		{"plain text", provisioningKey + userKey},
		{"another shape", `{"message":"` + userKey + `","error":"` + provisioningKey + `"}`},
		{"a key where the amount should be", `{"data":{"hash":"` + userKeyHash + `","limit_remaining":"` + userKey + `"}}`},
		{"a key where the hash should be", `{"key":"` + userKey + `","data":{"hash":"` + userKey + `"}}`},
		{"a key where an object should be", `{"key":"` + userKey + `","data":"` + userKey + `"}`},
	} {
		for _, status := range []int{200, 302, 400, 401, 403, 404, 429, 500} {
			t.Run(fmt.Sprint(c.name, "/", status), func(t *testing.T) {
				for _, call := range operations {
					holdsNoKey(t, call(clientOf(answering(status, nil, c.body))))
				}
			})
		}
	}
}

func TestAProvisioningKeyOfAnotherFormIsHeldBackToo(t *testing.T) {
	const key = "pk_9f8e7d6c5b4a39281706f5e4d3c2b1a0" // nothing makes it begin with sk-
	client := clientOf(answering(401, nil, `{"error":{"message":"Invalid credentials: `+key+`"}}`))
	client.ProvisioningKey = seal.NewSecret(key)
	for _, call := range operations {
		holdsNoKey(t, call(client), key)
	}
}

// A part of a key shows most of it, and a message may be cut by whoever sends it.
func TestAPartOfAKeyIsHeldBackToo(t *testing.T) {
	padding := strings.Repeat("x", 150)
	for name, message := range map[string]string{
		"cut by length":             padding + " Invalid credentials: " + provisioningKey,
		"the end of it":             "Invalid: ..." + provisioningKey[len(provisioningKey)-8:],
		"its middle":                "Invalid: " + provisioningKey[10:20] + "...",
		"far behind what is logged": strings.Repeat(padding, 10) + provisioningKey,
		"a user's key":              padding + padding + userKey,
		"a user's key, cut":         "Invalid: " + userKey[len("sk-or-v1-"):],
	} {
		body, _ := json.Marshal(map[string]any{"error": map[string]any{"message": message}})
		for op, call := range operations {
			if err := call(clientOf(answering(401, nil, string(body)))); !strings.Contains(err.Error(), "withheld") {
				t.Errorf("%s: %s: %v", op, name, err)
			}
		}
	}
}

func TestAFailingTransportGivesNoKeyAway(t *testing.T) {
	echo := errors.New("invalid header value: Bearer " + provisioningKey)
	for name, transport := range map[string]roundTrip{
		"no answer": func(*http.Request) (*http.Response, error) { return nil, echo },
		"cut short": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: &body{err: echo}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range operations {
				err := call(clientOf(transport))
				if e := fails(t, err); e.Kind != Unavailable || !e.Uncertain {
					t.Errorf("%+v", e)
				}
				holdsNoKey(t, err)
			}
		})
	}
}

func TestAReasonIsShort(t *testing.T) {
	long := strings.Repeat("ж", 5000)
	for status, body := range map[int]string{
		400: `{"error":{"message":"` + long + `"}}`,
		200: `{"data":{"hash":"` + userKeyHash + `","limit_remaining":"` + long + `"}}`,
	} {
		text := clientErr(operations["get"](clientOf(answering(status, nil, body))))
		if len(text) > 1000 || !utf8.ValidString(text) {
			t.Errorf("status %d: an error of %d bytes, valid UTF-8 %t", status, len(text), utf8.ValidString(text))
		}
	}
	if text := clientErr(operations["get"](clientOf(answering(400, nil, `{"error":{"message":"name is required"}}`)))); !strings.Contains(text, "name is required") {
		t.Errorf("OpenRouter's message is not in %q", text)
	}
}

func clientErr(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// body is an endless body, or one that fails.
type body struct {
	of     string // repeated
	err    error
	read   int
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	for i := range p {
		p[i] = b.of[(b.read+i)%len(b.of)]
	}
	b.read += len(p)
	return len(p), nil
}

func (b *body) Close() error {
	b.closed = true
	return nil
}

func TestAnEndlessBodyIsNotReadToItsEnd(t *testing.T) {
	for _, text := range []string{" ", "<p>", `{"data":[`} {
		for _, status := range []int{200, 404, 500} {
			for op, call := range operations {
				b := &body{of: text}
				err := call(clientOf(roundTrip(func(*http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: status, Body: b}, nil
				})))
				if b.read > maxBodyBytes+1 || !b.closed {
					t.Errorf("%s: %d %q: %d bytes read, closed %t", op, status, text, b.read, b.closed)
				}
				if op != "delete" && op != "disable" && err == nil {
					t.Errorf("%s: %d %q: no error", op, status, text)
				}
			}
		}
	}
}

func TestEveryBodyIsClosed(t *testing.T) {
	for _, status := range []int{200, 302, 404, 500} {
		for op, call := range operations {
			b := &body{err: io.EOF}
			_ = call(clientOf(roundTrip(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: status, Body: b}, nil })))
			if !b.closed {
				t.Errorf("%s: %d: the body is still open", op, status)
			}
		}
	}
}

func TestRequestsAreWhatOpenRouterExpects(t *testing.T) {
	for op, want := range map[string]string{
		"create":  "POST https://openrouter.test/api/v1/keys",
		"get":     "GET https://openrouter.test/api/v1/keys/" + userKeyHash,
		"disable": "PATCH https://openrouter.test/api/v1/keys/" + userKeyHash,
		"delete":  "DELETE https://openrouter.test/api/v1/keys/" + userKeyHash,
		"list":    "GET https://openrouter.test/api/v1/keys?include_disabled=true&offset=0",
	} {
		t.Run(op, func(t *testing.T) {
			var sent *http.Request
			_ = operations[op](clientOf(roundTrip(func(r *http.Request) (*http.Response, error) {
				sent = r
				return answering(http.StatusUnauthorized, nil, "{}")(r)
			})))
			if got := sent.Method + " " + sent.URL.String(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			headers := map[string]string{"Authorization": "Bearer " + provisioningKey, "Accept": "application/json"}
			if want := map[string]string{"create": `{"name":"name","limit":1}`, "disable": `{"disabled":true}`}[op]; want != "" {
				headers["Content-Type"] = "application/json"
				if body, err := io.ReadAll(sent.Body); err != nil || string(body) != want {
					t.Errorf("body %s, %v; want %s", body, err, want)
				}
			} else if sent.Body != nil {
				t.Error("it has a body")
			}
			for name, value := range headers {
				if got := sent.Header.Values(name); !slices.Equal(got, []string{value}) {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
			if len(sent.Header) != len(headers) {
				t.Errorf("further headers: %v", slices.Collect(maps.Keys(sent.Header)))
			}
		})
	}
}

func TestRedirectsAreNeverFollowed(t *testing.T) {
	for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		for op, call := range operations {
			calls := 0
			e := fails(t, call(clientOf(roundTrip(func(r *http.Request) (*http.Response, error) {
				calls++
				return answering(status, http.Header{"Location": {"https://elsewhere.test/"}}, "{}")(r)
			}))))
			if calls != 1 || e.Kind != Refused || !e.Uncertain {
				t.Errorf("%s: %d: %d calls, %+v", op, status, calls, e)
			}
		}
	}
}

func TestWhatIsNoHashIsNeverSent(t *testing.T) {
	c := clientOf(roundTrip(func(r *http.Request) (*http.Response, error) {
		t.Errorf("sent %s %s", r.Method, r.URL)
		return answering(http.StatusOK, nil, "{}")(r)
	}))
	admin := Admin{Client: c}
	for _, text := range []string{"", ".", "../credits?a=b#c", userKeyHash[1:], userKeyHash + "0", strings.ToUpper(userKeyHash), strings.Repeat("g", 64)} {
		if _, err := c.Get(text); !IsGone(err) {
			t.Errorf("get %q: %v", text, err)
		}
		if _, err := admin.Record(text); !IsGone(err) {
			t.Errorf("record %q: %v", text, err)
		}
		for _, end := range []func(string) error{c.Delete, c.Disable, admin.Delete} {
			if err := end(text); err != nil { // there is no such key
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

// visited returns the hash of every name that Each visits.
func visited(t *testing.T, c Client) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := c.Each(func(key Listed) error {
		if before, twice := found[key.Name]; twice {
			t.Errorf("%q is visited with hash %q, and was with %q", key.Name, key.Hash, before)
		}
		found[key.Name] = key.Hash
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// makeKeys creates n keys with the names 0 to n-1; every tenth is disabled.
func makeKeys(t *testing.T, s *openroutertest.Server, c Client, n int) {
	t.Helper()
	for i := range n {
		_, hash := create(t, c, fmt.Sprint(i), 1)
		if i%10 == 0 {
			if err := s.SetDisabled(hash, true); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestEachVisitsEveryKey(t *testing.T) {
	for _, n := range []int{0, 1, 99, 100, 101, 190, 191, 250, 1000} {
		for _, oldestFirst := range []bool{false, true} {
			t.Run(fmt.Sprint(n, oldestFirst), func(t *testing.T) {
				s, c := standIn(func(o *openroutertest.Options) { o.OldestFirst = oldestFirst })
				makeKeys(t, s, c, n)
				found := visited(t, c)
				if len(found) != n {
					t.Errorf("%d keys visited, want %d", len(found), n)
				}
				for _, key := range s.Keys() {
					if found[key.Name] != key.Hash {
						t.Errorf("key %s (disabled %t) has hash %q, want %q", key.Name, key.Disabled, found[key.Name], key.Hash)
					}
				}
				if calls, most := s.Calls()[openroutertest.OpList], n/(pageSize-pageOverlap)+1; calls > most {
					t.Errorf("%d calls, want at most %d", calls, most)
				}
			})
		}
	}
}

func TestEachMissesNothingWhileKeysComeAndGo(t *testing.T) {
	// Between two pages, delete so many of the keys of the last page, from its start or its end.
	for _, c := range []struct {
		gone, come int
		fromEnd    bool
	}{
		{1, 0, false}, {1, 0, true}, {10, 0, false}, {10, 0, true}, {0, 30, false}, {10, 10, false}, {5, 60, true},
		{11, 0, false}, {25, 0, true}, {95, 0, false},
	} {
		t.Run(fmt.Sprintf("%d gone, %d come, from the end %t", c.gone, c.come, c.fromEnd), func(t *testing.T) {
			s, client := standIn()
			makeKeys(t, s, client, 250)
			page, news := []string{}, 0
			changing := client
			changing.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				if c.fromEnd {
					slices.Reverse(page)
				}
				for _, hash := range page[:min(c.gone, len(page))] {
					if err := client.Delete(hash); err != nil {
						t.Error(err)
					}
				}
				if len(page) > 0 {
					for range c.come {
						news++
						create(t, client, fmt.Sprint("new ", news), 1)
					}
				}
				page = page[:0]
				return s.RoundTrip(r)
			})
			seen := map[string]bool{}
			err := changing.Each(func(key Listed) error {
				page = append(page, key.Hash)
				seen[key.Hash] = true
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			missed := 0
			for _, key := range s.Keys() {
				if !key.Deleted && !seen[key.Hash] && !strings.HasPrefix(key.Name, "new") {
					missed++
				}
			}
			if missed > 0 {
				t.Errorf("%d keys that were there all the time were missed", missed)
			}
		})
	}
}

func TestEachEndsWithTheFirstError(t *testing.T) {
	s, c := standIn()
	makeKeys(t, s, c, 150)
	stop, visits := errors.New("stop"), 0
	err := c.Each(func(Listed) error {
		if visits++; visits == 3 {
			return stop
		}
		return nil
	})
	if err != stop || visits != 3 {
		t.Errorf("%v after %d visits", err, visits)
	}

	s.ResetCalls()
	err = c.Each(func(Listed) error {
		s.Fail(openroutertest.OpList, openroutertest.Fault{Kind: openroutertest.KindDrop}, 1) // the second page
		return nil
	})
	if e := fails(t, err); e.Op != "list" || e.Kind != Unavailable || s.Calls()[openroutertest.OpList] != 2 {
		t.Errorf("%+v after %d calls", e, s.Calls()[openroutertest.OpList])
	}
}

// To take one for an empty list is to believe that an orphan was never made.
func TestAnAnswerWithoutAListIsNoEmptyList(t *testing.T) {
	for _, body := range []string{``, `{}`, `null`, `[]`, `{"data":null}`, `{"data":{}}`, `{"keys":[]}`, `{"error":{"code":500,"message":"Internal Server Error"}}`} {
		if err := operations["list"](clientOf(answering(http.StatusOK, nil, body))); err == nil {
			t.Errorf("%q counts as an empty list", body)
		}
	}
	if err := operations["list"](clientOf(answering(http.StatusOK, nil, `{"data":[]}`))); err != nil {
		t.Errorf("an empty list: %v", err)
	}
}

func TestEachEndsEvenIfOffsetIsIgnored(t *testing.T) {
	var page strings.Builder
	for i := range pageSize {
		fmt.Fprintf(&page, `,{"hash":"%064d","name":"%d"}`, i, i)
	}
	const enough = maxPages
	calls := 0
	_ = clientOf(roundTrip(func(r *http.Request) (*http.Response, error) {
		if calls++; calls > enough {
			return nil, errors.New("enough")
		}
		return answering(http.StatusOK, nil, `{"data":[`+page.String()[1:]+`]}`)(r)
	})).Each(func(Listed) error { return nil })
	if calls > enough {
		t.Errorf("after %d calls it still goes on", enough)
	}
}

func FuzzAnswers(f *testing.F) {
	record := `{"hash":"` + userKeyHash + `","name":"n","disabled":false,"limit_remaining":0.5}`
	for _, seed := range []struct {
		status           int
		retryAfter, body string
	}{
		{201, "", `{"data":` + record + `,"key":"` + userKey + `"}`},
		{200, "", `{"data":` + record + `}`},
		{200, "", `{"data":[` + record + `,null,{}]}`},
		{201, "", `{"data":{"hash":"0"},"key":"` + userKey + `"}`},
		{201, "", `{"data":` + record + `,"key":"other"}`},
		{200, "", `{"data":{"hash":"` + userKeyHash + `","limit_remaining":null}}`},
		{200, "", `{"data":{"hash":"` + userKeyHash + `","limit_remaining":1e999}}`},
		{200, "", `{"data":{"hash":"` + userKeyHash + `","limit_remaining":-9223372036.854775808}}`},
		{200, "", `{"data":{"hash":"` + userKeyHash + `","limit_remaining":1,"expires_at":"2027-11-21T12:00:00+24:60"}}`},
		{204, "", ``},
		{404, "", `{"error":{"code":404,"message":"API key not found"}}`},
		{404, "", `<html>`},
		{429, "99999999999", `{"error":{"message":"` + provisioningKey + `"}}`},
		{500, "Sat, 21 Nov 2026 12:00:30 GMT", "\xff\xfe"},
		{0, "-1", `[[[[`},
		{-1, "x", `{"error":{"message":"` + userKey + `"}}`},
	} {
		f.Add(seed.status, seed.retryAfter, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, status int, retryAfter string, body []byte) {
		// The second page is an empty one: a full first page shall not go on for ever.
		calls := 0
		c := clientOf(roundTrip(func(r *http.Request) (*http.Response, error) {
			if calls++; calls > 1 {
				return answering(http.StatusOK, nil, `{"data":[]}`)(r)
			}
			return answering(status, http.Header{"Retry-After": {retryAfter}}, string(body))(r)
		}))
		success := status >= 200 && status < 300

		key, hash, err := c.Create(newKey("name", 1))
		if err == nil && (!success || key.Reveal() == "" || hash != hashOf(key.Reveal()) || !bytes.Contains(body, []byte(hash))) {
			t.Errorf("create: status %d gave a key with hash %q", status, hash)
		}
		if err != nil && (key.Reveal() != "" || hash != "") {
			t.Errorf("create: both a key and an error, %v", err)
		}
		judged(t, status, err)

		calls = 0
		got, err := c.Get(userKeyHash)
		if err == nil && (!success || got.Hash != userKeyHash) || err != nil && got != (Key{}) {
			t.Errorf("get: status %d gave %+v, %v", status, got, err)
		}
		if !got.Uncapped && (got.Left > MaxReading || got.Left < -MaxReading || got.Limit != nil && (got.Left > *got.Limit || *got.Limit < 0 || *got.Limit > MaxReading)) {
			t.Errorf("get: believed %+v", got)
		}
		var again time.Time
		if stored, err := json.Marshal(got.ExpiresAt); err != nil || json.Unmarshal(stored, &again) != nil || !again.Equal(got.ExpiresAt) {
			t.Errorf("get: believed an end of %v, which cannot be stored: %s, %v", got.ExpiresAt, stored, err)
		}
		judged(t, status, err)

		calls = 0
		err = c.Delete(userKeyHash)
		if err == nil && !success && status != http.StatusNotFound {
			t.Errorf("delete: status %d counts as deleted", status)
		}
		judged(t, status, err)

		calls = 0
		err = c.Disable(userKeyHash)
		if err == nil && !success && status != http.StatusNotFound {
			t.Errorf("disable: status %d counts as disabled", status)
		}
		judged(t, status, err)

		calls = 0
		err = c.Assign("guardrail", userKeyHash)
		if err == nil && !success {
			t.Errorf("assign: status %d counts as assigned", status)
		}
		judged(t, status, err)

		admin := Admin{Client: c}
		calls = 0
		record, err := admin.Record(userKeyHash)
		if err == nil && (!success || record.Hash != userKeyHash) {
			t.Errorf("record: status %d gave %+v", status, record)
		}
		judged(t, status, err)
		calls = 0
		_, _, err = admin.Credits()
		judged(t, status, err)
		calls = 0
		_, err = admin.Activity("")
		judged(t, status, err)

		calls = 0
		visits := 0
		err = c.Each(func(Listed) error { visits++; return nil })
		if !success && (err == nil || visits > 0) {
			t.Errorf("list: status %d: %d visits, %v", status, visits, err)
		}
		judged(t, status, err)
	})
}

// judged demands of an error what holds for all of them.
func judged(t *testing.T, status int, err error) {
	t.Helper()
	if err == nil {
		return
	}
	holdsNoKey(t, err)
	e := fails(t, err)
	switch e.Kind {
	case Gone:
		if status != http.StatusNotFound || e.Uncertain {
			t.Errorf("status %d: %+v", status, e)
		}
	case Refused, Unavailable:
	default:
		t.Errorf("status %d: kind %q", status, e.Kind)
	}
	if status >= 500 && !e.Uncertain || status >= 400 && status < 500 && status != http.StatusRequestTimeout && e.Uncertain {
		t.Errorf("status %d: uncertain %t", status, e.Uncertain)
	}
	if e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter || len(e.Error()) > 1000 {
		t.Errorf("status %d: Retry-After %v, an error of %d bytes", status, e.RetryAfter, len(e.Error()))
	}
}
