package latchkey

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// defaultOpenRouter is the origin that gets the key.
	defaultOpenRouter = "https://openrouter.ai"
	// maxRefusal is the most of a 403 that is read to see what it is about, in bytes.
	maxRefusal = 64 << 10
	// refusalTimeout is how long it is read. What has come by then says it.
	refusalTimeout = 3 * time.Second
)

// Transport returns a RoundTripper that adds the user's key to requests for
// OpenRouter and passes all others on to base (http.DefaultTransport where nil)
// as they are. A request whose key is refused (401, 402, or 403 "Key limit
// exceeded") goes out once more if latchkey has another key by then. A body that
// can be sent only once (http.Request.GetBody is nil) does not: the refusal is
// the answer, and the next request has the new key.
func (c *Client) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{c, base}
}

type transport struct {
	client *Client
	base   http.RoundTripper
}

func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if !t.client.forOpenRouter(request.URL) {
		return t.base.RoundTrip(request)
	}
	ctx := request.Context()
	key, err := t.client.Key(ctx)
	if err != nil {
		if request.Body != nil {
			request.Body.Close() // as every RoundTripper has to
		}
		return nil, err
	}
	response, err := t.base.RoundTrip(withKey(request, key))
	if err != nil || !refusesKey(response) {
		return response, err
	}

	another, err := t.client.renew(ctx, key)
	if err != nil {
		response.Body.Close()
		return nil, err
	}
	spent := request.Body != nil && request.Body != http.NoBody && request.GetBody == nil
	if another == key || spent {
		return response, nil
	}
	response.Body.Close()
	second := withKey(request, another)
	if request.GetBody != nil {
		if second.Body, err = request.GetBody(); err != nil {
			return nil, err
		}
	}
	return t.base.RoundTrip(second)
}

// withKey returns the request with the key on it; a RoundTripper must not change its own.
func withKey(request *http.Request, key string) *http.Request {
	clone := request.Clone(request.Context())
	clone.Header.Set("Authorization", "Bearer "+key)
	return clone
}

// forOpenRouter says whether a request goes to OpenRouter's origin.
func (c *Client) forOpenRouter(to *url.URL) bool {
	text := c.OpenRouterURL
	if text == "" {
		text = defaultOpenRouter
	}
	openRouter, err := url.Parse(text)
	return err == nil && to.Scheme == openRouter.Scheme && hostPort(to) == hostPort(openRouter)
}

// hostPort is the host in lower case, and the port where it is not the scheme's own.
func hostPort(u *url.URL) string {
	port := u.Port()
	if (u.Scheme == "https" && port == "443") || (u.Scheme == "http" && port == "80") {
		port = ""
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

// refusesKey says whether this is OpenRouter's answer to a key that is gone or
// spent. What it reads of the body is put back.
func refusesKey(response *http.Response) bool {
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusPaymentRequired:
		return true
	case http.StatusForbidden:
		// A body that breaks off breaks off for the caller too. One that stalls is
		// broken off, since a Read cannot be left.
		body := response.Body
		timer := time.AfterFunc(refusalTimeout, func() { body.Close() })
		start, _ := io.ReadAll(io.LimitReader(body, maxRefusal))
		timer.Stop()
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(start), body), body}
		return bytes.Contains(start, []byte("Key limit exceeded"))
	}
	return false
}
