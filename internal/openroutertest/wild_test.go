package openroutertest_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

// fault injects a fault through the control surface.
func (f *fixture) fault(body string) {
	f.Helper()
	f.control("POST", "faults", body, http.StatusNoContent)
}

func TestAlterLaysAPatchOverTheRightAnswer(t *testing.T) {
	for _, test := range []struct {
		op     string
		method string
		path   string
		body   string
		alter  string // members of the control body
		status int
		at     []any
		want   string
	}{
		{"create", "POST", "keys", `{"name":"b","limit":1}`, `"patch":{"data":{"name":"c"}}`, 201, []any{"data", "name"}, `"c"`},
		{"create", "POST", "keys", `{"name":"b","limit":1}`, `"patch":{"data":{"name":"c"}}`, 201, []any{"data", "limit"}, `1`},
		{"create", "POST", "keys", `{"name":"b","limit":1}`, `"nulls":["data.limit","data.limit_remaining"]`, 201, []any{"data", "limit"}, `null`},
		{"create", "POST", "keys", `{"name":"b","limit":1}`, `"patch":{"data":{"hash":"d"}},"nulls":["key"]`, 201, []any{"key"}, `null`},
		{"get", "GET", "keys/{hash}", ``, `"patch":{"data":{"limit_remaining":4e6}}`, 200, []any{"data", "limit_remaining"}, `4e6`},
		{"get", "GET", "keys/{hash}", ``, `"patch":{"data":{"limit_remaining":-4e6}}`, 200, []any{"data", "limit_remaining"}, `-4e6`},
		{"get", "GET", "keys/{hash}", ``, `"patch":{"data":{"usage":1e308}}`, 200, []any{"data", "usage"}, `1e308`},
		{"get", "GET", "keys/{hash}", ``, `"patch":{"data":{"usage":1e999}}`, 200, []any{"data", "usage"}, `1e999`},
		{"get", "GET", "keys/{hash}", ``, `"patch":{"data":{"usage":"0.7"}}`, 200, []any{"data", "usage"}, `"0.7"`},
		{"get", "GET", "keys/{hash}", ``, `"nulls":["data.limit_remaining"]`, 200, []any{"data", "limit_remaining"}, `null`},
		{"get", "GET", "keys/{hash}", ``, `"patch":{"data":7}`, 200, nil, `{"data":7}`},
		{"get", "GET", "keys/{hash}", ``, `"patch":[null,1]`, 200, nil, `[null,1]`},
		{"get", "GET", "keys/{hash}", ``, `"patch":null`, 200, nil, `null`},
		{"get", "GET", "keys/none", ``, `"patch":{"error":{"message":"m","code":1}}`, 404, nil, `{"error":{"code":1,"message":"m"}}`},
		{"list", "GET", "keys", ``, `"patch":{"data":[{"hash":null}]}`, 200, nil, `{"data":[{"hash":null}]}`},
		{"update", "PATCH", "keys/{hash}", `{"name":"b"}`, `"patch":{"data":{"name":"c"}}`, 200, []any{"data", "name"}, `"c"`},
		{"delete", "DELETE", "keys/{hash}", ``, `"patch":{"deleted":false}`, 200, nil, `{"deleted":false}`},
		{"key", "GET", "key", ``, `"patch":{"data":{"usage":9}}`, 200, []any{"data", "usage"}, `9`},
		{"activity", "GET", "activity", ``, `"patch":{"data":{}}`, 200, nil, `{"data":{}}`},
		{"credits", "GET", "credits", ``, `"patch":{"data":{"total_usage":null}}`, 200, nil, `{"data":{"total_credits":1000}}`},
		{"guardrails", "POST", "guardrails", `{"name":"g"}`, `"patch":{"data":{"id":"x"}}`, 201, []any{"data", "id"}, `"x"`},
		{"assign", "POST", "guardrails/{guardrail}/assignments/keys", `{"key_hashes":["{hash}"]}`, `"patch":{"assigned_count":0}`, 200, nil, `{"assigned_count":0}`},
		{"chat", "POST", "chat/completions", `{}`, `"patch":{"usage":{"cost":"free"}}`, 200, []any{"usage", "cost"}, `"free"`},
	} {
		t.Run(test.op+" "+test.alter, func(t *testing.T) {
			f := start(t)
			hash, secret := f.create(`{"name":"a","limit":1}`)
			token := provisioningKey
			if test.op == "chat" {
				token = secret
			}
			f.fault(`{"op":"` + test.op + `","kind":"alter","times":1,` + test.alter + `}`)
			fill := strings.NewReplacer("{hash}", hash, "{guardrail}", f.AddGuardrail("g"))
			a := f.callAs(token, test.method, fill.Replace(test.path), fill.Replace(test.body), test.status)
			a.want(test.want, test.at...)

			keys := f.Keys()
			effect := map[string]bool{
				"create": len(keys) == 2 && keys[1].Name == "b" && *keys[1].Limit == 1e9,
				"update": keys[0].Name == "b",
				"delete": keys[0].Deleted,
				"assign": keys[0].GuardrailID != "",
				"chat":   keys[0].Usage == 10_000_000,
			}
			if happened, known := effect[test.op]; known && !happened {
				t.Errorf("had no effect: %+v", keys)
			}
		})
	}
}

func TestAlterTakesAMemberAway(t *testing.T) {
	f := start(t)
	hash, _ := f.create(`{"name":"a","limit":1}`)
	f.Fail(openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"data":{"limit_remaining":null}}`)}, 1)
	record := f.call("GET", "keys/"+hash, "", http.StatusOK).at("data").(map[string]any)
	if _, there := record["limit_remaining"]; there || record["limit"] == nil {
		t.Errorf("the record is %v", record)
	}
}

func TestReplayAnswersAnEarlierCall(t *testing.T) {
	for _, applied := range []bool{false, true} {
		t.Run(fmt.Sprint("applied ", applied), func(t *testing.T) {
			f := start(t)
			replay := openroutertest.Fault{Kind: openroutertest.KindReplay, Applied: applied}
			f.Fail(openroutertest.OpCreate, replay, 1)
			f.call("POST", "keys", `{"name":"first"}`, http.StatusInternalServerError)
			_, secret := f.create(`{"name":"a","limit":1}`)
			f.call("POST", "keys", `{}`, http.StatusBadRequest) // fails: is not replayed

			f.Fail(openroutertest.OpCreate, replay, 2)
			f.call("POST", "keys", `{"name":"b"}`, http.StatusCreated).want(`"`+secret+`"`, "key")
			a := f.call("POST", "keys", `{"name":"c"}`, http.StatusCreated)

			// A call that took effect was a success, whatever was answered.
			want, created := `"a"`, 1
			if applied {
				want, created = `"b"`, 4
			}
			a.want(want, "data", "name")
			if n := len(f.Keys()); n != created {
				t.Errorf("%d keys exist, want %d", n, created)
			}
		})
	}
}

func TestReplayIsPerOperation(t *testing.T) {
	f := start(t)
	a, _ := f.create(`{"name":"a"}`)
	b, _ := f.create(`{"name":"b"}`)
	f.call("GET", "keys/"+a, "", http.StatusOK)
	f.call("PATCH", "keys/"+b, `{"limit":2}`, http.StatusOK)
	f.call("DELETE", "keys/"+a, "", http.StatusOK)
	for _, op := range []string{"get", "delete", "list"} {
		f.fault(`{"op":"` + op + `","kind":"replay","times":1}`)
	}
	f.call("GET", "keys/"+b, "", http.StatusOK).want(`"a"`, "data", "name")
	f.call("DELETE", "keys/"+b, "", http.StatusOK).want(`{"deleted":true}`)
	f.call("GET", "keys", "", http.StatusInternalServerError)
	if f.Deleted(b) {
		t.Error("the replayed delete took effect")
	}
}

func TestStaleReadsTheUsageAsItWas(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.UsageLag = 5 * time.Second })
	hash, secret := f.create(`{"name":"a","limit":1,"limit_reset":"daily"}`)
	f.spend(secret, 0.3)
	f.clock.Advance(10 * time.Second)
	f.spend(secret, 0.4)
	f.clock.Advance(10 * time.Second)
	for _, test := range []struct{ ms, usage, remaining string }{
		{"4999", "0.7", "0.3"},
		{"5000", "0.7", "0.3"},
		{"5001", "0.3", "0.7"},
		{"15000", "0.3", "0.7"},
		{"15001", "0", "1"},
		{"86400000", "0", "1"},
	} {
		for op, path := range map[string]string{"get": "keys/" + hash, "list": "keys"} {
			f.fault(`{"op":"` + op + `","kind":"stale","delay_ms":` + test.ms + `,"times":1}`)
			stale, fresh := f.call("GET", path, "", http.StatusOK), f.call("GET", path, "", http.StatusOK)
			for field, want := range map[string]string{"usage": test.usage, "usage_daily": test.usage, "limit_remaining": test.remaining} {
				at := []any{"data", field}
				if op == "list" {
					at = []any{"data", 0, field}
				}
				stale.want(want, at...)
				if field != "limit_remaining" {
					fresh.want("0.7", at...)
				}
			}
		}
	}
	f.clock.Advance(24 * time.Hour)
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("0", "data", "usage_daily")
	f.Fail(openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindStale, Delay: 24 * time.Hour}, 1)
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("0.7", "data", "usage_daily") // yesterday's window
}

// Huge bodies are counted, not kept.
func TestHugePadsTheRightAnswer(t *testing.T) {
	const size = 3 << 20
	for name, test := range map[string]struct {
		accept string // "": none
		gzip   bool
	}{
		"plain":         {"", false},
		"gzip":          {"br;q=1.0, GZIP ; q=0.5", true},
		"gzip refused":  {"gzip;q=0.0, br", false},
		"other codings": {"br, deflate", false},
	} {
		for _, inProcess := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " in process ", inProcess), func(t *testing.T) {
				f := start(t)
				// Not asked by the test, net/http asks for gzip and undoes it.
				f.http.Transport.(*http.Transport).DisableCompression = true
				if inProcess {
					f.http.Transport = f.Server
				}
				f.fault(`{"op":"create","kind":"huge","bytes":` + fmt.Sprint(size) + `,"times":1}`)
				response := f.respond("POST", "keys", `{"name":"a"}`, test.accept)
				defer response.Body.Close()
				if response.StatusCode != http.StatusCreated || response.ContentLength != -1 {
					t.Errorf("status %d, Content-Length %d", response.StatusCode, response.ContentLength)
				}
				sent := &counter{Reader: response.Body}
				var body io.Reader = sent
				if got := response.Header.Get("Content-Encoding"); (got == "gzip") != test.gzip {
					t.Fatalf("Content-Encoding %q", got)
				}
				if test.gzip {
					var err error
					if body, err = gzip.NewReader(sent); err != nil {
						t.Fatal(err)
					}
				}
				decoded := &counter{Reader: body}
				var created struct {
					Key     string
					Data    struct{ Name string }
					Padding string
				}
				if err := json.NewDecoder(decoded).Decode(&created); err != nil {
					t.Fatal(err)
				}
				if created.Data.Name != "a" || created.Key != f.Keys()[0].Secret {
					t.Errorf("the answer is of %+v", created.Data)
				}
				if decoded.bytes != size || test.gzip && sent.bytes > size/500 {
					t.Errorf("%d bytes sent, %d decoded", sent.bytes, decoded.bytes)
				}
				f.create(`{"name":"b"}`) // as ever
			})
		}
	}
}

func TestHugeIsTheAnswerOfARefusalToo(t *testing.T) {
	f := start(t)
	f.Fail(openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindHuge, Bytes: 1 << 20}, 1)
	a := f.call("GET", "keys/none", "", http.StatusNotFound)
	a.want("404", "error", "code")
	if len(a.body) != 1<<20 {
		t.Errorf("%d bytes", len(a.body))
	}
	f.Fail(openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindHuge, Bytes: 1}, 1)
	f.call("GET", "keys/none", "", http.StatusNotFound).want(`""`, "padding") // larger as it is
}

// Half a gibibyte in process: what is not read is not made.
func TestHugeIsMadeAsItIsRead(t *testing.T) {
	s := openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey})
	f := &fixture{T: t, Server: s, url: "http://standin", http: &http.Client{Transport: s}}
	f.Fail(openroutertest.OpList, openroutertest.Fault{Kind: openroutertest.KindHuge, Bytes: openroutertest.MaxBytes}, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	response := f.respond("GET", "keys", "", "")
	defer response.Body.Close()
	if n, err := io.CopyN(io.Discard, response.Body, 1<<20); err != nil {
		t.Errorf("%d bytes, then %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if made := after.TotalAlloc - before.TotalAlloc; made > 16<<20 {
		t.Errorf("%d bytes of memory for a MiB", made)
	}
}

func TestA404ByMistakeLeavesTheKey(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	for _, op := range []string{"get", "update", "delete"} {
		f.fault(`{"op":"` + op + `","kind":"status","status":404,"times":1}`)
	}
	f.call("GET", "keys/"+hash, "", http.StatusNotFound)
	f.call("PATCH", "keys/"+hash, `{"disabled":true}`, http.StatusNotFound)
	f.call("DELETE", "keys/"+hash, "", http.StatusNotFound)
	if live := f.Live(); len(live) != 1 || live[0].Hash != hash {
		t.Errorf("Live() = %+v", live)
	}
	f.spend(secret, 0.25)
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("0.75", "data", "limit_remaining")
}

// respond makes one call and leaves the body to be read. accept is the
// Accept-Encoding header, "" for none.
func (f *fixture) respond(method, path, body, accept string) *http.Response {
	f.Helper()
	request := f.request(method, path, provisioningKey, body)
	if accept != "" {
		request.Header.Set("Accept-Encoding", accept)
	}
	response, err := f.http.Do(request)
	if err != nil {
		f.Fatal(err)
	}
	return response
}

// A counter counts what is read through it.
type counter struct {
	io.Reader
	bytes int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes += int64(n)
	return n, err
}
