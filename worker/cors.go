package worker

import (
	"slices"
	"strings"

	"latchkey/internal/answer"
	"latchkey/internal/edge"
)

// This file is what lets pages of ALLOWED_ORIGINS ask, and nobody else's.

// preflightSeconds is how long a browser may remember a preflight's answer.
const preflightSeconds = "7200"

// options answers OPTIONS: to a preflight of a listed origin with what it may send.
func (f *Front) options(r edge.Request, found resource) answer.Answer {
	a := answer.Answer{Status: 204}.With("Allow", found.allow())
	if !f.listed(r.Origin) {
		return a
	}
	return a.With("Access-Control-Allow-Methods", strings.Join(found.methods(), ", ")).
		With("Access-Control-Allow-Headers", "Authorization, Content-Type").
		With("Access-Control-Max-Age", preflightSeconds)
}

func (f *Front) listed(origin string) bool { return slices.Contains(f.settings.AllowedOrigins, origin) }

// addCORS lets pages of a listed origin read an answer. Where there is a list,
// caches are told that the answer depends on the origin.
func (f *Front) addCORS(a answer.Answer, origin string) answer.Answer {
	if len(f.settings.AllowedOrigins) == 0 {
		return a
	}
	a = a.With("Vary", "Origin")
	if !f.listed(origin) {
		return a
	}
	return a.With("Access-Control-Allow-Origin", origin).
		With("Access-Control-Expose-Headers", "Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate")
}
