package openroutertest_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"latchkey/internal/openroutertest"
)

func TestNamesAreStoredInTheFormSet(t *testing.T) {
	for _, test := range []struct {
		given, normal string
	}{
		{"ada", "ada"},
		{"Ren\u00e9e", "Ren\u00e9e"},
		{"Rene\u0301e", "Ren\u00e9e"},
		{"e\u0301e\u0301\u0301", "\u00e9\u00e9\u0301"},
		{"a\u0000b\tc\u007fd\u009be", "abcde"},
		{"\u202euser", "\u202euser"}, // a format character is none of control
	} {
		for form, want := range map[openroutertest.NameForm]string{
			"":                          test.given, // none is set
			openroutertest.NamesAsGiven: test.given,
			openroutertest.NamesNormal:  test.normal,
		} {
			f := start(t, func(o *openroutertest.Options) { o.NameForm = form })
			name, err := json.Marshal(test.given)
			if err != nil {
				t.Fatal(err)
			}
			body := `{"name":` + string(name) + `}`
			a := f.call("POST", "keys", body, http.StatusCreated)
			hash := a.at("data", "hash").(string)
			other, _ := f.create(`{"name":"other"}`)
			for at, name := range map[string]any{
				"create": a.at("data", "name"),
				"update": f.call("PATCH", "keys/"+other, body, http.StatusOK).at("data", "name"),
				"get":    f.call("GET", "keys/"+hash, "", http.StatusOK).at("data", "name"),
				"list":   f.call("GET", "keys", "", http.StatusOK).at("data", 1, "name"),
				"Keys":   f.Keys()[0].Name,
			} {
				if name != want {
					t.Errorf("%s with %q, form %q: %q, want %q", at, test.given, form, name, want)
				}
			}
			if log := f.CallLog(); log[0].Name != test.given {
				t.Errorf("the log has %q, want %q", log[0].Name, test.given)
			}
		}
	}
}

func TestNameFormIsForNamesToCome(t *testing.T) {
	f := start(t)
	decomposed := `{"name":"e\u0301"}`
	f.create(decomposed)
	f.control("PUT", "names", `{"form":"normal"}`, http.StatusNoContent)
	hash, _ := f.create(decomposed)
	f.control("PUT", "names", `{"form":"given"}`, http.StatusNoContent)
	f.create(decomposed)
	f.call("PATCH", "keys/"+hash, `{"disabled":true}`, http.StatusOK) // mentions no name
	want := []string{"e\u0301", "\u00e9", "e\u0301"}
	for i, key := range f.Keys() {
		if key.Name != want[i] {
			t.Errorf("key %d is %q, want %q", i, key.Name, want[i])
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown form was accepted")
		}
	}()
	f.SetNameForm("nfd")
}
