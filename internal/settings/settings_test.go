package settings

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/auth"
	"latchkey/internal/quota"
)

var secrets = map[string]string{
	"JWT_SECRET_CLOUD":                "a-secret-of-nobody-that-tests-alone-know",
	"OPENROUTER_PROVISIONING_API_KEY": "sk-or-v1-a-key-of-nobody",
	"KEY_ENCRYPTION_KEY":              base64.StdEncoding.EncodeToString(make([]byte, 32)),
}

// publicKeys are two, one of them written as a single line, whose private halves nobody has kept.
const publicKeys = `-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAC4ImImdC0XN+zUVgJ3m2jLLxc70oz0BggbPxLRVomTY=\n-----END PUBLIC KEY-----\n` + `
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZ2gvJ82NsjemVz95h8YNoA+zFQTW
WYja58w4OGsunZBs+tqnGtupvqZWmQ+K05NsoY8doBIwCx7OnYJVZKbHWA==
-----END PUBLIC KEY-----
`

func parse(changes map[string]string) (Settings, error) {
	env := maps.Clone(secrets)
	maps.Copy(env, changes)
	return Parse(func(name string) string { return env[name] }, func(string) bool { return true })
}

func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	s, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := quota.Policy{TotalLimit: 10 * account.Credit, KeyLimit: account.Credit, RotateBelow: account.Credit / 2, RenewAt: account.Credit / 10}
	if s.Policy != want || s.MeterInterval != 0 || s.SettleAfter != 0 || s.RotationOverlap != 0 || s.KeyTTL != 0 ||
		s.Workspace != "" || s.Guardrail != "" || s.KeyNamePrefix != "latchkey" || s.OpenRouterTimeout != 10*time.Second ||
		s.OpenRouterURL != "https://openrouter.ai/api/v1" || len(s.AllowedOrigins) != 0 || len(s.Tokens.Secrets) != 1 ||
		s.Tokens.MaxLifetime != auth.MaxLifetime || s.Tokens.PrefixUserIDs || s.Sealer == nil {
		t.Errorf("defaults: %+v", s)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	set := map[string]string{
		"TOTAL_LIMIT": "20", "KEY_LIMIT": "2", "ROTATE_BELOW": "0.25", "RENEW_AT": "0", "RENEW_AFTER": "720h", "HARD_CAP": "true",
		"METER_INTERVAL": "5s", "SETTLE_AFTER": "90s", "OPENROUTER_BASE_URL": "http://127.0.0.1:8788/api/v1/", "OPENROUTER_TIMEOUT": "250ms",
		"ALLOWED_ORIGINS": "https://a.example, http://localhost:5173,", "JWT_ISSUER": "app, https://issuer.example/", "JWT_AUDIENCE": "keys,more,",
		"JWT_PUBLIC_KEY": publicKeys, "JWT_JWKS_URL": "https://issuer.example/keys?policy=1", "JWT_AUTHORIZED_PARTIES": "https://a.example",
		"JWT_USER_ID_CLAIM": "user_id", "JWT_USER_ID_PREFIXED": "true", "JWT_MAX_LIFETIME": "1h",
		"JWT_SECRET_CLOUD_PREVIOUS": "an-older-secret-an-older-secret-an-o", "KEY_ENCRYPTION_KEY_PREVIOUS": secrets["KEY_ENCRYPTION_KEY"],
		"ADMIN_TOKEN": "a-token-of-nobody-that-tests-alone-know", "ROTATION_OVERLAP": "60s", "KEY_TTL": "10s",
		"OPENROUTER_WORKSPACE_ID": "0FA1b2c3-d4e5-4f60-8a9b-0c1d2e3f4a5b", "OPENROUTER_GUARDRAIL_ID": "gr_Not-a-real-1", "KEY_NAME_PREFIX": "staging-2",
		"RATE_LIMIT": "30",
	}
	s, err := parse(set)
	if err != nil {
		t.Fatal(err)
	}
	Parse(func(name string) string {
		if _, secret := secrets[name]; set[name] == "" && !secret && name != "OPENROUTER_MANAGEMENT_KEY" { // another name of a secret
			t.Errorf("this test forgets %s", name)
		}
		return ""
	}, func(string) bool { return true })
	want := quota.Policy{TotalLimit: 20 * account.Credit, KeyLimit: 2 * account.Credit, RotateBelow: account.Credit / 4, RenewAfter: 720 * time.Hour, HardCap: true}
	if s.Policy != want || s.MeterInterval != 5*time.Second || s.SettleAfter != 90*time.Second || s.OpenRouterTimeout != 250*time.Millisecond ||
		s.RotationOverlap != time.Minute || s.KeyTTL != 10*time.Second || s.Workspace != "0FA1b2c3-d4e5-4f60-8a9b-0c1d2e3f4a5b" ||
		s.Guardrail != "gr_Not-a-real-1" || s.KeyNamePrefix != "staging-2" || s.RateLimit != 30 ||
		s.OpenRouterURL != "http://127.0.0.1:8788/api/v1" || len(s.Tokens.Secrets) != 2 || len(s.Tokens.PublicKeys) != 2 ||
		s.Tokens.KeySetURL != "https://issuer.example/keys?policy=1" || !slices.Equal(s.Tokens.Issuers, []string{"app", "https://issuer.example/"}) ||
		!slices.Equal(s.Tokens.Audiences, []string{"keys", "more"}) || !slices.Equal(s.Tokens.Parties, []string{"https://a.example"}) ||
		s.Tokens.UserIDClaim != "user_id" || !s.Tokens.PrefixUserIDs || s.Tokens.MaxLifetime != time.Hour ||
		!slices.Equal(s.AllowedOrigins, []string{"https://a.example", "http://localhost:5173"}) {
		t.Errorf("settings: %+v", s)
	}
}

func TestABadSettingIsNamed(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{"TOTAL_LIMIT", "ten"}, {"TOTAL_LIMIT", "-1"}, {"TOTAL_LIMIT", "0"}, {"TOTAL_LIMIT", "1e300"}, {"KEY_LIMIT", "0"}, {"KEY_LIMIT", "1,5"},
		{"ROTATE_BELOW", "NaN"}, {"ROTATE_BELOW", "1"}, {"RENEW_AT", "10"}, {"RENEW_AT", "-0.1"}, {"RENEW_AFTER", "30 days"}, {"RENEW_AFTER", "-1h"},
		{"HARD_CAP", "yes"}, {"METER_INTERVAL", "5"}, {"SETTLE_AFTER", "soon"}, {"OPENROUTER_TIMEOUT", "0s"}, {"OPENROUTER_BASE_URL", "openrouter.ai"},
		{"OPENROUTER_BASE_URL", "https://user:pw@openrouter.ai"}, {"ALLOWED_ORIGINS", "*"}, {"ALLOWED_ORIGINS", "https://*.example.org"},
		{"ALLOWED_ORIGINS", "https://a.example/"}, {"ALLOWED_ORIGINS", "a.example"},
		{"OPENROUTER_BASE_URL", "http://openrouter.ai/api/v1"}, {"OPENROUTER_BASE_URL", "http://127.0.0.1.example.org"}, {"OPENROUTER_BASE_URL", "https://"},
		{"JWT_JWKS_URL", "http://issuer.example/keys"}, {"JWT_JWKS_URL", "issuer.example/keys"}, {"JWT_JWKS_URL", "https://u:p@issuer.example/keys"},
		{"JWT_JWKS_URL", "https://issuer.example/keys#one"}, {"JWT_JWKS_URL", "file:///etc/keys"},
		{"JWT_PUBLIC_KEY", "ssh-ed25519 AAAA"}, {"JWT_PUBLIC_KEY", `-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----`},
		{"JWT_PUBLIC_KEY", strings.Replace(publicKeys, "MCow", "MCo!", 1)},
		{"JWT_SECRET_CLOUD", publicKeys}, {"JWT_SECRET_CLOUD_PREVIOUS", publicKeys},
		{"JWT_ISSUER", ","}, {"JWT_ISSUER", " "}, {"JWT_AUDIENCE", " , ,\t"}, {"JWT_AUTHORIZED_PARTIES", ","}, {"ALLOWED_ORIGINS", ","},
		{"JWT_USER_ID_PREFIXED", "yes"}, {"JWT_MAX_LIFETIME", "0s"}, {"JWT_MAX_LIFETIME", "87601h"}, {"JWT_MAX_LIFETIME", "366d"},
		{"JWT_SECRET_CLOUD", "short"}, {"JWT_SECRET_CLOUD_PREVIOUS", "short"}, {"ADMIN_TOKEN", "short"},
		{"OPENROUTER_PROVISIONING_API_KEY", ""}, {"KEY_ENCRYPTION_KEY", ""}, {"KEY_ENCRYPTION_KEY", "c2hvcnQ="}, {"KEY_ENCRYPTION_KEY", "!"},
		{"KEY_ENCRYPTION_KEY_PREVIOUS", "c2hvcnQ="}, {"OPENROUTER_MANAGEMENT_KEY", "sk-or-v1-another-key-of-nobody"},
		{"ROTATION_OVERLAP", "-1s"}, {"ROTATION_OVERLAP", "1m 5s"}, {"KEY_TTL", "9s"}, {"KEY_TTL", "-1h"},
		{"OPENROUTER_WORKSPACE_ID", "default"}, {"OPENROUTER_WORKSPACE_ID", "0fa1b2c3d4e54f608a9b0c1d2e3f4a5b"},
		{"OPENROUTER_WORKSPACE_ID", "0fa1b2c3-d4e5-4f60-8a9b-0c1d2e3f4a5g"}, {"OPENROUTER_WORKSPACE_ID", "0fa1b2c3-d4e5-4f60-8a9b-0c1d2e3f4a5b-"},
		{"OPENROUTER_GUARDRAIL_ID", "../credits"}, {"OPENROUTER_GUARDRAIL_ID", "gé"}, {"OPENROUTER_GUARDRAIL_ID", strings.Repeat("x", 65)},
		{"KEY_NAME_PREFIX", "Latchkey"}, {"KEY_NAME_PREFIX", "latch:key"}, {"KEY_NAME_PREFIX", "latch key"}, {"KEY_NAME_PREFIX", strings.Repeat("x", 33)},
		{"OPENROUTER_TIMEOUT", "999us"}, {"OPENROUTER_TIMEOUT", "5m1ms"}, {"OPENROUTER_TIMEOUT", "600h"},
		{"RENEW_AFTER", "87600h1ns"}, {"METER_INTERVAL", "87601h"}, {"SETTLE_AFTER", "2562047h"}, {"ROTATION_OVERLAP", "87601h"}, {"KEY_TTL", "87601h"},
	} {
		_, err := parse(map[string]string{c.name: c.value})
		if err == nil || !strings.HasPrefix(err.Error(), c.name+" ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%q: %v", c.name, c.value, err)
		}
	}
}

func TestAnEmptyListIsNotSet(t *testing.T) {
	s, err := parse(map[string]string{"JWT_ISSUER": "", "JWT_AUDIENCE": "", "JWT_AUTHORIZED_PARTIES": "", "ALLOWED_ORIGINS": ""})
	if all := slices.Concat(s.Tokens.Issuers, s.Tokens.Audiences, s.Tokens.Parties, s.AllowedOrigins); err != nil || len(all) > 0 {
		t.Errorf("%q, %v", all, err)
	}
}

// One of three ways to verify tokens is enough, and there has to be one.
func TestTokensNeedASecretOrAPublicKeyOrAKeySet(t *testing.T) {
	for name, value := range map[string]string{"JWT_PUBLIC_KEY": publicKeys, "JWT_JWKS_URL": "http://localhost:8789/keys"} {
		s, err := parse(map[string]string{"JWT_SECRET_CLOUD": "", name: value})
		if err != nil || len(s.Tokens.Secrets) != 0 {
			t.Errorf("%s alone: %v", name, err)
		}
	}
	for name, value := range map[string]string{"JWT_SECRET_CLOUD_PREVIOUS": secrets["JWT_SECRET_CLOUD"], "JWT_PUBLIC_KEY": " ", "JWT_JWKS_URL": "\t"} {
		_, err := parse(map[string]string{"JWT_SECRET_CLOUD": "", name: value})
		if want := "JWT_SECRET_CLOUD, JWT_PUBLIC_KEY or JWT_JWKS_URL is missing"; err == nil || err.Error() != want {
			t.Errorf("none of them, but %s: %v, want %s", name, err, want)
		}
	}
}

func TestTheProvisioningKeyGoesByTwoNames(t *testing.T) {
	const key, other = "sk-or-v1-a-key-of-nobody", "sk-or-v1-another-key-of-nobody"
	for _, c := range []struct{ provisioning, management, named string }{
		{key, "", ""}, {"", key, ""}, {key, key, ""}, {key + "\n", " ", ""}, {key, key + " ", ""},
		{" ", "\n", "OPENROUTER_PROVISIONING_API_KEY or OPENROUTER_MANAGEMENT_KEY "},
		{"", "", "OPENROUTER_PROVISIONING_API_KEY or OPENROUTER_MANAGEMENT_KEY "},
		{key, other, "OPENROUTER_MANAGEMENT_KEY "},
	} {
		s, err := parse(map[string]string{"OPENROUTER_PROVISIONING_API_KEY": c.provisioning, "OPENROUTER_MANAGEMENT_KEY": c.management})
		switch {
		case c.named == "" && (err != nil || s.ProvisioningKey.Reveal() != key):
			t.Errorf("%+v: %v", c, err)
		case c.named != "" && (err == nil || !strings.HasPrefix(err.Error(), c.named) || strings.Contains(err.Error(), key) || strings.Contains(err.Error(), other)):
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// section returns the variables of a section of wrangler.toml.
func section(t *testing.T, header string) map[string]string {
	t.Helper()
	config, err := os.ReadFile(filepath.Join("..", "..", "wrangler.toml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(config), "\n"+header+"\n")
	rest, _, _ = strings.Cut(rest, "\n[")
	vars := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^([A-Z_]+) = "(.*?)"`).FindAllStringSubmatch(rest, -1) {
		vars[found[1]] = found[2]
	}
	return vars
}

// docs/settings.md has every variable with its default, and every secret.
func TestEverySettingIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // by the names in the first cell
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) > 3 {
			for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				if _, first := rows[name[1]]; !first {
					rows[name[1]] = cells[2]
				}
			}
		}
	}
	for name, standard := range section(t, "[vars]") {
		wanted := "`" + standard + "`"
		if standard == "" {
			wanted = "empty"
		}
		if row, ok := rows[name]; !ok || !strings.Contains(row, wanted) {
			t.Errorf("%s is not in docs/settings.md with its default, %s", name, wanted)
		}
	}
	for _, name := range Secrets {
		if _, ok := rows[name]; !ok {
			t.Errorf("%s is not in docs/settings.md", name)
		}
	}
}

func TestWranglerHasTheDefaults(t *testing.T) {
	vars := section(t, "[vars]")
	standard, _ := parse(nil)
	got, err := parse(vars)
	if standard.Sealer, got.Sealer = nil, nil; err != nil || !reflect.DeepEqual(got, standard) {
		t.Errorf("%+v, %v; the defaults are %+v", got, err, standard)
	}
	read := map[string]bool{}
	_, _ = Parse(func(name string) string { read[name] = true; return "" }, func(string) bool { return true })
	for _, secret := range Secrets {
		if !read[secret] {
			t.Errorf("%s is not read", secret)
		}
		delete(read, secret)
	}
	if got, want := slices.Sorted(maps.Keys(vars)), slices.Sorted(maps.Keys(read)); !slices.Equal(got, want) {
		t.Errorf("[vars] has %q, and what is read is %q", got, want)
	}
}

// wrangler inherits no variable: one that is left out would have its default.
func TestProductionSetsEveryVariable(t *testing.T) {
	vars := section(t, "[env.production.vars]")
	if got, want := slices.Sorted(maps.Keys(vars)), slices.Sorted(maps.Keys(section(t, "[vars]"))); !slices.Equal(got, want) {
		t.Errorf("production has %q, and [vars] %q", got, want)
	}
	if _, err := parse(vars); err != nil {
		t.Error(err)
	}
}

// What works in staging has to work in production.
func TestStagingHasTheSettingsOfProductionButItsPrefix(t *testing.T) {
	production, staging := section(t, "[env.production.vars]"), section(t, "[env.staging.vars]")
	if production["KEY_NAME_PREFIX"] == staging["KEY_NAME_PREFIX"] {
		t.Error("each would take the other's keys for orphans")
	}
	delete(production, "KEY_NAME_PREFIX")
	delete(staging, "KEY_NAME_PREFIX")
	if len(staging) == 0 || !maps.Equal(production, staging) {
		t.Errorf("production has %q, and staging %q", production, staging)
	}
}

func TestAllThatIsWrongIsNamedAtOnceWithoutTheSecrets(t *testing.T) {
	env := map[string]string{"JWT_SECRET_CLOUD": "hunter2", "KEY_LIMIT": "x"}
	_, err := Parse(func(name string) string { return env[name] }, func(name string) bool { return name == "DB" })
	for _, want := range []string{"JWT_SECRET_CLOUD", "KEY_LIMIT", "OPENROUTER_PROVISIONING_API_KEY", "KEY_ENCRYPTION_KEY", "USERS"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret is shown: %v", err)
	}
}

func TestNoVerbShowsASecretOfTheSettings(t *testing.T) {
	s, err := parse(map[string]string{"ADMIN_TOKEN": "a-token-of-nobody-that-tests-alone-know"})
	if err != nil {
		t.Fatal(err)
	}
	verifier := auth.NewVerifier(s.Tokens, time.Now)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, shown := range []any{s, &s, s.Tokens, verifier, *verifier, *s.Sealer} {
			out := fmt.Sprintf(format, shown)
			for _, secret := range []string{"of-nobody", fmt.Sprintf("%x", "of-nobody"), strings.Trim(fmt.Sprint([]byte("of-nobody")), "[]")} {
				if strings.Contains(out, secret) {
					t.Errorf("%s of a %T: %s", format, shown, out)
				}
			}
		}
	}
}

// What is set where everybody can read it, the repository's examples, is no secret.
func TestAnExampleIsRefusedUnlessOpenRouterIsAStandIn(t *testing.T) {
	examples := map[string]string{
		"JWT_SECRET_CLOUD": "not-a-real-secret-not-a-real-secret", "JWT_SECRET_CLOUD_PREVIOUS": "not-a-real-secret-that-was-there-before", "ADMIN_TOKEN": "not-a-real-token-not-a-real-token-",
		"KEY_ENCRYPTION_KEY":              base64.StdEncoding.EncodeToString([]byte("not-a-real-key-of-32-bytes-at-al")),
		"KEY_ENCRYPTION_KEY_PREVIOUS":     base64.StdEncoding.EncodeToString([]byte("32-bytes-of-a-key-not-a-real-one")),
		"OPENROUTER_PROVISIONING_API_KEY": "sk-or-v1-stand-in-which-OpenRouter-does-not-know", "OPENROUTER_MANAGEMENT_KEY": "sk-or-v1-not-a-real-key",
	}
	for _, name := range Secrets {
		change := map[string]string{name: examples[name]}
		if name == "OPENROUTER_MANAGEMENT_KEY" {
			change["OPENROUTER_PROVISIONING_API_KEY"] = ""
		}
		_, err := parse(change)
		if want := name + " is an example, which everybody knows: set one of your own"; err == nil || err.Error() != want {
			t.Errorf("%v; want %s", err, want)
		}
		for _, local := range []string{"http://127.0.0.1:8788/api/v1", "http://localhost:8788/api/v1", "http://[::1]:8788/api/v1"} {
			change["OPENROUTER_BASE_URL"] = local
			if _, err := parse(change); err != nil {
				t.Errorf("%s at %s: %v", name, local, err)
			}
		}
		change["OPENROUTER_BASE_URL"] = "https://127.0.0.1.example.org/api/v1"
		if _, err := parse(change); err == nil {
			t.Errorf("%s is taken elsewhere", name)
		}
	}
}

// Whatever may be pasted from the repository's pages is refused as it stands.
func TestNoSecretOfThePagesWouldBeTaken(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	decisions, decisionsErr := filepath.Glob("../../docs/decisions/*.md")
	if errors.Join(err, decisionsErr) != nil || len(pages) == 0 || len(decisions) == 0 {
		t.Fatal(pages, decisions, err, decisionsErr)
	}
	pages = append(pages, decisions...)
	examples := 0
	set := regexp.MustCompile(`\b(` + strings.Join(Secrets, "|") + `)["']?[ \t]*[=:][ \t]*["'\x60]?([^\s"'\x60|)]+)`)
	for _, page := range append(pages, "../../README.md", "../../.dev.vars.example", "../../wrangler.toml") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range set.FindAllStringSubmatch(string(text), -1) {
			name, value := found[1], found[2]
			if strings.HasPrefix(value, "$") { // a variable of the shell
				continue
			}
			examples++
			change := map[string]string{"OPENROUTER_PROVISIONING_API_KEY": ""}
			if name != "OPENROUTER_MANAGEMENT_KEY" {
				change = map[string]string{}
			}
			change[name] = value
			if _, err := parse(change); err == nil {
				t.Errorf("%s: %s=%s would be taken: write not-a-real into it", page, name, value)
			}
		}
	}
	if examples == 0 {
		t.Error("no example is found")
	}
}

// The variables of wrangler.toml are all there are.
func TestEveryDurationAndAmountHasBounds(t *testing.T) {
	duration, number := regexp.MustCompile(`^[0-9.]+(ms|s|m|h)$`), regexp.MustCompile(`^[0-9.]+$`)
	// Each with what is just beyond it; otherwise it is from 0 to 10 years.
	least := map[string]string{
		"OPENROUTER_TIMEOUT": "1ms 999us", "JWT_MAX_LIFETIME": "1s 999ms", "TOTAL_LIMIT": "0.100000001 0.1", "KEY_LIMIT": "0.500000001 0.5",
	}
	most := map[string]string{
		"OPENROUTER_TIMEOUT": "5m 5m1ms", "RATE_LIMIT": "100000 100001", "TOTAL_LIMIT": "4000000 4000001", "KEY_LIMIT": "10000 10000.000000001",
		"ROTATE_BELOW": "0.999999999 1", "RENEW_AT": "9.999999999 10",
	}
	checked := 0
	for name, standard := range section(t, "[vars]") {
		isDuration, isNumber := duration.MatchString(standard), number.MatchString(standard)
		if !isDuration && !isNumber {
			continue
		}
		checked++
		low, high := least[name], most[name]
		if low == "" {
			low = "0 -1"
		}
		if high == "" {
			high = "87600h 87600h1ns"
		}
		for _, bound := range []string{low, high} {
			within, beyond, _ := strings.Cut(bound, " ")
			if isDuration {
				within, beyond = unit(within), unit(beyond)
			}
			if _, err := parse(map[string]string{name: within}); err != nil {
				t.Errorf("%s=%s: %v", name, within, err)
			}
			if _, err := parse(map[string]string{name: beyond}); err == nil || !strings.Contains(err.Error(), name) { // it may be measured by another
				t.Errorf("%s=%s: %v", name, beyond, err)
			}
		}
		for _, wild := range []string{"NaN", "Inf", "-Inf", "1e308", "1e400", "-1", "-1s", "2562048h", "9223372036854775807ns1ns", "99999999999999999999h", "0x10", "1_000_000_000", "١", "1,5", "1 h", "s", "."} {
			if _, err := parse(map[string]string{name: wild}); err == nil || !strings.HasPrefix(err.Error(), name+" ") {
				t.Errorf("%s=%s: %v", name, wild, err)
			}
		}
	}
	if checked < 12 {
		t.Errorf("%d durations and amounts are checked", checked)
	}
}

// unit adds the unit of a duration, where it lacks one.
func unit(duration string) string {
	if strings.Trim(duration, "-0123456789") == "" {
		return duration + "s"
	}
	return duration
}
