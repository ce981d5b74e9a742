package auth

import (
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/seal"
)

// Sign returns a token for a user, signed with HS256 as an application's server
// would: for demos, benchmarks and operators. What is empty is left out of it.
func Sign(secret seal.Secret, who Identity, issuer, audience string, now, expires time.Time) (string, error) {
	claims := jwt.MapClaims{"uid": who.ID, "iat": now.Unix(), "exp": expires.Unix()}
	for claim, value := range map[string]string{"username": who.Name, "email": who.Email, "iss": issuer, "aud": audience} {
		if value != "" {
			claims[claim] = value
		}
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret.Reveal()))
}
