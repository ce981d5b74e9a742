// Package seal keeps secrets: [Secret] is one in memory, which prints as
// [redacted] wherever it may end up, and [Sealer] turns a user's key into
// something that may lie on disk.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Secret is a key, a token or a password. Formatters and encoders show it as
// [redacted]; [Secret.Reveal] is the only way to its text. Two secrets are not
// compared by ==.
type Secret struct {
	// A pointer: in an unexported field of some struct, fmt calls no method, and
	// prints what it finds. That is an address then.
	text *string
}

// NewSecret wraps a secret's text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

const redacted = "[redacted]"

// Reveal returns the text. Whoever calls it answers for where it goes.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Format implements fmt.Formatter, so that no verb gets at the text.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON, XML and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// KeySize is the length of an encryption key in bytes: AES-256.
const KeySize = 32

// Sealer encrypts with AES-256-GCM. What it seals reads
//
//	v1.<key id>.<base64url of nonce and ciphertext>
//
// The user id is additional data: what was sealed for one user opens for no
// other. The key id, eight hex digits of the encryption key's SHA-256, tells
// which key opens it, so that the encryption key can be changed.
type Sealer struct {
	current string // key id that new seals carry
	aeads   map[string]cipher.AEAD
}

// New returns a Sealer that seals under current and also opens what was sealed
// under the previous keys. Each key is [KeySize] bytes.
func New(current []byte, previous ...[]byte) (*Sealer, error) {
	s := &Sealer{aeads: map[string]cipher.AEAD{}}
	for i, key := range append([][]byte{current}, previous...) {
		if len(key) != KeySize {
			return nil, fmt.Errorf("an encryption key has %d bytes, not %d", len(key), KeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(key)
		id := hex.EncodeToString(sum[:4])
		if i == 0 {
			s.current = id
		}
		s.aeads[id] = aead
	}
	return s, nil
}

const version = "v1"

var encoding = base64.RawURLEncoding

// StalePrefixes returns what begins whatever was sealed under one of the previous
// keys, and nothing that was sealed under the current one. They are of one length.
func (s *Sealer) StalePrefixes() []string {
	var prefixes []string
	for id := range s.aeads {
		if id != s.current {
			prefixes = append(prefixes, version+"."+id+".")
		}
	}
	slices.Sort(prefixes)
	return prefixes
}

// Seal encrypts a secret of the user.
func (s *Sealer) Seal(user string, secret Secret) string {
	aead := s.aeads[s.current]
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails: crypto/rand ends the program instead
	box := aead.Seal(nonce, nonce, []byte(secret.Reveal()), []byte(user))
	return version + "." + s.current + "." + encoding.EncodeToString(box)
}

// Open decrypts what was sealed for the user. stale says that it was sealed
// under a previous key, and had better be sealed anew. The error never holds
// any of the text.
func (s *Sealer) Open(user, sealed string) (secret Secret, stale bool, err error) {
	parts := strings.Split(sealed, ".")
	if len(parts) != 3 || parts[0] != version || len(parts[1]) != len(s.current) {
		return Secret{}, false, errors.New("seal: not in a form that is known here")
	}
	aead, ok := s.aeads[parts[1]]
	if !ok {
		return Secret{}, false, fmt.Errorf("seal: sealed under the encryption key %q, which is not set", parts[1])
	}
	box, err := encoding.DecodeString(parts[2])
	if err != nil || len(box) < aead.NonceSize() {
		return Secret{}, false, errors.New("seal: damaged")
	}
	text, err := aead.Open(nil, box[:aead.NonceSize()], box[aead.NonceSize():], []byte(user))
	if err != nil {
		return Secret{}, false, errors.New("seal: damaged, or sealed for another user")
	}
	return NewSecret(string(text)), parts[1] != s.current, nil
}
