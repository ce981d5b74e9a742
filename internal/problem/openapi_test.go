package problem

import (
	"encoding/json"
	"os"
	"testing"
)

// The description of the API has an example of every code, with its status and title.
func TestEveryCodeIsDescribedAndNothingElse(t *testing.T) {
	text, err := os.ReadFile("../../worker/page/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var description struct {
		Components struct {
			Responses map[string]struct {
				Content map[string]struct {
					Examples map[string]struct{ Value json.RawMessage }
				}
			}
		}
	}
	if err := json.Unmarshal(text, &description); err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for name, response := range description.Components.Responses {
		for code, example := range response.Content["application/problem+json"].Examples {
			documented[code] = true
			var got document
			if err := json.Unmarshal(example.Value, &got); err != nil {
				t.Fatal(err)
			}
			if _, known := kinds[code]; !known {
				t.Errorf("%s: nothing answers %s", name, code)
				continue
			}
			var want document
			if err := json.Unmarshal([]byte(New(code, got.Detail).Answer().Body), &want); err != nil {
				t.Fatal(err)
			}
			want.RenewsAt = got.RenewsAt
			if got != want {
				t.Errorf("%s: the example of %s is %+v, want %+v", name, code, got, want)
			}
		}
	}
	for code := range kinds {
		if !documented[code] {
			t.Errorf("the code %s is not described", code)
		}
	}
}
