package openroutertest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

// OpenRouter's own SDK checks every answer against the published schema, so
// that what it accepts has the form of the real thing.
func TestSDKAcceptsTheAnswers(t *testing.T) {
	for name, extra := range map[string]bool{"plain": false, "with unknown fields": true} {
		t.Run(name, func(t *testing.T) {
			f := start(t, func(o *openroutertest.Options) { o.ExtraFields = extra })
			a := f.runSDK()

			keys := f.Keys()
			var names []string
			for _, key := range keys {
				names = append(names, key.Name)
			}
			if want := []string{"ada lovelace", "grace", "lost", "lost"}; !slices.Equal(names, want) {
				t.Fatalf("the keys are %q, want %q", names, want)
			}
			for _, check := range []struct {
				want string
				path []any
			}{
				{`"` + keys[0].Secret + `"`, []any{"created", "key"}},
				{`"` + keys[0].Hash + `"`, []any{"created", "data", "hash"}},
				{`1`, []any{"created", "data", "limitRemaining"}},
				{`"monthly"`, []any{"created", "data", "limitReset"}},
				{`"2026-09-01T00:00:00.000Z"`, []any{"created", "data", "expiresAt"}},
				{`"u_1"`, []any{"created", "data", "externalUser"}},
				{`null`, []any{"created", "data", "updatedAt"}},
				{`0.01`, []any{"chat", "usage", "cost"}},
				{`"ok"`, []any{"streamed", 0, "choices", 0, "delta", "content"}},
				{`"stop"`, []any{"streamed", 4, "choices", 0, "finishReason"}},
				{`0.01`, []any{"streamed", 5, "usage", "cost"}},
				{`0.98`, []any{"current", "data", "limitRemaining"}},
				{`0.98`, []any{"got", "data", "limitRemaining"}},
				{`"ada lovelace"`, []any{"updated", "data", "name"}},
				{`null`, []any{"updated", "data", "limit"}},
				{`true`, []any{"updated", "data", "disabled"}},
				{`["grace"]`, []any{"listed"}},
				{`["grace","ada lovelace"]`, []any{"listedAll"}},
				{`0.02`, []any{"credits", "data", "totalUsage"}},
				{`[]`, []any{"activity", "data"}},
				{`2.5`, []any{"guardrail", "limitUsd"}},
				{`["m"]`, []any{"guardrail", "allowedModels"}},
				{`{"assignedCount":1}`, []any{"assigned"}},
				{`"` + keys[0].Hash + `"`, []any{"assignments", "data", 0, "keyHash"}},
				{`1`, []any{"assignments", "totalCount"}},
				{`1`, []any{"guardrails"}},
				{`null`, []any{"changed", "allowedModels"}},
				{`{"name":"BadRequestResponseError","status":400}`, []any{"unassignable"}},
				{`{"deleted":true}`, []any{"guardrailDeleted"}},
				{`{"deleted":true}`, []any{"deleted"}},
				{`{"name":"NotFoundResponseError","status":404}`, []any{"deletedTwice"}},
				{`{"name":"NotFoundResponseError","status":404}`, []any{"gotDeleted"}},
				{`"` + keys[3].Hash + `"`, []any{"repeated", "data", "hash"}},
				{`{"name":"BadRequestResponseError","status":400}`, []any{"invalid"}},
				{`{"name":"UnauthorizedResponseError","status":401}`, []any{"unauthorized"}},
			} {
				a.want(check.want, check.path...)
			}
			if !keys[0].Deleted || !keys[0].Disabled || keys[0].Usage != 20_000_000 {
				t.Errorf("the key is left as %+v", keys[0])
			}
		})
	}
}

// runSDK runs testdata/sdk.mjs against the stand-in and returns what it printed.
func (f *fixture) runSDK() answer {
	f.Helper()
	modules := filepath.Join(moduleRoot(f.T), "node_modules")
	for _, needed := range []string{".bin/node", "@openrouter/sdk"} {
		if _, err := os.Stat(filepath.Join(modules, needed)); err != nil {
			f.Fatalf("%v: run make setup", err)
		}
	}
	ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(modules, ".bin/node"), "testdata/sdk.mjs", f.url+"/api/v1", provisioningKey)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		f.Fatalf("sdk.mjs: %v\n%s", err, stderr.String())
	}
	return answer{T: f.T, body: stdout.String()}
}

// moduleRoot returns the nearest directory upwards that holds go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod in any directory above")
		}
		dir = parent
	}
}
