package settings

import (
	"slices"
	"testing"
)

func TestAMisspeltNameIsTold(t *testing.T) {
	for _, c := range []struct{ name, meant string }{
		{"TOTAL_LIMITS", "TOTAL_LIMIT"}, {"TOTAL_LIMT", "TOTAL_LIMIT"}, {"TOTLA_LIMIT", "TOTAL_LIMIT"}, {"TOTAL-LIMIT", "TOTAL_LIMIT"},
		{"total_limit", "TOTAL_LIMIT"}, {"TotalLimit", "TOTAL_LIMIT"}, {"KEY_LIMITS", "KEY_LIMIT"}, {"KEY_TLL", "KEY_TTL"},
		{"RENEW_AFTR", "RENEW_AFTER"}, {"ALLOWED_ORIGIN", "ALLOWED_ORIGINS"}, {"ALOWED_ORIGNS", "ALLOWED_ORIGINS"}, {"JWT_JWKS_URI", "JWT_JWKS_URL"},
		{"HARDCAP", "HARD_CAP"}, {"ADMIN_TOKENS", "ADMIN_TOKEN"}, {"JWT_SECRET_CLOUD_PREVIOS", "JWT_SECRET_CLOUD_PREVIOUS"},
		{"OPENROUTER_MANAGMENT_KEY", "OPENROUTER_MANAGEMENT_KEY"}, {"METRIC", "METRICS"}, {"USER", "USERS"},
		// What others set is no mistake.
		{"KEY", ""}, {"D", ""}, {"DBS", ""}, {"ENVIRONMENT", ""}, {"LOG_LEVEL", ""}, {"CF_VERSION_METADATA", ""}, {"ASSETS", ""}, {"JWT_SECRET", ""}, {"", ""}, {"é", ""},
	} {
		got := Misspelt([]string{c.name})
		want := []string{c.name + " is no setting, and is ignored: is " + c.meant + " meant?"}
		if c.meant == "" {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
}

func TestNoNameOfTheSettingsIsMisspelt(t *testing.T) {
	known := append([]string{"USERS", "DB", "METRICS"}, Secrets...)
	for name := range section(t, "[vars]") {
		known = append(known, name)
	}
	if got := Misspelt(known); got != nil {
		t.Errorf("%q", got)
	}
}
