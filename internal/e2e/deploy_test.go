//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// wranglerStub notes how it is called, and answers as Cloudflare would through it:
// the database is there once it was created, or where the file `database` is.
const wranglerStub = `#!/usr/bin/env bash
echo "$*" >>calls
case "$*" in
'd1 list --json') [ -e database ] && echo '[{"name":"other","uuid":"0"},{"name":"latchkey","uuid":"11111111-2222-4333-8444-555555555555"}]' || echo '[]' ;;
'd1 create latchkey') touch database ;;
'secret list --env production') cat secrets ;;
esac
`

const (
	noDatabase  = "00000000-0000-0000-0000-000000000000"
	database    = "11111111-2222-4333-8444-555555555555" // as the stub has it
	databaseNow = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee" // as an earlier deployment wrote it
)

func TestDeploy(t *testing.T) {
	const (
		list    = "d1 list --json"
		create  = "d1 create latchkey"
		migrate = "d1 migrations apply DB --remote --env production"
		secrets = "secret list --env production"
		deploy  = "deploy --env production"
		enough  = `[{"name":"OPENROUTER_PROVISIONING_API_KEY"},{"name":"JWT_SECRET_CLOUD"},{"name":"KEY_ENCRYPTION_KEY"}]`
	)
	type run struct {
		calls  []string
		failed string // what it says where it fails
	}
	for _, test := range []struct {
		name     string
		topLevel string // the id that stands at the top level
		exists   bool   // the database
		secrets  string
		runs     []run
		id       string // in the end
	}{
		{"at first", noDatabase, false, enough, []run{{[]string{list, create, list, migrate, secrets, deploy}, ""}, {[]string{migrate, secrets, deploy}, ""}}, database},
		{"the database is there", noDatabase, true, enough, []run{{[]string{list, migrate, secrets, deploy}, ""}}, database},
		{
			"over one of an earlier version, whose settings somebody has to move", databaseNow, true, enough,
			[]run{{nil, "[env.production.vars]"}, {[]string{migrate, secrets, deploy}, ""}}, databaseNow,
		},
		{"with a management key", noDatabase, true, strings.Replace(enough, "PROVISIONING_API", "MANAGEMENT", 1), []run{{[]string{list, migrate, secrets, deploy}, ""}}, database},
		{"a secret is missing", noDatabase, true, `[{"name":"JWT_SECRET_CLOUD"}]`, []run{{[]string{list, migrate, secrets}, "OPENROUTER_PROVISIONING_API_KEY is missing"}}, database},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(name, content string, mode os.FileMode) {
				t.Helper()
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), mode); err != nil {
					t.Fatal(err)
				}
			}
			// As it is before a first deployment.
			config := regexp.MustCompile(`(?m)^(database_id = ")[^"]*`).ReplaceAllString(read(t, "wrangler.toml"), "${1}"+noDatabase)
			write("worker/deploy.sh", read(t, "worker/deploy.sh"), 0o700)
			write("wrangler.toml", strings.Replace(config, noDatabase, test.topLevel, 1), 0o600)
			write("bin/wrangler", wranglerStub, 0o700)
			write("secrets", test.secrets, 0o600)
			if test.exists {
				write("database", "", 0o600)
			}
			for _, run := range test.runs {
				write("calls", "", 0o600)
				command := exec.Command(filepath.Join(dir, "worker", "deploy.sh"))
				command.Env = append(os.Environ(), "CLOUDFLARE_API_TOKEN=not-a-real-token", strings.Join([]string{
					"PATH=" + filepath.Join(dir, "bin"), filepath.Join(site.root, "node_modules", ".bin"), os.Getenv("PATH"),
				}, string(os.PathListSeparator)))
				out, err := command.CombinedOutput()
				if (err != nil) != (run.failed != "") || !strings.Contains(string(out), run.failed) {
					t.Errorf("%v: %s", err, out)
				}
				called, err := os.ReadFile(filepath.Join(dir, "calls"))
				if err != nil {
					t.Fatal(err)
				}
				if calls := strings.FieldsFunc(string(called), func(r rune) bool { return r == '\n' }); !slices.Equal(calls, run.calls) {
					t.Errorf("called %q, want %q", calls, run.calls)
				}
			}
			got, err := os.ReadFile(filepath.Join(dir, "wrangler.toml"))
			if err != nil {
				t.Fatal(err)
			}
			at := strings.LastIndex(config, noDatabase)
			if want := config[:at] + test.id + config[at+len(noDatabase):]; string(got) != want {
				t.Errorf("wrangler.toml is now\n%s", got)
			}
		})
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
