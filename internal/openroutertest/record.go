package openroutertest

import (
	"net/http"
	"time"
)

// The API answers times in both forms: with a numeric offset what it recorded
// itself, with a Z what a client gave.
const (
	recordedTime = "2006-01-02T15:04:05.999999-07:00"
	givenTime    = "2006-01-02T15:04:05.999999Z"
)

// A record is a key as the API shows it.
type record struct {
	Hash         string  `json:"hash"`
	Name         string  `json:"name"`
	Disabled     bool    `json:"disabled"`
	CreatedAt    string  `json:"created_at"`
	UpdatedAt    *string `json:"updated_at"`
	meter                // always there
	*newerRecord         // nil with Options.OmitOptional
}

type newerRecord struct {
	newerMeter
	ExternalUser *string `json:"external_user"`
}

// A currentRecord is what GET /key shows of the key that asks.
type currentRecord struct {
	IsFreeTier          bool `json:"is_free_tier"`
	meter                    // always there
	*newerCurrentRecord      // nil with Options.OmitOptional
}

type newerCurrentRecord struct {
	newerMeter
	IsManagementKey        bool                   `json:"is_management_key"`
	IsProvisioningKey      bool                   `json:"is_provisioning_key"`
	OrganizationID         *string                `json:"organization_id"`
	AllowedDataRegions     []string               `json:"allowed_data_regions"`
	FreeModelDailyRequests freeModelDailyRequests `json:"free_model_daily_requests"`
	RateLimit              rateLimit              `json:"rate_limit"`
}

type freeModelDailyRequests struct {
	Limit     int `json:"limit"`
	Remaining int `json:"remaining"`
	Used      int `json:"used"`
}

type rateLimit struct {
	Interval string `json:"interval"`
	Note     string `json:"note"`
	Requests int    `json:"requests"`
}

// A meter holds the amounts, in credits, that every version of the API shows.
type meter struct {
	Label          string   `json:"label"`
	Limit          *float64 `json:"limit"`
	LimitRemaining *float64 `json:"limit_remaining"`
	Usage          float64  `json:"usage"`
}

// A newerMeter holds what later versions added.
type newerMeter struct {
	LimitReset         *string `json:"limit_reset"`
	IncludeBYOKInLimit bool    `json:"include_byok_in_limit"`
	UsageDaily         float64 `json:"usage_daily"`
	UsageWeekly        float64 `json:"usage_weekly"`
	UsageMonthly       float64 `json:"usage_monthly"`
	// With keys of one's own at the providers (BYOK) nothing is spent here.
	BYOKUsage        float64 `json:"byok_usage"`
	BYOKUsageDaily   float64 `json:"byok_usage_daily"`
	BYOKUsageWeekly  float64 `json:"byok_usage_weekly"`
	BYOKUsageMonthly float64 `json:"byok_usage_monthly"`
	CreatorUserID    string  `json:"creator_user_id"`
	WorkspaceID      string  `json:"workspace_id"`
	ExpiresAt        *string `json:"expires_at"`
}

// record shows a key with the usage of the given time.
func (s *Server) record(k *key, at time.Time) record {
	r := record{
		Hash:      k.Hash,
		Name:      k.Name,
		Disabled:  k.Disabled,
		CreatedAt: k.CreatedAt.Format(recordedTime),
		UpdatedAt: formatted(k.UpdatedAt, recordedTime),
		meter:     s.meter(k, at),
	}
	if !s.o.OmitOptional {
		r.newerRecord = &newerRecord{s.newerMeter(k, at), orNull(k.ExternalUser)}
	}
	return r
}

// currentKey shows the key it is asked with; that may be the provisioning key.
func (s *Server) currentKey(x *exchange) (any, error) {
	token := bearer(x.r)
	if token == "" {
		return nil, refuse(http.StatusUnauthorized, "No auth credentials found")
	}
	k := s.find(hashOf(token))
	provisioning := k == nil && token == s.o.ProvisioningKey
	if provisioning {
		// It is not one of the keys, and need not look like one.
		k = &key{Key: Key{Secret: secretPrefix + hashOf(token), WorkspaceID: defaultWorkspace}, creator: defaultCreator}
	}
	if k == nil {
		return nil, refuse(http.StatusUnauthorized, ErrKeyNotFound.Error())
	}
	if err := s.usable(k); err != nil {
		return nil, refuse(http.StatusUnauthorized, err.Error())
	}
	at := s.readAt(x)
	r := currentRecord{meter: s.meter(k, at)}
	if !s.o.OmitOptional {
		r.newerCurrentRecord = &newerCurrentRecord{
			newerMeter:             s.newerMeter(k, at),
			IsManagementKey:        provisioning,
			IsProvisioningKey:      provisioning,
			AllowedDataRegions:     []string{"global"},
			FreeModelDailyRequests: freeModelDailyRequests{Limit: 1000, Remaining: 1000},
			RateLimit:              rateLimit{Interval: "10s", Note: "This field is deprecated and safe to ignore.", Requests: -1},
		}
	}
	return map[string]any{"data": r}, nil
}

// meter reads a key. What remains is the limit less the usage of the present
// window, and may be negative.
func (s *Server) meter(k *key, at time.Time) meter {
	m := meter{Label: k.Label(), Usage: s.shown(k, "", at).Credits()}
	if k.Limit != nil {
		used := s.shown(k, k.LimitReset, at)
		remaining := (*k.Limit - used).Credits()
		if s.o.FloatNoise {
			remaining = k.Limit.Credits() - used.Credits()
		}
		m.Limit, m.LimitRemaining = new(k.Limit.Credits()), &remaining
	}
	return m
}

func (s *Server) newerMeter(k *key, at time.Time) newerMeter {
	return newerMeter{
		LimitReset:         orNull(k.LimitReset),
		IncludeBYOKInLimit: k.includeBYOK,
		UsageDaily:         s.shown(k, "daily", at).Credits(),
		UsageWeekly:        s.shown(k, "weekly", at).Credits(),
		UsageMonthly:       s.shown(k, "monthly", at).Credits(),
		CreatorUserID:      k.creator,
		WorkspaceID:        k.WorkspaceID,
		ExpiresAt:          formatted(k.ExpiresAt, givenTime),
	}
}

// formatted returns the time in the given layout, nil for the zero time.
func formatted(t time.Time, layout string) *string {
	if t.IsZero() {
		return nil
	}
	return new(t.Format(layout))
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
