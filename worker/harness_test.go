package worker

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/oplog"
	"latchkey/internal/seal"
	"latchkey/internal/settings"
)

const (
	secret      = "not-a-real-secret-not-a-real-secret"
	mePath      = "/api/users/me"
	refreshPath = "/api/users/me/openrouter-api-key/refresh"
	ledgerPath  = "/api/users/me/ledger"
	app         = "https://app.example.org"
	local       = "http://localhost:3000"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// logged is what was logged.
type logged struct {
	mu    sync.Mutex
	lines []oplog.Line
}

func (l *logged) add(line oplog.Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func testFront(origins ...string) (*Front, *logged) {
	l := &logged{}
	set := settings.Settings{AllowedOrigins: origins, Tokens: auth.Rules{Secrets: []seal.Secret{seal.NewSecret(secret)}, MaxLifetime: auth.MaxLifetime}}
	return NewFront(set, nil, func() time.Time { return now }, l.add), l
}

// misconfigured is a front as it is where a setting is bad: without a verifier.
func misconfigured(origins ...string) (*Front, *logged) {
	l := &logged{}
	f := NewFront(settings.Settings{AllowedOrigins: origins}, errors.New("KEY_ENCRYPTION_KEY is missing"), func() time.Time { return now }, l.add)
	if line := l.lines[0]; line.Evt != oplog.Settings || line.Outcome != oplog.Misconfigured || !strings.Contains(line.Err, "KEY_ENCRYPTION_KEY") {
		panic("bad settings are not logged: " + line.String())
	}
	l.lines = nil
	return f, l
}

// called is a call that was answered.
type called struct {
	answer answer.Answer
	err    error
	keys   *string // the URL of the key set that is wanted
	times  int
	done   chan struct{} // has an element once it is answered; nil: it is answered at once
}

func (c *called) Respond(a answer.Answer) { c.answer = a; c.answered() }
func (c *called) Done(err error)          { c.err = err; c.answered() }
func (c *called) WantKeys(url string)     { c.keys = &url; c.answered() }

func (c *called) answered() {
	if c.times++; c.times > 1 {
		panic("a call is answered twice")
	}
	if c.done != nil {
		c.done <- struct{}{}
	}
}

// ask has the front answer a request, and returns the answer, or who it is handed to.
func ask(f *Front, r edge.Request) (answer.Answer, *target) {
	c := &called{}
	var to *target
	f.Route(c, r, func(object string) {
		if _, to, _ = f.serve(r); to.object != object || c.times > 0 {
			panic("it is handed to another object than it is for, or answered too")
		}
	})
	return c.answer, to
}

// failed has the front answer a request that an object did not.
func failed(f *Front, r edge.Request, failure edge.Failure, cause string) answer.Answer {
	c := &called{}
	f.Failed(c, r, failure, cause)
	return c.answer
}

// none demands that nothing was logged.
func (l *logged) none(t *testing.T) {
	t.Helper()
	if len(l.lines) > 0 {
		t.Errorf("logged %v", l.lines)
	}
}

// one demands a single line of one request, and returns it.
func (l *logged) one(t *testing.T) oplog.Line {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) != 1 {
		t.Fatalf("%d log lines, want 1: %v", len(l.lines), l.lines)
	}
	line := l.lines[0]
	l.lines = nil
	return line
}

func bearer(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + token
}

func ada(t *testing.T) string {
	t.Helper()
	return bearer(t, jwt.MapClaims{"uid": "u_42", "username": "Ada", "email": "ada@example.org", "exp": now.Add(time.Hour).Unix()})
}

// values returns the values of a header; names are compared as HTTP does.
func values(a answer.Answer, name string) []string {
	var all []string
	for _, h := range a.Header {
		if strings.EqualFold(h[0], name) {
			all = append(all, h[1])
		}
	}
	return all
}

// carries demands a header once, with that value; the empty value is none.
func carries(t *testing.T, a answer.Answer, name, value string) {
	t.Helper()
	var want []string
	if value != "" {
		want = []string{value}
	}
	if got := values(a, name); !slices.Equal(got, want) {
		t.Errorf("%s is %q, want %q", name, got, want)
	}
}

// isProblem demands a problem document that no cache keeps.
func isProblem(t *testing.T, a answer.Answer, status int, code string) {
	t.Helper()
	var doc struct {
		Status            int
		Code, Type, Title string
	}
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil {
		t.Fatalf("%q: %v", a.Body, err)
	}
	if a.Status != status || doc.Status != status || doc.Code != code || doc.Type == "" || doc.Title == "" {
		t.Errorf("%d %s, want %d %s", a.Status, a.Body, status, code)
	}
	carries(t, a, "Content-Type", "application/problem+json")
	carries(t, a, "Cache-Control", "no-store")
}
