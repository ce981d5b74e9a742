package openroutertest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

const chatPath = "chat/completions"

// events returns what a stream says: its JSON documents, and all else as it stands.
func events(t *testing.T, body string) (chunks []answer, rest []string) {
	t.Helper()
	for event := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		if data, ok := strings.CutPrefix(event, "data: {"); ok {
			chunks = append(chunks, answer{T: t, body: "{" + data})
			continue
		}
		rest = append(rest, event)
	}
	return chunks, rest
}

func (f *fixture) usage(hash string) string {
	f.Helper()
	b, err := json.Marshal(f.call("GET", "keys/"+hash, "", http.StatusOK).at("data", "usage"))
	if err != nil {
		f.Fatal(err)
	}
	return string(b)
}

func TestAStreamIsThatOfOpenRouter(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	a := f.callAs(secret, "POST", chatPath, `{"model":"m","stream":true,"cost":0.4,"chunks":3,"messages":[]}`, http.StatusOK)
	if kind := a.header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("the type is %q", kind)
	}
	chunks, rest := events(t, a.body)
	if want := ": OPENROUTER PROCESSING data: [DONE]"; strings.Join(rest, " ") != want {
		t.Errorf("beside its chunks it says %q, want %q", rest, want)
	}
	if len(chunks) != 5 {
		t.Fatalf("it has %d chunks: %s", len(chunks), a.body)
	}
	id, err := json.Marshal(chunks[0].at("id"))
	if err != nil {
		t.Fatal(err)
	}
	for _, chunk := range chunks {
		chunk.want(string(id), "id")
		chunk.want(`"chat.completion.chunk"`, "object")
		chunk.want(`"m"`, "model")
		if strings.Contains(chunk.body, "system_fingerprint") {
			t.Error("a chunk has a system_fingerprint: where it is there it is text")
		}
	}
	for i, content := range []string{`"ok"`, `" ok"`, `" ok"`, `""`} {
		chunks[i].want(content, "choices", 0, "delta", "content")
		chunks[i].want(map[bool]string{false: `null`, true: `"stop"`}[i == 3], "choices", 0, "finish_reason")
	}
	chunks[4].want(`[]`, "choices")
	chunks[4].want(`{"completion_tokens":3,"cost":0.4,"prompt_tokens":8,"total_tokens":11}`, "usage")
	if usage := f.usage(hash); usage != "0.4" {
		t.Errorf("it cost %s", usage)
	}
}

func TestAStreamIsRefusedAsAnyCall(t *testing.T) {
	f := start(t)
	_, secret := f.create(`{"name":"a","limit":0.1}`)
	stream := func(token, body string, status int) answer {
		t.Helper()
		return f.callAs(token, "POST", chatPath, `{"stream":true`+body+`}`, status)
	}
	for _, bad := range []string{`,"chunks":0`, `,"chunks":1001`, `,"pause_ms":-1`, `,"pause_ms":60001`, `,"cost":-1`} {
		stream(secret, bad, http.StatusBadRequest)
	}
	stream("", "", http.StatusUnauthorized)
	stream("sk-or-v1-not-a-real-one", "", http.StatusUnauthorized)
	stream(secret, `,"cost":0.2`, http.StatusOK) // overshoots
	stream(secret, "", http.StatusForbidden).want(`"Key limit exceeded (total limit)"`, "error", "message")
}

// open starts a stream, and returns once its first chunk is there: what follows on it,
// and what leaves it.
func (f *fixture) open(secret, body string) (rest func() (string, error), leave func()) {
	f.Helper()
	request := f.request("POST", chatPath, secret, body)
	ctx, cancel := context.WithCancel(request.Context())
	f.Cleanup(cancel)
	response, err := f.http.Do(request.WithContext(ctx))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { response.Body.Close() })
	reader := bufio.NewReader(response.Body)
	for line := ""; !strings.Contains(line, `"content":"ok"`); {
		if line, err = reader.ReadString('\n'); err != nil {
			f.Fatal(err)
		}
	}
	return func() (string, error) {
		rest, err := io.ReadAll(reader)
		return string(rest), err
	}, cancel
}

func TestAClientThatLeavesAStreamPaysForWhatItGot(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	_, leave := f.open(secret, `{"stream":true,"cost":0.4,"chunks":4,"pause_ms":60000}`)
	if usage := f.usage(hash); usage != "0" {
		t.Errorf("before the end it cost %s", usage)
	}
	leave()
	for deadline := time.Now().Add(10 * time.Second); f.usage(hash) == "0" && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if usage := f.usage(hash); usage != "0.1" {
		t.Errorf("a quarter of it cost %s", usage)
	}
}

func TestAKeyThatEndsDoesNotEndItsStream(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	rest, _ := f.open(secret, `{"stream":true,"cost":0.4,"chunks":2,"pause_ms":200}`)
	f.call("DELETE", "keys/"+hash, "", http.StatusOK)
	text, err := rest()
	if err != nil || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		t.Errorf("it ends with %q, %v", text, err)
	}
	if keys := f.Keys(); keys[0].Usage != 400_000_000 {
		t.Errorf("it cost %d", keys[0].Usage)
	}
}

func TestCloseEndsAStream(t *testing.T) {
	f := start(t)
	_, secret := f.create(`{"name":"a","limit":1}`)
	rest, _ := f.open(secret, `{"stream":true,"pause_ms":60000}`)
	f.Close()
	if text, err := rest(); err == nil {
		t.Errorf("it ended as if it were whole: %q", text)
	}
}

func TestFaultsOfStreams(t *testing.T) {
	for _, fault := range []openroutertest.Fault{
		{Kind: openroutertest.KindCut, Applied: true},
		{Kind: openroutertest.KindSlow},
		{Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{"id":"other"}`)},
		{Kind: openroutertest.KindStatus, Status: http.StatusServiceUnavailable},
	} {
		t.Run(string(fault.Kind), func(t *testing.T) {
			f := start(t)
			_, secret := f.create(`{"name":"a","limit":1}`)
			f.Fail(openroutertest.OpChat, fault, 1)
			a, err := f.send("POST", chatPath, secret, `{"stream":true,"cost":0.4}`)
			whole := err == nil && strings.HasSuffix(a.body, "data: [DONE]\n\n")
			if want := fault.Kind == openroutertest.KindSlow || fault.Kind == openroutertest.KindAlter; whole != want {
				t.Errorf("the stream is whole: %v, want %v (%v %s)", whole, want, err, a.body)
			}
			if charged, want := f.Keys()[0].Usage == 400_000_000, fault.Kind != openroutertest.KindStatus; charged != want {
				t.Errorf("it was charged: %v, want %v", charged, want)
			}
		})
	}
}
