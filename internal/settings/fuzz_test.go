package settings

import (
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/auth"
	"latchkey/internal/openrouter"
)

// FuzzParse: whatever one or two settings say, they are refused by name and without
// a secret, or what is run on is within its bounds.
func FuzzParse(f *testing.F) {
	var names []string
	_, _ = Parse(func(name string) string { names = append(names, name); return "" }, func(string) bool { return true })
	slices.Sort(names)
	names = slices.Compact(names)
	for i, name := range names {
		f.Add(byte(i), secrets[name], byte(i+1), "")
		f.Add(byte(i), "1h", byte(i+1), "true")
		f.Add(byte(i), "0.25", byte(i+1), "1e308")
		f.Add(byte(i), "https://a.example", byte(i+1), "\xff\x00")
		f.Add(byte(i), "HTTPS://A.example:443, http://[::1]:80, tauri://x", byte(i+1), "https://é.example:0")
	}
	f.Fuzz(func(t *testing.T, first byte, value string, second byte, other string) {
		one, two := names[int(first)%len(names)], names[int(second)%len(names)]
		s, err := parse(map[string]string{one: value, two: other})
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !slices.ContainsFunc(append(names, bindings...), func(name string) bool { return strings.HasPrefix(line, name) }) {
					t.Errorf("%q and %q: no setting is named: %s", value, other, line)
				}
			}
			for name, value := range map[string]string{one: value, two: other} {
				if slices.Contains(Secrets, name) && len(value) > 15 && strings.Contains(err.Error(), value) {
					t.Errorf("%s is shown: %v", name, err)
				}
			}
			return
		}
		p := s.Policy
		for _, c := range []struct {
			what      string
			least, is account.Credits
			most      account.Credits
		}{
			{"total", 1, p.TotalLimit, account.MaxCredits}, {"key", 1, p.KeyLimit, openrouter.MaxReading},
			{"rotate", 0, p.RotateBelow, p.KeyLimit - 1}, {"renew", 0, p.RenewAt, p.TotalLimit - 1},
		} {
			if c.is < c.least || c.is > c.most {
				t.Errorf("%s is %s", c.what, c.is)
			}
		}
		for _, d := range []time.Duration{p.RenewAfter, s.MeterInterval, s.SettleAfter, s.RotationOverlap, s.KeyTTL, s.OpenRouterTimeout, s.Tokens.MaxLifetime} {
			if d < 0 || d > maxDuration {
				t.Errorf("a duration is %v", d)
			}
		}
		if s.OpenRouterTimeout < time.Millisecond || s.OpenRouterTimeout > maxTimeout || s.KeyTTL != 0 && s.KeyTTL < minKeyTTL || s.RateLimit < 0 || s.RateLimit > maxRateLimit {
			t.Errorf("%+v", s)
		}
		if s.Sealer == nil || s.ProvisioningKey.Reveal() == "" || len(s.Tokens.Secrets)+len(s.Tokens.PublicKeys) == 0 && s.Tokens.KeySetURL == "" {
			t.Errorf("something is missing: %+v", s)
		}
		for _, secret := range append(s.Tokens.Secrets, s.AdminToken) {
			if text := secret.Reveal(); text != "" && len(text) < auth.MinSecretBytes {
				t.Errorf("a secret has %d bytes", len(text))
			}
		}
		for _, origin := range s.AllowedOrigins {
			if asSent(origin) != origin || strings.ContainsAny(origin, "* ,") {
				t.Errorf("the origin %q is none that a browser sends", origin)
			}
		}
		if strings.ContainsAny(s.KeyNamePrefix, ":/ ") || s.KeyNamePrefix == "" || !strings.HasPrefix(strings.ToLower(s.OpenRouterURL), "http") {
			t.Errorf("%+v", s)
		}
	})
}

// FuzzMisspelt: whatever a variable is called, a warning is one line and names a setting.
func FuzzMisspelt(f *testing.F) {
	for _, name := range []string{"TOTAL_LIMT", "key_limit", "", "\xff\xfe", "DB", strings.Repeat("JWT_", 100), "RENEW_AFTER\n"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, warning := range Misspelt([]string{name}) {
			rest, told := strings.CutPrefix(warning, name+" is no setting, and is ignored: is ")
			if meant := strings.TrimSuffix(rest, " meant?"); !told || Misspelt([]string{meant}) != nil || meant == name {
				t.Errorf("%q: %q", name, warning)
			}
		}
	})
}
