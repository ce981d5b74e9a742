//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/openroutertest"
)

const (
	me      = "/api/users/me"
	refresh = "/api/users/me/openrouter-api-key/refresh"
)

// user is a user of one test.
type user struct {
	t               *testing.T
	w               *worker
	id, name, email string
	from            int // calls before this one are not looked at
}

// newUser returns a user that nobody has heard of.
func newUser(t *testing.T, w *worker) *user {
	return &user{t: t, w: w, id: "u_" + rand.Text()[:12], name: "Ada", email: "ada@example.org"}
}

// claims are those of a token that is valid for an hour.
func (u *user) claims() jwt.MapClaims {
	return jwt.MapClaims{"uid": u.id, "username": u.name, "email": u.email, "exp": time.Now().Add(time.Hour).Unix()}
}

func (u *user) token() string { return sign(jwt.SigningMethodHS256, jwtSecret, u.claims()) }

// sign makes a token.
func sign(method jwt.SigningMethod, secret string, claims jwt.MapClaims) string {
	token, err := jwt.NewWithClaims(method, claims).SignedString([]byte(secret))
	if err != nil {
		panic(err) // an HMAC takes any secret
	}
	return token
}

func (u *user) get() answer {
	u.t.Helper()
	return u.w.ask(u.t, "GET", me, bearer(u.token()))
}

func (u *user) refresh() answer {
	u.t.Helper()
	return u.w.ask(u.t, "POST", refresh, bearer(u.token()))
}

// view is the body of an answer that carries a key.
type view struct {
	ID             string   `json:"id"`
	Name           string   `json:"user_name"`
	Email          string   `json:"email"`
	Key            string   `json:"openrouter_api_key"`
	Hash           string   `json:"hash"`
	TotalLimit     *float64 `json:"total_limit"`
	RemainingLimit *float64 `json:"remaining_limit"`
	UsageLimit     *float64 `json:"usage_limit"`
	Version        int64    `json:"version"`
	ExpiresAt      string   `json:"key_expires_at"` // under KEY_TTL
	RenewsAt       string   `json:"renews_at"`      // under RENEW_AFTER
	Outcome        string   `json:"outcome"`
}

var wholeKey = regexp.MustCompile(`^sk-or-v1-[0-9a-f]{64}$`)

// check tells what is wrong with an answer that is to carry this user's key.
func (u *user) check(a answer) (view, error) {
	var v view
	if a.status != 200 {
		return v, fmt.Errorf("not a 200: %v", a)
	}
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		return v, fmt.Errorf("%w in %v", err, a)
	}
	sum := sha256.Sum256([]byte(v.Key))
	switch {
	case a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json":
		return v, fmt.Errorf("the headers are wrong: %v", a)
	case v.ID != u.id || v.Name != u.name || v.Email != u.email:
		return v, fmt.Errorf("answered for %q %q %q instead of %q %q %q", v.ID, v.Name, v.Email, u.id, u.name, u.email)
	case !wholeKey.MatchString(v.Key) || hex.EncodeToString(sum[:]) != v.Hash:
		return v, fmt.Errorf("key and hash do not fit: %v", a)
	case v.TotalLimit == nil || v.RemainingLimit == nil || v.UsageLimit == nil:
		return v, fmt.Errorf("a limit is missing: %v", a)
	case v.Version < 1:
		return v, fmt.Errorf("the version is missing: %v", a)
	case !u.isTime(v.ExpiresAt, "KEY_TTL") || !u.isTime(v.RenewsAt, "RENEW_AFTER"):
		return v, fmt.Errorf("a time is missing or wrong, or there for no reason: %v", a)
	}
	for _, key := range u.w.openrouter.Keys() {
		if key.Hash == v.Hash && !u.owns(key.Name) {
			return v, fmt.Errorf("the key is that of another user: its name is %q", key.Name)
		}
	}
	return v, nil
}

// isTime tells whether a time of an answer is one, and is there where the setting
// asks for it alone.
func (u *user) isTime(text, setting string) bool {
	if u.w.vars[setting] == "" {
		return text == ""
	}
	_, err := time.Parse(time.RFC3339, text)
	return err == nil && strings.HasSuffix(text, "Z")
}

// expect checks an answer that is to carry a key that lives.
func (u *user) expect(a answer, outcome string, remaining, usage float64) view {
	u.t.Helper()
	v, err := u.check(a)
	if err != nil {
		u.t.Fatal(err)
	}
	if v.Outcome != outcome || *v.TotalLimit != u.total() || *v.RemainingLimit != remaining || *v.UsageLimit != usage {
		u.t.Fatalf("got %s, total %v, remaining %v, usage %v; want %s, %v, %v, %v",
			v.Outcome, *v.TotalLimit, *v.RemainingLimit, *v.UsageLimit, outcome, u.total(), remaining, usage)
	}
	if u.w.openrouter.Deleted(v.Hash) {
		u.t.Fatalf("answered %s with a key that is deleted", v.Outcome)
	}
	return v
}

// total is what a quota begins with.
func (u *user) total() float64 {
	total, err := strconv.ParseFloat(cmp.Or(u.w.vars["TOTAL_LIMIT"], "10"), 64)
	if err != nil {
		u.t.Fatal(err)
	}
	return total
}

// cost is what all keys that the user ever had have cost together.
func (u *user) cost() (cost openroutertest.Nano) {
	for _, key := range u.w.openrouter.Keys() {
		if u.owns(key.Name) {
			cost += key.Usage
		}
	}
	return cost
}

// provisioned gives the user a first key and looks at no call before here.
func (u *user) provisioned() view {
	u.t.Helper()
	v := u.expect(u.get(), "provisioned", u.total(), 1)
	u.mark()
	return v
}

// spent gives the user a key and uses the quota up, so that 0.1 remains and the
// next request is that of a spent quota.
func (u *user) spent() view {
	u.t.Helper()
	u.spend(u.provisioned(), 9.9)
	v := u.expect(u.get(), "rotated", 0.1, 1)
	u.mark()
	return v
}

// spend spends credits with a key.
func (u *user) spend(v view, credits float64) {
	u.t.Helper()
	if err := u.w.openrouter.Spend(v.Key, credits); err != nil {
		u.t.Fatalf("spending %v: %v", credits, err)
	}
}

// problem checks an answer that is to be this error, and returns it.
func problem(t *testing.T, a answer, status int, code string) answer {
	t.Helper()
	if err := checkProblem(a, status, code); err != nil {
		t.Fatal(err)
	}
	return a
}

func checkProblem(a answer, status int, code string) error {
	var document map[string]any
	if err := json.Unmarshal([]byte(a.body), &document); err != nil {
		return fmt.Errorf("want %d %s, got no JSON: %v", status, code, a)
	}
	for _, field := range []string{"type", "title", "detail", "code"} {
		if text, _ := document[field].(string); text == "" {
			return fmt.Errorf("%s is missing: %v", field, a)
		}
	}
	fields := 5
	if document["renews_at"] != nil && code == "quota_exhausted" {
		fields = 6
	}
	switch {
	case a.status != status || document["status"] != float64(status) || document["code"] != code:
		return fmt.Errorf("want %d %s, got %v", status, code, a)
	case len(document) != fields:
		return fmt.Errorf("there are other fields: %v", a)
	case a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Cache-Control") != "no-store":
		return fmt.Errorf("the headers are wrong: %v", a)
	case plainKey.MatchString(a.body) || strings.Contains(a.body, "sk-or"):
		return fmt.Errorf("the error holds key material: %v", a)
	}
	return nil
}

// retryAfter checks that an answer has a Retry-After of so many seconds.
func retryAfter(t *testing.T, a answer, least, most int) {
	t.Helper()
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || seconds < least || seconds > most {
		t.Fatalf("Retry-After is %q, not from %d to %d", a.header.Get("Retry-After"), least, most)
	}
}

// owns tells whether a key of that name at OpenRouter is this user's.
func (u *user) owns(name string) bool {
	op, ok := strings.CutPrefix(name, cmp.Or(u.w.vars["KEY_NAME_PREFIX"], "latchkey")+":"+u.id+":")
	return ok && op != "" && !strings.Contains(op, ":")
}

// mark makes calls begin here.
func (u *user) mark() { u.from = len(u.w.openrouter.CallLog()) }

// calls returns the calls about this user's keys since the mark, in order of
// arrival.
func (u *user) calls() []openroutertest.Call {
	owner := map[string]bool{}
	for _, key := range u.w.openrouter.Keys() {
		owner[key.Hash] = u.owns(key.Name)
	}
	return slices.DeleteFunc(u.w.openrouter.CallLog()[u.from:], func(c openroutertest.Call) bool {
		return !owner[c.Hash] && !u.owns(c.Name)
	})
}

// methods are those of calls: "GET DELETE POST".
func (u *user) methods() string {
	var methods []string
	for _, call := range u.calls() {
		methods = append(methods, call.Method)
	}
	return strings.Join(methods, " ")
}

// called checks that the calls since the mark were these, and moves the mark.
func (u *user) called(methods string) {
	u.t.Helper()
	if got := u.methods(); got != methods {
		u.t.Fatalf("OpenRouter was called with %q, want %q", got, methods)
	}
	u.mark()
}

// live returns the user's keys that can be used at OpenRouter.
func (u *user) live() []openroutertest.Key {
	return slices.DeleteFunc(u.w.openrouter.Live(), func(key openroutertest.Key) bool { return !u.owns(key.Name) })
}

// settles waits until one key is left at OpenRouter, the one that was answered,
// and checks that no op was used twice.
func (u *user) settles(v view) {
	u.t.Helper()
	eventually(u.t, 30*time.Second, "exactly one live key", func() (string, bool) {
		live := u.live()
		return fmt.Sprintf("%d live keys", len(live)), len(live) == 1 && live[0].Hash == v.Hash
	})
	names := map[string]bool{}
	for _, call := range u.w.openrouter.CallLog() {
		if call.Op != openroutertest.OpCreate || !u.owns(call.Name) {
			continue
		}
		if names[call.Name] {
			u.t.Fatalf("two POSTs with the name %q", call.Name)
		}
		names[call.Name] = true
	}
}

// awaitCall waits until a call of that method has arrived at OpenRouter.
func (u *user) awaitCall(method string) {
	u.t.Helper()
	eventually(u.t, 10*time.Second, method+" at OpenRouter", func() (string, bool) {
		return u.methods(), strings.Contains(u.methods(), method)
	})
}

// operator sends OpenRouter a request with the provisioning key, as an operator
// could.
func (u *user) operator(method, path, body string) string {
	u.t.Helper()
	request, err := http.NewRequestWithContext(u.t.Context(), method, u.w.server.URL+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+provisioningKey)
	response, err := u.w.openrouter.RoundTrip(request)
	if err != nil || response.StatusCode >= 300 {
		u.t.Fatalf("%s %s: %v %v", method, path, response, err)
	}
	var text strings.Builder
	if err := response.Write(&text); err != nil {
		u.t.Fatal(err)
	}
	_, content, _ := strings.Cut(text.String(), "\r\n\r\n")
	return content
}

// atOnce runs f n times at once and returns what came of each.
func atOnce[T any](n int, f func(i int) T) []T {
	results := make([]T, n)
	done := make(chan struct{})
	for i := range n {
		go func() {
			results[i] = f(i)
			done <- struct{}{}
		}()
	}
	for range n {
		<-done
	}
	return results
}

// reply is what came of a request that was sent from a goroutine.
type reply struct {
	answer
	err error
}

// try sends a request for the user from any goroutine.
func (u *user) try(ctx context.Context, method, path string) reply {
	a, err := u.w.send(ctx, method, path, bearer(u.token()), nil)
	return reply{a, err}
}

// count is how many calls of a method there were since the mark.
func (u *user) count(method string) int {
	count := 0
	for _, call := range u.calls() {
		if call.Method == method {
			count++
		}
	}
	return count
}
