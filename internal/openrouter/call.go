package openrouter

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

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
