package openroutertest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	"latchkey/internal/openroutertest"
)

func TestRemainingIsLimitLessUsage(t *testing.T) {
	for _, test := range []struct {
		limit     string
		spends    []float64
		usage     string
		remaining string
	}{
		{`1`, nil, `0`, `1`},
		{`1`, []float64{0.4}, `0.4`, `0.6`},
		{`1`, []float64{0.1, 0.2}, `0.3`, `0.7`},
		{`1`, []float64{0.9, 0.9}, `1.8`, `-0.8`},
		{`1`, []float64{0.999999999}, `0.999999999`, `1e-9`},
		{`0.000001`, []float64{0}, `0`, `0.000001`},
		{`0.3`, []float64{0.1, 0.1, 0.1}, `0.3`, `0`},
		{`1000000`, []float64{0.123456789}, `0.123456789`, `999999.876543211`},
		{`null`, []float64{7}, `7`, `null`},
	} {
		t.Run(fmt.Sprint(test.limit, test.spends), func(t *testing.T) {
			f := start(t)
			hash, secret := f.create(`{"name":"a","limit":` + test.limit + `}`)
			for _, credits := range test.spends {
				f.spend(secret, credits)
			}
			a := f.call("GET", "keys/"+hash, "", http.StatusOK)
			a.want(test.usage, "data", "usage")
			a.want(test.remaining, "data", "limit_remaining")
		})
	}
}

func TestFloatNoiseShowsInWhatRemains(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.FloatNoise = true })
	hash, secret := f.create(`{"name":"a","limit":1}`)
	f.spend(secret, 0.9)
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("0.09999999999999998", "data", "limit_remaining")
}

func TestSpendEnforcesWhatWasSpentBefore(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	_, capped := f.create(`{"name":"capped","limit":0}`)
	_, expiring := f.create(`{"name":"expiring","expires_at":"2026-08-12T13:00:00Z"}`)
	f.spend(expiring, 1)
	f.spend(secret, 0.999999999)
	f.spend(secret, 5) // overshoots
	f.clock.Advance(time.Hour)

	for _, test := range []struct {
		secret string
		want   error
	}{
		{secret, openroutertest.ErrLimitExceeded},
		{capped, openroutertest.ErrLimitExceeded},
		{expiring, openroutertest.ErrKeyExpired},
		{"none", openroutertest.ErrKeyNotFound},
	} {
		if err := f.Spend(test.secret, 0.1); !errors.Is(err, test.want) {
			t.Errorf("Spend: %v, want %v", err, test.want)
		}
	}
	if err := f.SetDisabled(hash, true); err != nil {
		t.Fatal(err)
	}
	if err := f.Spend(secret, 0.1); !errors.Is(err, openroutertest.ErrKeyDisabled) {
		t.Errorf("Spend: %v", err)
	}
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("5.999999999", "data", "usage")
}

func TestSpendUpToEmptiesAKeyExactly(t *testing.T) {
	for name, test := range map[string]struct {
		limit     string
		spent     float64 // before
		credits   float64
		want      openroutertest.Nano
		remaining string
	}{
		"all of it":            {`1`, 0.25, 5, 750_000_000, `0`},
		"to the last nano":     {`1`, 0.999999999, 1, 1, `0`},
		"no more than asked":   {`1`, 0.25, 0.5, 500_000_000, `0.25`},
		"nothing":              {`1`, 0.25, 0, 0, `0.75`},
		"without a limit":      {`null`, 0.25, 5, 5_000_000_000, `null`},
		"of the present month": {`1,"limit_reset":"monthly"`, 0.25, 5, 750_000_000, `0`},
	} {
		for _, direct := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " direct ", direct), func(t *testing.T) {
				f := start(t)
				hash, secret := f.create(`{"name":"a","limit":` + test.limit + `}`)
				f.spend(secret, test.spent)
				if direct {
					if got, err := f.SpendUpTo(secret, test.credits); got != test.want || err != nil {
						t.Errorf("SpendUpTo: %d, %v, want %d", got, err, test.want)
					}
				} else {
					f.control("POST", "spend", fmt.Sprintf(`{"hash":%q,"credits":%v,"partial":true}`, hash, test.credits), http.StatusNoContent)
				}
				f.call("GET", "keys/"+hash, "", http.StatusOK).want(test.remaining, "data", "limit_remaining")
				if test.remaining != "0" {
					return
				}
				if got, err := f.SpendUpTo(secret, 1); got != 0 || !errors.Is(err, openroutertest.ErrLimitExceeded) {
					t.Errorf("SpendUpTo an empty key: %d, %v", got, err)
				}
				f.control("POST", "spend", `{"key":"`+secret+`","credits":1,"partial":true}`, http.StatusForbidden)
			})
		}
	}
}

func TestExpiredKeyIsRefusedAtInference(t *testing.T) {
	f := start(t)
	_, secret := f.create(`{"name":"a","expires_at":"2026-08-12T13:00:00Z"}`)
	for _, step := range []struct {
		wait   time.Duration
		status int
	}{
		{time.Hour - 124*time.Millisecond, http.StatusOK},
		{124 * time.Millisecond, http.StatusUnauthorized},
		{24 * time.Hour, http.StatusUnauthorized},
	} {
		f.clock.Advance(step.wait)
		f.callAs(secret, "POST", "chat/completions", `{}`, step.status)
		f.callAs(secret, "GET", "key", "", step.status)
	}
	f.call("GET", "keys", "", http.StatusOK).want(`[]`, "data")
	f.call("GET", "keys?include_disabled=true", "", http.StatusOK).want(`"a"`, "data", 0, "name")
}

func TestSpendRefusesWhatIsNoAmount(t *testing.T) {
	f := start(t)
	_, secret := f.create(`{"name":"a"}`)
	for _, credits := range []float64{-0.1, math.NaN(), math.Inf(1), 1e10} {
		if err := f.Spend(secret, credits); err == nil {
			t.Errorf("%v was spent", credits)
		}
	}
}

func TestRaisedLimitAllowsToSpendAgain(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	f.spend(secret, 1)
	if err := f.Spend(secret, 0.1); !errors.Is(err, openroutertest.ErrLimitExceeded) {
		t.Fatalf("Spend: %v", err)
	}
	f.call("PATCH", "keys/"+hash, `{"limit":2}`, http.StatusOK)
	f.spend(secret, 0.1)
}

func TestUsageShowsLateButLimitsHoldAtOnce(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.UsageLag = 35 * time.Second })
	hash, secret := f.create(`{"name":"a","limit":1}`)
	f.spend(secret, 0.4)
	f.clock.Advance(20 * time.Second)
	f.spend(secret, 0.6)
	if err := f.Spend(secret, 0.1); !errors.Is(err, openroutertest.ErrLimitExceeded) {
		t.Errorf("Spend: %v", err)
	}
	for _, step := range []struct {
		wait             time.Duration
		usage, remaining string
	}{
		{0, "0", "1"},
		{15*time.Second - 1, "0", "1"},
		{1, "0.4", "0.6"},
		{20 * time.Second, "1", "0"},
	} {
		f.clock.Advance(step.wait)
		a := f.call("GET", "keys/"+hash, "", http.StatusOK)
		a.want(step.usage, "data", "usage")
		a.want(step.usage, "data", "usage_daily")
		a.want(step.remaining, "data", "limit_remaining")
		f.call("GET", "credits", "", http.StatusOK).want(step.usage, "data", "total_usage")
	}
	f.SetUsageLag(time.Hour)
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("0", "data", "usage")
	if usage := f.Keys()[0].Usage; usage != 1_000_000_000 {
		t.Errorf("Key.Usage lags: %d", usage)
	}
}

// The clock starts on Wednesday, 12 August, at noon.
func TestLimitWindowsResetByTheClock(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		reset  string
		stays  time.Duration // still the same window
		starts time.Duration // a new window
	}{
		{"daily", 12*time.Hour - time.Second, 12 * time.Hour},
		{"weekly", 5*day - 12*time.Hour - time.Second, 5*day - 12*time.Hour}, // Monday, 17 August
		{"monthly", 20*day - 12*time.Hour - time.Second, 20*day - 12*time.Hour},
	} {
		t.Run(test.reset, func(t *testing.T) {
			f := start(t, func(o *openroutertest.Options) {
				now := o.Now
				o.Now = func() time.Time { return now().Truncate(time.Second) }
			})
			hash, secret := f.create(`{"name":"a","limit":1,"limit_reset":"` + test.reset + `"}`)
			f.spend(secret, 1.5)
			f.clock.Advance(test.stays)
			f.call("GET", "keys/"+hash, "", http.StatusOK).want("-0.5", "data", "limit_remaining")
			err := f.Spend(secret, 0.1)
			if want := "Key limit exceeded (" + test.reset + " limit)"; err == nil || err.Error() != want {
				t.Errorf("Spend: %v, want %s", err, want)
			}
			f.clock.Advance(test.starts - test.stays)
			a := f.call("GET", "keys/"+hash, "", http.StatusOK)
			a.want("1", "data", "limit_remaining")
			a.want("1.5", "data", "usage")
			a.want("0", "data", "usage_"+test.reset)
			f.spend(secret, 0.1)
		})
	}
}

func TestInferenceChargesTheKey(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a","limit":1}`)
	chat := func(token, body string, status int) answer {
		t.Helper()
		return f.callAs(token, "POST", "chat/completions", body, status)
	}
	a := chat(secret, `{"model":"m","cost":0.4,"messages":[]}`, http.StatusOK)
	a.want("0.4", "usage", "cost")
	a.want(`"m"`, "model")
	a.want(`"chat.completion"`, "object")
	a.want(`"ok"`, "choices", 0, "message", "content")
	chat(secret, `{}`, http.StatusOK).want("0.01", "usage", "cost")
	f.call("GET", "keys/"+hash, "", http.StatusOK).want("0.59", "data", "limit_remaining")

	for _, body := range []string{``, `{"cost":-1}`, `{"cost":"1"}`, `{"model":1}`} {
		chat(secret, body, http.StatusBadRequest)
	}
	for _, token := range []string{"", "sk-or-v1-none", provisioningKey} {
		chat(token, `{}`, http.StatusUnauthorized)
	}
	chat(secret, `{"cost":2}`, http.StatusOK) // overshoots
	chat(secret, `{}`, http.StatusForbidden).want(`"Key limit exceeded (total limit)"`, "error", "message")
	f.call("PATCH", "keys/"+hash, `{"limit":null,"disabled":true}`, http.StatusOK)
	chat(secret, `{}`, http.StatusUnauthorized)
	f.call("PATCH", "keys/"+hash, `{"disabled":false}`, http.StatusOK)
	chat(secret, `{}`, http.StatusOK)
	f.call("DELETE", "keys/"+hash, "", http.StatusOK)
	chat(secret, `{}`, http.StatusUnauthorized)
}

func TestActivitySumsCompletedDays(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a"}`)
	other, otherSecret := f.create(`{"name":"b"}`)
	chat := func(secret, model string, cost float64) {
		t.Helper()
		f.callAs(secret, "POST", "chat/completions", fmt.Sprintf(`{"model":%q,"cost":%v,"provider_name":"P"}`, model, cost), http.StatusOK)
	}
	chat(secret, "m1", 0.1) // 12 August
	chat(secret, "m1", 0.2)
	chat(otherSecret, "m2", 1)
	f.clock.Advance(24 * time.Hour)
	chat(otherSecret, "m1", 3) // 13 August
	f.call("DELETE", "keys/"+other, "", http.StatusOK)

	rows := func(query string) string {
		t.Helper()
		var body struct {
			Data []struct {
				Date, Model string
				Usage       json.Number
				Requests    int
			}
		}
		if err := json.Unmarshal([]byte(f.call("GET", "activity"+query, "", http.StatusOK).body), &body); err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, row := range body.Data {
			text += fmt.Sprintf("%s %s %s %d|", row.Date[5:], row.Model, row.Usage, row.Requests)
		}
		return text
	}
	if got, want := rows(""), "08-12 m1 0.3 2|08-12 m2 1 1|"; got != want {
		t.Errorf("on the 13th: %q, want %q", got, want)
	}
	f.clock.Advance(24 * time.Hour)
	for query, want := range map[string]string{
		"":                       "08-13 m1 3 1|08-12 m1 0.3 2|08-12 m2 1 1|",
		"?date=2026-08-13":       "08-13 m1 3 1|",
		"?date=2026-08-01":       "",
		"?api_key_hash=" + hash:  "08-12 m1 0.3 2|",
		"?api_key_hash=" + other: "08-13 m1 3 1|08-12 m2 1 1|",
	} {
		if got := rows(query); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	row := f.call("GET", "activity?date=2026-08-13", "", http.StatusOK)
	row.want(`"m1"`, "data", 0, "model_permaslug")
	row.want(`"P"`, "data", 0, "provider_name")
	row.want(`8`, "data", 0, "prompt_tokens")
	row.want(`4`, "data", 0, "completion_tokens")
	row.want(`0`, "data", 0, "byok_usage_inference")

	for query, status := range map[string]int{
		"?date=2026-08-14":   http.StatusBadRequest, // today
		"?date=2026-07-14":   http.StatusBadRequest, // too old
		"?date=yesterday":    http.StatusBadRequest,
		"?api_key_hash=none": http.StatusNotFound,
	} {
		f.call("GET", "activity"+query, "", status)
	}
	f.clock.Advance(28 * 24 * time.Hour) // 11 September
	if got, want := rows(""), "08-13 m1 3 1|08-12 m1 0.3 2|08-12 m2 1 1|"; got != want {
		t.Errorf("after 30 days: %q, want %q", got, want)
	}
	f.clock.Advance(24 * time.Hour)
	if got, want := rows(""), "08-13 m1 3 1|"; got != want {
		t.Errorf("after 31 days: %q, want %q", got, want)
	}
}

func TestCreditsCountDeletedKeysToo(t *testing.T) {
	f := start(t, func(o *openroutertest.Options) { o.TotalCredits = 25 })
	hash, secret := f.create(`{"name":"a"}`)
	f.spend(secret, 1.25)
	f.call("DELETE", "keys/"+hash, "", http.StatusOK)
	f.call("GET", "credits", "", http.StatusOK).want(`{"total_credits":25,"total_usage":1.25}`, "data")
}
