// Package auth turns a bearer token into an [Identity]: a JSON Web Token with
// an HMAC signature (HS256, HS384 or HS512). Nothing of
// a token counts before its signature was verified.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

// Identity is whom a token speaks for. ID is Unicode in any script, at most
// [MaxIDBytes]; Name and Email are empty where the token has none.
type Identity struct {
	ID    string
	Name  string
	Email string
}

const (
	// MaxTokenBytes keeps a stranger from making us parse a large document.
	MaxTokenBytes = 8 << 10
	// MaxIDBytes keeps an id usable as a name: of an object, a row, a key.
	MaxIDBytes = 256
	// Leeway forgives clocks that differ.
	Leeway = 30 * time.Second
)

// Verifier verifies tokens. It remembers some that it has verified, until they
// expire: a client sends the same one again and again. It is not safe for
// concurrent use.
type Verifier struct {
	parser   *jwt.Parser
	keys     jwt.VerificationKeySet
	now      func() time.Time
	verified map[string]verified // by the token
}

type verified struct {
	who   Identity
	until time.Time
}

// Verified tokens take up to 1 MiB of memory.
const (
	maxVerified      = 1024
	maxVerifiedBytes = 1024 // of a token; a longer one is verified each time
)

// New returns a Verifier for tokens signed with any of the secrets. An issuer
// or audience that is not empty has to be in the token.
func New(secrets []seal.Secret, issuer, audience string, now func() time.Time) *Verifier {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{"HS256", "HS384", "HS512"}),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(now),
	}
	if issuer != "" {
		options = append(options, jwt.WithIssuer(issuer))
	}
	if audience != "" {
		options = append(options, jwt.WithAudience(audience))
	}
	v := &Verifier{parser: jwt.NewParser(options...), now: now, verified: map[string]verified{}}
	for _, s := range secrets {
		v.keys.Keys = append(v.keys.Keys, []byte(s.Reveal()))
	}
	return v
}

// Verify returns the identity in the value of an Authorization header. Its
// errors are problems: missing_token, too_large, expired_token, invalid_token.
func (v *Verifier) Verify(authorization string) (Identity, error) {
	token, err := bearer(authorization)
	if err != nil {
		return Identity{}, err
	}
	if known, ok := v.verified[token]; ok && v.now().Before(known.until) {
		return known.who, nil
	}
	claims := jwt.MapClaims{}
	parsed, err := v.parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return v.keys, nil })
	if err != nil {
		return Identity{}, refusal(err)
	}
	if _, critical := parsed.Header["crit"]; critical {
		// RFC 7515 §4.1.11: an extension that is not understood must not be passed over.
		return Identity{}, invalid("The token has a critical extension that is not supported.", nil)
	}
	who, err := identity(claims)
	if err != nil {
		return Identity{}, err
	}
	v.remember(token, who, claims)
	return who, nil
}

// remember keeps a token that was verified, until it expires: nothing else in it
// can come to be wrong. Any other one makes room for it.
func (v *Verifier) remember(token string, who Identity, claims jwt.MapClaims) {
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil || len(token) > maxVerifiedBytes {
		return
	}
	delete(v.verified, token) // it had expired
	for other := range v.verified {
		if len(v.verified) < maxVerified {
			break
		}
		delete(v.verified, other)
	}
	v.verified[strings.Clone(token)] = verified{who, expires.Add(Leeway)}
}

// Operator checks the value of an Authorization header against the operators'
// token, in a time that tells nothing about it. Its errors are problems, as
// those of Verify.
func Operator(authorization string, want seal.Secret) error {
	token, err := bearer(authorization)
	if err != nil {
		return err
	}
	// Hashes are of one length, whatever was sent.
	got, expected := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(want.Reveal()))
	if subtle.ConstantTimeCompare(got[:], expected[:]) != 1 {
		return invalid("The token is not the operators' token.", nil)
	}
	return nil
}

// bearer returns the token in the value of an Authorization header.
func bearer(authorization string) (string, error) {
	scheme, token, _ := strings.Cut(authorization, " ")
	token = strings.Trim(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		p := problem.New(problem.MissingToken, "Send a token in the Authorization header, as a Bearer token.")
		p.Header = [][2]string{{"WWW-Authenticate", "Bearer"}}
		return "", p
	}
	if len(token) > MaxTokenBytes {
		return "", problem.New(problem.TooLarge, "The token is larger than 8 KiB.")
	}
	return token, nil
}

func identity(claims jwt.MapClaims) (Identity, error) {
	id := claims["uid"]
	if id == nil {
		id = claims["sub"]
	}
	var who Identity
	for _, c := range []struct {
		name  string
		value any
		to    *string
	}{
		{"user id", id, &who.ID}, {"username", claims["username"], &who.Name}, {"email", claims["email"], &who.Email},
	} {
		text, ok := c.value.(string)
		if !ok && c.value != nil {
			return Identity{}, invalid("The "+c.name+" in the token is not a string.", nil)
		}
		*c.to = text
	}
	switch {
	case who.ID == "":
		return Identity{}, invalid("The token has no user id: neither uid nor sub.", nil)
	case len(who.ID) > MaxIDBytes:
		return Identity{}, invalid("The user id is longer than 256 bytes.", nil)
	case who.ID == "." || who.ID == "..":
		// A URL takes these for steps in its path, so no operator could reach the user.
		return Identity{}, invalid("The user id is . or .., which no URL can name.", nil)
	case strings.ContainsRune(who.ID, utf8.RuneError):
		// Whatever is not Unicode was decoded to this rune, so two ids that differ would become one.
		return Identity{}, invalid("The user id is not valid Unicode.", nil)
	}
	return who, nil
}

// refusal maps what golang-jwt found wrong to a problem.
func refusal(err error) *problem.Problem {
	reasons := []struct {
		err    error
		detail string
	}{
		{jwt.ErrTokenMalformed, "The token is malformed."},
		{jwt.ErrTokenSignatureInvalid, "The signature does not verify, or its algorithm is not accepted."},
		{jwt.ErrTokenRequiredClaimMissing, "The token lacks a claim that is required: exp, iss or aud."},
		{jwt.ErrTokenNotValidYet, "The token is not valid yet."},
		{jwt.ErrTokenUsedBeforeIssued, "The token was issued in the future."},
		{jwt.ErrTokenInvalidIssuer, "The token is from another issuer."},
		{jwt.ErrTokenInvalidAudience, "The token is for another audience."},
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

func invalid(detail string, cause error) *problem.Problem {
	p := problem.New(problem.InvalidToken, detail)
	p.Header = [][2]string{{"WWW-Authenticate", `Bearer error="invalid_token"`}}
	p.Cause = cause
	return p
}
