// Package auth turns a bearer token into an [Identity]: a JSON Web Token that is
// signed with a secret (HS256, HS384, HS512), or with the private half of a public
// key (RS, PS and ES256, 384, 512, EdDSA, Ed25519) that is set or that the issuer
// publishes in a JSON Web Key Set. A key verifies tokens of its own kind alone.
// Nothing of a token counts before its signature was verified.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

// Identity is whom a token speaks for. ID is Unicode in any script, at most
// [MaxIDBytes]; Name and Email, at most [MaxTextBytes], are empty where the token has
// none.
type Identity struct {
	ID    string
	Name  string
	Email string

	Expires time.Time // until when the token is accepted: its exp and the leeway
}

const (
	// MaxTokenBytes keeps a stranger from making us parse a large document.
	MaxTokenBytes = 8 << 10
	// MinSecretBytes is what HS256 wants of its key (RFC 7518 §3.2).
	MinSecretBytes = 32
	// MaxTextBytes of a name or an address are kept: what base64 carries in a token. Only
	// what is not Unicode takes more, three bytes for each of its own.
	MaxTextBytes = MaxTokenBytes / 4 * 3
	// MaxIDBytes keeps an id usable as a name: of an object, a row, a key.
	MaxIDBytes = 256
	// Leeway forgives clocks that differ.
	Leeway = 30 * time.Second
)

// MaxLifetime is how far away a token may expire where nothing else is said: a
// leap year.
const MaxLifetime = 366 * 24 * time.Hour

// Rules say which tokens are accepted, and whom they speak for. A list that is
// empty is not checked.
type Rules struct {
	Secrets       []seal.Secret
	PublicKeys    []Key
	KeySetURL     string        // of a JSON Web Key Set; empty: there is none
	Issuers       []string      // one of them is in iss
	Audiences     []string      // one of them is in aud
	Parties       []string      // one of them is in azp, where the token has that
	UserIDClaim   string        // holds the user id; empty: uid or, where absent, sub
	PrefixUserIDs bool          // with iss and |, so that ids of two honest issuers never meet
	MaxLifetime   time.Duration // from now to exp
}

// Verifier verifies tokens. It remembers some that it has verified, until they
// expire or the keys may be others: a client sends the same one again and again.
// It is not safe for concurrent use.
type Verifier struct {
	rules    Rules
	keys     []Key // that are set: secrets and public keys
	set      keySet
	parser   *jwt.Parser
	claims   *jwt.Validator
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
	rules := Rules{Secrets: secrets, MaxLifetime: MaxLifetime}
	if issuer != "" {
		rules.Issuers = []string{issuer}
	}
	if audience != "" {
		rules.Audiences = []string{audience}
	}
	return NewVerifier(rules, now)
}

// NewVerifier returns a Verifier that goes by the rules.
func NewVerifier(rules Rules, now func() time.Time) *Verifier {
	options := []jwt.ParserOption{jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(now)}
	if len(rules.Audiences) > 0 {
		options = append(options, jwt.WithAudience(rules.Audiences...))
	}
	v := &Verifier{
		rules: rules, set: keySet{url: rules.KeySetURL},
		parser: jwt.NewParser(), claims: jwt.NewValidator(options...), now: now, verified: map[string]verified{},
	}
	for _, s := range rules.Secrets {
		v.keys = append(v.keys, Key{material: s})
	}
	v.keys = append(v.keys, rules.PublicKeys...)
	return v
}

// Verify returns the identity in the value of an Authorization header. Its
// errors are problems (missing_token, too_large, expired_token, invalid_token,
// issuer_unavailable) and [KeysWanted].
func (v *Verifier) Verify(authorization string) (Identity, error) {
	token, err := bearer(authorization)
	if err != nil {
		return Identity{}, err
	}
	now := v.now()
	v.followClock(now)
	if known, ok := v.verified[token]; ok && now.Before(known.until) {
		return known.who, nil
	}
	claims := jwt.MapClaims{}
	parsed, _, err := v.parser.ParseUnverified(token, claims)
	if errors.Is(err, jwt.ErrTokenUnverifiable) { // no alg, or one that is not known
		return Identity{}, v.otherAlgorithm(err)
	}
	if err != nil {
		return Identity{}, refusal(err)
	}
	if _, critical := parsed.Header["crit"]; critical {
		// RFC 7515 §4.1.11: an extension that is not understood must not be passed over.
		return Identity{}, invalid("The token has a critical extension that is not supported.", nil)
	}
	until, err := v.signature(parsed)
	if err != nil {
		return Identity{}, err
	}
	expires, err := v.check(claims)
	if err != nil {
		return Identity{}, err
	}
	who, err := v.identity(claims)
	if err != nil {
		return Identity{}, err
	}
	who.Expires = expires
	if until.IsZero() || expires.Before(until) {
		until = expires
	}
	v.remember(token, who, until)
	return who, nil
}

// signature verifies a token's signature: with the keys that are set or, where
// none of them does, with those of the key set. It returns until when the key may
// be used; the zero time is for ever.
func (v *Verifier) signature(token *jwt.Token) (until time.Time, err error) {
	if verifies(v.keys, token) {
		return time.Time{}, nil
	}
	_, secret := token.Method.(*jwt.SigningMethodHMAC)
	if v.set.url == "" || secret || token.Method == jwt.SigningMethodNone {
		return time.Time{}, v.badSignature(token.Method)
	}
	found, until, err := v.set.find(token, v.now())
	if err != nil {
		return time.Time{}, err
	}
	if !verifies(found, token) {
		return time.Time{}, v.badSignature(token.Method)
	}
	return until, nil
}

// verifies tells whether one of the keys verifies a token's signature.
func verifies(keys []Key, token *jwt.Token) bool {
	signed := token.Raw[:strings.LastIndexByte(token.Raw, '.')]
	return slices.ContainsFunc(keys, func(k Key) bool {
		return k.verifies(token.Method, signed, token.Signature)
	})
}

const (
	// lastDate is beyond what anybody means, and fits into every kind of number.
	lastDate = 1 << 53
	// A date from firstMillis to lastMillis looks like milliseconds: as such it is
	// from 1973 to 5138, and in seconds it is after 5138.
	firstMillis, lastMillis = 1e11, 1e14
)

// check checks the claims of a token, its user apart, and returns when it is
// accepted no more.
func (v *Verifier) check(claims jwt.MapClaims) (expires time.Time, err error) {
	for _, c := range []struct {
		name   string
		wanted bool
	}{{"exp", true}, {"aud", len(v.rules.Audiences) > 0}, {"iss", len(v.rules.Issuers) > 0}} {
		if c.wanted && claims[c.name] == nil {
			return time.Time{}, invalid("The token has no "+c.name+".", nil)
		}
	}
	for _, name := range []string{"exp", "nbf", "iat"} {
		if claims[name] == nil {
			continue
		}
		date, ok := claims[name].(float64)
		switch tooFar := name == "exp" && date > float64(v.now().Add(v.rules.MaxLifetime+Leeway).Unix()); {
		case !ok:
			return time.Time{}, invalid("The "+name+" in the token is no number.", nil)
		case tooFar && date >= firstMillis && date < lastMillis:
			return time.Time{}, invalid("The exp in the token looks like milliseconds: it has to be in seconds.", nil)
		case tooFar:
			return time.Time{}, invalid("The exp in the token is further away than the "+v.rules.MaxLifetime.String()+" that are accepted.", nil)
		case math.Abs(date) > lastDate:
			return time.Time{}, invalid("The "+name+" in the token is no date.", nil)
		}
	}
	if err := v.claims.Validate(claims); err != nil {
		return time.Time{}, refusal(err)
	}
	if len(v.rules.Issuers) > 0 {
		if issuer, err := claims.GetIssuer(); err != nil || !slices.Contains(v.rules.Issuers, issuer) {
			return time.Time{}, invalid("The token is from another issuer: see its iss.", err)
		}
	}
	if claims["sts"] == "pending" {
		// Clerk's word for a session whose user has still to do something, such as choosing
		// an organization. Its own libraries take such a user for signed out.
		return time.Time{}, invalid("The session of the token is pending: the user has not finished signing in.", nil)
	}
	if party := claims["azp"]; party != nil && len(v.rules.Parties) > 0 {
		if text, ok := party.(string); !ok || !slices.Contains(v.rules.Parties, text) {
			return time.Time{}, invalid("The token was issued to another party: see its azp.", nil)
		}
	}
	exp, err := claims.GetExpirationTime()
	if err != nil {
		return time.Time{}, refusal(err)
	}
	return exp.Add(Leeway), nil
}

// remember keeps a token that was verified, until something in it or about its key
// can come to be wrong. Any other one makes room for it.
func (v *Verifier) remember(token string, who Identity, until time.Time) {
	if len(token) > maxVerifiedBytes {
		return
	}
	delete(v.verified, token) // its time was over
	for other := range v.verified {
		if len(v.verified) < maxVerified {
			break
		}
		delete(v.verified, other)
	}
	v.verified[strings.Clone(token)] = verified{who, until}
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

// identity reads whom a token speaks for.
func (v *Verifier) identity(claims jwt.MapClaims) (Identity, error) {
	idClaims := []string{"uid", "sub"}
	if v.rules.UserIDClaim != "" {
		idClaims = []string{v.rules.UserIDClaim}
	}
	var who Identity
	for _, c := range []struct {
		what string
		in   []string // the first that is there counts
		to   *string
	}{
		{"user id", idClaims, &who.ID}, {"name", []string{"username", "name", "preferred_username"}, &who.Name}, {"email", []string{"email"}, &who.Email},
	} {
		for _, name := range c.in {
			if claims[name] == nil {
				continue
			}
			text, ok := claims[name].(string)
			if !ok {
				return Identity{}, invalid("The "+c.what+" in the token is not a string.", nil)
			}
			*c.to = text
			break
		}
	}
	if who.ID == "" {
		return Identity{}, invalid("The token has no user id in "+strings.Join(idClaims, " or ")+".", nil)
	}
	if v.rules.PrefixUserIDs {
		issuer, _ := claims["iss"].(string)
		if issuer == "" || strings.Contains(issuer, "|") {
			return Identity{}, invalid("The token has no issuer that a user id can begin with.", nil)
		}
		who.ID = issuer + "|" + who.ID
	}
	switch {
	case len(who.ID) > MaxIDBytes:
		return Identity{}, invalid("The user id is longer than 256 bytes.", nil)
	case who.ID == "." || who.ID == "..":
		// A URL takes these for steps in its path, so no operator could reach the user.
		return Identity{}, invalid("The user id is . or .., which no URL can name.", nil)
	case strings.ContainsRune(who.ID, utf8.RuneError):
		// Whatever is not Unicode was decoded to this rune, so two ids that differ would become one.
		return Identity{}, invalid("The user id is not valid Unicode.", nil)
	}
	who.Name, who.Email = kept(who.Name), kept(who.Email)
	return who, nil
}

// kept is what is kept of a name or an address. It ends with a whole rune.
func kept(text string) string {
	if len(text) <= MaxTextBytes {
		return text
	}
	return strings.ToValidUTF8(text[:MaxTextBytes], "")
}
