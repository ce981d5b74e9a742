package openrouter

import (
	"fmt"
	"net/http"
	"net/url"

	"latchkey/internal/account"
)

// Guardrail says what the keys that are assigned to it may be used for. What is nil
// or empty restricts nothing.
type Guardrail struct {
	ID               string   `json:"id"`
	Name             string   `json:"name"`
	Description      string   `json:"description,omitempty"`
	Workspace        string   `json:"workspace_id"`
	Limit            *Amount  `json:"limit_usd"`      // for each key, in each interval
	Interval         string   `json:"reset_interval"` // daily, weekly, monthly or ""
	AllowedModels    []string `json:"allowed_models"`
	IgnoredModels    []string `json:"ignored_models"`
	AllowedProviders []string `json:"allowed_providers"`
	IgnoredProviders []string `json:"ignored_providers"`
}

// Guardrails reads all guardrails of the workspace, in the order in which OpenRouter
// lists them.
func (a Admin) Guardrails() ([]Guardrail, error) {
	const page = 100 // the most that OpenRouter gives
	all, seen := []Guardrail{}, map[string]bool{}
	for offset := 0; ; offset += page {
		query := url.Values{"offset": {fmt.Sprint(offset)}, "limit": {fmt.Sprint(page)}}
		if a.Workspace != "" {
			query.Set("workspace_id", a.Workspace)
		}
		var got struct {
			Data []Guardrail `json:"data"`
		}
		if err := a.call("guardrails", http.MethodGet, "/guardrails?"+query.Encode(), nil, &got); err != nil {
			return nil, err
		}
		if got.Data == nil {
			return nil, &Error{Op: "guardrails", Kind: Unavailable, Reason: "the answer has no list"}
		}
		fresh := false
		for _, g := range got.Data {
			if !seen[g.ID] {
				all, seen[g.ID], fresh = append(all, g), true, true
			}
		}
		// Where offset is ignored, a page has nothing new.
		if len(got.Data) < page || !fresh {
			return all, nil
		}
	}
}

// Guardrail reads one guardrail.
func (a Admin) Guardrail(id string) (Guardrail, error) {
	var got struct {
		Data Guardrail `json:"data"`
	}
	if err := a.call("guardrail", http.MethodGet, "/guardrails/"+url.PathEscape(id), nil, &got); err != nil {
		return Guardrail{}, err
	}
	if got.Data.ID != id {
		return Guardrail{}, &Error{Op: "guardrail", Kind: Unavailable, Reason: "the answer is about another guardrail"}
	}
	return got.Data, nil
}

// Assign is [Client.Assign], repeated where OpenRouter is not available.
func (a Admin) Assign(guardrail, hash string) error { return a.assign(a.call, guardrail, hash) }

// SetLimit changes the limit of a key, and with reset not nil the window in which it
// is counted, "" being none.
func (a Admin) SetLimit(hash string, limit account.Credits, reset *string) (KeyRecord, error) {
	body := map[string]any{"limit": limit}
	if reset != nil {
		body["limit_reset"] = nil
		if *reset != "" {
			body["limit_reset"] = *reset
		}
	}
	key, err := a.record("update", http.MethodPatch, hash, body)
	if err == nil && (key.Limit == nil || key.Limit.Credits != limit) {
		return key, &Error{Op: "update", Kind: Unavailable, Uncertain: true, Reason: "the answer is about a key with another limit"}
	}
	return key, err
}
