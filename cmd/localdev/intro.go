package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/template"
	"time"

	"latchkey/internal/auth"
	"latchkey/internal/oplog"
	"latchkey/internal/seal"
)

// tokenLife is long enough for a day's work.
const tokenLife = 12 * time.Hour

// demoToken signs a token for the demo user, as an application's server would.
func demoToken(secret string, now time.Time) (string, error) {
	who := auth.Identity{ID: "demo", Name: "Demo", Email: "demo@example.org"}
	return auth.Sign(seal.NewSecret(secret), who, "", "", now, now.Add(tokenLife))
}

// checkSettings asks the Worker whether its settings are whole. Its error has a line
// for each that is not, with the reason, which the Worker says in its log alone.
func checkSettings(ctx context.Context, url string, c *console) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	reasons := c.awaitTold(ctx, oplog.Misconfigured)
	if len(reasons) == 0 {
		c.dump()
		return fmt.Errorf("GET /healthz answers %s, and the log does not say why", response.Status)
	}
	reasons = append(reasons, c.told(oplog.Misspelt)...)
	return fmt.Errorf("the settings are not whole. Mend them in %s, or in [vars] of wrangler.toml:\n  %s", devVars, strings.Join(reasons, "\n  "))
}

// introduce asks for the demo user's key, and prints the answer and what to try.
func introduce(ctx context.Context, out io.Writer, url, standin, ports string, s secrets) error {
	token, err := demoToken(s[jwtSecret], time.Now())
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/users/me", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var answer struct{ Hash, Outcome string }
	pretty := &bytes.Buffer{}
	if json.Unmarshal(body, &answer) != nil || json.Indent(pretty, body, "  ", "  ") != nil {
		pretty = bytes.NewBuffer(body)
	}
	return intro.Execute(out, map[string]any{
		"URL": url, "Standin": standin, "Token": token, "Hours": tokenLife.Hours(),
		"Ports": ports, "Status": response.Status, "Millis": time.Since(began).Milliseconds(),
		"Body": pretty, "Hash": answer.Hash, "Outcome": answer.Outcome,
	})
}

var intro = template.Must(template.New("").Parse(`
latchkey answers at {{.URL}}
{{if .Standin -}}
OpenRouter is played by a stand-in at {{.Standin}}; no real key is made, nothing is spent.
It keeps its keys in memory only: after a restart it knows none of the earlier ones,
and the first answer to a user who had one says "rotated".
{{- else -}}
` + devVars + ` names a management key or a base URL of its own, so no stand-in runs:
the keys below are made, and the credits on them spent, at the real place.
{{- end}}

A first request, with a token for the user "demo", signed just now and good for {{.Hours}} hours:

  GET /api/users/me  ->  {{.Status}} in {{.Millis}} ms
  {{.Body}}

{{if .Ports -}}
Pages of development servers may call it: those at localhost and 127.0.0.1, ports
{{.Ports}}.
Others need ALLOWED_ORIGINS in ` + devVars + `.

{{end -}}
The account page, for a browser:

  {{.URL}}/#token={{.Token}}

To try the rest, paste this into another terminal:

  TOKEN={{.Token}}

the present key:

  curl -sw '\n' -H "Authorization: Bearer $TOKEN" {{.URL}}/api/users/me
{{- if and .Standin .Hash}}

0.6 credits spent on it, at the stand-in (take the hash of the newest answer):

  curl -sw '%{http_code}\n' {{.Standin}}/_control/spend -d '{"hash":"{{.Hash}}","credits":0.6}'

the key again: what is left on it is not above ROTATE_BELOW any more, so it is rotated:

  curl -sw '\n' -H "Authorization: Bearer $TOKEN" {{.URL}}/api/users/me
{{- end}}

a new key at once, whatever is left on the present one:

  curl -sw '\n' -X POST -H "Authorization: Bearer $TOKEN" {{.URL}}/api/users/me/openrouter-api-key/refresh

what operators see (go run ./cmd/latchkey --help tells the rest):

  go run ./cmd/latchkey --secrets ` + devVars + ` --url {{.URL}} users ledger demo

whether the settings are whole:

  curl -sw '\n' {{.URL}}/healthz

Ctrl-C stops everything. What wrangler and the Worker print follows.

`))
