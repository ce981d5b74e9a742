package openrouter

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/seal"
)

// Admin is a [Client] for an operator, which the Worker does not need: it reads
// all that OpenRouter tells, and repeats calls.
type Admin struct {
	Client
	// Wait is called before a call is repeated: after the tries-th one failed
	// with e. It returns nil once the time has come for the next one, or an
	// error to leave it at e. Nil: nothing is repeated.
	Wait func(e *Error, tries int) error
}

// call is [Client.call], repeated where that can do no harm. A create is not
// repeated unless it surely had no effect: the second would make a second key.
func (a Admin) call(op, method, path string, in, out any) error {
	for tries := 1; ; tries++ {
		err := a.Client.call(op, method, path, in, out)
		var e *Error
		if !errors.As(err, &e) || e.Kind != Unavailable || e.Uncertain && op == "create" {
			return err
		}
		if a.Wait == nil || a.Wait(e, tries) != nil {
			return err
		}
	}
}

// Amount is money as OpenRouter reports it. Unlike [account.Credits] it may be
// beyond [account.MaxCredits], and is not exact there: an operator has to be
// able to see keys with any limit.
type Amount struct{ account.Credits }

// UnmarshalJSON reads a JSON number of credits.
func (a *Amount) UnmarshalJSON(data []byte) error {
	var credits float64
	if err := json.Unmarshal(data, &credits); err != nil {
		return err
	}
	const most = 9_000_000_000 // credits; an int64 of nano-credits holds a few more
	a.Credits = account.Credits(math.Round(min(max(credits, -most), most) * float64(account.Credit)))
	return nil
}

// The windows in which a limit is counted anew; "" is none.
const (
	Daily   = "daily"
	Weekly  = "weekly"
	Monthly = "monthly"
)

// KeyRecord is all that OpenRouter tells of a key, except what it keeps about
// the keys of the providers (BYOK).
type KeyRecord struct {
	Hash         string    `json:"hash"`
	Name         string    `json:"name"`
	Label        string    `json:"label"` // the key with its middle left out
	Disabled     bool      `json:"disabled"`
	Limit        *Amount   `json:"limit"`           // nil: none
	Remaining    *Amount   `json:"limit_remaining"` // nil: no limit; below 0 where it was overdrawn
	LimitReset   string    `json:"limit_reset,omitempty"`
	Usage        Amount    `json:"usage"`
	UsageDaily   Amount    `json:"usage_daily"`
	UsageWeekly  Amount    `json:"usage_weekly"`
	UsageMonthly Amount    `json:"usage_monthly"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at,omitzero"` // zero: never
	ExpiresAt    time.Time `json:"expires_at,omitzero"` // zero: never
	ExternalUser string    `json:"external_user,omitempty"`
}

// EachRecord visits every key of the account once, newest first; disabled and
// expired ones only on request. It ends with the first error, of its own or of
// visit.
func (a Admin) EachRecord(disabledToo bool, visit func(KeyRecord) error) error {
	get := func(path string, out any) error { return a.call("list", http.MethodGet, path, nil, out) }
	seen := map[string]bool{}
	return walk(get, a.listPath(disabledToo), func(key KeyRecord) string { return key.Hash }, func(key KeyRecord) error {
		if seen[key.Hash] {
			return nil
		}
		seen[key.Hash] = true
		return visit(key)
	})
}

// Record reads a key.
func (a Admin) Record(hash string) (KeyRecord, error) {
	return a.record("get", http.MethodGet, hash, nil)
}

// SetDisabled disables or enables a key. Unlike [Client.Disable] it fails for
// one that is gone.
func (a Admin) SetDisabled(hash string, disabled bool) (KeyRecord, error) {
	key, err := a.record("update", http.MethodPatch, hash, struct {
		Disabled bool `json:"disabled"`
	}{disabled})
	if err == nil && key.Disabled != disabled {
		return key, &Error{Op: "update", Kind: Unavailable, Uncertain: true, Reason: "the answer does not say that the key is " + map[bool]string{true: "disabled", false: "enabled"}[disabled]}
	}
	return key, err
}

func (a Admin) record(op, method, hash string, body any) (KeyRecord, error) {
	var got struct {
		Data KeyRecord `json:"data"`
	}
	path, err := keyPath(op, hash)
	if err != nil {
		return KeyRecord{}, err
	}
	if err := a.call(op, method, path, body, &got); err != nil {
		return KeyRecord{}, err
	}
	if got.Data.Hash != hash {
		return KeyRecord{}, &Error{Op: op, Kind: Unavailable, Uncertain: body != nil, Reason: "the answer is about another key"}
	}
	return got.Data, nil
}

// Delete deletes a key. One that is gone already counts as deleted.
func (a Admin) Delete(hash string) error {
	path, err := keyPath("delete", hash)
	if err == nil {
		err = a.call("delete", http.MethodDelete, path, nil, &deletion{})
	}
	return unlessGone(err)
}

// Create is [Client.Create], repeated where that can do no harm.
func (a Admin) Create(key NewKey) (seal.Secret, string, error) { return a.create(a.call, key) }

// ActivityRow sums what one endpoint did on one day. An endpoint is a model at
// a provider.
type ActivityRow struct {
	Date             string `json:"date"` // YYYY-MM-DD
	Model            string `json:"model"`
	Endpoint         string `json:"endpoint_id"`
	Provider         string `json:"provider_name"`
	Usage            Amount `json:"usage"`
	Requests         int64  `json:"requests"`
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"completion_tokens"`
	ReasoningTokens  int64  `json:"reasoning_tokens"`

	Key string `json:"-"` // its hash, where one key's activity was asked for
}

// Activity reads what was done on a day (YYYY-MM-DD), or with "" in the last 30
// completed days, all in UTC.
func (a Admin) Activity(date string) ([]ActivityRow, error) {
	if date == "" {
		return a.activity(nil)
	}
	return a.activity(url.Values{"date": {date}})
}

// KeyActivity reads what was done with one key in the last 30 completed days, deleted
// since or not. A key that OpenRouter does not know is [Gone].
func (a Admin) KeyActivity(hash string) ([]ActivityRow, error) {
	rows, err := a.activity(url.Values{"api_key_hash": {hash}})
	for i := range rows {
		rows[i].Key = hash
	}
	return rows, err
}

func (a Admin) activity(filter url.Values) ([]ActivityRow, error) {
	path := "/activity"
	if len(filter) > 0 {
		path += "?" + filter.Encode()
	}
	var got struct {
		Data []ActivityRow `json:"data"`
	}
	if err := a.call("activity", http.MethodGet, path, nil, &got); err != nil {
		return nil, err
	}
	if got.Data == nil {
		return nil, &Error{Op: "activity", Kind: Unavailable, Reason: "the answer has no list"}
	}
	for i, row := range got.Data {
		got.Data[i].Date = row.Date[:min(len(row.Date), len(time.DateOnly))] // it may have a time behind it
	}
	return got.Data, nil
}

// Credits reads what was ever bought, and what was used of it.
func (a Admin) Credits() (total, used Amount, err error) {
	var got struct {
		Data struct {
			Total *Amount `json:"total_credits"`
			Used  *Amount `json:"total_usage"`
		} `json:"data"`
	}
	if err := a.call("credits", http.MethodGet, "/credits", nil, &got); err != nil {
		return Amount{}, Amount{}, err
	}
	if got.Data.Total == nil || got.Data.Used == nil {
		return Amount{}, Amount{}, &Error{Op: "credits", Kind: Unavailable, Reason: "the answer has no amounts"}
	}
	return *got.Data.Total, *got.Data.Used, nil
}
