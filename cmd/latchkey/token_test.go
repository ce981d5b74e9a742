package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/auth"
	"latchkey/internal/seal"
)

// The claims and the signature depend on nothing but flags, secret and time, so
// the tokens are golden too.
func TestTokenForms(t *testing.T) {
	f := newFixture(t)
	for name, line := range map[string]string{
		"token":      "token --user u_42",
		"token-full": "token --user клас/Ада --name Ада --email ada@example.org --for 10m --issuer app --audience latchkey",
		"token-json": "token --user u_42 --for 30m --json",
		"token-csv":  "token --user u_42 --for 30m --csv",
	} {
		p := f.run(t, strings.Fields(line)...).want(t, exitOK)
		golden(t, name, p.out+p.stderr)
	}
}

func TestTokenIsAccepted(t *testing.T) {
	f := newFixture(t)
	p := f.run(t, "token", "--user", "клас/Ада", "--name", "Ада", "--email", "ada@example.org", "--for", "10m", "--issuer", "app", "--audience", "latchkey")
	token := strings.TrimSuffix(p.want(t, exitOK).out, "\n")
	verify := func(at time.Time, audience string) (auth.Identity, error) {
		return auth.New([]seal.Secret{seal.NewSecret(jwtSecret)}, "app", audience, func() time.Time { return at }).Verify("Bearer " + token)
	}
	who, err := verify(testTime.Add(9*time.Minute), "latchkey")
	if err != nil || who.ID != "клас/Ада" || who.Name != "Ада" || who.Email != "ada@example.org" || !who.Expires.Equal(testTime.Add(10*time.Minute+auth.Leeway)) {
		t.Errorf("%+v, %v", who, err)
	}
	if _, err := verify(testTime.Add(11*time.Minute), "latchkey"); err == nil {
		t.Error("it never expires")
	}
	if _, err := verify(testTime, "another"); err == nil {
		t.Error("it is for any audience")
	}
}

func TestTokenHasNoEmptyClaims(t *testing.T) {
	f := newFixture(t)
	token := strings.TrimSpace(f.run(t, "token", "--user", "u_42").want(t, exitOK).out)
	claims := jwt.MapClaims{}
	parsed, _, err := jwt.NewParser().ParseUnverified(token, claims)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(claims)
	if parsed.Method != jwt.SigningMethodHS256 || string(got) != `{"exp":1795343400,"iat":1795339800,"uid":"u_42"}` {
		t.Errorf("%s %s", parsed.Method.Alg(), got)
	}
}

func TestTokenWantsASecretThatTheWorkerTakes(t *testing.T) {
	for name, env := range map[string]map[string]string{"none": {}, "short": {"JWT_SECRET_CLOUD": "too-short-to-be-a-secret"}} {
		p := latchkey(t.Context(), env, "token", "--user", "u_42").want(t, exitUsage)
		if p.out != "" || strings.Contains(p.stderr, "too-short") || !strings.Contains(p.stderr, "JWT_SECRET_CLOUD") {
			t.Errorf("%s: %v", name, p)
		}
	}
}
