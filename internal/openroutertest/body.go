package openroutertest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// An optional is a field of a request body in its three states: absent, null
// (present without a value) and given.
type optional[T any] struct {
	present bool
	value   *T
}

// UnmarshalJSON is called for a field that is present, null included.
func (o *optional[T]) UnmarshalJSON(b []byte) error {
	o.present = true
	return json.Unmarshal(b, &o.value)
}

// or returns the value, or otherwise where there is none.
func (o optional[T]) or(otherwise T) T {
	if o.value == nil {
		return otherwise
	}
	return *o.value
}

// A field is one of a request body, and what is said of a bad value.
type field struct {
	name     string
	into     json.Unmarshaler
	nullable bool
	problem  string
}

// readFields reads a body that is a JSON object. Unknown fields are ignored, and
// so are, unlike with struct tags, known ones in the wrong case.
func readFields(body []byte, fields []field) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil || raw == nil {
		return refuse(http.StatusBadRequest, "Body must be a JSON object")
	}
	for _, f := range fields {
		value, present := raw[f.name]
		if !present {
			continue
		}
		if err := f.into.UnmarshalJSON(value); err != nil || string(value) == "null" && !f.nullable {
			return invalid(f.name, f.problem)
		}
	}
	return nil
}

// isInterval reports whether limits can be reset that often.
func isInterval(reset string) bool {
	return reset == "daily" || reset == "weekly" || reset == "monthly"
}

type external struct {
	User string `json:"user"`
}

// keyBody is the body of a create or an update. Every field is optional here.
type keyBody struct {
	name          optional[string]
	disabled      optional[bool]
	limit         optional[Nano]
	limitReset    optional[string]
	includeBYOK   optional[bool]
	expiresAt     optional[time.Time]
	external      optional[external]
	creatorUserID optional[string]
	workspaceID   optional[string]
}

// parseKeyBody reads and checks a body.
func parseKeyBody(body []byte) (keyBody, error) {
	var b keyBody
	var limit optional[float64]
	var expiresAt optional[string]
	err := readFields(body, []field{
		{"name", &b.name, false, "must be a string"},
		{"disabled", &b.disabled, false, "must be true or false"},
		{"limit", &limit, true, "must be a number or null"},
		{"limit_reset", &b.limitReset, true, "must be daily, weekly, monthly or null"},
		{"include_byok_in_limit", &b.includeBYOK, false, "must be true or false"},
		{"expires_at", &expiresAt, true, "must be a string or null"},
		{"external", &b.external, false, "must be an object"},
		{"creator_user_id", &b.creatorUserID, true, "must be a string or null"},
		{"workspace_id", &b.workspaceID, false, "must be a string"},
	})
	if err != nil {
		return keyBody{}, err
	}
	if b.name.present && b.name.or("") == "" {
		return keyBody{}, invalid("name", "must not be empty")
	}
	nanoLimit, err := limitOf(limit.value)
	if err != nil {
		return keyBody{}, invalid("limit", err.Error())
	}
	b.limit = optional[Nano]{limit.present, nanoLimit}
	if !isInterval(b.limitReset.or("daily")) {
		return keyBody{}, invalid("limit_reset", "must be daily, weekly, monthly or null")
	}
	b.expiresAt.present = expiresAt.present
	if expiresAt.value != nil {
		// RFC 3339 requires the seconds; the Z is OpenRouter's own demand.
		t, err := time.Parse(time.RFC3339, *expiresAt.value)
		if err != nil || !strings.HasSuffix(*expiresAt.value, "Z") {
			return keyBody{}, invalid("expires_at", "must be an ISO 8601 UTC time with seconds: YYYY-MM-DDTHH:MM:SSZ")
		}
		b.expiresAt.value = &t
	}
	if b.external.present && b.external.value.User == "" {
		return keyBody{}, invalid("external.user", "is required")
	}
	return b, nil
}
