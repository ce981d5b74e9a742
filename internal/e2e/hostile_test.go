//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// raw sends bytes on a connection of their own, and returns the statuses of what
// comes back until the server closes it or says nothing for a while. A 500 of
// wrangler's own proxy, which is not there in production, is left out: its body is
// no problem document.
func (w *worker) raw(t *testing.T, sent []byte) []string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go conn.Write(sent) // the server may close while it is still being sent
	var got bytes.Buffer
	for part := make([]byte, 64<<10); ; {
		conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(part)
		got.Write(part[:n])
		if err != nil {
			break
		}
	}
	var statuses []string
	for line := range strings.Lines(got.String()) {
		rest, ok := strings.CutPrefix(line, "HTTP/1.1 ")
		if ok && (rest[0] != '5' || strings.Contains(got.String(), "urn:latchkey")) {
			statuses = append(statuses, rest[:3])
		}
	}
	return statuses
}

// well checks that the Worker still answers.
func (w *worker) well(t *testing.T) {
	t.Helper()
	if a := w.ask(t, "GET", "/healthz", nil); a.status != 200 {
		t.Fatalf("it is not well any more: %v", a)
	}
}

// objects counts the Durable Objects that have stored anything.
func (w *worker) objects(t *testing.T) int {
	t.Helper()
	count := 0
	err := filepath.WalkDir(filepath.Join(w.state, "v3", "do"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".sqlite") {
			count++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// Bytes that are no request, and requests that no client sends by mistake.
func TestHostileBytes(t *testing.T) {
	w := useShared(t)
	token := newUser(t, w).token()
	head := "GET /api/users/me HTTP/1.1\r\nHost: x\r\n"
	for name, sent := range map[string]string{
		"nothing that is HTTP":            "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\xff\x00", 500),
		"HTTP/0.9":                        "GET /api/users/me\r\n\r\n",
		"a version that is none":          "GET /api/users/me HTTP/9.9\r\nHost: x\r\n\r\n",
		"no Host":                         "GET /api/users/me HTTP/1.1\r\n\r\n",
		"a header without a name":         head + ": x\r\n\r\n",
		"NUL in a header":                 head + "Authorization: Bearer a\x00b\r\n\r\n",
		"bytes that are no UTF-8":         head + "Authorization: Bearer \xff\xfe\xfd\r\n\r\n",
		"10,000 headers":                  head + strings.Repeat("X-Flood: x\r\n", 10_000) + "\r\n",
		"a header of 1 MiB":               head + "Authorization: Bearer " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"a URL of 1 MiB":                  "GET /api/users/me?" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"a path that is no UTF-8":         "GET /api/users/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
		"two lengths":                     "POST /api/users/me HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a length and chunks":             "POST /api/users/me HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
		"a length below 0":                "POST /api/users/me HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"chunks that are none":            "POST /api/users/me HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"a pipeline that ends in junk":    strings.Repeat(head+"\r\n", 50) + strings.Repeat("\x00\xff junk\r\n", 1000),
		"a pipeline with somebody's body": "POST /api/users/me/openrouter-api-key/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n" + head + "Authorization: Bearer " + token + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, status := range w.raw(t, []byte(sent)) {
				if status[0] != '4' {
					t.Errorf("answered %s", status)
				}
			}
			w.well(t)
		})
	}
}

// Every route gets every kind of body: whatever is answered, it is no error of ours.
func TestHostileBodies(t *testing.T) {
	w := start(t, administered)
	u := newUser(t, w)
	u.provisioned()
	bodies := map[string]string{
		"empty": "", "no JSON": "\xff\xfe{", "null": "null", "a list": "[]", "a number": "1e999", "text": `"x"`,
		"deep": strings.Repeat("[", 30_000), "deep objects": strings.Repeat(`{"a":`, 10_000),
		"wild limits": `{"total_limit":1e308}`, "limits below 0": `{"remaining_limit":-1}`, "a limit that is text": `{"total_limit":"10"}`,
		"twice": `{"suspended":false}{"suspended":true}`, "unknown": `{"dry_run":true,"x":1}`, "NaN": `{"total_limit":NaN}`,
		"64 KiB": `{"` + strings.Repeat("x", 64<<10-5) + `"`, "too large": strings.Repeat("x", 64<<10+1),
	}
	routes := []struct{ method, path string }{
		{"GET", me}, {"POST", refresh}, {"GET", me + "/ledger"}, {"GET", "/healthz"}, {"GET", "/api/admin/users"}, {"GET", "/api/admin/users/x"},
		{"PATCH", "/api/admin/users/x"}, {"DELETE", "/api/admin/users/x"}, {"GET", "/api/admin/users/x/ledger"},
		{"POST", "/api/admin/users/x/sync"}, {"POST", "/api/admin/reconcile"}, {"POST", "/api/admin/reseal"}, {"POST", "/nowhere"},
	}
	asked, answered := 0, 0
	for _, r := range routes {
		for name, body := range bodies {
			for who, token := range map[string]string{"nobody": "", "a user": u.token(), "an operator": adminToken} {
				// A client of Go's would call it an error where the answer comes before the body is sent.
				sent := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
					r.method, r.path, token, max(len(body), 1), cmp.Or(body, " "))
				asked++
				for _, status := range w.raw(t, []byte(sent)) {
					answered++
					if status[0] == '5' {
						t.Errorf("%s %s, %s, %s: answered %s", r.method, r.path, name, who, status)
					}
				}
			}
		}
	}
	if answered < asked*9/10 { // some answers are lost with the connection
		t.Errorf("%d of %d requests were answered", answered, asked)
	}
	w.well(t)
}

// Paths and headers by which somebody could try to be somebody else.
func TestHostilePathsAndHeaders(t *testing.T) {
	w := start(t, administered)
	u, victim := newUser(t, w), newUser(t, w)
	v := u.provisioned()
	other := victim.provisioned()
	before := w.objects(t)

	for _, path := range []string{
		"//api/users/me", "/api//users/me", "/api/users//me", "/api/users/me/", "/api/users/me/.", "/api/users/me%2f", "/api/users/me%00",
		"/api/users/me;x=1", "/API/users/me", "/api/users/ME", "/api/users/" + victim.id, "/api/users/me%20", "/api/users/%ff",
		"/api/admin", "/api/admin/", "/api/admin/users/%2e%2e/" + victim.id, "/api/admin/users/%2e", "/api/admin/users/x/y/z", "/api/admin/users/x%2fledger/y",
	} {
		sent := "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + u.token() + "\r\n\r\n"
		for _, status := range w.raw(t, []byte(sent)) {
			if status[0] != '4' {
				t.Errorf("%s is answered %s", path, status)
			}
		}
	}
	for _, method := range []string{"TRACE", "CONNECT", "PROPFIND", "get", "LOCK", "PUT", "DELETE", "HEAD", "X", strings.Repeat("M", 2000)} {
		sent := method + " /api/users/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + u.token() + "\r\n\r\n"
		for _, status := range w.raw(t, []byte(sent)) {
			if status[0] == '2' || status == "500" {
				t.Errorf("%.20s is answered %s", method, status)
			}
		}
	}

	// What a proxy, a framework or latchkey itself could use to say whose request it is.
	forged := bearer(u.token())
	for _, name := range []string{
		"X-User", "X-User-Id", "X-Latchkey-User", "X-Latchkey-Identity", "X-Forwarded-User", "X-Authenticated-User", "Remote-User", "Cf-Access-Authenticated-User-Email",
		"Cf-Access-Jwt-Assertion", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "Cf-Worker", "Cookie", "X-Admin-Token", "Proxy-Authorization",
	} {
		forged.Set(name, victim.id)
	}
	forged.Set("X-Rewrite-Url", "/api/admin/users/"+victim.id)
	forged.Set("X-Http-Method-Override", "DELETE")
	a, err := w.send(t.Context(), "GET", me, forged, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := u.expect(a, "kept", 10, 1); got.Key != v.Key {
		t.Error("the key is another one")
	}
	if got := victim.expect(victim.get(), "kept", 10, 1); got.Key != other.Key {
		t.Error("the other user's key is another one")
	}
	if after := w.objects(t); after != before {
		t.Errorf("%d objects came to be", after-before)
	}
}

var forgedUsers = flag.Int("forged", 2_000, "how many users TestForgedUsers makes up")

// Users that do not exist, very many: none gets an object.
func TestForgedUsers(t *testing.T) {
	w := start(t, with{})
	newUser(t, w).provisioned()
	before := w.objects(t)
	const atATime = 20
	for _, failed := range atOnce(atATime, func(lane int) error {
		for i := lane; i < *forgedUsers; i += atATime {
			claims := jwt.MapClaims{"uid": fmt.Sprintf("forged-%d", i), "exp": time.Now().Add(time.Hour).Unix()}
			a, err := w.send(t.Context(), "GET", me, bearer(sign(jwt.SigningMethodHS256, "forged-secret-of-somebody-else-0123456789", claims)), nil)
			if err != nil {
				return err
			}
			if err := checkProblem(a, 401, "invalid_token"); err != nil {
				return err
			}
		}
		return nil
	}) {
		if failed != nil {
			t.Fatal(failed)
		}
	}
	if after := w.objects(t); after != before {
		t.Errorf("%d objects came to be", after-before)
	}
	if m := w.memory(); m.Bytes > 16<<20 {
		t.Errorf("the program has %.1f MB", m.Bytes/1e6)
	}
}

var valid = flag.Int("valid", 700, "how many users TestManyValidUsers asks for; 10000 take minutes")

// Very many users who are who they say: what they leave in memory is bounded.
func TestManyValidUsers(t *testing.T) {
	w := start(t, patient) // it is about memory, and not about how fast the machine is
	const atATime = 25
	for _, failed := range atOnce(atATime, func(lane int) error {
		for i := lane; i < *valid; i += atATime {
			u := newUser(t, w)
			r := u.try(t.Context(), "GET", me)
			if r.err != nil {
				return r.err
			}
			if r.status != 200 {
				return fmt.Errorf("got %v", r.answer)
			}
		}
		return nil
	}) {
		if failed != nil {
			t.Fatal(failed)
		}
	}
	m := w.memory()
	fmt.Printf("e2e: after %d users' first keys the program has %.1f MB: %+v\n", *valid, m.Bytes/1e6, m)
	if m.Bytes > 16<<20 || m.Objects > 512+atATime {
		t.Error("that is more than 16 MiB, or than the objects that may be kept")
	}
}

// Clients that send and read slowly hold up nobody else.
func TestSlowClients(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	u.provisioned()
	for i := range 100 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		begun := "GET /api/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bea"
		if i%2 == 1 { // a body that never ends
			begun = "POST " + refresh + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + u.token() + "\r\nContent-Length: 60000\r\n\r\n{"
		}
		if _, err := io.WriteString(conn, begun); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		u.expect(u.get(), "kept", 10, 1)
	}
	u.called(strings.TrimSuffix(strings.Repeat("GET ", 20), " "))
}

// Names and addresses come from whoever signs up. A line of the log is one JSON
// object all the same, and says nothing that they made up.
func TestNamesThatForgeLogLines(t *testing.T) {
	w := useShared(t)
	for _, name := range []string{
		"Ada\n{\"evt\":\"forged\",\"user\":\"root\"}", "Ada\r\n\r\nforged", "\"}\n{\"evt\":\"forged\"}", "Ada\u2028{\"evt\":\"forged\"}", "Ada\u0085forged",
		"\x1b[2J\x1b[31mforged", "Ada\x00forged", "Ada\x7f", "\u202eforged", strings.Repeat("A", 2000),
	} {
		u := newUser(t, w)
		u.id, u.name, u.email = u.id+name[:min(len(name), 100)], name, name
		u.provisioned()
		u.expect(u.get(), "kept", 10, 1)
		if len(w.log.lines(u.id)) == 0 {
			t.Errorf("nothing is logged of %q", u.id)
		}
	}
	for text := range strings.Lines(w.log.String()) {
		if !strings.Contains(text, "forged") {
			continue
		}
		var line struct{ Evt string }
		if err := json.Unmarshal([]byte(text), &line); err != nil || line.Evt == "forged" {
			t.Errorf("a forged line: %q", text)
		}
		if strings.ContainsAny(strings.TrimRight(text, "\r\n"), "\x1b\x00\u2028\u0085\u202e\x7f") {
			t.Errorf("a line holds what a terminal acts on: %q", text)
		}
	}
}
