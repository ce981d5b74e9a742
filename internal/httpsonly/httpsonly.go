// Package httpsonly sends requests that hold a secret: over https, or to this
// machine; through no proxy that was not asked for; and to nobody that the
// answerer names, as a redirection does.
package httpsonly

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Parse returns the URL of a server that may be told a secret: an http or https
// URL of scheme, host and perhaps a path, and https unless the host is this
// machine. what names the secret in an error.
func Parse(address, what string) (*url.URL, error) {
	base, err := url.Parse(address)
	switch {
	case err != nil || base.Hostname() == "" || base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("%q is no http or https URL", address)
	case base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		return nil, errors.New("the URL of a server is only scheme, host and path")
	case base.Scheme != "https" && !Local(base):
		return nil, fmt.Errorf("%s is not https, and would show the %s to everyone on the way", address, what)
	}
	return base, nil
}

// Local tells whether a URL is of this machine.
func Local(u *url.URL) bool {
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 64 << 10

// Client returns a client that follows no redirection. It asks proxy for the way
// to https addresses, where it is not nil: what the environment says of proxies
// (HTTPS_PROXY) is not heeded, since nobody may have meant it for this. What stays
// on this machine goes there directly.
func Client(proxy *url.URL) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: func(r *http.Request) (*url.URL, error) {
				if r.URL.Scheme != "https" {
					return nil, nil
				}
				return proxy, nil
			},
			ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
