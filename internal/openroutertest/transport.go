package openroutertest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// RoundTrip makes the Server an http.RoundTripper that answers in process, on
// the caller's goroutine, whatever the host of the URL. Faults look as they do
// through a socket: a dropped connection is an error, a cut body ends in
// io.ErrUnexpectedEOF, a call that hangs returns the error of its context.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer in.Body.Close()
	if err := r.Context().Err(); err != nil {
		return nil, err // it would not have been sent
	}

	out := &recorder{header: http.Header{}, rest: http.NoBody}
	completed := s.serve(out, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if !completed && out.status == 0 {
		return nil, fmt.Errorf("connection dropped: %w", io.EOF)
	}
	body := io.MultiReader(&out.body, out.rest)
	if !completed {
		body = io.MultiReader(body, cutShort{})
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", out.status, http.StatusText(out.status)),
		StatusCode:    out.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        out.header,
		Body:          io.NopCloser(body),
		ContentLength: -1,
		Request:       r,
	}, nil
}

// serve reports whether the call was answered in full, not aborted by a fault.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) (completed bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	s.ServeHTTP(w, r)
	return true
}

// A recorder keeps what is written to it.
type recorder struct {
	header http.Header
	status int // 0 until written
	body   bytes.Buffer
	rest   io.Reader // what follows body
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

// ReadFrom leaves r, which nothing may follow, to whoever reads the body: what
// is huge is never kept.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	w.rest = r
	return 0, nil
}

// cutShort is the end of a body that lacks its rest.
type cutShort struct{}

func (cutShort) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
