package openroutertest

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// activityDays is how many completed UTC days the activity covers.
const activityDays = 30

// An activityRow sums the charges of one day, model and provider.
type activityRow struct {
	Date               string  `json:"date"`
	Model              string  `json:"model"`
	ModelPermaslug     string  `json:"model_permaslug"`
	EndpointID         string  `json:"endpoint_id"`
	ProviderName       string  `json:"provider_name"`
	Usage              Nano    `json:"usage"`
	BYOKUsageInference float64 `json:"byok_usage_inference"`
	Requests           int     `json:"requests"`
	PromptTokens       int     `json:"prompt_tokens"`
	CompletionTokens   int     `json:"completion_tokens"`
	ReasoningTokens    int     `json:"reasoning_tokens"`
}

// activity answers the rows of the last 30 completed UTC days, or of one of
// them (date), for all keys ever created, or for one (api_key_hash). Newest day
// first.
func (s *Server) activity(x *exchange) (any, error) {
	now := s.o.Now().UTC()
	today := windowStart("daily", now)
	from, to := today.AddDate(0, 0, -activityDays), today
	query := x.r.URL.Query()
	if date := query.Get("date"); date != "" {
		day, err := time.Parse(time.DateOnly, date)
		if err != nil {
			return nil, invalid("date", "must be YYYY-MM-DD")
		}
		if day.Before(from) || !day.Before(to) {
			return nil, invalid("date", "must be within the last 30 (completed) UTC days")
		}
		from, to = day, day.AddDate(0, 0, 1)
	}
	keys := s.keys
	if hash := query.Get("api_key_hash"); hash != "" {
		k := s.byHash[hash]
		if k == nil {
			return nil, refuse(http.StatusNotFound, "API key not found")
		}
		keys = []*key{k}
	}

	type group struct{ date, model, provider string }
	rows := map[group]*activityRow{}
	for _, k := range keys {
		for _, c := range k.charges {
			if c.at.Before(from) || !c.at.Before(to) || c.at.After(s.horizon(now)) {
				continue
			}
			g := group{c.at.Format(time.DateOnly), c.model, c.provider}
			row := rows[g]
			if row == nil {
				row = &activityRow{
					Date:           g.date,
					Model:          g.model,
					ModelPermaslug: g.model,
					EndpointID:     derivedID(g.model, g.provider),
					ProviderName:   g.provider,
				}
				rows[g] = row
			}
			row.Usage += c.amount
			row.Requests++
			row.PromptTokens += c.promptTokens
			row.CompletionTokens += c.completionTokens
		}
	}

	sorted := make([]*activityRow, 0, len(rows))
	for _, row := range rows {
		sorted = append(sorted, row)
	}
	slices.SortFunc(sorted, func(a, b *activityRow) int {
		return cmp.Or(
			cmp.Compare(b.Date, a.Date),
			cmp.Compare(a.Model, b.Model),
			cmp.Compare(a.ProviderName, b.ProviderName),
		)
	})
	return map[string]any{"data": sorted}, nil
}

// derivedID derives a UUID from the two that something connects.
func derivedID(a, b string) string {
	sum := sha256.Sum256([]byte(a + "|" + b))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// credits answers the purchased balance and what all keys have spent of it.
func (s *Server) credits(x *exchange) (any, error) {
	var used Nano
	for _, k := range s.keys {
		used += s.shown(k, "", s.readAt(x))
	}
	return map[string]any{"data": map[string]any{
		"total_credits": s.o.TotalCredits,
		"total_usage":   used,
	}}, nil
}
