package main

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// devVars is the file of local secrets, as wrangler has it. Git ignores it.
const devVars = ".dev.vars"

const (
	jwtSecret       = "JWT_SECRET_CLOUD"
	encryptionKey   = "KEY_ENCRYPTION_KEY"
	adminToken      = "ADMIN_TOKEN"
	provisioningKey = "OPENROUTER_PROVISIONING_API_KEY"
	managementKey   = "OPENROUTER_MANAGEMENT_KEY" // its other name
	baseURL         = "OPENROUTER_BASE_URL"
)

// standinPrefix begins a provisioning key that only the stand-in knows. Any
// other one is taken for a real one.
const standinPrefix = "sk-or-v1-stand-in-"

// required are the secrets that `make run` wants, and how each is made up
// locally. The Worker could do without ADMIN_TOKEN, and the admin API.
var required = []struct {
	name string
	make func() string
}{
	{jwtSecret, random},
	{encryptionKey, random},
	{adminToken, random},
	{provisioningKey, func() string { return standinPrefix + "which-OpenRouter-does-not-know" }},
}

// random returns 32 random bytes in base64.
func random() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.StdEncoding.EncodeToString(b[:])
}

// secrets are what .dev.vars sets, by name.
type secrets map[string]string

// wantStandin tells whether the stand-in plays OpenRouter: the key is one of
// the stand-in's, and nothing says that OpenRouter is elsewhere.
func (s secrets) wantStandin() bool {
	return strings.HasPrefix(s.provisioningKey(), standinPrefix) && s[baseURL] == ""
}

func (s secrets) provisioningKey() string { return cmp.Or(s[provisioningKey], s[managementKey]) }

// readOrMakeSecrets reads the file, makes up the required secrets that it lacks
// and writes them into it.
func readOrMakeSecrets(path string, out io.Writer) (secrets, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	filled, set, made := fill(string(text))
	if len(made) == 0 {
		return set, nil
	}
	if err := os.WriteFile(path, []byte(filled), 0o600); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "Made up %s in %s.\n", strings.Join(made, ", "), devVars)
	return set, nil
}

// fill returns the text with all required secrets in it, what it sets, and the
// names of those that were made up. An empty value counts as none, and is
// filled in where it stands.
func fill(text string) (filled string, set secrets, made []string) {
	var lines []string
	if text = strings.TrimRight(text, "\n"); text != "" {
		lines = strings.Split(text, "\n")
	}
	set = secrets{}
	at := map[string]int{}
	for i, line := range lines {
		if name, value, ok := assignment(line); ok {
			set[name], at[name] = value, i
		}
	}
	for _, r := range required {
		if set[r.name] != "" || r.name == provisioningKey && set.provisioningKey() != "" {
			continue
		}
		set[r.name] = r.make()
		made = append(made, r.name)
		line := r.name + "=" + set[r.name]
		if i, there := at[r.name]; there {
			lines[i] = line
		} else {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n") + "\n", set, made
}

// assignment reads a line as wrangler does: NAME=value, the value in quotes or
// up to a #. A value of several lines is none of ours.
func assignment(line string) (name, value string, ok bool) {
	line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
	name, value, ok = strings.Cut(line, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || name == "" || strings.HasPrefix(name, "#") {
		return "", "", false
	}
	if value != "" && strings.ContainsRune("\"'`", rune(value[0])) {
		if inner, _, closed := strings.Cut(value[1:], value[:1]); closed {
			return name, inner, true
		}
	}
	value, _, _ = strings.Cut(value, "#")
	return name, strings.TrimSpace(value), true
}
