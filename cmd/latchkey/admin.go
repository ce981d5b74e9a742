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
	"unicode"
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
	Since  string `json:"since"`
	Tries  int    `json:"tries"`
	Due    string `json:"due"`
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

// adminReport is what a reconciliation found.
type adminReport struct {
	DryRun   bool          `json:"dry_run"`
	Examined int           `json:"examined"`
	Ours     int           `json:"ours"`
	Orphans  []adminOrphan `json:"orphans"`
	Deleted  int           `json:"deleted"`
}

// adminOrphan is a key of ours that no record owns.
type adminOrphan struct {
	Hash      string `json:"hash"`
	Name      string `json:"name"`
	CreatedAt string `json:"created_at"`
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
		fmt.Fprintf(a.err, "Note: %s is not https; the admin token can be read on the way.\n", base)
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
func (c adminClient) users(ctx context.Context, q, cursor string, limit int) (users []adminUser, next string, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if q != "" {
		query.Set("q", q)
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	var page struct {
		Users      []adminUser `json:"users"`
		NextCursor string      `json:"next_cursor"`
	}
	_, err = c.call(ctx, http.MethodGet, "/api/admin/users?"+query.Encode(), nil, &page)
	return page.Users, page.NextCursor, err
}

// user returns what the user's object holds.
func (c adminClient) user(ctx context.Context, id string) (adminState, error) {
	state := adminState{Background: []adminJob{}} // none is a list too
	_, err := c.call(ctx, http.MethodGet, userPath(id), nil, &state)
	return state, about(id, err)
}

// ledger returns all entries after a seq, oldest first.
func (c adminClient) ledger(ctx context.Context, id string, after int64) ([]adminEntry, error) {
	all := []adminEntry{}
	for {
		var page struct {
			Entries   []adminEntry `json:"entries"`
			NextAfter *int64       `json:"next_after"`
		}
		path := userPath(id) + "/ledger?after=" + strconv.FormatInt(after, 10)
		if _, err := c.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, about(id, err)
		}
		all = append(all, page.Entries...)
		if page.NextAfter == nil {
			return all, nil
		}
		if *page.NextAfter <= after {
			return nil, errors.New("the pages of the ledger go round in circles")
		}
		after = *page.NextAfter
	}
}

// change changes a user and returns what the user's object holds then.
func (c adminClient) change(ctx context.Context, id string, change adminChange) (adminState, error) {
	state := adminState{Background: []adminJob{}}
	_, err := c.call(ctx, http.MethodPatch, userPath(id), change, &state)
	return state, about(id, err)
}

// erase erases a user. done is false while the deletion of the key goes on.
func (c adminClient) erase(ctx context.Context, id string) (done bool, err error) {
	status, err := c.call(ctx, http.MethodDelete, userPath(id), nil, nil)
	return status != http.StatusAccepted, about(id, err)
}

// reconcile looks for keys of ours that no record owns, and deletes them unless
// it is a dry run.
func (c adminClient) reconcile(ctx context.Context, dryRun bool) (adminReport, error) {
	var report adminReport
	_, err := c.call(ctx, http.MethodPost, "/api/admin/reconcile", map[string]bool{"dry_run": dryRun}, &report)
	return report, err
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
	said := printable(cmp.Or(problem.Detail, problem.Title, http.StatusText(response.StatusCode)))
	status := response.StatusCode
	err := fmt.Errorf("%d %s: %s", status, printable(cmp.Or(problem.Code, "(no code)")), said)
	switch {
	case status == http.StatusNotFound:
		return exit{exitNotFound, err}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return exit{exitRefused, fmt.Errorf("%w (is ADMIN_TOKEN the one that is set at %s?)", err, c.url)}
	case status == http.StatusTooManyRequests, status >= 500:
		if after := response.Header.Get("Retry-After"); after != "" {
			err = fmt.Errorf("%w (try again in %s s)", err, printable(after))
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
	return fmt.Errorf("%s: %w", printable(id), err)
}

// printable is text of users or servers as a terminal may have it: whatever
// would move the cursor, colour or reorder what is around it is escaped. Two
// joiners stay, without which some scripts and emoji fall apart.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) || unicode.Is(unicode.Zs, r) || r == '\u200c' || r == '\u200d' {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

const red = "\x1b[31m"

// paint colours text that is for a terminal, and only that. tabwriter takes
// colours for text: in a table only the last cell of a row can have one.
func (a *app) paint(colour, text string) string {
	if !a.terminal() || a.asJSON || a.asCSV {
		return text
	}
	return colour + text + "\x1b[0m"
}

// short is as much of a hash as people need.
func short(hash string) string { return hash[:min(len(hash), 8)] }
