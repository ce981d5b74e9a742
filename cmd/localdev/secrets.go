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
	"regexp"
	"strings"

	"latchkey/internal/devvars"
	"latchkey/internal/plainfile"
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
	namePrefix      = "KEY_NAME_PREFIX"
)

// standinPrefix begins a management key that only the stand-in knows. Any
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

// prefixWarning is what to say where keys are real and named as those of any other
// deployment are, whose keys this one would take for orphans; "" elsewhere.
func prefixWarning(root string, s secrets) (string, error) {
	if strings.HasPrefix(s.provisioningKey(), standinPrefix) {
		return "", nil
	}
	standard, err := localVar(root, namePrefix)
	if err != nil || cmp.Or(s[namePrefix], standard, "latchkey") != "latchkey" {
		return "", err
	}
	return namePrefix + " is latchkey, as in any clone: with this management key, deployments of one prefix delete each other's keys. Set one of your own in " + devVars + ".", nil
}

// temporary ends the name of a file of secrets that is not written to its end. Git
// ignores it, too.
const temporary = ".tmp"

// maxSecrets bounds the file of secrets, in bytes.
const maxSecrets = 1 << 20

// readOrMakeSecrets reads the file, makes up the required secrets that it lacks
// and writes them into it. The file is for nobody else to read: one that was copied
// from the example may be, until here.
func readOrMakeSecrets(path string, out io.Writer) (secrets, error) {
	text, err := plainfile.Read(path, maxSecrets, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		if err := makePrivate(path, out); err != nil {
			return nil, err
		}
	}
	filled, set, made := fill(string(text))
	if len(made) == 0 {
		return set, nil
	}
	if err := writeSecrets(path, filled); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "Made up %s in %s.\n", strings.Join(made, ", "), devVars)
	return set, nil
}

// writeSecrets writes the file, which is as it was or whole: there may be secrets in it
// that stand nowhere else.
func writeSecrets(path, text string) error {
	// Dying from here on leaves a temporary file, or none, and the file as it was. The
	// next run removes what is left.
	if err := os.Remove(path + temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path+temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(path+temporary, path) // dying after it: the file is whole
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+temporary))
	}
	return nil
}

// makePrivate lets nobody but its owner read a file, and says so where somebody
// could.
func makePrivate(path string, out io.Writer) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() == 0o600 {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(out, "Made %s yours alone: its mode was %04o, and is 0600 now.\n", devVars, info.Mode().Perm())
	return nil
}

// fill returns the text with all required secrets in it, what it sets, and the
// names of those that were made up. An empty value counts as none, and is
// filled in where it stands.
func fill(text string) (filled string, set secrets, made []string) {
	set = devvars.Parse(text)
	filled = text
	if filled != "" && !strings.HasSuffix(filled, "\n") {
		filled += "\n"
	}
	for _, r := range required {
		if set[r.name] != "" || r.name == provisioningKey && set.provisioningKey() != "" {
			continue
		}
		set[r.name] = r.make()
		made = append(made, r.name)
		line := r.name + "=" + set[r.name] + "\n"
		if empty := regexp.MustCompile(`(?m)^` + r.name + `=\n`); empty.MatchString(filled) {
			filled = empty.ReplaceAllLiteralString(filled, line)
		} else {
			filled += line // the last assignment counts
		}
	}
	return filled, set, made
}
