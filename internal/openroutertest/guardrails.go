package openroutertest

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// A guardrail is what the API shows of one. It is enforced as far as tests need:
// by its allowed models, at inference. Guarded by Server.mu.
type guardrail struct {
	ID                   string   `json:"id"`
	Name                 string   `json:"name"`
	WorkspaceID          string   `json:"workspace_id"`
	LimitUSD             *Nano    `json:"limit_usd"`         // with ResetInterval only
	ResetInterval        *string  `json:"reset_interval"`    // daily, weekly or monthly
	AllowedModels        []string `json:"allowed_models"`    // none: any
	AllowedProviders     []string `json:"allowed_providers"` // none: any
	IncludeBYOKInBudgets bool     `json:"include_byok_in_budgets"`
	CreatedAt            string   `json:"created_at"`
	UpdatedAt            *string  `json:"updated_at"` // null until patched
}

func (g *guardrail) allows(model string) bool {
	return len(g.AllowedModels) == 0 || slices.Contains(g.AllowedModels, model)
}

// A keyAssignment is a key's guardrail as the API shows it.
type keyAssignment struct {
	ID          string `json:"id"`
	GuardrailID string `json:"guardrail_id"`
	KeyHash     string `json:"key_hash"`
	KeyName     string `json:"key_name"`
	KeyLabel    string `json:"key_label"`
	AssignedBy  string `json:"assigned_by"`
	CreatedAt   string `json:"created_at"`
}

type guardrailAnswer struct {
	Data guardrail `json:"data"`
}

func (s *Server) routeGuardrails() {
	for pattern, h := range map[string]handler{
		"POST /api/v1/guardrails":                      s.createGuardrail,
		"GET /api/v1/guardrails":                       s.listGuardrails,
		"GET /api/v1/guardrails/{id}":                  s.getGuardrail,
		"PATCH /api/v1/guardrails/{id}":                s.updateGuardrail,
		"DELETE /api/v1/guardrails/{id}":               s.deleteGuardrail,
		"GET /api/v1/guardrails/{id}/assignments/keys": s.listAssignments,
	} {
		s.mux.Handle(pattern, s.operation(OpGuardrails, s.managed(h)))
	}
	s.mux.Handle("POST /api/v1/guardrails/{id}/assignments/keys", s.operation(OpAssign, s.managed(s.assignKeys)))
}

// AddGuardrail creates a guardrail in the default workspace, as an operator
// would in the dashboard, and returns its ID. Without models it allows all.
func (s *Server) AddGuardrail(name string, allowedModels ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addGuardrail(guardrail{Name: name, AllowedModels: allowedModels}).ID
}

// addGuardrail completes and stores a guardrail. Server.mu is held.
func (s *Server) addGuardrail(g guardrail) *guardrail {
	s.guardrailsMade++
	g.ID = fmt.Sprintf("00000000-0000-4000-9000-%012d", s.guardrailsMade)
	g.WorkspaceID = cmp.Or(g.WorkspaceID, defaultWorkspace)
	g.CreatedAt = s.o.Now().UTC().Format(recordedTime)
	s.guardrails = append(s.guardrails, &g)
	return &g
}

// findGuardrail returns the guardrail with this ID, or nil. Server.mu is held.
func (s *Server) findGuardrail(id string) *guardrail {
	for _, g := range s.guardrails {
		if g.ID == id {
			return g
		}
	}
	return nil
}

// addressedGuardrail returns the guardrail that the path of a call names.
func (s *Server) addressedGuardrail(x *exchange) (*guardrail, error) {
	if g := s.findGuardrail(x.r.PathValue("id")); g != nil {
		return g, nil
	}
	return nil, refuse(http.StatusNotFound, "Guardrail not found")
}

func (s *Server) createGuardrail(x *exchange) (any, error) {
	var g guardrail
	var workspace optional[string]
	if err := readFields(x.body, []field{{"workspace_id", &workspace, false, "must be a string"}}); err != nil {
		return nil, err
	}
	if err := g.change(x.body); err != nil {
		return nil, err
	}
	g.WorkspaceID = workspace.or("")
	return guardrailAnswer{*s.addGuardrail(g)}, nil
}

func (s *Server) getGuardrail(x *exchange) (any, error) {
	g, err := s.addressedGuardrail(x)
	if err != nil {
		return nil, err
	}
	return guardrailAnswer{*g}, nil
}

func (s *Server) updateGuardrail(x *exchange) (any, error) {
	g, err := s.addressedGuardrail(x)
	if err != nil {
		return nil, err
	}
	changed := *g
	if err := changed.change(x.body); err != nil {
		return nil, err
	}
	changed.UpdatedAt = formatted(s.o.Now().UTC(), recordedTime)
	*g = changed
	return guardrailAnswer{*g}, nil
}

// change sets what the body mentions; null clears.
func (g *guardrail) change(body []byte) error {
	var name, interval optional[string]
	var limit optional[float64]
	var models, providers optional[[]string]
	var byok optional[bool]
	err := readFields(body, []field{
		{"name", &name, false, "must be a string"},
		{"limit_usd", &limit, true, "must be a number or null"},
		{"reset_interval", &interval, true, "must be daily, weekly, monthly or null"},
		{"allowed_models", &models, true, "must be an array of strings or null"},
		{"allowed_providers", &providers, true, "must be an array of strings or null"},
		{"include_byok_in_budgets", &byok, false, "must be true or false"},
	})
	if err != nil {
		return err
	}
	g.Name = name.or(g.Name)
	g.IncludeBYOKInBudgets = byok.or(g.IncludeBYOKInBudgets)
	if limit.present {
		if g.LimitUSD, err = limitOf(limit.value); err != nil {
			return invalid("limit_usd", err.Error())
		}
	}
	if interval.present {
		g.ResetInterval = interval.value
	}
	if models.present {
		g.AllowedModels = models.or(nil)
	}
	if providers.present {
		g.AllowedProviders = providers.or(nil)
	}
	switch {
	case g.Name == "":
		return invalid("name", "must not be empty")
	case g.ResetInterval != nil && !isInterval(*g.ResetInterval):
		return invalid("reset_interval", "must be daily, weekly, monthly or null")
	case g.LimitUSD != nil && g.ResetInterval == nil:
		return invalid("reset_interval", "is required with limit_usd")
	}
	return nil
}

// deleteGuardrail leaves the keys of the guardrail without one.
func (s *Server) deleteGuardrail(x *exchange) (any, error) {
	g, err := s.addressedGuardrail(x)
	if err != nil {
		return nil, err
	}
	s.guardrails = slices.DeleteFunc(s.guardrails, func(other *guardrail) bool { return other == g })
	for _, k := range s.keys {
		if k.GuardrailID == g.ID {
			k.GuardrailID = ""
		}
	}
	return map[string]bool{"deleted": true}, nil
}

// listGuardrails answers the guardrails of one workspace, the oldest first.
func (s *Server) listGuardrails(x *exchange) (any, error) {
	query := x.r.URL.Query()
	workspace := cmp.Or(query.Get("workspace_id"), defaultWorkspace)
	all := []guardrail{}
	for _, g := range s.guardrails {
		if g.WorkspaceID == workspace {
			all = append(all, *g)
		}
	}
	return pageOf(all, query)
}

// assignKeys gives every key named the guardrail, in the place of any other, or
// none of them where one is unknown. assigned_count counts those that had it
// before, too.
func (s *Server) assignKeys(x *exchange) (any, error) {
	g, err := s.addressedGuardrail(x)
	if err != nil {
		return nil, err
	}
	var hashes optional[[]string]
	if err := readFields(x.body, []field{{"key_hashes", &hashes, false, "must be an array of strings"}}); err != nil {
		return nil, err
	}
	keys := map[*key]bool{}
	for i, hash := range hashes.or(nil) {
		if i == 0 {
			x.call.Hash = hash
		}
		k := s.find(hash)
		if k == nil {
			return nil, invalid("key_hashes", "has an unknown key")
		}
		keys[k] = true
	}
	if len(keys) == 0 {
		return nil, invalid("key_hashes", "must name at least one key")
	}
	for k := range keys {
		k.GuardrailID, k.assignedAt = g.ID, s.o.Now().UTC()
	}
	return map[string]int{"assigned_count": len(keys)}, nil
}

// listAssignments answers the guardrail's keys, the oldest key first.
func (s *Server) listAssignments(x *exchange) (any, error) {
	g, err := s.addressedGuardrail(x)
	if err != nil {
		return nil, err
	}
	all := []keyAssignment{}
	for _, k := range s.keys {
		if k.GuardrailID == g.ID && !k.Deleted {
			all = append(all, keyAssignment{
				ID:          derivedID(g.ID, k.Hash),
				GuardrailID: g.ID,
				KeyHash:     k.Hash,
				KeyName:     k.Name,
				KeyLabel:    k.Label(),
				AssignedBy:  defaultCreator,
				CreatedAt:   k.assignedAt.Format(recordedTime),
			})
		}
	}
	return pageOf(all, x.r.URL.Query())
}

const (
	pageLimit    = 50 // of guardrails and assignments, unless asked
	maxPageLimit = 100
)

// pageOf answers the page of all that offset and limit of the query ask for.
func pageOf[T any](all []T, query url.Values) (any, error) {
	offset, err := strconv.Atoi(cmp.Or(query.Get("offset"), "0"))
	if err != nil || offset < 0 {
		return nil, invalid("offset", "must be a whole number from 0")
	}
	limit, err := strconv.Atoi(cmp.Or(query.Get("limit"), strconv.Itoa(pageLimit)))
	if err != nil || limit < 1 || limit > maxPageLimit {
		return nil, invalid("limit", fmt.Sprintf("must be a whole number from 1 to %d", maxPageLimit))
	}
	page := all[min(offset, len(all)):]
	return map[string]any{"data": page[:min(limit, len(page))], "total_count": len(all)}, nil
}
