package settings

import (
	"strings"
	"testing"
)

func TestOriginsAreThoseThatBrowsersSend(t *testing.T) {
	for text, want := range map[string]string{
		"https://app.example.org":                                     "https://app.example.org",
		"HTTPS://App.Example.ORG":                                     "https://app.example.org",
		"https://app.example.org:443":                                 "https://app.example.org",
		"http://app.example.org:80":                                   "http://app.example.org",
		"http://app.example.org:443":                                  "http://app.example.org:443",
		"http://localhost:5173":                                       "http://localhost:5173",
		"http://[::1]:80":                                             "http://[::1]",
		"http://[::1]:5173":                                           "http://[::1]:5173",
		"tauri://localhost":                                           "tauri://localhost",
		"chrome-extension://abcdefghijklmno":                          "chrome-extension://abcdefghijklmno",
		"https://xn--mnchen-3ya.example":                              "https://xn--mnchen-3ya.example",
		"https://a.example, https://A.example:443, https://b.example": "https://a.example https://b.example",
	} {
		s, err := parse(map[string]string{"ALLOWED_ORIGINS": text})
		if err != nil || strings.Join(s.AllowedOrigins, " ") != want {
			t.Errorf("%s: %q, %v", text, s.AllowedOrigins, err)
		}
	}
	for _, text := range []string{
		"*", "null", "https://*.example.org", "http://localhost:*", "https://a.example/", "https://a.example/path", "a.example", "a.example:443", "//a.example",
		"https://", "https://:443", "https://a.example:", "https://a.example:0", "https://a.example:0443", "https://a.example:65536", "https://u@a.example", "https://a.example?", "https://a.example#",
		"https://münchen.example", "https://a.example https://b.example", "https://a.example;https://b.example",
	} {
		s, err := parse(map[string]string{"ALLOWED_ORIGINS": text})
		if err == nil || !strings.HasPrefix(err.Error(), "ALLOWED_ORIGINS must be ") {
			t.Errorf("%s: %q, %v", text, s.AllowedOrigins, err)
		}
	}
}
