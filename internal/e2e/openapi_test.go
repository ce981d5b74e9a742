//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/pb33f/libopenapi"
	"github.com/pb33f/libopenapi-validator/config"
	validation "github.com/pb33f/libopenapi-validator/errors"
	"github.com/pb33f/libopenapi-validator/responses"
	"github.com/pb33f/libopenapi-validator/schema_validation"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/pb33f/libopenapi/orderedmap"
)

// description is worker/page/openapi.json. Every answer that the tests see has to be
// as it says.
type description struct {
	*v3.Document
	responses responses.ResponseBodyValidator
	schemas   schema_validation.SchemaValidator
	paths     map[string]*regexp.Regexp

	mu         sync.Mutex
	seen       int             // answers
	kinds      map[string]int  // answers by operation and status
	departures map[string]bool // what was not as it says
}

var described = sync.OnceValue(func() *description {
	text, err := os.ReadFile(filepath.Join(site.root, "worker", "page", "openapi.json"))
	if err != nil {
		panic(err) // the tests are not where they belong
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		panic(err) // a test of its own says that it is valid
	}
	model, err := document.BuildV3Model()
	if err != nil {
		panic(err)
	}
	d := &description{Document: &model.Model, paths: map[string]*regexp.Regexp{}, kinds: map[string]int{}, departures: map[string]bool{}}
	d.responses = responses.NewResponseBodyValidator(d.Document, config.WithFormatAssertions())
	d.schemas = schema_validation.NewSchemaValidator(config.WithFormatAssertions())
	for path := range d.Paths.PathItems.KeysFromOldest() {
		d.paths[path] = regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(path), `\{id\}`, "[^/]+") + "$")
	}
	return d
})

// testPaths are those of the scripts in testdata, and of wrangler.
var testPaths = regexp.MustCompile(`^/(cdn-cgi|kill|plant|ring|straight)/`)

// enough is how many answers of one kind, those of an operation with a status, are
// compared. To compare one takes longer than to get it, and floods send thousands.
const enough = 100

// check compares an answer to the description.
func (d *description) check(request *http.Request, a answer) {
	path := request.URL.EscapedPath()
	if testPaths.MatchString(path) {
		return
	}
	pattern, item := d.find(path, request.Method)
	d.mu.Lock()
	kind := fmt.Sprint(request.Method, " ", pattern, " ", a.status)
	d.kinds[kind]++
	flood := d.kinds[kind] > enough
	d.mu.Unlock()
	if flood {
		return
	}
	response := &http.Response{StatusCode: a.status, Header: a.header, Body: io.NopCloser(strings.NewReader(a.body))}
	_, faults := d.responses.ValidateResponseBodyWithPathItem(request, response, item, pattern)

	d.note(request.Method+" "+pattern, faults, a)
}

// checkMessage compares a message of a socket to the description.
func (d *description) checkMessage(text []byte) {
	_, faults := d.schemas.ValidateSchemaBytesWithVersion(d.Components.Schemas.GetOrZero("Event").Schema(), text, 3.1)
	d.note("a message", faults, answer{body: string(text)})
}

// note prints what departs from the description at once, each thing once: no test can
// swallow it.
func (d *description) note(what string, faults []*validation.ValidationError, a answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen++
	for _, fault := range faults {
		departure := fmt.Sprintf("%s: %v", what, fault)
		if !d.departures[departure] {
			d.departures[departure] = true
			fmt.Printf("--- FAIL: openapi.json: %s: %v\n", departure, a)
		}
	}
}

// find returns the path item that describes what a path answers to a method. Where
// there is no such path or method, it is that of the error.
func (d *description) find(path, method string) (string, *v3.PathItem) {
	for pattern, item := range d.Paths.PathItems.FromOldest() {
		if !d.paths[pattern].MatchString(path) {
			continue
		}
		if item.GetOperations().GetOrZero(strings.ToLower(method)) != nil {
			return pattern, item
		}
		if strings.HasPrefix(pattern, "/api/admin/") {
			return pattern, d.always("NotFound", "MethodNotAllowed") // the path may be switched off
		}
		return pattern, d.always("MethodNotAllowed")
	}
	return path, d.always("NotFound")
}

// always is a path that answers any method with one of some responses.
func (d *description) always(names ...string) *v3.PathItem {
	statuses := map[string]string{"NotFound": "404", "MethodNotAllowed": "405"}
	codes := orderedmap.New[string, *v3.Response]()
	for _, name := range names {
		codes.Set(statuses[name], d.Components.Responses.GetOrZero(name))
	}
	o := &v3.Operation{Responses: &v3.Responses{Codes: codes}}
	return &v3.PathItem{Get: o, Head: o, Post: o, Put: o, Patch: o, Delete: o, Options: o}
}

// holds tells whether all answers were as it says.
func (d *description) holds() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Printf("e2e: compared %d answers to openapi.json\n", d.seen)
	return len(d.departures) == 0
}
