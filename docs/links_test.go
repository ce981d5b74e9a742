// Package docs_test checks the pages of the repository.
package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	code    = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors returns what a page's headings are linked by, as GitHub makes it.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		found[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return found
}

// read returns the pages of the repository by their path.
func read(t *testing.T) map[string]string {
	pages := map[string]string{}
	for _, pattern := range []string{"*.md", "decisions/*.md", "../*.md", "../clients/js/README.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range found {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			pages[page] = string(text)
		}
	}
	return pages
}

// Every link between the pages leads to a file that is there, and to a heading in it.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	checked := 0
	for page, text := range read(t) {
		for _, found := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			path, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			checked++
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			linked, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: %s: %v", page, found[1], err)
			} else if anchor != "" && !anchors(string(linked))[anchor] {
				t.Errorf("%s: %s: there is no such heading", page, found[1])
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links were found", checked)
	}
}

var (
	apiPath = regexp.MustCompile(`(?:\b(GET|POST|PATCH|DELETE) )?[^\s"'` + "`" + `]*?(/api/[\w{}/%-]+)`)
	// foreign begins what is not latchkey's: OpenRouter's API, and an issuer's.
	foreign = regexp.MustCompile(`^/api/(v1|auth)(/|$)`)
)

// Every path of the API that a page names is there, with the method that it names.
func TestEveryPathOfTheAPIIsThere(t *testing.T) {
	text, err := os.ReadFile("../worker/page/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &api); err != nil {
		t.Fatal(err)
	}
	isThere := func(method, path string) bool {
		for template, methods := range api.Paths {
			pattern := strings.ReplaceAll(regexp.QuoteMeta(template), `\{id\}`, `[^/]+`)
			if _, has := methods[strings.ToLower(method)]; regexp.MustCompile("^"+pattern+"$").MatchString(path) && (has || method == "") {
				return true
			}
		}
		return false
	}
	checked := 0
	for page, text := range read(t) {
		for _, found := range apiPath.FindAllStringSubmatch(text, -1) {
			if foreign.MatchString(found[2]) {
				continue
			}
			checked++
			if !isThere(found[1], found[2]) {
				t.Errorf("%s: %s: the API has no such path", page, strings.TrimSpace(found[1]+" "+found[2]))
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d paths were found", checked)
	}
}
