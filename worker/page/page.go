// Package page is what the Worker serves of itself: the account page, `GET /`, and
// the description of the API, `GET /openapi.json`. The page is page.html with page.css
// and page.js in it, one document that needs no second request and no build.
//
// The Worker serves it, and not Workers static assets: who may frame the page, and
// who may hand it a token, is a setting. Assets know no settings, and they would
// answer paths and methods of their own beside those of the contract.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html"
	"strings"
	"sync"

	"latchkey/internal/answer"
)

var (
	//go:embed page.html
	skeleton string
	//go:embed page.css
	style string
	//go:embed page.js
	script string
)

// The places in page.html: as they stand there, it works from a folder too.
const (
	originsPlace = `data-allowed-origins=""`
	stylePlace   = `<link rel="stylesheet" href="page.css">`
	scriptPlace  = `<script type="module" src="page.js"></script>`
)

// parts are the document around its list of origins, and what of its policy
// is the same under all settings.
type parts struct{ before, after, policy string }

var assemble = sync.OnceValue(func() parts {
	document := strings.NewReplacer(
		stylePlace, "<style>"+style+"</style>",
		scriptPlace, `<script type="module">`+script+"</script>",
	).Replace(skeleton)
	before, after, _ := strings.Cut(document, originsPlace)
	return parts{before, after, strings.Join([]string{
		"default-src 'none'",
		"script-src " + hashOf(script),
		"style-src " + hashOf(style),
		"img-src data:", // the icon
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types 'none'", // text from outside is never taken for HTML
		"",
	}, "; ")}
})

// hashOf names a script or style as a Content-Security-Policy does.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// Answer returns the page, with what it needs to know: the pages of which origins
// may frame it and hand it a token.
func Answer(origins []string) answer.Answer {
	p := assemble()
	list, ancestors := strings.Join(origins, " "), "'none'"
	if list != "" {
		ancestors = list
	}
	return answer.Answer{
		Status: 200,
		Header: [][2]string{
			{"Content-Type", "text/html; charset=utf-8"},
			{"Content-Security-Policy", p.policy + "frame-ancestors " + ancestors},
			{"Referrer-Policy", "no-referrer"},
			{"Cache-Control", "no-cache"}, // a deployment's page is there at once
		},
		Body: p.before + `data-allowed-origins="` + html.EscapeString(list) + `"` + p.after,
	}
}

//go:embed openapi.json
var description string

// OpenAPI returns the description of the API.
func OpenAPI() answer.Answer {
	return answer.Answer{Status: 200, Header: [][2]string{{"Content-Type", "application/json"}, {"Cache-Control", "no-cache"}}, Body: description}
}
