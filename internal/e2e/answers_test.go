//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// wild is OpenRouter, but for answers that no one would expect.
type wild struct {
	*httptest.Server
	next   atomic.Pointer[http.HandlerFunc] // answers the next GET or POST
	behind atomic.Pointer[worker]           // answers everything else
}

func newWild(t *testing.T) *wild {
	w := &wild{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" || r.Method == "POST" {
			if next := w.next.Swap(nil); next != nil {
				(*next)(rw, r)
				return
			}
		}
		w.behind.Load().upstream(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

// answers has the next GET or POST answered like this.
func (w *wild) answers(next http.HandlerFunc) { w.next.Store(&next) }

// counted counts what could be written of an answer: where the other side stops
// to read, the rest cannot.
type counted struct {
	io.Writer
	bytes int
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.bytes += n
	return n, err
}

// by hijacking, an answer may say what net/http would not.
func raw(head string, body func(io.Writer)) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			panic(err) // HTTP/1 without TLS can be hijacked
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n", strings.ReplaceAll(head, "\n", "\r\n"))
		if body != nil {
			body(conn)
		}
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn) // until the other side has read it
	}
}

// An answer is read to 1 MiB of what it decodes to, and no further: the call has
// failed, and the Go program does not hear of it.
func TestAnswersThatAreTooLarge(t *testing.T) {
	upstream := newWild(t)
	w := start(t, with{vars: map[string]string{"OPENROUTER_BASE_URL": upstream.URL + "/api/v1", "OPENROUTER_TIMEOUT": "20s"}})
	upstream.behind.Store(w)
	const large, buffered = 300 << 20, 32 << 20 // what lies in sockets counts as written
	var bomb bytes.Buffer
	packer := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(packer, spaces{}, 400<<20); err != nil || packer.Close() != nil {
		t.Fatal(err)
	}
	written := make(chan int, 1)
	send := func(chunk string) func(io.Writer) {
		return func(out io.Writer) {
			c := &counted{Writer: out}
			for c.bytes < large {
				if _, err := io.WriteString(c, chunk); err != nil {
					break
				}
			}
			written <- c.bytes
		}
	}
	mega := strings.Repeat(" ", 1<<20)
	u := newUser(t, w)
	first := u.provisioned()
	before := w.memory().Bytes
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"300 MB with a length", raw("200 OK\nContent-Length: 314572800", send(mega))},
		{"300 MB in chunks", raw("200 OK\nTransfer-Encoding: chunked", send("100000\r\n"+mega+"\r\n"))},
		{"300 MB in chunks with a length of 10", raw("200 OK\nContent-Length: 10\nTransfer-Encoding: chunked", send("100000\r\n"+mega+"\r\n"))},
		{"300 MB of an error", raw("500 Internal Server Error", send(mega))},
		{"400 MiB in 400 KB of gzip", raw(fmt.Sprint("200 OK\nContent-Encoding: gzip\nContent-Length: ", bomb.Len()), func(out io.Writer) {
			n, _ := out.Write(bomb.Bytes())
			written <- n
		})},
	} {
		upstream.answers(test.answer)
		problem(t, u.refresh(), 503, "upstream_unavailable")
		if n := <-written; n > buffered {
			t.Errorf("%s: %d bytes were read", test.name, n)
		}
		eventually(t, pollLog, "the reason in the log", func() (string, bool) {
			lines := u.w.log.lines(u.id)
			last := fmt.Sprint(lines[len(lines)-1])
			return last, strings.Contains(last, "the answer is larger than 1048576 bytes")
		})
		if v := u.expect(u.get(), "kept", 10, 1); v.Key != first.Key {
			t.Errorf("%s: the key is another one", test.name)
		}
	}
	other := newUser(t, w)
	upstream.answers(raw("201 Created\nTransfer-Encoding: chunked", send("100000\r\n"+mega+"\r\n")))
	problem(t, other.get(), 503, "upstream_unavailable")
	if n := <-written; n > buffered {
		t.Errorf("%d bytes were read of the answer to a POST", n)
	}
	other.provisioned()
	if after := w.memory().Bytes; after > before+tolerance {
		t.Errorf("the program's memory has grown from %v to %v bytes", before, after)
	}
}

// spaces reads as spaces without end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// What stands around the body of an answer confuses nobody.
func TestAnswersThatAreStrange(t *testing.T) {
	upstream := newWild(t)
	w := start(t, with{vars: map[string]string{"OPENROUTER_BASE_URL": upstream.URL + "/api/v1"}})
	upstream.behind.Store(w)
	u := newUser(t, w)
	first := u.provisioned()
	long := strings.Repeat("9", 60<<10)
	reading := `{"data":{"hash":"` + first.Hash + `","limit":1,"limit_remaining":0.9}}`
	say := func(text string) func(io.Writer) {
		return func(out io.Writer) { io.WriteString(out, text) }
	}
	for _, test := range []struct {
		name    string
		answer  http.HandlerFunc
		outcome string
	}{
		{"a body that begins with the separator", raw("200 OK\nConnection: close", say("\x00"+reading)), "unmetered"},
		{"a body that has it in the middle", raw("500 No\nRetry-After: 7\nConnection: close", say("\x00200\x00\x00"+reading)), "unmetered"},
		{"a long status text", raw("500 "+long+"\nContent-Length: 2", say("no")), "unmetered"},
		{"a long Retry-After", raw("429 Too Many Requests\nContent-Length: 2\nRetry-After: "+long, say("no")), "unmetered"},
		{"a Retry-After with the separator", raw("200 OK\nContent-Length: 2\nRetry-After: 7\x00"+reading, say("{}")), "unmetered"},
		{"a status text that is longer than any header", raw("200 "+strings.Repeat("S", 4<<20), say(reading)), "unmetered"},
	} {
		upstream.answers(test.answer)
		if v := u.expect(u.get(), test.outcome, 10, 1); v.Key != first.Key {
			t.Errorf("%s: the key is another one", test.name)
		}
		u.expect(u.get(), "kept", 10, 1)
	}

	other := newUser(t, w)
	upstream.answers(raw("429 Too Many Requests\nContent-Length: 2\nRetry-After: "+long, say("no")))
	a := problem(t, other.get(), 503, "upstream_unavailable")
	if after := a.header.Get("Retry-After"); len(after) > 10 {
		t.Errorf("Retry-After has %d characters", len(after))
	}
	other.provisioned()
}

// An alarm whose call fails at once, not as a promise, is set again like any other.
func TestAnAlarmWithoutAProgramIsSetAgain(t *testing.T) {
	w := start(t, with{script: "internal/e2e/testdata/unbootable.mjs"})
	u := newUser(t, w)
	v := u.provisioned()
	u.inD1(v, pollLog)
	a := w.ask(t, "GET", "/ring/"+u.id, nil)
	var in float64
	if _, err := fmt.Sscan(a.body, &in); err != nil || in < 50_000 || in > 60_000 {
		t.Fatalf("it rings in %v", a)
	}
	eventually(t, pollLog, "a line that a terminal can take", func() (string, bool) {
		text := w.log.String()
		return w.log.tail(), strings.Contains(text, `"err":"no memory \u202e\u009b\u007f to boot"`) && !strings.ContainsAny(text, "\u202e\u009b\u007f")
	})
	u.expect(u.get(), "kept", 10, 1)
}
