package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/problem"
)

// KeysWanted is the error of a token that cannot be judged before the issuer's
// key set is read. Whoever goes on with it says so by [Verifier.KeysReading], reads
// the set at URL, hands it to [Verifier.KeysRead], and verifies anew. Where URL is
// empty another request is reading it: then verify anew a moment later.
type KeysWanted struct{ URL string }

// Error implements error.
func (*KeysWanted) Error() string { return "auth: the issuer's keys are wanted" }

const (
	// keysFresh is how long a set is used without asking the issuer: so long may a
	// key that left it be accepted. The issuer may shorten it.
	keysFresh = 10 * time.Minute
	// keysPause is between two reads: forged tokens must not flood the issuer.
	keysPause = time.Minute
	// keysStale is how much longer a set is used while the issuer cannot be asked.
	keysStale = 24 * time.Hour
	// keysRetry is the pause after a read that failed where no keys are known at
	// all: nobody of that issuer is let in meanwhile.
	keysRetry = 10 * time.Second
	// keysDeadline is when a read counts as lost: its own deadline, 5 s, has passed.
	keysDeadline = 6 * time.Second

	// maxSetBytes is more than any issuer's set has: a key takes about 400.
	maxSetBytes = 64 << 10
	// maxSetKeys bounds how many keys of a set are kept. An issuer has two or three.
	maxSetKeys = 64
)

// keySet is an issuer's key set as it was last read. Nothing is remembered of a
// kid that is not in it, but when the issuer was last asked.
type keySet struct {
	url     string    // empty: there is none
	text    string    // as it was read
	keys    []Key     // nil: it never was
	until   time.Time // used without asking until then
	stale   time.Time // and until then where the issuer cannot be asked
	next    time.Time // when it may be asked again
	reading time.Time // a read is going on, and counts as lost from then on; zero: none
	failed  bool      // the last read
}

// find returns the keys to verify a token with, and until when they may be used
// without asking again. Its errors are KeysWanted and problems.
func (s *keySet) find(token *jwt.Token, now time.Time) ([]Key, time.Time, error) {
	found := s.known(token)
	if len(found) > 0 && now.Before(s.until) {
		return found, s.until, nil
	}
	switch {
	case now.Before(s.reading):
		if len(found) > 0 && now.Before(s.stale) && s.failed {
			return found, s.reading, nil // it is likely to be down still: only one request has to wait
		}
		return nil, time.Time{}, &KeysWanted{}
	case !now.Before(s.next):
		return nil, time.Time{}, &KeysWanted{URL: s.url}
	case len(found) > 0 && now.Before(s.stale):
		return found, s.next, nil
	case s.failed || !s.reading.IsZero():
		p := problem.New(problem.IssuerUnavailable, "The keys of the token's issuer cannot be had just now.")
		p.RetryAfter = s.next.Sub(now)
		return nil, time.Time{}, p
	}
	return nil, time.Time{}, invalid("The token is signed with none of its issuer's keys.", nil)
}

// pause is how long the issuer is not asked after a read that may fail.
func (s *keySet) pause(now time.Time) time.Duration {
	if now.Before(s.stale) {
		return keysPause
	}
	return keysRetry
}

// followClock makes the set due, and forgets the tokens that it verified, where the
// clock was set back: no time may be further ahead than it can be. next is set with
// every other one, to at most keysPause ahead; the clocks of two requests may differ
// by as much again.
func (v *Verifier) followClock(now time.Time) {
	s := &v.set
	if !s.next.After(now.Add(2 * keysPause)) {
		return
	}
	s.until, s.next, s.reading = now, now, time.Time{}
	if end := now.Add(keysStale); s.stale.After(end) {
		s.stale = end
	}
	clear(v.verified)
}

// known returns the key that a token names or, where it names none, the only one
// that fits.
func (s *keySet) known(token *jwt.Token) []Key {
	id, named := token.Header["kid"]
	var found []Key
	for _, key := range s.keys {
		if key.fits(token.Method) && (!named || key.id != "" && key.id == id) {
			found = append(found, key)
		}
	}
	if len(found) != 1 {
		return nil
	}
	return found
}

// KeysReading says that a read of the key set begins: others wait for it. It is not
// for Verify to say: whoever has no use for the error reads nothing.
func (v *Verifier) KeysReading() {
	s, now := &v.set, v.now()
	s.reading, s.next = now.Add(keysDeadline), now.Add(s.pause(now))
}

// KeysRead takes what a read of the key set came to: the set with its
// Cache-Control, or why it could not be read. It returns why the set was not
// taken; then the one before is used on.
func (v *Verifier) KeysRead(set, cacheControl string, failure error) error {
	s, now := &v.set, v.now()
	v.followClock(now)
	s.reading = time.Time{}
	keys, known := s.keys, s.keys != nil && set == s.text
	if failure == nil && !known {
		keys, failure = parseKeySet(set)
	}
	if s.failed = failure != nil; s.failed {
		s.next = now.Add(s.pause(now))
		return failure
	}
	if !known {
		s.text, s.keys = set, keys
		clear(v.verified) // with keys that may have gone
	}
	s.next = now.Add(keysPause)
	s.until = now.Add(min(keysFresh, max(keysPause, maxAge(cacheControl))))
	s.stale = s.until.Add(keysStale)
	return nil
}

// maxAge is how long the issuer lets its set be kept: for ever, where it does not say.
func maxAge(cacheControl string) time.Duration {
	for directive := range strings.SplitSeq(cacheControl, ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 32); err == nil {
				return time.Duration(seconds) * time.Second
			}
		}
	}
	return keysFresh
}

// parseKeySet reads the keys of a JSON Web Key Set that signatures can be verified
// with (RFC 7517), each once. Any other key is ignored, and one that makes no sense too.
func parseKeySet(text string) ([]Key, error) {
	if len(text) > maxSetBytes {
		return nil, errors.New("the key set is larger than 64 KiB")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal([]byte(text), &set); err != nil {
		return nil, errors.New("the key set is not JSON, or has no list of keys")
	}
	var keys []Key
	why := errors.New("there are none")
	for _, encoded := range set.Keys {
		key, err := parseJWK(encoded)
		if err != nil {
			why = err
			continue
		}
		if slices.ContainsFunc(keys, func(k Key) bool { return reflect.DeepEqual(k, key) }) {
			continue // listed twice, it would be two keys of one kid, and a token is verified with one alone
		}
		if keys = append(keys, key); len(keys) == maxSetKeys {
			break
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key in the key set is usable: %w", why)
	}
	return keys, nil
}

// parseJWK reads a public key for signatures (RFC 7517, RFC 7518 §6, RFC 8037).
func parseJWK(encoded []byte) (Key, error) {
	var jwk struct {
		Kty, Kid, Alg, Use, Crv string
		KeyOps                  []string `json:"key_ops"`
		N, E, X, Y              base64URL
	}
	if err := json.Unmarshal(encoded, &jwk); err != nil {
		return Key{}, errors.New("a key cannot be read")
	}
	if jwk.Use != "" && jwk.Use != "sig" || jwk.KeyOps != nil && !slices.Contains(jwk.KeyOps, "verify") {
		return Key{}, errors.New("a key is not for signatures")
	}
	var material any
	switch jwk.Kty {
	case "RSA":
		exponent := new(big.Int).SetBytes(jwk.E)
		if exponent.BitLen() > 31 { // what crypto/rsa takes
			return Key{}, errors.New("an RSA key has too large an exponent")
		}
		material = &rsa.PublicKey{N: new(big.Int).SetBytes(jwk.N), E: int(exponent.Int64())}
	case "EC":
		curve := curves[jwk.Crv]
		if curve == nil || len(jwk.X) != len(jwk.Y) {
			return Key{}, errors.New("an EC key is on another curve, or makes no sense")
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve(), slices.Concat([]byte{4}, jwk.X, jwk.Y))
		if err != nil {
			return Key{}, errors.New("an EC key is not on its curve")
		}
		material = key
	case "OKP":
		if jwk.Crv != "Ed25519" || len(jwk.X) != ed25519.PublicKeySize {
			return Key{}, errors.New("an OKP key is not of Ed25519")
		}
		material = ed25519.PublicKey(jwk.X)
	}
	key, err := newKey(material)
	key.id, key.algorithm = jwk.Kid, jwk.Alg
	if jwk.Alg == ed25519Alg {
		key.algorithm = jwt.SigningMethodEdDSA.Alg()
	}
	return key, err
}

// curves make the curves by their names: they are there only where a key wants one.
var curves = map[string]func() elliptic.Curve{"P-256": elliptic.P256, "P-384": elliptic.P384, "P-521": elliptic.P521}

// base64URL is bytes in base64url without padding, as JWK has them.
type base64URL []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *base64URL) UnmarshalText(text []byte) (err error) {
	*b, err = base64.RawURLEncoding.AppendDecode(nil, text)
	return err
}
