package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/seal"
)

// Key verifies signatures, of its own kind of algorithm alone.
type Key struct {
	id        string // kid of a key set; empty: it has none
	algorithm string // the one that it is for; empty: all of its kind
	material  any    // seal.Secret, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

const (
	// minRSABits: a shorter key can be broken (RFC 7518 §3.3).
	minRSABits = 2048
	// maxRSABits bounds the time that a verification takes. Nobody signs with more.
	maxRSABits = 8192
	// maxPublicKeys bounds how many keys a token is tried with.
	maxPublicKeys = 16
)

// ed25519Alg is the newer name of EdDSA over this curve (RFC 9864 §2.2): a token and
// a key may have either.
const ed25519Alg = "Ed25519"

func init() {
	jwt.RegisterSigningMethod(ed25519Alg, func() jwt.SigningMethod { return jwt.SigningMethodEdDSA })
}

// fits tells whether the key may verify signatures of a method. This alone keeps
// a public key from being taken for a secret: a method that is not here fits none.
func (k Key) fits(method jwt.SigningMethod) bool {
	if k.algorithm != "" && k.algorithm != method.Alg() {
		return false
	}
	switch m := method.(type) {
	case *jwt.SigningMethodHMAC:
		_, ok := k.material.(seal.Secret)
		return ok
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		_, ok := k.material.(*rsa.PublicKey)
		return ok
	case *jwt.SigningMethodECDSA:
		key, ok := k.material.(*ecdsa.PublicKey)
		return ok && key.Curve.Params().BitSize == m.CurveBits
	case *jwt.SigningMethodEd25519:
		_, ok := k.material.(ed25519.PublicKey)
		return ok
	}
	return false
}

// verifies tells whether the key verifies a signature of a method.
func (k Key) verifies(method jwt.SigningMethod, signed string, signature []byte) bool {
	material := k.material
	if secret, ok := material.(seal.Secret); ok {
		material = []byte(secret.Reveal())
	}
	return k.fits(method) && method.Verify(signed, signature, material) == nil
}

// ParsePublicKeys reads one or more public keys in PEM. A `\n` that was written
// out, as one-line settings have it, is a line's end.
func ParsePublicKeys(text string) ([]Key, error) {
	rest := []byte(strings.ReplaceAll(text, `\n`, "\n"))
	var keys []Key
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		key, err := publicKey(block)
		if err != nil {
			return nil, err
		}
		if keys = append(keys, key); len(keys) > maxPublicKeys {
			return nil, fmt.Errorf("there are more than %d keys", maxPublicKeys)
		}
	}
	if len(keys) == 0 || len(keys) != strings.Count(text, "-----BEGIN ") {
		return nil, errors.New("there is no PEM key, or one that is broken")
	}
	return keys, nil
}

// publicKey reads a key of a PEM block. Its errors do not show it: it may be a
// private key that was set by mistake.
func publicKey(block *pem.Block) (Key, error) {
	var material any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		material, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		material, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return Key{}, errors.New("there is something other than a PUBLIC KEY")
	}
	if err != nil {
		return Key{}, errors.New("a key cannot be read")
	}
	return newKey(material)
}

// newKey checks that a public key is one that signatures are worth something of.
func newKey(material any) (Key, error) {
	switch key := material.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return Key{}, fmt.Errorf("an RSA key has %d bits, and not %d to %d", bits, minRSABits, maxRSABits)
		}
		if key.N.Bit(0) == 0 || key.E < 3 || key.E%2 == 0 {
			return Key{}, errors.New("an RSA key makes no sense")
		}
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256, 384, 521:
		default:
			return Key{}, errors.New("an EC key is on another curve than P-256, P-384 or P-521")
		}
	case ed25519.PublicKey:
	default:
		return Key{}, errors.New("a key is of another kind than RSA, EC or Ed25519")
	}
	return Key{material: material}, nil
}
