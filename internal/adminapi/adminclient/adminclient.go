// Package adminclient is a client of the admin API, docs/api.md.
//
// It trusts the server with nothing but the token: that goes to https or to this
// machine only, through no proxy that was not asked for, and after no
// redirection; an answer is read up to [MaxAnswer] and a list up to [MaxPages]
// and [MaxList], and a list that goes round in circles is an error. Texts in an
// answer are as the server sent them: whoever shows them escapes them.
package adminclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey/internal/adminapi"
	"latchkey/internal/httpsonly"
	"latchkey/internal/seal"
)

const (
	// callLimit has room for a user's object that waits for OpenRouter.
	callLimit = time.Minute
	// reconcileLimit has room for an account with many keys.
	reconcileLimit = 10 * time.Minute
	// MaxAnswer is far above a page of 200 users, in bytes. It keeps a server that
	// is no latchkey from filling the memory.
	MaxAnswer = 16 << 20
	// MaxList bounds all pages of one list together, in bytes: about half a
	// million users.
	MaxList = 256 << 20
	// MaxPages bounds the pages of one list: two million users.
	MaxPages = 10_000
)

// Client is a client of the admin API. Its methods may be called at the same
// time.
type Client struct {
	url   string // without a slash at its end
	token seal.Secret
	http  *http.Client

	maxPages, maxList int // as above, but for the tests
}

// New returns a client of the latchkey at an address, which is a scheme, a host
// and perhaps a path. proxy is asked for the way to an https address; nil: there
// is none.
func New(address string, token seal.Secret, proxy *url.URL) (*Client, error) {
	base, err := httpsonly.Parse(address, "admin token")
	if err != nil {
		return nil, err
	}
	return &Client{strings.TrimRight(base.String(), "/"), token, httpsonly.Client(proxy), MaxPages, MaxList}, nil
}

// Sent is a part of an answer: what this program knows of it, and all of it as
// the server sent it. Its JSON is the latter.
type Sent[T any] struct {
	Known T
	all   json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Sent[T]) UnmarshalJSON(text []byte) error {
	s.all = bytes.Clone(text)
	return json.Unmarshal(text, &s.Known)
}

// MarshalJSON implements json.Marshaler.
func (s Sent[T]) MarshalJSON() ([]byte, error) { return s.all.MarshalJSON() }

// CheckID refuses ids that would reach the server as something else, so that
// what is done is never done to another user.
func CheckID(id string) error {
	switch {
	case id == "":
		return errors.New("a user id is not empty")
	case !utf8.ValidString(id):
		return fmt.Errorf("%q is no user id: it is not UTF-8", id)
	case id == "." || id == "..":
		// Percent-encoded or not, a URL takes these for steps in the path.
		return fmt.Errorf("the user id %q cannot be written in a URL", id)
	}
	return nil
}

// userPath is where a user is found. Ids hold anything, slashes too.
func userPath(id string) string { return "/api/admin/users/" + url.PathEscape(id) }

// User returns what the user's object holds.
func (c *Client) User(ctx context.Context, id string) (Sent[adminapi.State], error) {
	return c.state(ctx, http.MethodGet, id, nil)
}

// Adjust changes a user, and returns what the user's object holds then.
func (c *Client) Adjust(ctx context.Context, id string, change adminapi.Adjustment) (Sent[adminapi.State], error) {
	return c.state(ctx, http.MethodPatch, id, change)
}

func (c *Client) state(ctx context.Context, method, id string, body any) (Sent[adminapi.State], error) {
	var state Sent[adminapi.State]
	_, err := c.call(ctx, method, userPath(id), body, &state)
	if damage := state.Known.Damaged; damage != "" {
		state.Known.Record.Damaged = damage
	}
	return state, about(id, err)
}

// Erase erases a user. done is false while the deletion of the key goes on.
func (c *Client) Erase(ctx context.Context, id string) (done bool, err error) {
	status, err := c.call(ctx, http.MethodDelete, userPath(id), nil, nil)
	return status != http.StatusAccepted, about(id, err)
}

// Sync has a user written to D1 anew, in the background.
func (c *Client) Sync(ctx context.Context, id string) error {
	_, err := c.call(ctx, http.MethodPost, userPath(id)+"/sync", nil, nil)
	return about(id, err)
}

const reconcilePath = "/api/admin/reconcile"

// Reconcile looks for keys of ours that no record owns, and deletes them unless
// it is a dry run, or, without force, they are suspiciously many.
func (c *Client) Reconcile(ctx context.Context, options adminapi.ReconcileOptions) (Sent[adminapi.ReconcileReport], error) {
	var report Sent[adminapi.ReconcileReport]
	_, err := c.call(ctx, http.MethodPost, reconcilePath, options, &report)
	return report, missing(err)
}

// missing says what it means that something without a user's id is not found.
func missing(err error) error {
	if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Status == http.StatusNotFound {
		return fmt.Errorf("%w (is it the URL of a latchkey, and is ADMIN_TOKEN set there? the admin API is off without)", err)
	}
	return err
}

// call sends a request and reads the answer to it. into may be nil.
func (c *Client) call(ctx context.Context, method, path string, body, into any) (status int, err error) {
	status, _, err = c.exchange(ctx, method, path, body, into)
	return status, err
}

// exchange is call that also tells how many bytes the answer has.
func (c *Client) exchange(ctx context.Context, method, path string, body, into any) (status, size int, err error) {
	limit := callLimit
	if path == reconcilePath {
		limit = reconcileLimit
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, 0, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(limited, method, c.url+path, content)
	if err != nil {
		return 0, 0, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, 0, c.unreached(ctx, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	if err != nil {
		return 0, 0, c.unreached(ctx, err)
	}
	if len(text) > MaxAnswer {
		return 0, 0, fmt.Errorf("%s sent more than %d MiB; is it a latchkey?", c.url, MaxAnswer>>20)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return response.StatusCode, 0, c.refusal(response, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			return 0, 0, fmt.Errorf("%s answered something else than was expected; is it a latchkey? (%w)", c.url, err)
		}
	}
	return response.StatusCode, len(text), nil
}

// Unreached is the error of a request that got no answer, or not all of it.
type Unreached struct {
	url   string
	cause error
}

func (e *Unreached) Error() string { return e.url + ": " + e.cause.Error() }

// Unwrap returns the cause.
func (e *Unreached) Unwrap() error { return e.cause }

func (c *Client) unreached(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	var failure *url.Error
	if errors.As(err, &failure) { // it repeats the whole URL
		err = failure.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return &Unreached{c.url, err}
}

// Refusal is an answer with a status other than 2xx.
type Refusal struct {
	URL        string // of the latchkey
	Status     int
	RetryAfter string // as it was sent; mostly seconds

	code, said string
}

func (e *Refusal) Error() string {
	switch {
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		return fmt.Sprintf("%s (is ADMIN_TOKEN the one that is set at %s?)", e.text(), e.URL)
	case e.Unavailable() && e.RetryAfter != "":
		return fmt.Sprintf("%s (try again in %s s)", e.text(), e.RetryAfter)
	case e.Status < 400:
		return fmt.Sprintf("%s answered %d, a redirection, which is not followed: is the URL right?", e.URL, e.Status)
	}
	return e.text()
}

func (e *Refusal) text() string { return fmt.Sprintf("%d %s: %s", e.Status, e.code, e.said) }

// Unavailable tells whether it may work later.
func (e *Refusal) Unavailable() bool {
	return e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError
}

func (c *Client) refusal(response *http.Response, text []byte) error {
	var document struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}
	_ = json.Unmarshal(text, &document) // whatever is not a problem document leaves it empty
	return &Refusal{
		URL: c.url, Status: response.StatusCode, RetryAfter: response.Header.Get("Retry-After"),
		code: cmp.Or(document.Code, "(no code)"),
		said: cmp.Or(document.Detail, document.Title, http.StatusText(response.StatusCode)),
	}
}

// about puts a user's id before an error.
func about(id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", id, err)
}
