package openroutertest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options says how a Server behaves. The zero value works, but then no bearer
// is accepted on management calls.
type Options struct {
	// ProvisioningKey is the bearer expected on management calls; any other
	// gets 401.
	ProvisioningKey string
	// ForbidUserKeys answers 403, not 401, to a management call made with the
	// secret of one of the keys. Both have been seen in production.
	ForbidUserKeys bool
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// Rand supplies 32 bytes for every new key; crypto/rand.Reader by default.
	Rand io.Reader
	// UsageLag is how long a charge takes to show up in usage, limit_remaining,
	// activity and credits. Enforcement is immediate.
	UsageLag time.Duration
	// PageSize is the number of keys on a page of the list; 100 by default.
	PageSize int
	// OldestFirst turns the order of the list around. OpenRouter does not
	// document the order; newest first is what it appears to be.
	OldestFirst bool
	// CreateStatus is the status of a successful create; 201 by default. Older
	// documentation shows 200.
	CreateStatus int
	// NameForm is the form in which names of keys are stored and answered;
	// NamesAsGiven by default. New panics on an unknown one.
	NameForm NameForm
	// TotalCredits is the account's purchased balance in credits; 1000 by
	// default. It is reported, not enforced.
	TotalCredits float64
	// FloatNoise computes limit_remaining in floating point, as OpenRouter's
	// doubles do: a limit of 1 less a usage of 0.9 is then 0.09999999999999998.
	FloatNoise bool
	// ExtraFields adds unknown fields to every JSON object of an answer.
	ExtraFields bool
	// OmitOptional leaves out of an answer the fields that older versions of
	// the API did not have.
	OmitOptional bool
}

// Server is the stand-in. Create one with New.
type Server struct {
	o      Options
	mux    *http.ServeMux
	closed chan struct{}
	close  func()

	mu             sync.Mutex // guards all below and Options.Rand, UsageLag and NameForm
	keys           []*key     // every key ever created, oldest first
	byHash         map[string]*key
	guardrails     []*guardrail // oldest first
	guardrailsMade int          // to number them, deleted ones included

	faults map[Op][]pending
	last   map[Op]reply // to the last successful call of each operation
	log    []*Call
	chats  int // successful chat completions, to number them
}

// New returns a stand-in without keys, faults or calls.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	o.PageSize = cmp.Or(o.PageSize, 100)
	o.CreateStatus = cmp.Or(o.CreateStatus, http.StatusCreated)
	o.TotalCredits = cmp.Or(o.TotalCredits, 1000)

	s := &Server{
		o:      o,
		mux:    http.NewServeMux(),
		closed: make(chan struct{}),
		byHash: map[string]*key{},
		faults: map[Op][]pending{},
		last:   map[Op]reply{},
	}
	s.close = sync.OnceFunc(func() { close(s.closed) })

	s.mux.Handle("POST /api/v1/keys", s.operation(OpCreate, s.managed(s.createKey)))
	s.mux.Handle("GET /api/v1/keys", s.operation(OpList, s.managed(s.listKeys)))
	s.mux.Handle("GET /api/v1/keys/{hash}", s.operation(OpGet, s.managed(s.getKey)))
	s.mux.Handle("PATCH /api/v1/keys/{hash}", s.operation(OpUpdate, s.managed(s.updateKey)))
	s.mux.Handle("DELETE /api/v1/keys/{hash}", s.operation(OpDelete, s.managed(s.deleteKey)))
	s.routeForPages("GET", "/api/v1/key", s.operation(OpKey, s.currentKey))
	s.mux.Handle("GET /api/v1/activity", s.operation(OpActivity, s.managed(s.activity)))
	s.mux.Handle("GET /api/v1/credits", s.operation(OpCredits, s.managed(s.credits)))
	s.routeForPages("POST", "/api/v1/chat/completions", s.operation(OpChat, s.chat))
	s.routeGuardrails()
	s.routeControl()
	s.SetNameForm(cmp.Or(o.NameForm, NamesAsGiven))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		htmlPage(http.StatusNotFound).write(w)
	})
	return s
}

// ServeHTTP answers one request. Where a fault breaks the connection and it
// cannot be hijacked, ServeHTTP panics with http.ErrAbortHandler, which net/http
// understands.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close ends every call that a fault keeps waiting. Call it before closing the
// HTTP server around the stand-in, which waits for those calls.
func (s *Server) Close() { s.close() }

// SetUsageLag changes Options.UsageLag, for past charges too.
func (s *Server) SetUsageLag(lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.UsageLag = lag
}

// maxBody is the largest request body read, in bytes.
const maxBody = 1 << 20

// An exchange is one call of the API on its way through the Server.
type exchange struct {
	r    *http.Request
	body []byte
	call *Call         // guarded by Server.mu
	ago  time.Duration // how old the usage is that the call reads
}

// A handler carries out one operation with Server.mu held. It returns the value
// to answer as JSON, or an error: an *apiError as it is to be answered, any
// other as a 500.
type handler func(*exchange) (any, error)

// operation serves op by h: it logs the call, lets a pending fault strike, and
// answers.
func (s *Server) operation(op Op, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The body is read first: net/http notices that a client has left,
		// which ends a hang, only once the body has been read.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		x := &exchange{r: r, body: body}
		perform := func() reply {
			if err != nil {
				return s.apiErrorReply(refuse(http.StatusBadRequest, "Unreadable body"))
			}
			return s.perform(x, h)
		}
		if fault := s.begin(op, x); fault != nil {
			s.strike(w, x, *fault, perform)
			return
		}
		s.answer(w, x, perform())
	})
}

// perform carries out an operation and returns its answer.
func (s *Server) perform(x *exchange, h handler) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := h(x)
	if err != nil {
		return s.apiErrorReply(err)
	}
	if c, ok := v.(*completion); ok {
		if x.call.Fault != "" {
			return s.inOnePiece(c) // a fault has an answer to work on
		}
		return reply{status: http.StatusOK, stream: c}
	}
	p := s.apiReply(s.successStatus(x.call), v)
	s.last[x.call.Op] = p
	return p
}

func (s *Server) successStatus(call *Call) int {
	switch {
	case call.Op == OpCreate:
		return s.o.CreateStatus
	case call.Op == OpGuardrails && call.Method == http.MethodPost:
		return http.StatusCreated
	}
	return http.StatusOK
}

// managed lets only calls with the provisioning key through to h.
func (s *Server) managed(h handler) handler {
	return func(x *exchange) (any, error) {
		token := bearer(x.r)
		switch {
		case token == "":
			return nil, refuse(http.StatusUnauthorized, "No auth credentials found")
		case token == s.o.ProvisioningKey:
			return h(x)
		case s.o.ForbidUserKeys && s.find(hashOf(token)) != nil:
			return nil, refuse(http.StatusForbidden, "Only management keys can perform this operation")
		default:
			return nil, refuse(http.StatusUnauthorized, "Invalid credentials")
		}
	}
}

// bearer returns the token of the Authorization header, or "".
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// An apiError is an error as OpenRouter answers it.
type apiError struct {
	Code     int            `json:"code"`
	Message  string         `json:"message"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

func (e *apiError) Error() string { return e.Message }

// answer is the body in which the error is answered.
func (e *apiError) answer() any { return map[string]any{"error": e} }

// asAPIError makes any other error an internal one.
func asAPIError(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	return refuse(http.StatusInternalServerError, err.Error())
}

func refuse(status int, message string) *apiError { return &apiError{Code: status, Message: message} }

// invalid refuses the value of one field or parameter with a 400.
func invalid(field, problem string) *apiError {
	return &apiError{http.StatusBadRequest, field + " " + problem, map[string]any{"field": field}}
}

// A reply is a complete answer, not yet sent.
type reply struct {
	status      int
	contentType string
	retryAfter  string // raw Retry-After header, "" for none
	body        []byte
	stream      *completion // sent instead of the above; nil: none
}

func (p reply) write(w http.ResponseWriter) {
	p.writeHead(w)
	w.Write(p.body) // an error means that the client has left: nobody to tell
}

func (p reply) writeHead(w http.ResponseWriter) {
	w.Header().Set("Content-Type", p.contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(p.body)))
	if p.retryAfter != "" {
		w.Header().Set("Retry-After", p.retryAfter)
	}
	w.WriteHeader(p.status)
}

// answer records the status in the call log, then sends the reply, so that a
// client that has its answer also finds it in the log.
func (s *Server) answer(w http.ResponseWriter, x *exchange, p reply) {
	s.recordStatus(x, p.status)
	if p.stream != nil {
		s.stream(w, x, p.stream)
		return
	}
	p.write(w)
}

// apiReply is a JSON answer of the API, with unknown fields where they are asked
// for.
func (s *Server) apiReply(status int, v any) reply {
	p := jsonReply(status, v)
	if s.o.ExtraFields {
		p.body = withUnknownFields(p.body)
	}
	return p
}

func (s *Server) apiErrorReply(err error) reply {
	e := asAPIError(err)
	return s.apiReply(e.Code, e.answer())
}

func jsonReply(status int, v any) reply {
	return reply{status: status, contentType: "application/json", body: mustMarshal(v)}
}

func htmlPage(status int) reply {
	text := strconv.Itoa(status) + " " + http.StatusText(status)
	return reply{
		status:      status,
		contentType: "text/html; charset=utf-8",
		body:        []byte("<!DOCTYPE html><html><head><title>" + text + "</title></head><body><h1>" + text + "</h1></body></html>\n"),
	}
}

// withUnknownFields adds a field that no client knows to every object of a JSON
// document.
func withUnknownFields(document []byte) []byte {
	v := mustUnmarshal(document)
	var extend func(any)
	extend = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, element := range v {
				extend(element)
			}
		case map[string]any:
			for _, member := range v {
				extend(member)
			}
			v["x_added_later"] = map[string]any{"list": []any{1, nil, "two"}}
		}
	}
	extend(v)
	return mustMarshal(v)
}

// mustUnmarshal decodes a document known to be JSON. Numbers stay as they were
// written.
func mustUnmarshal(document []byte) any {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	return v
}

// mustMarshal encodes a value made in this package, which cannot fail.
func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
