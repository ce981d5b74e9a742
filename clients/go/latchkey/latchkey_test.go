package latchkey

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// world is a latchkey and an OpenRouter on loopback, and a clock.
type world struct {
	*testing.T
	latchkey, openrouter *httptest.Server
	url                  string // of a chat completion

	mu      sync.Mutex
	now     time.Time
	version int64
	key     string
	reads   int
	tokens  []string           // that came
	refused map[string]string  // tokens that are not taken, and the code
	instead []http.HandlerFunc // answer in latchkey's place, in turn
	ended   map[string]int     // keys that do not work, and their status
	sent    []string           // "key body" of what came to OpenRouter
}

func start(t *testing.T) *world {
	w := &world{T: t, now: time.Now(), version: 1, key: "sk-or-v1-fake-1", refused: map[string]string{}, ended: map[string]int{}}
	w.latchkey = httptest.NewServer(http.HandlerFunc(w.serveLatchkey))
	t.Cleanup(w.latchkey.Close)
	w.openrouter = httptest.NewServer(http.HandlerFunc(w.serveOpenRouter))
	t.Cleanup(w.openrouter.Close)
	w.url = w.openrouter.URL + "/api/v1/chat/completions"
	return w
}

func (w *world) serveLatchkey(response http.ResponseWriter, request *http.Request) {
	w.mu.Lock()
	w.reads++
	token := strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")
	w.tokens = append(w.tokens, token)
	if len(w.instead) > 0 {
		handler := w.instead[0]
		w.instead = w.instead[1:]
		w.mu.Unlock()
		handler(response, request)
		return
	}
	defer w.mu.Unlock()
	if code := w.refused[token]; code != "" {
		problem(401, code, "")(response, request)
		return
	}
	io.WriteString(response, w.body())
}

// body is the answer for the user. mu is held, or nobody else is there.
func (w *world) body() string {
	return fmt.Sprintf(`{"id":"ada","user_name":"Ada","email":"","openrouter_api_key":%q,"hash":"00","total_limit":10,"remaining_limit":9.5,"usage_limit":1,"version":%d,"outcome":"kept"}`, w.key, w.version)
}

func (w *world) serveOpenRouter(response http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	key := strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, key+" "+string(body))
	switch status := w.ended[key]; {
	case status == 403:
		response.WriteHeader(403)
		io.WriteString(response, `{"error":{"code":403,"message":"Key limit exceeded (total limit)"}}`)
	case status != 0:
		response.WriteHeader(status)
		io.WriteString(response, `{"error":{"message":"no"}}`)
	case request.URL.Path == "/guarded":
		response.WriteHeader(403)
		io.WriteString(response, `{"error":{"code":403,"message":"Model not allowed by guardrail"}}`)
	default:
		io.WriteString(response, "ok")
	}
}

// rotate replaces the key and ends the old one with a status.
func (w *world) rotate(status int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended[w.key] = status
	w.version++
	w.key = fmt.Sprintf("sk-or-v1-fake-%d", w.version)
	return w.key
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) answer(handlers ...http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instead = append(w.instead, handlers...)
}

func (w *world) client() *Client {
	return &Client{
		URL:           w.latchkey.URL + "/",
		OpenRouterURL: w.openrouter.URL,
		Token:         func(context.Context) (string, error) { return w.newToken(time.Hour), nil },
		now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		},
	}
}

// newToken is a token that lasts for so long; no two are the same.
func (w *world) newToken(life time.Duration) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	payload := fmt.Sprintf(`{"uid":"ada","exp":%d,"n":%d}`, w.now.Add(life).Unix(), time.Now().UnixNano())
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".x"
}

func problem(status int, code, retryAfter string) http.HandlerFunc {
	return func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Content-Type", "application/problem+json")
		if retryAfter != "" {
			response.Header().Set("Retry-After", retryAfter)
		}
		response.WriteHeader(status)
		json.NewEncoder(response).Encode(map[string]any{"status": status, "code": code, "detail": "the detail"})
	}
}

func text(body string) http.HandlerFunc {
	return func(response http.ResponseWriter, _ *http.Request) { io.WriteString(response, body) }
}

func (w *world) wantKey(c *Client, want string) {
	w.Helper()
	if key, err := c.Key(w.Context()); err != nil || key != want {
		w.Errorf("the key is %q, %v; want %q", key, err, want)
	}
}

func (w *world) wantError(c *Client, code string) *Error {
	w.Helper()
	key, err := c.Key(w.Context())
	var e *Error
	if !errors.As(err, &e) || e.Code != code || key != "" {
		w.Fatalf("%q, %v; want %s", key, err, code)
	}
	return e
}

func (w *world) wantReads(want int) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reads != want {
		w.Errorf("%d readings, want %d", w.reads, want)
	}
}

func (w *world) wantSent(want ...string) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.sent, want) {
		w.Errorf("sent were %q, want %q", w.sent, want)
	}
}

func TestManyCallersShareOneRequest(t *testing.T) {
	w := start(t)
	c := w.client()
	release := make(chan struct{})
	w.answer(func(response http.ResponseWriter, r *http.Request) { <-release; io.WriteString(response, w.body()) })
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() { w.wantKey(c, "sk-or-v1-fake-1") })
	}
	close(release)
	callers.Wait()
	w.wantReads(1)
}

func TestACallerThatLeavesStopsNoOther(t *testing.T) {
	w := start(t)
	c := w.client()
	arrived, release := make(chan struct{}), make(chan struct{})
	w.answer(func(response http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		io.WriteString(response, w.body())
	})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { _, err := c.Key(ctx); left <- err }()
	<-arrived
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	w.wantKey(c, "sk-or-v1-fake-1")
	w.wantReads(1)
}

func TestAKeyIsReadAnewAfterAMinute(t *testing.T) {
	w := start(t)
	c := w.client()
	w.wantKey(c, "sk-or-v1-fake-1")
	rotated := w.rotate(401)
	w.pass(59 * time.Second)
	w.wantKey(c, "sk-or-v1-fake-1")
	w.pass(time.Second)
	w.wantKey(c, rotated)
	w.wantReads(2)
}

func TestRefreshAsksAtOnce(t *testing.T) {
	w := start(t)
	c := w.client()
	w.wantKey(c, "sk-or-v1-fake-1")
	rotated := w.rotate(401)
	if a, err := c.Refresh(t.Context()); err != nil || a.Version != 2 || a.RemainingLimit != 9.5 || a.ID != "ada" {
		t.Errorf("%+v, %v", a, err)
	}
	w.wantKey(c, rotated)
	w.wantReads(2)
}

func TestALowerVersionIsNotTaken(t *testing.T) {
	w := start(t)
	c := w.client()
	old := w.body()
	rotated := w.rotate(401)
	w.wantKey(c, rotated)
	w.answer(text(old))
	if a, err := c.Refresh(t.Context()); err != nil || a.Version != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	w.wantKey(c, rotated)
}

func TestATokenIsUsedUntil30SecondsBeforeItsEnd(t *testing.T) {
	w := start(t)
	c := w.client()
	fetched := 0
	c.Token = func(context.Context) (string, error) { fetched++; return w.newToken(100 * time.Second), nil }
	for _, step := range []struct {
		pass    time.Duration
		fetched int
	}{{0, 1}, {65 * time.Second, 1}, {61 * time.Second, 2}} {
		w.pass(step.pass)
		w.wantKey(c, "sk-or-v1-fake-1")
		if fetched != step.fetched {
			t.Errorf("after %v more: fetched %d times, want %d", step.pass, fetched, step.fetched)
		}
	}
	w.wantReads(3)
}

func TestTheServerHasTheLastWordOnATokensEnd(t *testing.T) {
	w := start(t)
	c := w.client()
	fetched := 0
	c.Token = func(context.Context) (string, error) {
		token := w.newToken(time.Hour)
		if fetched++; fetched == 1 {
			w.mu.Lock()
			w.refused[token] = "expired_token"
			w.mu.Unlock()
		}
		return token, nil
	}
	w.wantKey(c, "sk-or-v1-fake-1")
	w.wantReads(2)

	// A clock that is fast: what looks expired is sent nevertheless.
	c = w.client()
	c.Token = func(context.Context) (string, error) { return w.newToken(-time.Hour), nil }
	w.wantKey(c, "sk-or-v1-fake-1")

	// A new token that is refused too is an error, and there is no third.
	w.answer(problem(401, "invalid_token", ""), problem(401, "invalid_token", ""))
	w.wantError(w.client(), "invalid_token")
	w.wantReads(5)
}

func TestErrorsOfTokenAreTheCallers(t *testing.T) {
	w := start(t)
	c := w.client()
	signedOut := errors.New("signed out")
	c.Token = func(context.Context) (string, error) { return "", signedOut }
	if _, err := c.Key(t.Context()); !errors.Is(err, signedOut) {
		t.Error(err)
	}
	c.Token = func(context.Context) (string, error) { return "", nil }
	w.wantError(c, "missing_token")
	w.wantReads(0)
}

func TestAProblemDocumentIsAnError(t *testing.T) {
	w := start(t)
	w.answer(problem(402, "quota_exhausted", "90"))
	if e := w.wantError(w.client(), "quota_exhausted"); e.Status != 402 || e.RetryAfter != 90*time.Second || e.Detail != "the detail" {
		t.Errorf("%+v", e)
	}
}

func TestWhatIsNotLatchkeysAnswerIsAnError(t *testing.T) {
	w := start(t)
	for _, body := range []string{
		"", "<html>", "null", "[]", "{}", w.body()[:50],
		strings.Replace(w.body(), w.key, "", 1),
		strings.Replace(w.body(), w.key, `sk\r\nX: y`, 1),
		strings.Replace(w.body(), `"version":1`, `"version":"1"`, 1),
		strings.Replace(w.body(), `"version":1`, `"version":0`, 1),
		strings.Replace(w.body(), `"ada"`, `""`, 1),
		strings.Replace(w.body(), "Ada", strings.Repeat("x", maxAnswer), 1),
	} {
		w.answer(text(body))
		w.wantError(w.client(), "bad_answer")
	}
	w.answer(func(response http.ResponseWriter, _ *http.Request) { response.WriteHeader(500) })
	if e := w.wantError(w.client(), "bad_answer"); e.Status != 500 {
		t.Errorf("%+v", e)
	}
	w.latchkey.Close()
	w.wantError(w.client(), "unreachable")
}

func TestARedirectTakesTheTokenNowhere(t *testing.T) {
	for _, own := range []*http.Client{nil, {}} {
		w := start(t)
		elsewhere := httptest.NewServer(text(w.body()))
		t.Cleanup(elsewhere.Close)
		c := w.client()
		c.HTTP = own
		w.answer(http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP)
		if e := w.wantError(c, "bad_answer"); e.Status != http.StatusFound {
			t.Errorf("%+v", e)
		}
	}
}

func TestWhileLatchkeyIsDownTheKeyAtHandGoesOn(t *testing.T) {
	w := start(t)
	c := w.client()
	w.wantKey(c, "sk-or-v1-fake-1")
	w.pass(fresh)
	w.answer(problem(503, "upstream_unavailable", "120"))
	w.wantKey(c, "sk-or-v1-fake-1")
	w.pass(119 * time.Second)
	w.wantKey(c, "sk-or-v1-fake-1")
	w.wantReads(2)
	w.pass(time.Second)
	w.answer(problem(402, "quota_exhausted", "60"))
	w.wantError(c, "quota_exhausted")
	w.pass(fresh)
	w.answer(problem(503, "overloaded", ""))
	w.wantError(c, "overloaded") // the key is not at hand any more
}

func TestWhereThereIsNoKeyRetryAfterIsHeeded(t *testing.T) {
	for _, test := range []struct {
		status     int
		retryAfter string
		pause      time.Duration
	}{{402, "86400", time.Minute}, {429, "60", time.Minute}, {503, "5", 5 * time.Second}} {
		t.Run(fmt.Sprint(test.status), func(t *testing.T) {
			w := start(t)
			c := w.client()
			w.answer(problem(test.status, "later", test.retryAfter))
			for range 10 {
				w.wantError(c, "later")
			}
			w.pass(test.pause - time.Second)
			w.wantError(c, "later")
			w.wantReads(1)
			w.pass(time.Second)
			w.wantKey(c, "sk-or-v1-fake-1")
			w.wantReads(2)
		})
	}
}

func TestAnErrorIsForgottenWithTheNextAnswer(t *testing.T) {
	w := start(t)
	c := w.client()
	w.answer(problem(402, "quota_exhausted", "60"))
	w.wantError(c, "quota_exhausted")
	if _, err := c.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	w.wantKey(c, "sk-or-v1-fake-1")
	w.answer(problem(403, "suspended", ""), problem(403, "suspended", ""))
	if _, err := c.Refresh(t.Context()); err == nil {
		t.Error("the refresh of a suspended user succeeded")
	}
	w.wantError(c, "suspended")
	w.answer(problem(503, "overloaded", ""))
	w.wantError(c, "overloaded")
	w.wantKey(c, "sk-or-v1-fake-1") // there was no Retry-After
}

func TestLatchkeyIsLeftAloneForAnHourAtMost(t *testing.T) {
	w := start(t)
	c := w.client()
	w.wantKey(c, "sk-or-v1-fake-1")
	w.pass(fresh)
	w.answer(problem(503, "upstream_unavailable", "1000000000"))
	w.wantKey(c, "sk-or-v1-fake-1")
	w.pass(time.Hour - time.Second)
	w.wantKey(c, "sk-or-v1-fake-1")
	w.wantReads(2)
	w.pass(time.Second)
	w.wantKey(c, "sk-or-v1-fake-1")
	w.wantReads(3)
}

func TestATokenOfAnotherUserEndsTheKey(t *testing.T) {
	w := start(t)
	c := w.client()
	w.wantKey(c, "sk-or-v1-fake-1")
	w.pass(fresh)
	bob := strings.Replace(w.body(), `"ada"`, `"bob"`, 1)
	w.answer(text(bob), text(bob))
	w.wantError(c, "another_user")
	w.wantError(c, "another_user")
}

func TestTheKeyGoesToOpenRouterAlone(t *testing.T) {
	w := start(t)
	other := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, r *http.Request) {
		io.WriteString(response, r.Header.Get("Authorization"))
	}))
	t.Cleanup(other.Close)
	client := &http.Client{Transport: w.client().Transport(nil)}

	response, err := client.Post(w.url, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	w.wantSent("sk-or-v1-fake-1 hello")

	response, err = client.Get(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || len(body) != 0 {
		t.Errorf("another origin got %q, %v", body, err)
	}

	c := &Client{}
	for address, want := range map[string]bool{
		"https://openrouter.ai/api/v1": true, "https://OpenRouter.ai:443/": true,
		"http://openrouter.ai/": false, "https://openrouter.ai:8443/": false, "https://api.openrouter.ai/": false,
		"https://openrouter.ai.example.org/": false, "https://openrouter.ai@example.org/": false,
	} {
		request := httptest.NewRequest(http.MethodGet, address, nil)
		if got := c.forOpenRouter(request.URL); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestARefusedKeyIsReplacedUnderTheRequest(t *testing.T) {
	for _, status := range []int{401, 402, 403} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w := start(t)
			c := w.client()
			w.wantKey(c, "sk-or-v1-fake-1")
			rotated := w.rotate(status)
			response, err := (&http.Client{Transport: c.Transport(nil)}).Post(w.url, "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != 200 {
				t.Errorf("status %d", response.StatusCode)
			}
			w.wantSent("sk-or-v1-fake-1 hello", rotated+" hello")
			w.wantReads(2)
		})
	}
}

func TestARefusalStandsWhereRepeatingCannotHelp(t *testing.T) {
	w := start(t)
	c := w.client()
	client := &http.Client{Transport: c.Transport(nil)}
	post := func(path string, body io.Reader, wantStatus int, wantBody string) {
		t.Helper()
		response, err := client.Post(w.openrouter.URL+path, "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if got, err := io.ReadAll(response.Body); err != nil || response.StatusCode != wantStatus || !strings.Contains(string(got), wantBody) {
			t.Errorf("%d %s, %v", response.StatusCode, got, err)
		}
	}
	// It is about something else.
	post("/guarded", strings.NewReader("a"), 403, "guardrail")
	w.wantReads(1)
	// The key is still the same.
	w.mu.Lock()
	w.ended[w.key] = 403
	w.mu.Unlock()
	post("/", strings.NewReader("b"), 403, "Key limit exceeded")
	w.wantReads(2)
	// The body can be sent only once; the next request has the new key.
	rotated := w.rotate(403)
	post("/", io.MultiReader(strings.NewReader("c")), 403, "Key limit exceeded")
	post("/", strings.NewReader("d"), 200, "ok")
	w.wantReads(3)
	// The next key is refused too.
	next := w.rotate(401)
	w.mu.Lock()
	w.ended[next] = 401
	w.mu.Unlock()
	post("/", strings.NewReader("e"), 401, "no")
	first := "sk-or-v1-fake-1"
	w.wantSent(first+" a", first+" b", first+" c", rotated+" d", rotated+" e", next+" e")
}

func TestA403ThatStallsIsJudgedByWhatCame(t *testing.T) {
	for start, want := range map[string]bool{"Key limit exceeded": true, "The model is not allowed": false} {
		t.Run(start, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body, far := io.Pipe()
				go io.WriteString(far, start)
				response := &http.Response{StatusCode: http.StatusForbidden, Body: body}
				if got := refusesKey(response); got != want {
					t.Errorf("refused: %v, want %v", got, want)
				}
				if got, err := io.ReadAll(response.Body); string(got) != start || err == nil {
					t.Errorf("the caller read %q, %v; want what came, and an error", got, err)
				}
			})
		})
	}
}

func TestA403ThatStallsOnTheNetworkReachesTheCaller(t *testing.T) {
	t.Parallel() // it waits for real
	w := start(t)
	release := make(chan struct{})
	stalls := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		response.WriteHeader(http.StatusForbidden)
		response.(http.Flusher).Flush()
		<-release
	}))
	t.Cleanup(stalls.Close)
	t.Cleanup(func() { close(release) })
	c := w.client()
	c.OpenRouterURL = stalls.URL
	response, err := (&http.Client{Transport: c.Transport(nil)}).Get(stalls.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestAnErasedUserHasTheNewKeyAfterTheRefusal(t *testing.T) {
	w := start(t)
	w.version = 40
	c := w.client()
	w.wantKey(c, "sk-or-v1-fake-1")
	w.mu.Lock()
	w.ended[w.key], w.version, w.key = 401, 1, "sk-or-v1-fake-anew"
	w.mu.Unlock()
	response, err := (&http.Client{Transport: c.Transport(nil)}).Get(w.url)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	w.wantKey(c, "sk-or-v1-fake-anew")
}

func TestLatchkeysErrorIsTheTransports(t *testing.T) {
	w := start(t)
	c := w.client()
	w.wantKey(c, "sk-or-v1-fake-1")
	w.rotate(402)
	w.answer(problem(402, "quota_exhausted", ""))
	_, err := (&http.Client{Transport: c.Transport(nil)}).Post(w.url, "text/plain", strings.NewReader("hello"))
	var e *Error
	if !errors.As(err, &e) || e.Code != "quota_exhausted" {
		t.Error(err)
	}
}
