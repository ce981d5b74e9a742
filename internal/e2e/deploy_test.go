//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"latchkey/internal/settings"
)

// wranglerStub notes how it is called, and answers as Cloudflare would through it:
// the database is there once it was created, or where the file `database` is.
const wranglerStub = `#!/usr/bin/env bash
echo "$*" >>calls
case "$*" in
'whoami --json') if [ -e whoami ]; then cat whoami; exit 1; fi ;;
'd1 list --json') [ -e database ] && echo '[{"name":"other","uuid":"0"},{"name":"'"$(cat database)"'","uuid":"11111111-2222-4333-8444-555555555555"}]' || echo '[]' ;;
'd1 create '*) printf %s "$3" >database ;;
'secret list --env '*) cat secrets ;;
'secret put '*) echo "$3 $(cat)" >>sent ;;
esac
`

const (
	noDatabase  = "00000000-0000-0000-0000-000000000000"
	database    = "11111111-2222-4333-8444-555555555555" // as the stub has it
	databaseNow = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee" // as an earlier deployment wrote it
)

// deployment is a folder with what worker/deploy.sh wants, as it is before a first deployment.
type deployment struct{ dir, config string }

func newDeployment(t *testing.T, secrets string) deployment {
	t.Helper()
	d := deployment{t.TempDir(), regexp.MustCompile(`(?m)^(database_id = ")[^"]*`).ReplaceAllString(read(t, "wrangler.toml"), "${1}"+noDatabase)}
	d.write(t, "worker/deploy.sh", read(t, "worker/deploy.sh"), 0o700)
	d.write(t, "wrangler.toml", d.config, 0o600)
	d.write(t, "bin/wrangler", wranglerStub, 0o700)
	d.write(t, "secrets", secrets, 0o600)
	return d
}

func (d deployment) write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// content returns a file of the folder, "" where there is none.
func (d deployment) content(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(content)
}

// run runs a command in the folder, with the stub in wrangler's place.
func (d deployment) run(input, name string, args ...string) (string, error) {
	command := exec.Command(name, args...)
	command.Dir, command.Stdin = d.dir, strings.NewReader(input)
	command.Env = append(os.Environ(), "CLOUDFLARE_API_TOKEN=", strings.Join([]string{
		"PATH=" + filepath.Join(d.dir, "bin"), filepath.Join(site.root, "node_modules", ".bin"), os.Getenv("PATH"),
	}, string(os.PathListSeparator)))
	out, err := command.CombinedOutput()
	return string(out), err
}

// calls returns how the stub was called since it was last asked.
func (d deployment) calls(t *testing.T) []string {
	t.Helper()
	calls := strings.FieldsFunc(d.content(t, "calls"), func(r rune) bool { return r == '\n' })
	d.write(t, "calls", "", 0o600)
	return calls
}

func TestDeploy(t *testing.T) {
	const (
		who    = "whoami --json"
		list   = "d1 list --json"
		enough = `[{"name":"OPENROUTER_PROVISIONING_API_KEY"},{"name":"JWT_SECRET_CLOUD"},{"name":"KEY_ENCRYPTION_KEY"}]`
	)
	type run struct {
		calls  string // between commas, with ENV for the environment
		failed string // what it says where it fails
	}
	const (
		later   = who + ",d1 migrations apply DB --remote --env ENV,secret list --env ENV,deploy --env ENV"
		there   = who + "," + list + ",d1 migrations apply DB --remote --env ENV,secret list --env ENV,deploy --env ENV"
		lacking = who + "," + list + ",d1 migrations apply DB --remote --env ENV,secret list --env ENV"
	)
	for _, test := range []struct {
		name     string
		args     []string // none: production
		topLevel string   // the id that stands at the top level
		database string   // that is there
		whoami   string   // what this says, where it fails
		secrets  string
		runs     []run
		id       string // in the end
	}{
		{"at first", nil, noDatabase, "", "", enough, []run{{strings.Replace(there, list, list+",d1 create latchkey,"+list, 1), ""}, {later, ""}}, database},
		{"staging, at first", []string{"staging"}, noDatabase, "latchkey", "", enough, []run{{strings.Replace(there, list, list+",d1 create latchkey-staging,"+list, 1), ""}, {later, ""}}, database},
		{"staging, over a production of an earlier version", []string{"staging"}, databaseNow, "latchkey-staging", "", enough, []run{{there, ""}, {later, ""}}, database},
		{"the database is there", nil, noDatabase, "latchkey", "", enough, []run{{there, ""}}, database},
		{
			"over one of an earlier version, whose settings somebody has to move", nil, databaseNow, "latchkey", "", enough,
			[]run{{who, "[env.production.vars]"}, {later, ""}}, databaseNow,
		},
		{"with a management key", nil, noDatabase, "latchkey", "", strings.Replace(enough, "PROVISIONING_API", "MANAGEMENT", 1), []run{{there, ""}}, database},
		{"a secret is missing", nil, noDatabase, "latchkey", "", `[{"name":"JWT_SECRET_CLOUD"}]`, []run{{lacking, "OPENROUTER_PROVISIONING_API_KEY is missing"}}, database},
		{"without a login", nil, noDatabase, "latchkey", `{"loggedIn":false}`, enough, []run{{who, "not logged in"}}, noDatabase},
		{"offline", nil, noDatabase, "latchkey", "Unable to resolve Cloudflare's API hostname", enough, []run{{who, "cannot be reached, and nothing was changed"}}, noDatabase},
		{"an environment that is not there", []string{"stagng"}, noDatabase, "latchkey", "", enough, []run{{"", "no section [env.stagng.vars]"}}, noDatabase},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, test.secrets)
			d.write(t, "wrangler.toml", strings.Replace(d.config, noDatabase, test.topLevel, 1), 0o600)
			if test.database != "" {
				d.write(t, "database", test.database, 0o600)
			}
			if test.whoami != "" {
				d.write(t, "whoami", test.whoami, 0o600)
			}
			environment := append(test.args, "production")[0]
			for _, run := range test.runs {
				out, err := d.run("", filepath.Join(d.dir, "worker", "deploy.sh"), test.args...)
				if (err != nil) != (run.failed != "") || !strings.Contains(out, run.failed) {
					t.Errorf("%v: %s", err, out)
				}
				want := strings.ReplaceAll(run.calls, "ENV", environment)
				if calls := strings.Join(d.calls(t), ","); calls != want {
					t.Errorf("called %s\nwant   %s", calls, want)
				}
			}
			want := d.config
			if environment == "staging" {
				want = strings.Replace(want, noDatabase, test.topLevel, 1)
			}
			if _, head, found := strings.Cut(want, "[[env."+environment+".d1_databases]]"); found {
				at := len(want) - len(head) + strings.Index(head, noDatabase)
				want = want[:at] + test.id + want[at+len(noDatabase):]
			}
			if got := d.content(t, "wrangler.toml"); got != want {
				t.Errorf("wrangler.toml is now\n%s", got)
			}
		})
	}
}

// What the Worker would refuse is not sent, and asked for once more.
func TestDeployAsksForSecretsUntilTheyAreSome(t *testing.T) {
	if _, err := exec.LookPath("script"); err != nil || runtime.GOOS != "linux" { // elsewhere it takes other flags
		fmt.Println("e2e: SKIPPED: there is no script(1) of Linux here, so asking for secrets is NOT tested.")
		t.Skip("there is no script(1)")
	}
	const good = "a-secret-of-nobody-that-tests-alone-know"
	d := newDeployment(t, "[]")
	typed := []string{
		"", "two words", "sk-or-v1-not-a-real-key", "a-key-of-nobody", // the management key, whose form is OpenRouter's affair
		"short", "-----BEGIN ENCRYPTED PRIVATE KEY-----", good, // JWT_SECRET_CLOUD
		good, "c2hvcnQ=", "", // KEY_ENCRYPTION_KEY: made up in the end
		"short", "no", // ADMIN_TOKEN: there is none
	}
	out, err := d.run(strings.Join(typed, "\n")+"\n", "script", "-qec", "worker/deploy.sh", "/dev/null")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sent := regexp.MustCompile("^OPENROUTER_PROVISIONING_API_KEY a-key-of-nobody\nJWT_SECRET_CLOUD " + good + "\nKEY_ENCRYPTION_KEY ([A-Za-z0-9+/]{43}=)\n$").FindStringSubmatch(d.content(t, "sent"))
	if sent == nil || !strings.Contains(out, "Made up: "+sent[1]) || strings.Count(out, "Not taken: ") != 8 {
		t.Errorf("sent %q\n%s", d.content(t, "sent"), out)
	}
	// What was sent the Worker takes.
	env := map[string]string{"JWT_SECRET_CLOUD": good, "OPENROUTER_PROVISIONING_API_KEY": "a-key-of-nobody", "KEY_ENCRYPTION_KEY": sent[1]}
	if _, err := settings.Parse(func(name string) string { return env[name] }, func(string) bool { return true }); err != nil {
		t.Error(err)
	}
	if calls := d.calls(t); calls[len(calls)-1] != "deploy --env production" {
		t.Errorf("called %q", calls)
	}
}

// read returns a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(site.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// What `wrangler tail` prints comes from anywhere.
func TestTailPrintsNothingThatATerminalObeys(t *testing.T) {
	const obeyed = "\x7f\u009b\u2028\u202e\u2066\u200b\u061c\ufeff\U000e0041"
	inner, err := json.Marshal(map[string]any{"evt": "key", "user": "u_" + obeyed, "ms": 1, "status": 500})
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []any{string(inner), []any{"not JSON " + obeyed, string(inner)}} {
		event, err := json.MarshalIndent(map[string]any{
			"eventTimestamp": 1764000000000,
			"logs":           []any{map[string]any{"message": message}},
			"exceptions":     []any{map[string]any{"message": "lost " + obeyed}},
		}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		tail := exec.Command(filepath.Join(site.root, "node_modules", ".bin", "node"), filepath.Join(site.root, "worker", "tail.mjs"))
		tail.Stdin = bytes.NewReader(event)
		out, err := tail.Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		var key struct{ At, User string }
		var exception struct{ Evt, Err string }
		if len(lines) != 2 || json.Unmarshal([]byte(lines[0]), &key) != nil || json.Unmarshal([]byte(lines[1]), &exception) != nil ||
			key.User != "u_"+obeyed || key.At == "" || exception.Err != "lost "+obeyed || strings.ContainsAny(string(out), obeyed) {
			t.Errorf("printed %q", out)
		}
	}
}
