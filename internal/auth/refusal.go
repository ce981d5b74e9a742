package auth

import (
	"errors"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/problem"
)

// This file is what the bearer of a token is told where it is refused.

// refusal maps what golang-jwt found wrong to a problem.
func refusal(err error) *problem.Problem {
	reasons := []struct {
		err    error
		detail string
	}{
		{jwt.ErrTokenMalformed, "The token is malformed."},
		{jwt.ErrTokenRequiredClaimMissing, "The exp or the aud in the token is empty."},
		{jwt.ErrTokenNotValidYet, "The token is not valid yet: see its nbf."},
		{jwt.ErrTokenUsedBeforeIssued, "The token was issued in the future: see its iat."},
		{jwt.ErrTokenInvalidAudience, "The token is for another audience: see its aud."},
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return invalid(r.detail, err)
		}
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		p := problem.New(problem.ExpiredToken, "The token has expired.")
		p.Header = [][2]string{{"WWW-Authenticate", `Bearer error="invalid_token", error_description="The token has expired"`}}
		return p
	}
	return invalid("The token is not valid.", err)
}

// badSignature is the refusal of a token that no key verifies.
func (v *Verifier) badSignature(method jwt.SigningMethod) *problem.Problem {
	if !slices.Contains(v.accepted(), method.Alg()) {
		return v.otherAlgorithm(nil)
	}
	return invalid("The signature does not verify: the token is signed with another key, or was changed.", nil)
}

func (v *Verifier) otherAlgorithm(cause error) *problem.Problem {
	return invalid("The token's algorithm, its alg, is none that is accepted here: "+strings.Join(v.accepted(), ", ")+".", cause)
}

// accepted returns the algorithms that a token may be signed with: those that some
// key is for. Of a key set that was never read nobody knows; it has no secrets.
func (v *Verifier) accepted() []string {
	var names []string
	for _, method := range methods {
		_, secret := method.(*jwt.SigningMethodHMAC)
		unread := v.set.url != "" && v.set.keys == nil && !secret
		if fits := func(k Key) bool { return k.fits(method) }; unread || slices.ContainsFunc(v.keys, fits) || slices.ContainsFunc(v.set.keys, fits) {
			names = append(names, method.Alg())
		}
	}
	return names
}

// methods are the algorithms that there are.
var methods = []jwt.SigningMethod{
	jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512,
	jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
	jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512,
	jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodES512,
	jwt.SigningMethodEdDSA,
}

func invalid(detail string, cause error) *problem.Problem {
	p := problem.New(problem.InvalidToken, detail)
	p.Header = [][2]string{{"WWW-Authenticate", `Bearer error="invalid_token"`}}
	p.Cause = cause
	return p
}
