//go:build js && wasm

package edge

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Transport sends requests with fetch; it implements http.RoundTripper. The
// deadline covers the body of the answer, which has arrived when RoundTrip
// returns; one of more than 1 MiB, decoded, is an error. Of the answer's headers it
// gives Retry-After alone, at most 100 characters.
type Transport struct {
	*Object
	Deadline time.Duration
}

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	var body []byte
	if request.Body != nil {
		var err error
		if body, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
	}
	parts := []string{request.Method, request.URL.String(), string(body)}
	for name := range request.Header {
		parts = append(parts, name, request.Header.Get(name))
	}
	got, err := t.wait(func(id int32) { fetch(id, int32(t.Deadline.Milliseconds()), join(parts...)) })
	if err != nil {
		return nil, err
	}
	parts = strings.SplitN(got, separator, 3)
	status, err := strconv.Atoi(parts[0])
	if err != nil {
		return nil, fmt.Errorf("edge: fetch: status: %w", err)
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Retry-After": {parts[1]}}, Body: io.NopCloser(strings.NewReader(parts[2])), Request: request,
	}, nil
}
