package oplog

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// constants returns the values of all constants of a type in a file.
func constants(t *testing.T, path, of string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok {
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == of {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, value)
			}
		}
		return true
	})
	if len(values) == 0 {
		t.Fatalf("no constants of %s", of)
	}
	return values
}

// Where the names stand, and who writes lines in JavaScript.
const (
	here         = "events.go"
	byJavaScript = "../edge/log.mjs"
)

// What JavaScript writes has the names that Go has for it.
func TestLinesOfJavaScriptHaveNamesOfGo(t *testing.T) {
	source, err := os.ReadFile(byJavaScript)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for field := range reflect.TypeFor[Line]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names[name] = true
	}
	known := map[string][]string{"evt": constants(t, here, "Event"), "op": constants(t, here, "Op"), "outcome": constants(t, here, "Outcome")}
	lines := regexp.MustCompile(`asLine\(\{(.*)\}\)`).FindAllStringSubmatch(string(source), -1)
	events := map[string]bool{}
	for _, line := range lines {
		for _, field := range strings.Split(line[1], ", ") {
			name, value, _ := strings.Cut(strings.TrimSpace(field), ": ")
			if strings.HasPrefix(name, "...") {
				continue
			}
			if !names[name] {
				t.Errorf("%s: no field is called %s", line[0], name)
			}
			if values := known[name]; values != nil && !slices.Contains(values, strings.Trim(value, `"`)) {
				t.Errorf("%s: %s is none of %q", line[0], value, values)
			}
			if name == "evt" {
				events[strings.Trim(value, `"`)] = true
			}
		}
	}
	for _, event := range []Event{Memory, Panic, Background, Exception} {
		if !events[string(event)] {
			t.Errorf("JavaScript writes no %s", event)
		}
	}
	if len(lines) != len(events) {
		t.Errorf("%d lines for %d events", len(lines), len(events))
	}
}

// Nothing but log.mjs writes lines in JavaScript: this test, and who reads the log,
// would not know of them.
func TestLinesOfJavaScriptStandInOneFile(t *testing.T) {
	scripts := 0
	for _, dir := range []string{"../../worker", "../edge"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".mjs" || path == byJavaScript {
				return err
			}
			scripts++
			source, err := os.ReadFile(path)
			if strings.Contains(string(source), "evt:") {
				t.Errorf("%s writes a line by itself", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if scripts < 4 {
		t.Errorf("only %d scripts were looked at", scripts)
	}
}

// docs/logs-and-database.md says what each event is, and each op and outcome.
func TestEveryNameIsDocumented(t *testing.T) {
	document, err := os.ReadFile("../../docs/logs-and-database.md")
	if err != nil {
		t.Fatal(err)
	}
	_, log, _ := strings.Cut(string(document), "\n## The log\n")
	log, _, _ = strings.Cut(log, "\n## ")
	for _, c := range []struct{ path, of string }{{here, "Event"}, {here, "Op"}, {here, "Outcome"}, {"../../durable/request.go", "Action"}, {"../../durable/task.go", "TaskKind"}} {
		for _, value := range constants(t, c.path, c.of) {
			if !strings.Contains(log, "`"+value+"`") {
				t.Errorf("%s %s is not in docs/logs-and-database.md", c.of, value)
			}
		}
	}
}
