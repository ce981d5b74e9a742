//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What README.md and docs/app.md show of a client runs as it stands there, but for the
// addresses.
func TestTheClientsOfThePagesWork(t *testing.T) {
	w := useShared(t)
	blocks := regexp.MustCompile("(?s)```js\n(.*?)```")
	for _, c := range []struct {
		page   string
		blocks int    // the first ones are the client
		call   string // what follows on them
	}{
		{"README.md", 1, ""},
		{"docs/app.md", 2, `
			const reply = await chat(tokenFor({ id: "u_42", name: "Ada", email: "ada@example.org" }), [{ role: "user", content: "Hello?" }]);
			console.log((await reply.json()).choices[0].message.content);`},
	} {
		page, err := os.ReadFile(filepath.Join(site.root, c.page))
		if err != nil {
			t.Fatal(err)
		}
		found := blocks.FindAllStringSubmatch(string(page), -1)
		if len(found) < c.blocks {
			t.Fatalf("%s has %d examples", c.page, len(found))
		}
		var client strings.Builder
		for _, block := range found[:c.blocks] {
			client.WriteString(block[1])
		}
		client.WriteString(c.call)
		program := strings.NewReplacer(
			"http://127.0.0.1:8787", w.URL, "https://keys.example.org", w.URL,
			"http://127.0.0.1:8788", w.server.URL, "https://openrouter.ai", w.server.URL,
		).Replace(client.String())

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		node := exec.CommandContext(ctx, filepath.Join(site.root, "node_modules", ".bin", "node"), "--input-type=module")
		node.Stdin = strings.NewReader(program)
		node.Env = append(os.Environ(), "JWT_SECRET_CLOUD="+jwtSecret)
		if out, err := node.CombinedOutput(); err != nil || string(out) != "ok\n" {
			t.Errorf("%s: %v\n%s", c.page, err, out)
		}
	}
}
