package durable

import (
	"errors"
	"time"

	"latchkey/internal/openrouter"
	"latchkey/internal/problem"
)

// This file is what a client is told where something failed.

func unknownUser() error { return problem.New(problem.NotFound, "There is no such user.") }

// defaultRetryAfter is what a client is told where OpenRouter said nothing.
const defaultRetryAfter = 5 * time.Second

// ClientError maps what can go wrong with OpenRouter and D1 to what a client may see.
func ClientError(err error) *problem.Problem {
	var e *openrouter.Error
	if !errors.As(err, &e) {
		return problem.From(err)
	}
	if e.Kind == openrouter.Unavailable {
		return unavailable("OpenRouter cannot be reached just now.", e.RetryAfter, err)
	}
	p := problem.New(problem.UpstreamRefused, "OpenRouter refused, and trying again will not help. The operator has to look into it.")
	p.Cause = err
	return p
}

func unavailable(detail string, retryAfter time.Duration, cause error) *problem.Problem {
	p := problem.New(problem.UpstreamUnavailable, detail)
	p.RetryAfter, p.Cause = retryAfter, cause
	if retryAfter == 0 {
		p.RetryAfter = defaultRetryAfter
	}
	return p
}
