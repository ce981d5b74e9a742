package adminclient

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"net/url"
	"strconv"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
)

// Page is a page of a list.
type Page[T any] struct {
	Items []Sent[T]
	More  bool // whether there is another page
}

// Users returns the pages of users with a text in id, name or address, newest
// change first. limit is how many are on a page, up to [adminapi.MaxPage]. The next page
// is asked for once it is wanted; an error ends the list.
func (c *Client) Users(ctx context.Context, text string, limit int) iter.Seq2[Page[adminapi.User], error] {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if text != "" {
		query.Set("q", text)
	}
	seen := map[string]bool{}
	return pages(c.maxPages, func(size *int, cursor string) (page Page[adminapi.User], next *string, err error) {
		var answer adminapi.UsersPageOf[Sent[adminapi.User]]
		if err := c.page(ctx, size, "/api/admin/users", query, cursor, &answer); err != nil {
			return page, nil, missing(err)
		}
		before := len(seen)
		for _, user := range answer.Users {
			seen[user.Known.UserID] = true
		}
		// A user who changes meanwhile may be on two pages, but there is somebody new
		// on every one.
		if answer.NextCursor != nil && len(seen) == before {
			err = errors.New("the pages of the list do not get further: there is nobody new on one, and yet a next one")
		}
		return Page[adminapi.User]{answer.Users, answer.NextCursor != nil}, answer.NextCursor, err
	})
}

// Ledger returns the pages of a user's ledger, newest entry first, as Users does.
func (c *Client) Ledger(ctx context.Context, id string, limit int) iter.Seq2[Page[account.Entry], error] {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	last := int64(math.MaxInt64)
	return pages(c.maxPages, func(size *int, cursor string) (page Page[account.Entry], next *string, err error) {
		var answer adminapi.LedgerPageOf[Sent[account.Entry]]
		if err := c.page(ctx, size, userPath(id)+"/ledger", query, cursor, &answer); err != nil {
			return page, nil, about(id, err)
		}
		for _, entry := range answer.Entries {
			if seq := entry.Known.Seq; seq >= last || seq < 1 {
				return page, nil, about(id, fmt.Errorf("the pages of the ledger do not get further: after #%d comes #%d", last, seq))
			}
			last = entry.Known.Seq
		}
		if answer.NextCursor != nil && len(answer.Entries) == 0 {
			err = about(id, errors.New("the pages of the ledger do not get further: there is nothing on one, and yet a next one"))
		}
		return Page[account.Entry]{answer.Entries, answer.NextCursor != nil}, answer.NextCursor, err
	})
}

// Reseal has users sealed anew whose rows show a key of a previous encryption key, up to
// limit for each page, which has one report. It goes on as Users does.
func (c *Client) Reseal(ctx context.Context, limit int) iter.Seq2[Page[adminapi.ResealReport], error] {
	return pages(c.maxPages, func(_ *int, cursor string) (page Page[adminapi.ResealReport], next *string, err error) {
		var report Sent[adminapi.ResealReport]
		_, err = c.call(ctx, http.MethodPost, "/api/admin/reseal", adminapi.ResealOptions{Limit: limit, Cursor: cursor}, &report)
		if err != nil {
			return page, nil, missing(err)
		}
		next = report.Known.NextCursor
		if next != nil && *next == cursor {
			err = errors.New("the pages of the users to be sealed anew do not get further: the same cursor comes again")
		}
		return Page[adminapi.ResealReport]{[]Sent[adminapi.ResealReport]{report}, next != nil}, next, err
	})
}

// pages walks a list, up to so many pages. get returns the page at a cursor, which is
// empty for the first one, and the cursor of the next one; it fails where a page
// leads nowhere, and so the walk ends whatever the server does. size counts the
// bytes of the list so far.
func pages[T any](most int, get func(size *int, cursor string) (page Page[T], next *string, err error)) iter.Seq2[Page[T], error] {
	return func(yield func(Page[T], error) bool) {
		size, cursor := 0, ""
		for range most {
			page, next, err := get(&size, cursor)
			if err != nil {
				yield(Page[T]{}, err)
				return
			}
			if !yield(page, nil) || next == nil {
				return
			}
			cursor = *next
		}
		yield(Page[T]{}, fmt.Errorf("the list has more than %d pages", most))
	}
}

// page reads a page, and counts it.
func (c *Client) page(ctx context.Context, size *int, path string, query url.Values, cursor string, into any) error {
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	_, n, err := c.exchange(ctx, http.MethodGet, path+"?"+query.Encode(), nil, into)
	if err != nil {
		return err
	}
	if *size += n; *size > c.maxList {
		return fmt.Errorf("%s sent a list of more than %d MiB", c.url, c.maxList>>20)
	}
	return nil
}
