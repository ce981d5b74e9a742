// Package openrouter is a client of OpenRouter's key API, as far as latchkey
// needs it: create, read, disable, delete and list keys, and put them under a
// guardrail.
//
// It believes no answer beyond what it can mean: a number has bounds, a key is
// the one that was asked for, and a hash is a hash.
//
// It never repeats a call. OpenRouter has no idempotency key, so whoever calls
// has to know whether a call may have taken effect; [Error.Uncertain] tells.
package openrouter

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/seal"
)

// Client calls OpenRouter. It takes a RoundTripper instead of an http.Client:
// linking the latter into the Worker would nearly double it, and what it adds
// is not wanted here. A redirect, for one, would carry the key elsewhere.
type Client struct {
	BaseURL         string // without a slash at its end
	ProvisioningKey seal.Secret
	Workspace       string            // whose keys are made and listed; empty: OpenRouter's default one
	Transport       http.RoundTripper // sets the deadline of a call, its body included
	Now             func() time.Time
	MaxBodyBytes    int64 // of an answer; 0: several times what a page of keys takes
}

// Key is what OpenRouter tells of a key.
type Key struct {
	Hash     string
	Name     string
	Disabled bool
	Limit    *account.Credits // nil: not told
	Left     account.Credits  // what may still be spent on it; below 0 where it was overdrawn
	Uncapped bool             // it has no limit, and Left means nothing

	ExpiresAt time.Time // zero: never, or not told
}

// NewKey is what a key is to be.
type NewKey struct {
	Name       string
	Limit      *account.Credits // nil: none
	LimitReset string           // Daily, Weekly, Monthly or ""
	ExpiresAt  time.Time        // in whole seconds; zero: never
}

// Create makes a key and returns it and its hash. After an uncertain error the
// key may exist all the same; its name finds it.
func (c Client) Create(key NewKey) (seal.Secret, string, error) { return c.create(c.call, key) }

// caller is a way of calling: [Client.call], or one that repeats.
type caller func(op, method, path string, in, out any) error

// create makes a key by a way of calling.
func (c Client) create(call caller, key NewKey) (seal.Secret, string, error) {
	// The limit is always sent: one that is left out makes a key without limit.
	body := struct {
		Name       string           `json:"name"`
		Limit      *account.Credits `json:"limit"`
		LimitReset string           `json:"limit_reset,omitempty"`
		ExpiresAt  string           `json:"expires_at,omitempty"`
		Workspace  string           `json:"workspace_id,omitempty"`
	}{Name: key.Name, Limit: key.Limit, LimitReset: key.LimitReset, Workspace: c.Workspace}
	if !key.ExpiresAt.IsZero() {
		body.ExpiresAt = key.ExpiresAt.UTC().Format("2006-01-02T15:04:05Z") // OpenRouter wants the seconds and the Z
	}
	var created createdKey
	if err := call("create", http.MethodPost, "/keys", body, &created); err != nil {
		return seal.Secret{}, "", err
	}
	return created.check(key)
}

// createdKey is the answer to a create.
type createdKey struct {
	Key  string `json:"key"` // stands beside data
	Data struct {
		Hash     string           `json:"hash"`
		Name     string           `json:"name"`
		Limit    *account.Credits `json:"limit"`
		Disabled bool             `json:"disabled"`
	} `json:"data"`
}

// maxKeyBytes bounds a key: OpenRouter's have 73 bytes.
const maxKeyBytes = 512

// check returns the key and its hash, if it is the key that was asked for and can
// be used. Any other answer is as good as none: whose key it shows is not known.
func (created createdKey) check(asked NewKey) (seal.Secret, string, error) {
	lost := func(kind Kind, reason string) (seal.Secret, string, error) {
		return seal.Secret{}, "", &Error{Op: "create", Kind: kind, Uncertain: true, Reason: reason}
	}
	hash := HashOf(created.Key)
	switch data := created.Data; {
	case created.Key == "":
		return lost(Unavailable, "the answer has no key")
	case len(created.Key) > maxKeyBytes:
		return lost(Refused, "the key is too long to be one")
	case data.Hash != hash: // we could neither read nor delete it by that hash
		return lost(Refused, "the hash is not the SHA-256 of the key")
	case data.Name != asked.Name:
		return lost(Unavailable, "the answer is about a key with another name")
	case data.Disabled:
		return lost(Unavailable, "the answer is about a key that is disabled")
	case (data.Limit == nil) != (asked.Limit == nil) || data.Limit != nil && *data.Limit != *asked.Limit:
		return lost(Unavailable, "the answer is about a key with another limit")
	}
	return seal.NewSecret(created.Key), hash, nil
}

// HashOf is the hash of a key, by which OpenRouter knows it: its SHA-256 in 64
// lower-case hexadecimal digits.
func HashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// IsHash tells whether a text has the form of a key's hash.
func IsHash(text string) bool {
	return len(text) == 2*sha256.Size && strings.Trim(text, "0123456789abcdef") == ""
}

// keyPath is the path of a key. A text that is no hash names no key, and might
// name something else: it is never sent.
func keyPath(op, hash string) (string, error) {
	if !IsHash(hash) {
		return "", &Error{Op: op, Kind: Gone, Reason: "no key has that hash"}
	}
	return "/keys/" + hash, nil
}

// callKey is [Client.call] about a key.
func (c Client) callKey(op, method, hash string, in, out any) error {
	path, err := keyPath(op, hash)
	if err != nil {
		return err
	}
	return c.call(op, method, path, in, out)
}

// Get reads a key. A reading that cannot be true is none: the error says that
// OpenRouter is unavailable.
func (c Client) Get(hash string) (Key, error) {
	var got reading
	if err := c.callKey("get", http.MethodGet, hash, nil, &got); err != nil {
		return Key{}, err
	}
	if reason := got.wrong(hash); reason != "" {
		return Key{}, &Error{Op: "get", Kind: Unavailable, Reason: reason}
	}
	return got.Key, nil
}

// Name returns the name of a key, whatever its meter says.
func (c Client) Name(hash string) (string, error) {
	var got struct {
		Data struct {
			Hash string `json:"hash"`
			Name string `json:"name"`
		} `json:"data"`
	}
	if err := c.callKey("get", http.MethodGet, hash, nil, &got); err != nil {
		return "", err
	}
	if got.Data.Hash != hash {
		return "", &Error{Op: "get", Kind: Unavailable, Reason: "the answer is about another key"}
	}
	return got.Data.Name, nil
}

// Delete deletes a key. One that is gone already counts as deleted.
func (c Client) Delete(hash string) error {
	return unlessGone(c.callKey("delete", http.MethodDelete, hash, nil, &deletion{}))
}

// Disable keeps a key from being used, and leaves it to be read. One that is
// gone already counts as disabled.
func (c Client) Disable(hash string) error {
	body := struct {
		Disabled bool `json:"disabled"`
	}{true}
	var got struct {
		Data struct {
			Hash     string `json:"hash"`
			Disabled bool   `json:"disabled"`
		} `json:"data"`
	}
	err := c.callKey("disable", http.MethodPatch, hash, body, &got)
	if err == nil && (got.Data.Hash != hash || !got.Data.Disabled) {
		return &Error{Op: "disable", Kind: Unavailable, Uncertain: true, Reason: "the answer does not say that the key is disabled"}
	}
	return unlessGone(err)
}

// deletion is the answer to a delete: it may be empty, and may not say otherwise.
type deletion struct{}

// UnmarshalJSON fails where the answer does not confirm the deletion.
func (*deletion) UnmarshalJSON(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	var told struct {
		Deleted *bool           `json:"deleted"`
		Error   json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(body, &told); err != nil {
		return err
	}
	if told.Error != nil || told.Deleted != nil && !*told.Deleted {
		return errors.New("the key is not deleted")
	}
	return nil
}

// unlessGone takes a key that is gone for success.
func unlessGone(err error) error {
	if IsGone(err) {
		return nil
	}
	return err
}

// Assign puts a key under a guardrail. It may be repeated.
func (c Client) Assign(guardrail, hash string) error { return c.assign(c.call, guardrail, hash) }

// assign puts a key under a guardrail by a way of calling.
func (c Client) assign(call caller, guardrail, hash string) error {
	body := struct {
		Hashes []string `json:"key_hashes"`
	}{[]string{hash}}
	var got struct {
		Assigned *int `json:"assigned_count"`
	}
	if err := call("assign", http.MethodPost, "/guardrails/"+url.PathEscape(guardrail)+"/assignments/keys", body, &got); err != nil {
		return err
	}
	switch {
	case got.Assigned == nil:
		return &Error{Op: "assign", Kind: Unavailable, Uncertain: true, Reason: "the answer does not say whether the key was assigned"}
	case *got.Assigned != 1:
		return &Error{Op: "assign", Kind: Refused, Uncertain: true, Reason: "the key was not assigned"}
	}
	return nil
}

const (
	// pageSize is OpenRouter's: a page with fewer keys is the last one.
	pageSize = 100
	// pageOverlap is how much of a page is read again with the next one, which
	// tells whether keys slipped through between them.
	pageOverlap = 10
	// maxPages bounds a walk: 450,000 keys, and an end where offset is ignored.
	maxPages = 5_000
)

// Each visits every key of the workspace, disabled ones included, newest first. It
// ends with the first error, of its own or of visit.
//
// Pages shift while keys come and go. One that has nothing in common with the
// one before it shows that many were deleted in between, and is read again from
// further up; then some keys are visited twice.
func (c Client) Each(visit func(Listed) error) error {
	get := func(path string, out any) error { return c.call("list", http.MethodGet, path, nil, out) }
	return walk(get, c.listPath(true), func(key Listed) string { return key.Hash }, visit)
}

// listPath is the path of the list, without its offset, which comes last.
func (c Client) listPath(disabledToo bool) string {
	query := url.Values{"include_disabled": {strconv.FormatBool(disabledToo)}}
	if c.Workspace != "" {
		query.Set("workspace_id", c.Workspace)
	}
	return "/keys?" + query.Encode() + "&offset="
}

// Listed is what [Client.Each] tells of a key.
type Listed struct {
	Hash      string `json:"hash"`
	Name      string `json:"name"`
	CreatedAt string `json:"created_at"` // RFC 3339, with or without fractions of a second
}

// walk is [Client.Each] for keys of any form. path wants the offset at its end.
func walk[K any](get func(path string, out any) error, path string, hashOf func(K) string, visit func(K) error) error {
	var last map[string]bool // the hashes of the page before
	offset := 0
	for range maxPages {
		var page struct {
			Data []K `json:"data"`
		}
		if err := get(path+strconv.Itoa(offset), &page); err != nil {
			return err
		}
		if page.Data == nil {
			return &Error{Op: "list", Kind: Unavailable, Reason: "the answer has no list"}
		}
		joined, hashes, fresh := offset == 0, make(map[string]bool, pageSize), false
		for _, key := range page.Data {
			hash := hashOf(key)
			hashes[hash] = true
			if last[hash] {
				joined = true
				continue
			}
			fresh = true
			if err := visit(key); err != nil {
				return err
			}
		}
		switch {
		case !joined:
			offset = max(offset-pageSize+pageOverlap, 0)
			continue
		case len(page.Data) < pageSize:
			return nil
		case !fresh:
			return &Error{Op: "list", Kind: Unavailable, Reason: "the list of keys does not go on"}
		}
		last = hashes
		offset += pageSize - pageOverlap
	}
	return &Error{Op: "list", Kind: Unavailable, Reason: "the list of keys has no end"}
}
