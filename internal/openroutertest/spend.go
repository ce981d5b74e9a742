package openroutertest

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The reasons for which a key cannot spend, in OpenRouter's words. See also
// ErrKeyNotFound.
var (
	ErrKeyDisabled = errors.New("API key is disabled")
	ErrKeyExpired  = errors.New("API key expired")
	// ErrLimitExceeded is wrapped with the kind of limit:
	// "Key limit exceeded (total limit)".
	ErrLimitExceeded = errors.New("Key limit exceeded")
	// ErrModelNotAllowed comes of the key's guardrail. The words are ours.
	ErrModelNotAllowed = errors.New("Model not allowed by guardrail")
)

// A charge is what one call at the inference endpoint cost.
type charge struct {
	at               time.Time
	amount           Nano
	model            string
	provider         string
	promptTokens     int
	completionTokens int
}

const (
	defaultModel     = "openai/gpt-4o-mini"
	defaultProvider  = "OpenAI"
	promptTokens     = 8 // of every call
	completionTokens = 4 // of every call that is not streamed
)

// Spend charges credits to the key with this secret, as one inference call does.
// The limit is enforced on what was spent before the call: a single call may
// overshoot it. The error is, or wraps, ErrKeyNotFound, ErrKeyDisabled,
// ErrKeyExpired, ErrModelNotAllowed or ErrLimitExceeded, or tells what is wrong
// with the amount.
func (s *Server) Spend(key string, credits float64) error {
	return s.SpendByHash(hashOf(key), credits)
}

// SpendByHash is Spend for a caller that knows the key's hash alone.
func (s *Server) SpendByHash(hash string, credits float64) error {
	_, err := s.spend(hash, expense{credits: credits})
	return err
}

// SpendUpTo is Spend of as much of the credits as the limit still allows, so
// that nothing overshoots. It returns what was spent.
func (s *Server) SpendUpTo(key string, credits float64) (Nano, error) {
	return s.spend(hashOf(key), expense{credits: credits, partial: true})
}

// An expense is what a key is to be charged.
type expense struct {
	credits  float64
	partial  bool   // or as much of it as the limit still allows
	model    string // defaultModel where ""
	provider string // defaultProvider where ""
}

// spend charges the key with this hash and returns the amount.
func (s *Server) spend(hash string, e expense) (Nano, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.find(hash)
	if k == nil {
		return 0, ErrKeyNotFound
	}
	c, err := s.charge(k, e)
	return c.amount, err
}

// charge enforces and charges. Server.mu is held.
func (s *Server) charge(k *key, e expense) (charge, error) {
	c, err := s.admit(k, e)
	if err == nil {
		s.book(k, c)
	}
	return c, err
}

// admit enforces, and returns the charge that the call comes to. Server.mu is held.
func (s *Server) admit(k *key, e expense) (charge, error) {
	amount, err := nanos(e.credits)
	if err != nil {
		return charge{}, fmt.Errorf("cost %w", err)
	}
	if err := s.usable(k); err != nil {
		return charge{}, err
	}
	model := cmp.Or(e.model, defaultModel)
	if g := s.findGuardrail(k.GuardrailID); g != nil && !g.allows(model) {
		return charge{}, ErrModelNotAllowed
	}
	now := s.o.Now().UTC()
	if k.Limit != nil {
		left := *k.Limit - k.spent(windowStart(k.LimitReset, now), now)
		if left <= 0 {
			return charge{}, fmt.Errorf("%w (%s limit)", ErrLimitExceeded, cmp.Or(k.LimitReset, "total"))
		}
		if e.partial {
			amount = min(amount, left)
		}
	}
	return charge{
		at:               now,
		amount:           amount,
		model:            model,
		provider:         cmp.Or(e.provider, defaultProvider),
		promptTokens:     promptTokens,
		completionTokens: completionTokens,
	}, nil
}

// book charges the key. Server.mu is held.
func (s *Server) book(k *key, c charge) {
	k.charges = append(k.charges, c)
	k.Usage += c.amount
}

// usable says why a key may not be used at all, limits aside.
func (s *Server) usable(k *key) error {
	switch {
	case k.Disabled:
		return ErrKeyDisabled
	case k.expired(s.o.Now()):
		return ErrKeyExpired
	}
	return nil
}

// spent sums the charges made from the first to the second time, both included.
func (k *key) spent(from, to time.Time) Nano {
	var sum Nano
	for _, c := range k.charges {
		if !c.at.Before(from) && !c.at.After(to) {
			sum += c.amount
		}
	}
	return sum
}

// shown returns the usage of the window open at the given time as the API shows
// it then: without the charges that were younger than UsageLag.
func (s *Server) shown(k *key, reset string, at time.Time) Nano {
	return k.spent(windowStart(reset, at), s.horizon(at))
}

// readAt is the time of the usage that a call reads: now, unless it is stale.
func (s *Server) readAt(x *exchange) time.Time { return s.o.Now().UTC().Add(-x.ago) }

// horizon is the time of the latest charges that the API shows.
func (s *Server) horizon(now time.Time) time.Time { return now.Add(-s.o.UsageLag) }

// windowStart returns when the present window of a limit_reset began: at
// midnight UTC, weeks on Monday. Without a reset that is the zero time.
func windowStart(reset string, now time.Time) time.Time {
	year, month, day := now.Date()
	switch reset {
	case "daily":
	case "weekly":
		day -= (int(now.Weekday()) + 6) % 7 // days since Monday
	case "monthly":
		day = 1
	default:
		return time.Time{}
	}
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// spendStatus is the status with which inference refuses. For a limit the
// documentation says 402; production answers 403.
func spendStatus(err error) int {
	switch {
	case errors.Is(err, ErrKeyNotFound), errors.Is(err, ErrKeyDisabled), errors.Is(err, ErrKeyExpired):
		return http.StatusUnauthorized
	case errors.Is(err, ErrLimitExceeded), errors.Is(err, ErrModelNotAllowed):
		return http.StatusForbidden
	default:
		return http.StatusBadRequest
	}
}
