// Package latchkey gets a user's OpenRouter key from a latchkey Worker, and puts
// it on the requests that a program sends to OpenRouter.
//
//	client := &latchkey.Client{
//		URL:   "https://latchkey.example.org",
//		Token: func(context.Context) (string, error) { return session.Token() },
//	}
//	openrouter := &http.Client{Transport: client.Transport(nil)}
//	response, err := openrouter.Post("https://openrouter.ai/api/v1/chat/completions", "application/json", body)
//
// A client is for one user; for another user make another client. It reads the
// key when it is needed and keeps it for a minute; it holds no socket, and
// nothing runs on when it is not used. No key is ever logged or written.
//
// # Importing it
//
// The module's path is latchkey, which `go get` cannot download. Clone the
// repository and point your module at it:
//
//	go mod edit -require=latchkey@v0.0.0 -replace=latchkey=../latchkey
//
// and import "latchkey/clients/go/latchkey". The package needs the standard
// library alone.
package latchkey

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// fresh is how long a key is given without asking latchkey again. A key in use
	// is read anew after it, so that latchkey can replace it before it is spent.
	fresh = time.Minute
	// longestPause is how long a Retry-After may keep a key in use from being read anew.
	longestPause = time.Hour
	// minTokenLife is what has to be left of a token for it to be used again: with
	// less it could expire on its way.
	minTokenLife = 30 * time.Second
	// readTimeout bounds a reading: latchkey may make three calls to OpenRouter, of
	// 10 s each, before it answers.
	readTimeout = 45 * time.Second
	// maxAnswer is the longest answer of latchkey's, in bytes.
	maxAnswer = 64 << 10
)

// Account is what latchkey says of the user, the body of GET /api/users/me
// without the key. Limits are in credits: US dollars.
type Account struct {
	ID             string    `json:"id"`
	UserName       string    `json:"user_name"`
	Email          string    `json:"email"`
	Hash           string    `json:"hash"` // of the key: lower-case hex SHA-256
	TotalLimit     float64   `json:"total_limit"`
	RemainingLimit float64   `json:"remaining_limit"`
	UsageLimit     float64   `json:"usage_limit"` // what was left on the key when latchkey last read it
	Version        int64     `json:"version"`     // grows with every change
	Outcome        string    `json:"outcome"`
	KeyExpiresAt   time.Time `json:"key_expires_at,omitzero"`
	RenewsAt       time.Time `json:"renews_at,omitzero"`
}

// Error says why there is no key. Code is what to go by: latchkey's own
// (quota_exhausted, suspended, expired_token, …), or one of the client's:
// unreachable (latchkey could not be asked or did not answer in time),
// bad_answer (what came was not latchkey's), another_user (the token is now
// another user's: make a new client).
type Error struct {
	Code       string
	Status     int           // of latchkey's answer; 0 where there was none
	Detail     string        // in words
	RetryAfter time.Duration // when asking again makes sense; 0 where latchkey did not say
	Err        error         // the cause; may be nil
}

func (e *Error) Error() string { return "latchkey: " + e.Code + ": " + e.Detail }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Client gets one user's key. Set the fields before the first use; after that
// all methods are safe for concurrent use.
type Client struct {
	// URL is where latchkey is, such as https://latchkey.example.org.
	URL string
	// Token gives the user's token. A token is kept until 30 s before its end, and
	// fetched anew where latchkey refuses it. Its errors are returned as they are.
	Token func(context.Context) (string, error)
	// OpenRouterURL names the origin that gets the key; https://openrouter.ai where "".
	// With `make run` it is http://127.0.0.1:8788, and URL is http://127.0.0.1:8787.
	OpenRouterURL string
	// HTTP asks latchkey; http.DefaultClient where nil. Its CheckRedirect is not
	// used: no redirect is followed.
	HTTP *http.Client

	now func() time.Time // the clock of a test

	mu         sync.Mutex
	token      string
	account    Account
	key        string // "": none that is known to work
	freshUntil time.Time
	failure    error // where latchkey said when to ask again
	retryAt    time.Time
	reading    *reading // the latest that is on its way; nil: none
}

// A reading is a request to latchkey that all who want its answer wait for.
type reading struct {
	refused string        // the key whose refusal led to it; "": none
	done    chan struct{} // closed once the two below are set
	key     string
	err     error
}

// Key returns the present key: the one at hand for up to a minute, then the one
// that latchkey answers. Callers at the same time share one request. While
// latchkey cannot be reached the key at hand goes on. Where there is none, a 402,
// 429 or 503 is the answer until its Retry-After, for a minute at most. An error is an [*Error],
// ctx's, or Token's.
func (c *Client) Key(ctx context.Context) (string, error) {
	c.mu.Lock()
	if c.key != "" && c.clock().Before(c.freshUntil) {
		defer c.mu.Unlock()
		return c.key, nil
	}
	if c.key == "" && c.clock().Before(c.retryAt) {
		defer c.mu.Unlock()
		return "", c.failure
	}
	return c.readLocked(ctx, "")
}

// Refresh asks latchkey now, whatever is at hand, and returns what it says of
// the user. It does not replace the key.
func (c *Client) Refresh(ctx context.Context) (Account, error) {
	c.mu.Lock()
	if _, err := c.readLocked(ctx, ""); err != nil {
		return Account{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.account, nil
}

// renew returns the present key after OpenRouter refused one: what is at hand if
// that is another already.
func (c *Client) renew(ctx context.Context, refused string) (string, error) {
	c.mu.Lock()
	if c.key != "" && c.key != refused {
		defer c.mu.Unlock()
		return c.key, nil
	}
	return c.readLocked(ctx, refused)
}

// readLocked joins the reading on its way, or begins one, and waits for it. It is
// called with mu held and gives it up. A reading that began before a refusal may
// know the refused key alone, and is not joined after it.
func (c *Client) readLocked(ctx context.Context, refused string) (string, error) {
	r := c.reading
	if r == nil || (refused != "" && r.refused != refused) {
		r = &reading{refused: refused, done: make(chan struct{})}
		c.reading = r
		go func() {
			// It outlives the caller that began it: others may wait for it too.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
			defer cancel()
			r.key, r.err = c.read(ctx, refused)
			c.mu.Lock()
			if c.reading == r {
				c.reading = nil
			}
			c.mu.Unlock()
			close(r.done)
		}()
	}
	c.mu.Unlock()
	select {
	case <-r.done:
		return r.key, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// read asks latchkey and takes over what it says.
func (c *Client) read(ctx context.Context, refused string) (string, error) {
	account, key, err := c.ask(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure, c.retryAt = nil, time.Time{}
	if err == nil {
		err = c.take(account, key, refused)
	}
	if err == nil {
		c.freshUntil = c.clock().Add(fresh)
		return c.key, nil
	}
	var problem *Error
	if !errors.As(err, &problem) {
		return "", err
	}
	if problem.Status == http.StatusPaymentRequired || problem.Status == http.StatusForbidden || problem.Code == "another_user" {
		c.key = ""
	}
	switch problem.Status {
	case http.StatusPaymentRequired, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		// Not for longer than a key is kept: more may be granted before.
		c.failure, c.retryAt = err, c.clock().Add(min(problem.RetryAfter, fresh))
	}
	passing := problem.Code == "unreachable" || problem.Status == http.StatusTooManyRequests || problem.Status >= 500
	if passing && c.key != "" && c.key != refused {
		c.freshUntil = c.clock().Add(min(max(fresh, problem.RetryAfter), longestPause)) // what is at hand will do for now
		return c.key, nil
	}
	return "", err
}

// take takes over an answer, unless it is old news: the higher version wins.
// Where there is no key that works a lower one is taken too: the user may have
// been erased and have begun anew. mu is held.
func (c *Client) take(account Account, key, refused string) error {
	if c.account.ID != "" && c.account.ID != account.ID {
		return &Error{Code: "another_user", Detail: "the token is another user's"}
	}
	works := c.key != "" && c.key != refused
	if account.Version < c.account.Version && works {
		return nil
	}
	c.account, c.key = account, key
	return nil
}

// ask is GET /api/users/me. A token that latchkey refuses is fetched anew, once.
func (c *Client) ask(ctx context.Context) (Account, string, error) {
	token, err := c.validToken(ctx, "")
	if err != nil {
		return Account{}, "", err
	}
	account, key, err := c.askWith(ctx, token)
	var problem *Error
	if errors.As(err, &problem) && problem.Status == http.StatusUnauthorized {
		another, err := c.validToken(ctx, token)
		if err != nil {
			return Account{}, "", err
		}
		if another != token {
			return c.askWith(ctx, another)
		}
	}
	return account, key, err
}

func (c *Client) askWith(ctx context.Context, token string) (Account, string, error) {
	fail := func(code string, status int, detail string, err error) (Account, string, error) {
		return Account{}, "", &Error{Code: code, Status: status, Detail: detail, Err: err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(c.URL, "/")+"/api/users/me", nil)
	if err != nil {
		return Account{}, "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	client := *http.DefaultClient
	if c.HTTP != nil {
		client = *c.HTTP
	}
	// The token is for latchkey alone, and a port of the same host would get it too.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		return fail("unreachable", 0, "latchkey cannot be reached", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return fail("unreachable", response.StatusCode, "the answer broke off", err)
	}
	if len(body) > maxAnswer {
		return fail("bad_answer", response.StatusCode, "the answer is too long", nil)
	}
	if response.StatusCode != http.StatusOK {
		var document struct{ Code, Detail string }
		if json.Unmarshal(body, &document) != nil || document.Code == "" {
			return fail("bad_answer", response.StatusCode, fmt.Sprintf("status %d without a problem document", response.StatusCode), nil)
		}
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // absent: 0
		return Account{}, "", &Error{
			Code: document.Code, Status: response.StatusCode, Detail: document.Detail, RetryAfter: time.Duration(max(seconds, 0)) * time.Second,
		}
	}
	var answer struct {
		Account
		Key string `json:"openrouter_api_key"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.ID == "" || answer.Version < 1 || !printable(answer.Key) {
		return fail("bad_answer", response.StatusCode, "the answer is not latchkey's", err)
	}
	return answer.Account, answer.Key, nil
}

// printable says whether a key can go into a header.
func printable(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool { return r < '!' || r > '~' })
}

// validToken returns the token at hand where it lasts, or a new one. refused is
// one that latchkey did not take: then a new one is fetched, whatever this
// machine's clock says.
func (c *Client) validToken(ctx context.Context, refused string) (string, error) {
	c.mu.Lock()
	held := c.token
	c.mu.Unlock()
	if held != "" && held != refused && expiry(held).Sub(c.clock()) > minTokenLife {
		return held, nil
	}
	token, err := c.Token(ctx)
	if err != nil {
		return "", err
	}
	if token == "" {
		return "", &Error{Code: "missing_token", Detail: "Token gave no token"}
	}
	c.mu.Lock()
	c.token = token
	c.mu.Unlock()
	return token, nil
}

// expiry is the exp of a JSON Web Token; the zero time where there is none to be read.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	var claims struct{ Exp float64 }
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0)
}

func (c *Client) clock() time.Time {
	if c.now != nil {
		return c.now()
	}
	return time.Now()
}
