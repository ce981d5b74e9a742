package main

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/internal/auth"
	"latchkey/internal/devvars"
	"latchkey/internal/oplog"
	"latchkey/internal/seal"
	"latchkey/internal/settings"
)

func TestSecretsAreMadeUpOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), devVars)
	var said bytes.Buffer
	first, err := readOrMakeSecrets(path, &said)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the file: %v", info.Mode())
	}
	if !first.wantStandin() {
		t.Error("the key that was made up does not want the stand-in")
	}
	for _, name := range []string{jwtSecret, encryptionKey, adminToken} {
		if strings.Contains(said.String(), first[name]) {
			t.Errorf("%s was printed", name)
		}
	}
	local := map[string]string{baseURL: "http://127.0.0.1:8788/api/v1"} // as run sets it
	getenv := func(name string) string { return cmp.Or(local[name], first[name]) }
	if _, err := settings.Parse(getenv, func(string) bool { return true }); err != nil {
		t.Errorf("the Worker would refuse them: %v", err)
	}

	before, _ := os.ReadFile(path)
	second, err := readOrMakeSecrets(path, &said)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(path)
	if !bytes.Equal(before, after) || second[jwtSecret] != first[jwtSecret] {
		t.Error("the second run changed them")
	}
}

// A copy of the example is for everybody to read, until the first run.
func TestAFileThatOthersCanReadIsMadePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), devVars)
	for mode, said := range map[os.FileMode]bool{0o644: true, 0o664: true, 0o400: true, 0o600: false} {
		if err := errors.Join(os.WriteFile(path, []byte("JWT_SECRET_CLOUD=\n"), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		set, err := readOrMakeSecrets(path, &out)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "0600 now") != said {
			t.Errorf("%04o: said %q", mode, &out)
		}
		// What it prints works: the command line reads the same.
		if read, err := devvars.Read(path); err != nil || !maps.Equal(read, set) {
			t.Errorf("%04o: read %q, %v; want %q", mode, read, err, set)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Written in place, the file is empty for a moment, and its other name shows what is
// written: whoever dies then has lost their secrets.
func TestSecretsThatAreThereAreNotWrittenOver(t *testing.T) {
	const mine = "OPENROUTER_PROVISIONING_API_KEY=sk-or-v1-mine\n"
	for name, leftover := range map[string]func(path string) error{
		"at first":                         func(string) error { return nil },
		"after a run that died":            func(path string) error { return os.WriteFile(path, []byte("JWT_SECR"), 0o600) },
		"with a link in the place of that": func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "before"), path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, before := filepath.Join(dir, devVars), filepath.Join(dir, "before")
			if err := errors.Join(os.WriteFile(path, []byte(mine), 0o600), os.Link(path, before), leftover(path+temporary)); err != nil {
				t.Fatal(err)
			}
			set, err := readOrMakeSecrets(path, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(before); err != nil || string(text) != mine {
				t.Errorf("it was written in place: %q, %v", text, err)
			}
			if read, err := devvars.Read(path); err != nil || !maps.Equal(read, set) || read[provisioningKey] != "sk-or-v1-mine" {
				t.Errorf("read %q, %v; want %q", read, err, set)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			if _, err := os.Lstat(path + temporary); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the temporary file: %v", err)
			}
		})
	}
}

func TestALinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, devVars), filepath.Join(dir, "elsewhere")
	if err := errors.Join(os.WriteFile(elsewhere, []byte("A=b\n"), 0o600), os.Symlink(elsewhere, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := readOrMakeSecrets(path, io.Discard); err == nil || !strings.Contains(err.Error(), "a link") {
		t.Errorf("%v", err)
	}
}

func TestFillKeepsWhatIsThere(t *testing.T) {
	const text = `# mine
export JWT_SECRET_CLOUD="0123456789 # 0123456789 0123456789"
KEY_ENCRYPTION_KEY=
ADMIN_TOKEN=not-a-real-token-not-a-real-token-
OPENROUTER_PROVISIONING_API_KEY = sk-or-v1-abc # real
`
	filled, set, made := fill(text)
	if set[jwtSecret] != "0123456789 # 0123456789 0123456789" || set[provisioningKey] != "sk-or-v1-abc" {
		t.Errorf("read %q", set)
	}
	if len(made) != 1 || made[0] != encryptionKey {
		t.Fatalf("made up %q", made)
	}
	if want := strings.Replace(text, "KEY_ENCRYPTION_KEY=", "KEY_ENCRYPTION_KEY="+set[encryptionKey], 1); filled != want {
		t.Errorf("wrote %q", filled)
	}
	if key, err := base64.StdEncoding.DecodeString(set[encryptionKey]); err != nil || len(key) != seal.KeySize {
		t.Errorf("the encryption key is %d bytes, %v", len(key), err)
	}
	if set.wantStandin() {
		t.Error("a real key wants the stand-in")
	}
}

func TestBaseURLOfOnesOwnMeansNoStandin(t *testing.T) {
	if _, set, _ := fill("OPENROUTER_BASE_URL=http://127.0.0.1:9/api/v1"); set.wantStandin() {
		t.Error("the stand-in would be asked by nobody")
	}
}

func TestAManagementKeyIsAProvisioningKey(t *testing.T) {
	_, set, made := fill("OPENROUTER_MANAGEMENT_KEY=sk-or-v1-abc")
	if slices.Contains(made, provisioningKey) || set.wantStandin() || set.provisioningKey() != "sk-or-v1-abc" {
		t.Errorf("made up %q beside it", made)
	}
	if _, set, _ := fill("OPENROUTER_MANAGEMENT_KEY=" + standinPrefix + "too"); !set.wantStandin() {
		t.Error("one of the stand-in's does not want the stand-in")
	}
}

func TestDemoTokenIsAccepted(t *testing.T) {
	secret := random()
	token, err := demoToken(secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	who, err := auth.New([]seal.Secret{seal.NewSecret(secret)}, "", "", time.Now).Verify("Bearer " + token)
	if err != nil || who.ID != "demo" {
		t.Errorf("verified as %+v, %v", who, err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	taken, err := listen("PORT", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	_, err = listen("PORT", port)
	if err == nil || !strings.Contains(err.Error(), "port "+strconv.Itoa(port)+" is taken") {
		t.Errorf("listening on a taken port: %v", err)
	}
}

func TestOnePortForBothIsToldAsThat(t *testing.T) {
	t.Setenv("PORT", "18787")
	for _, c := range []struct {
		standin     string
		wantStandin bool
		said        string
	}{
		{"18787", true, "PORT and STANDIN_PORT are both 18787: give two"},
		{"18787", false, "<nil>"},
		{"18788", true, "<nil>"},
	} {
		t.Setenv("STANDIN_PORT", c.standin)
		if _, _, err := ports(c.wantStandin); fmt.Sprint(err) != c.said {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A clone that makes real keys under the default prefix takes those of other deployments for orphans.
func TestARealKeyWithTheDefaultPrefixIsWarnedOf(t *testing.T) {
	const ownPrefix = "[vars]\nKEY_NAME_PREFIX = \"latchkey-ada\"\n"
	for _, c := range []struct {
		config string
		vars   secrets
		warned bool
	}{
		{"[vars]\nKEY_NAME_PREFIX = \"latchkey\"\n", secrets{managementKey: "sk-or-v1-abc"}, true},
		{"[vars]\n", secrets{provisioningKey: "sk-or-v1-abc"}, true},
		{"[vars]\n", secrets{provisioningKey: "sk-or-v1-abc", namePrefix: "latchkey-ada"}, false},
		{ownPrefix, secrets{provisioningKey: "sk-or-v1-abc"}, false},
		{ownPrefix, secrets{provisioningKey: "sk-or-v1-abc", namePrefix: "latchkey"}, true},
		{"[vars]\n", secrets{provisioningKey: standinPrefix + "mine"}, false},
		{"[vars]\n", secrets{provisioningKey: standinPrefix + "mine", baseURL: "http://127.0.0.1:9/api/v1"}, false},
	} {
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "wrangler.toml"), []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		if warning, err := prefixWarning(root, c.vars); err != nil || (warning != "") != c.warned {
			t.Errorf("%q, %q: %q, %v", c.config, c.vars, warning, err)
		}
	}
}

func TestConsoleHoldsBack(t *testing.T) {
	var out bytes.Buffer
	c := &console{out: &out}
	c.Write([]byte("noise\n{\"evt\":\"key\"}\n"))
	if out.Len() > 0 {
		t.Fatal("it came through at once")
	}
	c.open()
	c.Write([]byte("later\n"))
	if got, want := out.String(), "{\"evt\":\"key\"}\nlater\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestBadSettingsAreToldEachWithItsReason(t *testing.T) {
	lines := `noise
{"evt":"settings","outcome":"misspelt","err":"RENEW_AFTR is no setting, and is ignored: is RENEW_AFTER meant?"}
{"evt":"settings","outcome":"misconfigured","err":"KEY_LIMIT is bad\nDB is not bound"}
{"evt":"settings","outcome":"misconfigured","err":"KEY_LIMIT is bad\nDB is not bound"}
{"evt":"request","path":"/healthz","status":503}
`
	c := &console{out: io.Discard}
	status := http.StatusServiceUnavailable
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		if status != http.StatusOK { // the log is behind
			go c.Write([]byte(lines))
		}
	}))
	defer worker.Close()
	err := checkSettings(t.Context(), worker.URL, c)
	const want = `the settings are not whole. Mend them in .dev.vars, or in [vars] of wrangler.toml:
  KEY_LIMIT is bad
  DB is not bound
  RENEW_AFTR is no setting, and is ignored: is RENEW_AFTER meant?`
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	status = http.StatusOK
	if err := checkSettings(t.Context(), worker.URL, c); err != nil {
		t.Errorf("with good settings: %v", err)
	}
	if warned := c.told(oplog.Misspelt); len(warned) != 1 || !strings.HasPrefix(warned[0], "RENEW_AFTR ") {
		t.Errorf("warned of %q", warned)
	}
}

func TestPagesOfDevelopmentServersMayCallUnlessSomebodySaysWhose(t *testing.T) {
	s, err := settings.Parse(func(name string) string {
		return map[string]string{allowedOrigins: localOrigins()}[name]
	}, func(string) bool { return true })
	if strings.Contains(err.Error(), allowedOrigins) || !slices.Contains(s.AllowedOrigins, "http://localhost:5173") || len(s.AllowedOrigins) != 2*len(pagePorts) {
		t.Errorf("%q, %v", s.AllowedOrigins, err)
	}
	for _, c := range []struct {
		config string
		vars   secrets
		set    bool
	}{
		{"[vars]\nALLOWED_ORIGINS = \"\"\n\n[env.production.vars]\nALLOWED_ORIGINS = \"https://app.example.org\"\n", secrets{}, false},
		{"[vars]\nALLOWED_ORIGINS = \"https://app.example.org\"\n", secrets{}, true},
		{"[vars]\n", secrets{allowedOrigins: "https://app.example.org"}, true},
		{"[vars]\n", secrets{allowedOrigins: ""}, true},
	} {
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "wrangler.toml"), []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		if set, err := originsAreSet(root, c.vars); err != nil || set != c.set {
			t.Errorf("%q, %q: %v, %v", c.config, c.vars, set, err)
		}
	}
}
