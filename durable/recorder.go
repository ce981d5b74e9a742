package durable

import (
	"encoding/json"
	"net/http"
	"time"

	"latchkey/internal/oplog"
	"latchkey/internal/users"
)

// recorder notes the calls of one operation for its log line.
type recorder struct {
	now       func() time.Time
	transport http.RoundTripper
	db        users.DB
	calls     []oplog.Call
}

func newRecorder(r *Runtime) *recorder {
	return &recorder{now: r.Now, transport: r.Transport, db: r.DB}
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	began := r.now()
	response, err := r.transport.RoundTrip(request)
	status := 0
	if err == nil {
		status = response.StatusCode
	}
	r.note(request.Method, status, began)
	return response, err
}

// Batch implements users.DB.
func (r *recorder) Batch(statements []users.Statement, sent func()) ([]json.RawMessage, error) {
	began := r.now()
	rows, err := r.db.Batch(statements, sent)
	status := http.StatusOK
	if err != nil {
		status = 0
	}
	r.note("D1", status, began)
	return rows, err
}

func (r *recorder) note(method string, status int, began time.Time) {
	r.calls = append(r.calls, oplog.Call{Method: method, Status: status, Millis: r.now().Sub(began).Milliseconds()})
}
