// Package problem holds the errors that a client may see, as the problem
// documents of RFC 9457. What a client is told comes from here alone: [From]
// maps any error to one, and what it does not know becomes "internal" without
// a word of what went wrong, which is for the log.
package problem

import (
	"errors"
	"math"
	"strconv"
	"time"

	"latchkey/internal/answer"
)

// Problem is an error with an answer. Its Error() is for the log and holds
// the cause; the client sees Code, its title and status, and Detail.
type Problem struct {
	Code       string
	Detail     string
	RetryAfter time.Duration // header Retry-After, in whole seconds, at least 1; 0: none
	RenewsAt   time.Time     // member renews_at: when the quota may begin anew; zero: none
	Header     [][2]string   // further headers
	Cause      error         // never shown to a client; may be nil
}

// The codes: those of the client API, and invalid_request of the admin API.
const (
	MissingToken        = "missing_token"
	InvalidToken        = "invalid_token"
	ExpiredToken        = "expired_token"
	QuotaExhausted      = "quota_exhausted"
	KeyDisabled         = "key_disabled"
	Suspended           = "suspended"
	OriginNotAllowed    = "origin_not_allowed"
	NotFound            = "not_found"
	MethodNotAllowed    = "method_not_allowed"
	UpgradeRequired     = "upgrade_required"
	TooLarge            = "too_large"
	InvalidRequest      = "invalid_request"
	UpstreamRefused     = "upstream_refused"
	IssuerUnavailable   = "issuer_unavailable"
	UpstreamUnavailable = "upstream_unavailable"
	RateLimited         = "rate_limited"
	Overloaded          = "overloaded"
	Internal            = "internal"
)

// kinds is the one place that gives a code its status and title.
var kinds = map[string]struct {
	status int
	title  string
}{
	MissingToken:        {401, "A bearer token is required"},
	InvalidToken:        {401, "The token is not valid"},
	ExpiredToken:        {401, "The token has expired"},
	QuotaExhausted:      {402, "The quota is spent"},
	KeyDisabled:         {403, "The key is disabled"},
	Suspended:           {403, "The user is suspended"},
	OriginNotAllowed:    {403, "The origin is not allowed"},
	NotFound:            {404, "Not found"},
	MethodNotAllowed:    {405, "Method not allowed"},
	UpgradeRequired:     {426, "A WebSocket is required"},
	TooLarge:            {413, "The request is too large"},
	InvalidRequest:      {400, "The request is not valid"},
	UpstreamRefused:     {502, "OpenRouter refused"},
	IssuerUnavailable:   {503, "The issuer's keys cannot be had"},
	UpstreamUnavailable: {503, "Not available just now"},
	RateLimited:         {429, "Too many requests"},
	Overloaded:          {503, "Too many requests are waiting"},
	Internal:            {500, "Internal error"},
}

// New returns a problem with one of the codes above.
func New(code, detail string) *Problem { return &Problem{Code: code, Detail: detail} }

// Error describes the problem and its cause for the log.
func (p *Problem) Error() string {
	text := p.Code + ": " + p.Detail
	if p.Cause != nil {
		text += ": " + p.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// From returns the problem in err's chain, or an internal one that tells the
// client nothing.
func From(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return &Problem{Code: Internal, Detail: "The request could not be completed.", Cause: err}
}

// document is the body, application/problem+json.
type document struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`

	RenewsAt time.Time `json:"renews_at,omitzero"`
}

// Answer is the response to a client.
func (p *Problem) Answer() answer.Answer {
	kind, ok := kinds[p.Code]
	if !ok {
		panic("problem: unknown code " + p.Code)
	}
	a := answer.JSON(kind.status, "application/problem+json", document{
		Type: "urn:latchkey:problem:" + p.Code, Title: kind.title, Status: kind.status, Detail: p.Detail, Code: p.Code,
		RenewsAt: p.RenewsAt,
	})
	a.Code = p.Code
	if p.RetryAfter > 0 {
		a = a.With("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	for _, h := range p.Header {
		a = a.With(h[0], h[1])
	}
	return a
}
