package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey/internal/account"
	"latchkey/internal/seal"
)

// adminUser is a user as the admin API lists it. Times are text: a row of an
// older table may have them in a form of its own.
type adminUser struct {
	UserID         string          `json:"user_id"`
	UserName       string          `json:"user_name"`
	Email          string          `json:"email"`
	Hash           string          `json:"hash"`
	TotalLimit     account.Credits `json:"total_limit"`
	RemainingLimit account.Credits `json:"remaining_limit"`
	UsageLimit     account.Credits `json:"usage_limit"`
	Seq            int64           `json:"seq"`
	CreatedAt      string          `json:"created_at"`
	UpdatedAt      string          `json:"updated_at"`
	Suspended      bool            `json:"suspended"`
	Damaged        string          `json:"damaged,omitempty"` // why nothing but the id can be read
}

// adminRecord is a user as the user's object holds it.
type adminRecord struct {
	adminUser
	Key string `json:"key"` // shortened; empty while there is none
}

// adminJob is work that is under way or waits to be tried again: what is to be
// got rid of, or made, and how often that has failed.
type adminJob struct {
	Delete string `json:"delete,omitempty"` // hash of a key
	Create string `json:"create,omitempty"` // op, a part of the new key's name
	Orphan string `json:"orphan,omitempty"` // op of a key that may exist or not
	Settle string `json:"settle,omitempty"` // hash of a key to be charged once more, and then deleted
	Assign string `json:"assign,omitempty"` // hash of a key that nobody gets before the guardrail has it

	Live  bool             `json:"live,omitempty"`  // the key to settle still works
	Limit *account.Credits `json:"limit,omitempty"` // of the key to settle
	Left  *account.Credits `json:"left,omitempty"`  // on it, when it was read last

	Since string `json:"since"`
	Tries int    `json:"tries"`
	Due   string `json:"due"`
}

// adminLag is how far D1 is behind.
type adminLag struct {
	Seq    int64  `json:"seq"`
	Behind bool   `json:"behind"`
	Tries  int    `json:"tries"`
	Due    string `json:"due,omitempty"`
}

// adminState is all that a user's object holds, but the ledger.
type adminState struct {
	Record     adminRecord `json:"record"`
	Pending    *adminJob   `json:"pending"`
	Background []adminJob  `json:"background"`
	D1         adminLag    `json:"d1"`
	Alarm      *string     `json:"alarm"`
	Damaged    string      `json:"damaged,omitempty"` // why the record has nothing but the id
}

// adminEntry is one line of a ledger. Its kind is text: a latchkey newer than
// this program may have more of them.
type adminEntry struct {
	Seq            int64           `json:"seq"`
	At             string          `json:"at"`
	Kind           string          `json:"kind"`
	Credits        account.Credits `json:"credits"`
	RemainingLimit account.Credits `json:"remaining_limit"`
	Hash           string          `json:"hash"`
}

// adminChange is what can be changed of a user; nil leaves it as it is.
type adminChange struct {
	TotalLimit     *account.Credits `json:"total_limit,omitempty"`
	RemainingLimit *account.Credits `json:"remaining_limit,omitempty"`
	Suspended      *bool            `json:"suspended,omitempty"`
}

// adminReport is what a reconciliation found and did.
type adminReport struct {
	DryRun     bool          `json:"dry_run"`
	Examined   int           `json:"examined"` // keys at OpenRouter
	Ours       int           `json:"ours"`
	Orphans    []adminOrphan `json:"orphans"`
	Deleted    int           `json:"deleted"`
	Failed     int           `json:"failed"`               // whose owner could not be asked, or that could not be deleted
	Suspicious bool          `json:"suspicious,omitempty"` // so many orphans that none is deleted without force
}

// adminOrphan is a key of ours that no record owns.
type adminOrphan struct {
	Hash      string `json:"hash"`
	Name      string `json:"name"`
	CreatedAt string `json:"created_at"`
}

// sent is a part of an answer: what this program knows of it, and all of it as
// the server sent it. JSON of it is the latter.
type sent[T any] struct {
	known T
	all   json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *sent[T]) UnmarshalJSON(text []byte) error {
	s.all = bytes.Clone(text)
	return json.Unmarshal(text, &s.known)
}

// MarshalJSON implements json.Marshaler.
func (s sent[T]) MarshalJSON() ([]byte, error) { return s.all.MarshalJSON() }

// known returns what this program knows of parts of an answer.
func known[T any](parts []sent[T]) []T {
	all := make([]T, len(parts))
	for i, part := range parts {
		all[i] = part.known
	}
	return all
}

const (
	// callLimit has room for a user's object that waits for OpenRouter.
	callLimit = time.Minute
	// reconcileLimit has room for an account with many keys.
	reconcileLimit = 10 * time.Minute
	// maxAnswer is far above a page of 200 users. It keeps a server that is no
	// latchkey from filling the memory.
	maxAnswer = 16 << 20
)

// adminClient is a client of the admin API.
type adminClient struct {
	url   string // without a slash at its end
	token seal.Secret
	http  *http.Client
}

// admin returns a client for the latchkey that the flags name.
func (a *app) admin() (adminClient, error) {
	base, err := url.Parse(a.adminURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return adminClient{}, exit{exitUsage, fmt.Errorf("%q is no http or https URL", a.adminURL)}
	}
	if base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return adminClient{}, exit{exitUsage, errors.New("the URL of the latchkey is only scheme, host and path")}
	}
	token, err := a.secret("ADMIN_TOKEN")
	if err != nil {
		return adminClient{}, err
	}
	if base.Scheme == "http" && !onThisMachine(base.Hostname()) {
		a.say("Note: %s is not https; the admin token can be read on the way.", base)
	}
	return adminClient{
		url: strings.TrimRight(base.String(), "/"), token: token,
		// A DELETE that is redirected would become a GET.
		http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

func onThisMachine(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// userPath is where a user is found. Ids hold anything, slashes too.
func userPath(id string) string { return "/api/admin/users/" + url.PathEscape(id) }

// checkID refuses ids that would reach the server as something else, so that
// what is done is never done to another user.
func checkID(id string) error {
	switch {
	case id == "":
		return exit{exitUsage, errors.New("a user id is not empty")}
	case !utf8.ValidString(id):
		return exit{exitUsage, fmt.Errorf("%q is no user id: it is not UTF-8", id)}
	case id == "." || id == "..":
		// Percent-encoded or not, a URL takes these for steps in the path.
		return exit{exitUsage, fmt.Errorf("the user id %q cannot be written in a URL", id)}
	}
	return nil
}

// users returns one page of users, and where the next one begins.
func (c adminClient) users(ctx context.Context, q, cursor string, limit int) (users []sent[adminUser], next string, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if q != "" {
		query.Set("q", q)
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	var page struct {
		Users      []sent[adminUser] `json:"users"`
		NextCursor string            `json:"next_cursor"`
	}
	_, err = c.call(ctx, http.MethodGet, "/api/admin/users?"+query.Encode(), nil, &page)
	return page.Users, page.NextCursor, err
}

// user returns what the user's object holds.
func (c adminClient) user(ctx context.Context, id string) (sent[adminState], error) {
	return c.state(ctx, http.MethodGet, id, nil)
}

// state asks for something that is answered with what the user's object holds.
func (c adminClient) state(ctx context.Context, method, id string, body any) (sent[adminState], error) {
	var state sent[adminState]
	_, err := c.call(ctx, method, userPath(id), body, &state)
	if state.known.Damaged != "" {
		state.known.Record.Damaged = state.known.Damaged
	}
	return state, about(id, err)
}

// ledger returns all entries after a seq, oldest first. Every entry has to be
// newer than the one before it, and every page but the last has to have one:
// whatever the server does, the walk ends.
func (c adminClient) ledger(ctx context.Context, id string, after int64) ([]sent[adminEntry], error) {
	all := []sent[adminEntry]{}
	last := after
	for {
		var page struct {
			Entries   []sent[adminEntry] `json:"entries"`
			NextAfter *int64             `json:"next_after"`
		}
		path := userPath(id) + "/ledger?after=" + strconv.FormatInt(after, 10)
		if _, err := c.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, about(id, err)
		}
		for _, entry := range page.Entries {
			if entry.known.Seq <= last {
				return nil, about(id, fmt.Errorf("the pages of the ledger do not get further: after #%d comes #%d", last, entry.known.Seq))
			}
			last = entry.known.Seq
		}
		all = append(all, page.Entries...)
		if page.NextAfter == nil {
			return all, nil
		}
		if len(page.Entries) == 0 {
			return nil, about(id, fmt.Errorf("the pages of the ledger do not get further: there is nothing on the page after #%d, and yet a next one", after))
		}
		after = *page.NextAfter
	}
}

// change changes a user and returns what the user's object holds then.
func (c adminClient) change(ctx context.Context, id string, change adminChange) (sent[adminState], error) {
	return c.state(ctx, http.MethodPatch, id, change)
}

// erase erases a user. done is false while the deletion of the key goes on.
func (c adminClient) erase(ctx context.Context, id string) (done bool, err error) {
	status, err := c.call(ctx, http.MethodDelete, userPath(id), nil, nil)
	return status != http.StatusAccepted, about(id, err)
}

// reconcile looks for keys of ours that no record owns, and deletes them unless
// it is a dry run, or, without force, they are suspiciously many.
func (c adminClient) reconcile(ctx context.Context, dryRun, force bool) (sent[adminReport], error) {
	var report sent[adminReport]
	_, err := c.call(ctx, http.MethodPost, "/api/admin/reconcile", map[string]bool{"dry_run": dryRun, "force": force}, &report)
	return report, withoutAdminAPI(err)
}

// call sends a request and reads the answer to it. into may be nil.
func (c adminClient) call(ctx context.Context, method, path string, body, into any) (status int, err error) {
	limit := callLimit
	if path == "/api/admin/reconcile" {
		limit = reconcileLimit
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(limited, method, c.url+path, content)
	if err != nil {
		return 0, exit{exitUsage, err}
	}
	request.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, c.unreached(ctx, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, c.unreached(ctx, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return response.StatusCode, c.failure(response, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			return 0, fmt.Errorf("%s answered something else than was expected; is it a latchkey? (%w)", c.url, err)
		}
	}
	return response.StatusCode, nil
}

// unreached is the error of a request that got no answer, or not all of it.
func (c adminClient) unreached(ctx context.Context, err error) error {
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
	return exit{exitUnavailable, fmt.Errorf("%s: %w", c.url, err)}
}

// failure is the error that an answer stands for.
func (c adminClient) failure(response *http.Response, text []byte) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}
	_ = json.Unmarshal(text, &problem) // whatever is not a problem document leaves it empty
	said := cmp.Or(problem.Detail, problem.Title, http.StatusText(response.StatusCode))
	status := response.StatusCode
	err := fmt.Errorf("%d %s: %s", status, cmp.Or(problem.Code, "(no code)"), said)
	switch {
	case status == http.StatusNotFound:
		return exit{exitNotFound, err}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return exit{exitRefused, fmt.Errorf("%w (is ADMIN_TOKEN the one that is set at %s?)", err, c.url)}
	case status == http.StatusTooManyRequests, status >= 500:
		if after := response.Header.Get("Retry-After"); after != "" {
			err = fmt.Errorf("%w (try again in %s s)", err, after)
		}
		return exit{exitUnavailable, err}
	case status >= 300 && status < 400:
		return fmt.Errorf("%s answered %d, a redirection, which is not followed: is the URL right?", c.url, status)
	}
	return err
}

// about puts a user's id before an error.
func about(id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", id, err)
}

// short is as much of a hash as people need.
func short(hash string) string { return hash[:min(len(hash), 8)] }
