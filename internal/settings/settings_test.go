package settings

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/quota"
)

var secrets = map[string]string{
	"JWT_SECRET_CLOUD":                "not-a-real-secret-not-a-real-secret",
	"OPENROUTER_PROVISIONING_API_KEY": "sk-or-v1-not-a-real-key",
	"KEY_ENCRYPTION_KEY":              base64.StdEncoding.EncodeToString(make([]byte, 32)),
}

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
	if s.Policy != want || s.MeterInterval != 0 || s.SettleAfter != 0 || s.OpenRouterTimeout != 10*time.Second ||
		s.OpenRouterURL != "https://openrouter.ai/api/v1" || len(s.AllowedOrigins) != 0 || len(s.JWTSecrets) != 1 || s.Sealer == nil {
		t.Errorf("defaults: %+v", s)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	s, err := parse(map[string]string{
		"TOTAL_LIMIT": "20", "KEY_LIMIT": "2", "ROTATE_BELOW": "0.25", "RENEW_AT": "0", "RENEW_AFTER": "720h", "HARD_CAP": "true",
		"METER_INTERVAL": "5s", "SETTLE_AFTER": "90s", "OPENROUTER_BASE_URL": "http://127.0.0.1:8788/api/v1/", "OPENROUTER_TIMEOUT": "250ms",
		"ALLOWED_ORIGINS": "https://a.example, http://localhost:5173,", "JWT_ISSUER": "app", "JWT_AUDIENCE": "keys",
		"JWT_SECRET_CLOUD_PREVIOUS": "an-older-secret-an-older-secret-an-o", "KEY_ENCRYPTION_KEY_PREVIOUS": secrets["KEY_ENCRYPTION_KEY"],
		"ADMIN_TOKEN": "not-a-real-token-not-a-real-token-",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := quota.Policy{TotalLimit: 20 * account.Credit, KeyLimit: 2 * account.Credit, RotateBelow: account.Credit / 4, RenewAfter: 720 * time.Hour, HardCap: true}
	if s.Policy != want || s.MeterInterval != 5*time.Second || s.SettleAfter != 90*time.Second || s.OpenRouterTimeout != 250*time.Millisecond ||
		s.OpenRouterURL != "http://127.0.0.1:8788/api/v1" || s.JWTIssuer != "app" || s.JWTAudience != "keys" || len(s.JWTSecrets) != 2 ||
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
		{"JWT_SECRET_CLOUD", ""}, {"JWT_SECRET_CLOUD", "short"}, {"JWT_SECRET_CLOUD_PREVIOUS", "short"}, {"ADMIN_TOKEN", "short"},
		{"OPENROUTER_PROVISIONING_API_KEY", ""}, {"KEY_ENCRYPTION_KEY", ""}, {"KEY_ENCRYPTION_KEY", "c2hvcnQ="}, {"KEY_ENCRYPTION_KEY", "!"},
		{"KEY_ENCRYPTION_KEY_PREVIOUS", "c2hvcnQ="},
	} {
		_, err := parse(map[string]string{c.name: c.value})
		if err == nil || !strings.HasPrefix(err.Error(), c.name+" ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%q: %v", c.name, c.value, err)
		}
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
