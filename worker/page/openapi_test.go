package page_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/schema_validation"
)

// The document is OpenAPI 3.1, and its examples are answers that it allows.
func TestTheDescriptionIsValid(t *testing.T) {
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	model, err := document.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if errs != nil {
		t.Fatal(errs)
	}
	_, faults := v.ValidateDocument()
	for _, fault := range faults {
		t.Errorf("%v", fault)
	}

	schemas := schema_validation.NewSchemaValidator(config.WithFormatAssertions())
	examples := 0
	for name, response := range model.Model.Components.Responses.FromOldest() {
		for _, media := range response.Content.FromOldest() {
			for example, sent := range media.Examples.FromOldest() {
				examples++
				var value any
				if err := sent.Value.Decode(&value); err != nil {
					t.Fatal(err)
				}
				encoded, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				_, faults := schemas.ValidateSchemaBytesWithVersion(media.Schema.Schema(), encoded, 3.1)
				for _, fault := range faults {
					t.Errorf("the example %s of %s: %v", example, name, fault)
				}
			}
		}
	}
	if examples == 0 {
		t.Error("there are no examples")
	}
}
