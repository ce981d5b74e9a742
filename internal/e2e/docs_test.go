//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What README.md and docs/app.md show of a client runs as it stands there, but for the
// addresses. Those of docs/app.md are asked twice: the second time their key is used up,
// which only OpenRouter's refusal tells them. Then follows the call that the page shows.
func TestTheClientsOfThePagesWork(t *testing.T) {
	w := useShared(t)
	for _, c := range []struct {
		page, language string
		blocks         int      // the first ones are the client
		call           string   // what follows on them
		run            []string // with the file's name behind it
		file           string
	}{
		{"README.md", "js", 1, "", []string{filepath.Join(site.root, "node_modules", ".bin", "node")}, "readme.mjs"},
		{"docs/app.md", "js", 2, `
			const token = tokenFor({ id: "u_js", name: "Ada", email: "ada@example.org" });
			const ask = async () => (await (await chat(token, [{ role: "user", content: "Hello?" }])).json()).choices[0].message.content;
			const first = await ask(), used = key;
			await fetch("http://127.0.0.1:8788/_control/spend", { method: "POST", body: JSON.stringify({ key, credits: 1 }) });
			console.log(first === await ask() && key !== used ? first : "the key is the same");`, []string{filepath.Join(site.root, "node_modules", ".bin", "node")}, "app.mjs"},
		{"docs/app.md", "python", 1, `
token = token_for({"id": "u_py", "name": "Ada", "email": "ada@example.org"})
first, used = chat(token, [{"role": "user", "content": "Hello?"}]), key
urllib.request.urlopen("http://127.0.0.1:8788/_control/spend", json.dumps({"key": key, "credits": 1}).encode())
second = chat(token, [{"role": "user", "content": "Hello?"}])
print(first[1]["choices"][0]["message"]["content"] if first[0] == second[0] == 200 and key != used else (first, second))
`, []string{"python3"}, "app.py"},
		{"docs/app.md", "go", 1, `
func init() { // the main that follows is the page's
	c := client{token: tokenFor("u_go", "Ada", "ada@example.org")}
	hello := []byte("{\"model\":\"openai/gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello?\"}]}")
	first, _, err := c.chat(hello)
	used := c.key
	spend, _ := json.Marshal(map[string]any{"key": used, "credits": 1})
	_, _, err2 := send("POST", "http://127.0.0.1:8788/_control/spend", "", spend)
	second, reply, err3 := c.chat(hello)
	var answer struct{ Choices []struct{ Message struct{ Content string } } }
	if first != 200 || second != 200 || err != nil || err2 != nil || err3 != nil || c.key == used || json.Unmarshal(reply, &answer) != nil {
		fmt.Println(first, second, err, err2, err3, string(reply))
		return
	}
	fmt.Println(answer.Choices[0].Message.Content)
}
`, []string{"go", "run"}, "app.go"},
	} {
		t.Run(c.file, func(t *testing.T) {
			if c.language == "python" && exec.Command("python3", "-c", "").Run() != nil {
				fmt.Println("e2e: SKIPPED: there is no python3 here, so the example in Python is NOT tested.")
				t.Skip("there is no python3")
			}
			page, err := os.ReadFile(filepath.Join(site.root, c.page))
			if err != nil {
				t.Fatal(err)
			}
			found := regexp.MustCompile("(?s)```"+c.language+"\n(.*?)```").FindAllStringSubmatch(string(page), -1)
			calls := 0 // blocks behind the client
			if c.call != "" {
				calls = 1
			}
			if len(found) < c.blocks+calls {
				t.Fatalf("%s has %d examples", c.page, len(found))
			}
			var client strings.Builder
			for _, block := range found[:c.blocks] {
				client.WriteString(block[1])
			}
			client.WriteString(c.call + "\n")
			for _, block := range found[c.blocks : c.blocks+calls] {
				client.WriteString(block[1])
			}
			program := strings.NewReplacer(
				"http://127.0.0.1:8787", w.URL, "https://keys.example.org", w.URL,
				"http://127.0.0.1:8788", w.server.URL, "https://openrouter.ai", w.server.URL,
			).Replace(client.String())
			path := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(path, []byte(program), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			run := exec.CommandContext(ctx, c.run[0], append(c.run[1:], path)...)
			run.Env = append(os.Environ(), "JWT_SECRET_CLOUD="+jwtSecret)
			out, err := run.CombinedOutput()
			own, shown, _ := strings.Cut(string(out), "\n")
			if err != nil || own != "ok" || (calls > 0) != strings.Contains(shown, "chat.completion") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
