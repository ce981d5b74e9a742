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
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-faster/jx"

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

// reading is a key as OpenRouter writes it. What is not used here is skipped.
type reading struct {
	Key
	told bool // limit_remaining is there
}

// MaxReading bounds what a reading may say, in both directions: no key of ours
// holds as much, and what a wild answer could be charged stays small enough to
// be put right by hand.
const MaxReading = 10_000 * account.Credit

// wrong says why a reading of a key cannot be true; "" where it can.
func (r *reading) wrong(hash string) string {
	switch limit := r.Limit; {
	case r.Hash != hash:
		return "the answer is about another key"
	case !r.told:
		return "the answer lacks limit_remaining"
	case r.Uncapped:
		return ""
	case max(r.Left, -r.Left) > MaxReading:
		return "limit_remaining is out of bounds"
	case limit != nil && (*limit < 0 || *limit > MaxReading):
		return "limit is out of bounds"
	case limit != nil && r.Left > *limit:
		return "limit_remaining is above the limit"
	}
	return ""
}

// UnmarshalJSON reads the answer to a get. Every request waits for one, and to
// look at each token once takes a fifth of the time of reflection.
func (r *reading) UnmarshalJSON(body []byte) error {
	d := jx.DecodeBytes(body)
	err := d.ObjBytes(func(d *jx.Decoder, name []byte) error {
		if string(name) != "data" {
			return d.Skip()
		}
		return d.ObjBytes(r.field)
	})
	if err != nil {
		return err
	}
	if d.Skip() != io.EOF {
		return errors.New("there is more than one JSON object")
	}
	return nil
}

func (r *reading) field(d *jx.Decoder, name []byte) (err error) {
	if d.Next() == jx.Null && string(name) != "limit_remaining" {
		return d.Null() // as good as absent
	}
	switch string(name) {
	case "hash":
		r.Hash, err = d.Str()
	case "name":
		r.Name, err = d.Str()
	case "disabled":
		r.Disabled, err = d.Bool()
	case "limit":
		r.Limit = new(account.Credits)
		err = r.Limit.Decode(d)
	case "expires_at":
		var at string
		if at, err = d.Str(); err == nil {
			r.ExpiresAt, err = time.Parse(time.RFC3339, at)
		}
	case "limit_remaining":
		r.told = true
		if r.Uncapped = d.Next() == jx.Null; r.Uncapped {
			return d.Null()
		}
		err = r.Left.Decode(d)
	default:
		return d.Skip()
	}
	return err
}

// maxBodyBytes is several times what a page of keys takes.
const maxBodyBytes = 1 << 20

// call sends one request and decodes its answer into out, unless out is nil.
// Every error is an *[Error].
func (c Client) call(op, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return &Error{Op: op, Kind: Refused, Reason: err.Error()}
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, c.BaseURL+path, body)
	if err != nil {
		return &Error{Op: op, Kind: Refused, Reason: err.Error()}
	}
	request.Header.Set("Authorization", "Bearer "+c.ProvisioningKey.Reveal())
	request.Header.Set("Accept", "application/json")
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.Transport.RoundTrip(request)
	if err != nil {
		return &Error{Op: op, Kind: Unavailable, Uncertain: true, Reason: c.safe(err.Error())}
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, cmp.Or(c.MaxBodyBytes, maxBodyBytes)))
	if err != nil {
		// The status alone is no answer: nothing tells what the rest would have said.
		return &Error{Op: op, Kind: Unavailable, Uncertain: true, Status: response.StatusCode, Reason: c.safe("the answer was cut short: " + err.Error())}
	}
	return c.judge(op, response, answer, out)
}

// judge tells what an answer means.
func (c Client) judge(op string, response *http.Response, body []byte, out any) error {
	e := &Error{Op: op, Status: response.StatusCode, RetryAfter: c.retryAfter(response.Header.Get("Retry-After"))}
	html := bytes.HasPrefix(bytes.TrimSpace(body), []byte("<"))
	switch {
	case e.Status >= 200 && e.Status < 300:
		if out == nil && !html || out != nil && decode(body, out) == nil {
			return nil
		}
		e.Kind, e.Uncertain, e.Reason = Unavailable, true, "the answer is not what was expected"
		return e
	case e.Status == http.StatusTooManyRequests:
		e.Kind = Unavailable
	case e.Status == http.StatusRequestTimeout || e.Status >= 500:
		e.Kind, e.Uncertain = Unavailable, true
	case e.Status < 400: // what was asked for may be done, and its outcome elsewhere
		e.Kind, e.Uncertain = Refused, true
	case e.Status == http.StatusNotFound && !html:
		// An unknown path is answered with a page of HTML, which says nothing about a key.
		e.Kind = Gone
	default:
		e.Kind = Refused
	}
	e.Reason = c.safe(reason(body, html))
	return e
}

// decode reads JSON. What can read itself need not be checked first.
func decode(body []byte, out any) error {
	if u, ok := out.(json.Unmarshaler); ok {
		return u.UnmarshalJSON(body)
	}
	return json.Unmarshal(body, out)
}

// safe is a text from elsewhere as a log may have it: cut to a length that a line
// bears, and held back where it might show a key. It is looked at whole: a key
// that is cut still shows most of itself.
func (c Client) safe(text string) string {
	const longest = 200
	switch {
	case showsKey(text) || showsRun(text, c.ProvisioningKey.Reveal()):
		return "withheld, since it might show a key"
	case len(text) > longest:
		return strings.ToValidUTF8(text[:longest], "")
	}
	return text
}

// showsKey tells whether a text may show a key: its beginning, or as many
// hexadecimal digits in a row as half of one has.
func showsKey(text string) bool {
	const half = 32
	run := 0
	for i := 0; i < len(text) && run < half; i++ {
		if run++; !strings.Contains("0123456789abcdefABCDEF", text[i:i+1]) {
			run = 0
		}
	}
	return run == half || strings.Contains(text, "sk-")
}

// showsRun tells whether a text shows a run of a secret's characters that is too
// long to be chance.
func showsRun(text, secret string) bool {
	const run = 8
	for i := 0; i+run <= len(secret); i++ {
		if strings.Contains(text, secret[i:i+run]) {
			return true
		}
	}
	return len(secret) < run && strings.Contains(text, secret)
}

// reason is OpenRouter's own message.
func reason(body []byte, html bool) string {
	var failure struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(body, &failure); {
	case html:
		return "an HTML page"
	case err != nil:
		return "no message"
	}
	return failure.Error.Message
}

// maxRetryAfter bounds what OpenRouter may make a client wait.
const maxRetryAfter = time.Hour

// retryAfter reads both forms of the header: seconds, and a date.
func (c Client) retryAfter(value string) time.Duration {
	if value == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		wait = time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(c.Now())
	}
	return min(max(wait, 0), maxRetryAfter)
}

// Kind sorts errors by what can be done about them.
type Kind string

// The kinds of errors.
const (
	Gone        Kind = "gone"        // OpenRouter knows no such key
	Refused     Kind = "refused"     // the provisioning key or the request was refused: no retry can mend it
	Unavailable Kind = "unavailable" // no answer, no usable one, 429 or 5xx: later it may work
)

// Error is what every method of [Client] fails with. It holds no secret.
type Error struct {
	Op         string // create, get, disable, delete, list, assign; of an Admin also update, activity, credits, guardrail, guardrails
	Kind       Kind
	Uncertain  bool // the call may have taken effect, or may yet do so
	Status     int  // 0: no answer
	Reason     string
	RetryAfter time.Duration // what OpenRouter asked for; 0: nothing
}

func (e *Error) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("openrouter: %s: %s: %s", e.Op, e.Kind, e.Reason)
	}
	return fmt.Sprintf("openrouter: %s: %s: status %d: %s", e.Op, e.Kind, e.Status, e.Reason)
}

// IsGone tells whether err says that OpenRouter knows no such key.
func IsGone(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Gone
}
