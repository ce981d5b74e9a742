// Package settings reads the variables, secrets and bindings that docs/settings.md lists,
// once. Whatever is missing or bad is named, all of it at once, and nothing
// runs on settings that are not whole.
package settings

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/auth"
	"latchkey/internal/openrouter"
	"latchkey/internal/quota"
	"latchkey/internal/seal"
)

// Settings is the configuration, checked.
type Settings struct {
	Policy          quota.Policy
	MeterInterval   time.Duration // a reading younger than this is reused; 0: every request reads
	SettleAfter     time.Duration // a rotated key is read and charged once more after this, then deleted; 0: deleted at once
	RotationOverlap time.Duration // how long a rotated key goes on working beside the new one; 0: it is deleted first
	KeyTTL          time.Duration // how long a new key is good for; 0: until it is deleted

	OpenRouterURL     string        // without a slash at its end
	OpenRouterTimeout time.Duration // from 1 ms to [maxTimeout]
	ProvisioningKey   seal.Secret
	Workspace         string // a UUID: where keys are made and listed; empty: the account's default workspace
	RateLimit         int    // requests a minute and user, and a burst of as many; 0: any number
	Guardrail         string // its id: what every new key is assigned to; empty: none
	KeyNamePrefix     string // begins the name of every key of this deployment

	Tokens auth.Rules

	AdminToken seal.Secret // empty: the admin API is off

	AllowedOrigins []string
	Sealer         *seal.Sealer
}

// OpenRouter returns a client of the key API, which sends by transport.
func (s *Settings) OpenRouter(transport http.RoundTripper, now func() time.Time) openrouter.Client {
	return openrouter.Client{BaseURL: s.OpenRouterURL, ProvisioningKey: s.ProvisioningKey, Workspace: s.Workspace, Transport: transport, Now: now}
}

const (
	// maxDuration keeps every sum of times in range: a [time.Duration] holds 292
	// years. Nobody wants more.
	maxDuration = 10 * 365 * 24 * time.Hour
	// maxTimeout fits into the 32 bits in which milliseconds cross to JavaScript,
	// and no client waits longer.
	maxTimeout = 5 * time.Minute
	// minKeyTTL leaves time to use a key before it is replaced.
	minKeyTTL = 10 * time.Second
	// maxGuardrailBytes is more than any id of OpenRouter's has.
	maxGuardrailBytes = 64
	// maxPrefixBytes leaves most of a key's name to the user id.
	maxPrefixBytes = 32
	// maxRateLimit is more than one object can answer.
	maxRateLimit = 100_000
)

// bindings that the program cannot do without.
var bindings = []string{"USERS", "DB"}

// Parse reads the settings. getenv returns "" for what is not set; bound tells
// whether a binding is there. The error joins one error for each setting that
// is missing or bad; it names the setting and never holds a secret's value.
func Parse(getenv func(string) string, bound func(string) bool) (Settings, error) {
	p := parser{getenv: getenv}
	s := Settings{
		Policy: quota.Policy{
			TotalLimit:  p.credits("TOTAL_LIMIT", "10"),
			KeyLimit:    p.credits("KEY_LIMIT", "1"),
			RotateBelow: p.credits("ROTATE_BELOW", "0.5"),
			RenewAt:     p.credits("RENEW_AT", "0.1"),
			RenewAfter:  p.duration("RENEW_AFTER", "0s"),
			HardCap:     p.boolean("HARD_CAP", "false"),
		},
		MeterInterval:     p.duration("METER_INTERVAL", "0s"),
		SettleAfter:       p.duration("SETTLE_AFTER", "0s"),
		RotationOverlap:   p.duration("ROTATION_OVERLAP", "0s"),
		KeyTTL:            p.duration("KEY_TTL", "0s"),
		RateLimit:         p.count("RATE_LIMIT", "0", maxRateLimit),
		OpenRouterURL:     p.url("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1"),
		OpenRouterTimeout: p.duration("OPENROUTER_TIMEOUT", "10s"),
		ProvisioningKey:   p.provisioningKey("OPENROUTER_PROVISIONING_API_KEY", "OPENROUTER_MANAGEMENT_KEY"),
		Workspace:         p.uuid("OPENROUTER_WORKSPACE_ID"),
		Guardrail:         p.word("OPENROUTER_GUARDRAIL_ID", "", upper+lower+digits+"-_", maxGuardrailBytes),
		KeyNamePrefix:     p.word("KEY_NAME_PREFIX", "latchkey", lower+digits+"-", maxPrefixBytes),
		Tokens: auth.Rules{
			Secrets:       p.jwtSecrets("JWT_SECRET_CLOUD", "JWT_SECRET_CLOUD_PREVIOUS"),
			PublicKeys:    p.publicKeys("JWT_PUBLIC_KEY"),
			KeySetURL:     p.keySetURL("JWT_JWKS_URL"),
			Issuers:       p.list("JWT_ISSUER"),
			Audiences:     p.list("JWT_AUDIENCE"),
			Parties:       p.list("JWT_AUTHORIZED_PARTIES"),
			UserIDClaim:   p.text("JWT_USER_ID_CLAIM", ""),
			PrefixUserIDs: p.boolean("JWT_USER_ID_PREFIXED", "false"),
			MaxLifetime:   p.duration("JWT_MAX_LIFETIME", "8784h"),
		},
		AllowedOrigins: p.origins("ALLOWED_ORIGINS"),
		Sealer:         p.sealer("KEY_ENCRYPTION_KEY", "KEY_ENCRYPTION_KEY_PREVIOUS"),
	}
	if getenv("JWT_SECRET_CLOUD") == "" && p.text("JWT_PUBLIC_KEY", "") == "" && p.text("JWT_JWKS_URL", "") == "" {
		p.bad("JWT_SECRET_CLOUD, JWT_PUBLIC_KEY or JWT_JWKS_URL", "is missing")
	}
	if getenv("ADMIN_TOKEN") != "" {
		s.AdminToken = p.secret("ADMIN_TOKEN", auth.MinSecretBytes)
	}
	p.refuseExamples(s.OpenRouterURL)
	for _, name := range bindings {
		if !bound(name) {
			p.bad(name, "is not bound")
		}
	}
	if len(p.errs) == 0 {
		p.consistent(s)
	}
	return s, errors.Join(p.errs...)
}

// Secrets are the settings that nobody else may know.
var Secrets = []string{
	"JWT_SECRET_CLOUD", "JWT_SECRET_CLOUD_PREVIOUS", "OPENROUTER_PROVISIONING_API_KEY", "OPENROUTER_MANAGEMENT_KEY",
	"KEY_ENCRYPTION_KEY", "KEY_ENCRYPTION_KEY_PREVIOUS", "ADMIN_TOKEN",
}

// exampleMarks: one of them is in each secret that stands in the pages of this
// repository, and none comes up in a random text.
var exampleMarks = []string{"not-a-real", "stand-in-", "…"}

// refuseExamples refuses secrets that everybody knows, unless OpenRouter is on this
// machine: then it is a stand-in, and all of it local development.
func (p *parser) refuseExamples(openRouterURL string) {
	if u, err := url.Parse(openRouterURL); err == nil && loopback(u) {
		return
	}
	for _, name := range Secrets {
		if IsExample(p.getenv(name)) {
			p.bad(name, "is an example, which everybody knows: set one of your own")
		}
	}
}

// IsExample tells whether a secret is one that everybody knows.
func IsExample(secret string) bool {
	decoded, _ := base64.StdEncoding.DecodeString(secret) // an encryption key
	return slices.ContainsFunc(exampleMarks, func(mark string) bool {
		return strings.Contains(secret, mark) || strings.Contains(string(decoded), mark)
	})
}

// consistent refuses settings under which every request would mint a new key,
// or time out.
func (p *parser) consistent(s Settings) {
	limits := s.Policy
	switch {
	case limits.TotalLimit == 0:
		p.bad("TOTAL_LIMIT", "must be above 0")
	case limits.RenewAt >= limits.TotalLimit:
		p.bad("RENEW_AT", "must be below TOTAL_LIMIT")
	}
	switch {
	case limits.KeyLimit == 0 || limits.KeyLimit > openrouter.MaxReading:
		p.bad("KEY_LIMIT", "must be above 0 and at most "+openrouter.MaxReading.String())
	case limits.RotateBelow >= limits.KeyLimit:
		p.bad("ROTATE_BELOW", "must be below KEY_LIMIT")
	}
	if s.OpenRouterTimeout < time.Millisecond || s.OpenRouterTimeout > maxTimeout {
		p.bad("OPENROUTER_TIMEOUT", "must be from 1ms to 5m")
	}
	if s.Tokens.MaxLifetime < time.Second {
		p.bad("JWT_MAX_LIFETIME", "must be 1s or more")
	}
	if s.KeyNamePrefix == openrouter.ClassPrefix {
		p.bad("KEY_NAME_PREFIX", "must not be "+openrouter.ClassPrefix+", with which the command line names the keys of a class")
	}
	if s.KeyTTL != 0 && s.KeyTTL < minKeyTTL {
		p.bad("KEY_TTL", "must be 0, or 10s or more")
	}
}

// parser collects what is wrong.
type parser struct {
	getenv func(string) string
	errs   []error
}

func (p *parser) bad(name, why string) { p.errs = append(p.errs, fmt.Errorf("%s %s", name, why)) }

func (p *parser) text(name, standard string) string {
	if value := strings.TrimSpace(p.getenv(name)); value != "" {
		return value
	}
	return standard
}

func (p *parser) credits(name, standard string) account.Credits {
	value, err := account.ParseCredits(p.text(name, standard))
	if err != nil || value < 0 {
		p.bad(name, fmt.Sprintf("must be a number of credits from 0 to %s", account.MaxCredits))
	}
	return value
}

func (p *parser) duration(name, standard string) time.Duration {
	value, err := time.ParseDuration(p.text(name, standard))
	if err != nil || value < 0 || value > maxDuration {
		p.bad(name, `must be a duration from 0 to 10 years, as in "90s" or "720h"`)
	}
	return value
}

func (p *parser) count(name, standard string, most int) int {
	value, err := strconv.Atoi(p.text(name, standard))
	if err != nil || value < 0 || value > most {
		p.bad(name, fmt.Sprintf("must be a whole number from 0 to %d", most))
	}
	return value
}

func (p *parser) boolean(name, standard string) bool {
	value, err := strconv.ParseBool(p.text(name, standard))
	if err != nil {
		p.bad(name, `must be "true" or "false"`)
	}
	return value
}

// url reads the base of URLs, without a slash at its end.
func (p *parser) url(name, standard string) string {
	value := strings.TrimRight(p.text(name, standard), "/")
	if u, err := url.Parse(value); err != nil || !private(u) || u.RawQuery != "" {
		p.bad(name, "must be an https URL, or an http one on loopback, without user, query or fragment")
	}
	return value
}

// keySetURL reads where a key set is. It may have a query: some issuers' have.
func (p *parser) keySetURL(name string) string {
	value := p.text(name, "")
	if u, err := url.Parse(value); value != "" && (err != nil || !private(u)) {
		p.bad(name, "must be an https URL, or an http one on loopback, without user or fragment")
	}
	return value
}

// private tells whether nobody else can read or change what is sent to a URL.
func private(u *url.URL) bool {
	return u.Hostname() != "" && (u.Scheme == "https" || u.Scheme == "http" && loopback(u)) && u.User == nil && u.Fragment == ""
}

// loopback tells whether a URL is of this machine.
func loopback(u *url.URL) bool {
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}

const (
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
)

// word reads a text of these characters alone, and of so many bytes at most.
func (p *parser) word(name, standard, characters string, most int) string {
	value := p.text(name, standard)
	if len(value) > most || !consists(value, characters) {
		p.bad(name, fmt.Sprintf("must have at most %d characters, each one of %s", most, characters))
	}
	return value
}

// uuid reads an id as OpenRouter writes it: groups of 8, 4, 4, 4 and 12 hex digits.
func (p *parser) uuid(name string) string {
	value := p.text(name, "")
	groups := strings.Split(value, "-")
	lengths := []int{8, 4, 4, 4, 12}
	ok := len(groups) == len(lengths)
	for i := 0; ok && i < len(groups); i++ {
		ok = len(groups[i]) == lengths[i] && consists(groups[i], digits+"abcdefABCDEF")
	}
	if !ok && value != "" {
		p.bad(name, "must be a UUID, as in 0fa1b2c3-d4e5-4f60-8a9b-0c1d2e3f4a5b")
	}
	return value
}

// consists tells whether a text has no other characters than these.
func consists(text, characters string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(characters, r) })
}

// provisioningKey reads the key that makes keys. OpenRouter calls it a management
// key now, so that it goes by two names.
func (p *parser) provisioningKey(name, newName string) seal.Secret {
	value, newValue := p.text(name, ""), p.text(newName, "")
	switch {
	case value == "" && newValue == "":
		p.bad(name+" or "+newName, "is missing")
	case value != "" && newValue != "" && value != newValue:
		p.bad(newName, "differs from "+name+": set one of them alone")
	}
	return seal.NewSecret(cmp.Or(value, newValue))
}

func (p *parser) secret(name string, least int) seal.Secret {
	value := p.getenv(name)
	switch {
	case value == "":
		p.bad(name, "is missing")
	case len(value) < least:
		p.bad(name, fmt.Sprintf("must have at least %d bytes", least))
	}
	return seal.NewSecret(value)
}

// jwtSecrets reads the secrets that tokens may be signed with.
func (p *parser) jwtSecrets(names ...string) []seal.Secret {
	var secrets []seal.Secret
	for _, name := range names {
		if p.getenv(name) == "" {
			continue
		}
		secret := p.secret(name, auth.MinSecretBytes)
		if strings.Contains(secret.Reveal(), "-----BEGIN ") {
			p.bad(name, "must be no PEM key: a public one is no secret, and belongs in JWT_PUBLIC_KEY")
		}
		secrets = append(secrets, secret)
	}
	return secrets
}

func (p *parser) publicKeys(name string) []auth.Key {
	text := p.text(name, "")
	if text == "" {
		return nil
	}
	keys, err := auth.ParsePublicKeys(text)
	if err != nil {
		p.bad(name, "must be public keys in PEM: "+err.Error())
	}
	return keys
}

// list reads values that are separated by commas. One that is set and names none is a
// mistake, and not a list that is not checked.
func (p *parser) list(name string) []string {
	var values []string
	for value := range strings.SplitSeq(p.getenv(name), ",") {
		if value = strings.TrimSpace(value); value != "" {
			values = append(values, value)
		}
	}
	if len(values) == 0 && p.getenv(name) != "" {
		p.bad(name, "must name at least one value, or be empty")
	}
	return values
}

func (p *parser) sealer(name, previousName string) *seal.Sealer {
	key := p.encryptionKey(name)
	var previous [][]byte
	if p.getenv(previousName) != "" {
		previous = append(previous, p.encryptionKey(previousName))
	}
	if len(p.errs) > 0 {
		return nil
	}
	sealer, err := seal.New(key, previous...)
	if err != nil {
		p.bad(name, err.Error())
	}
	return sealer
}

func (p *parser) encryptionKey(name string) []byte {
	value := p.getenv(name)
	key, err := base64.StdEncoding.DecodeString(value)
	switch {
	case value == "":
		p.bad(name, "is missing")
	case err != nil || len(key) != seal.KeySize:
		p.bad(name, fmt.Sprintf("must be %d bytes in base64", seal.KeySize))
	}
	return key
}
