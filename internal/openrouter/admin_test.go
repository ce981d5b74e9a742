package openrouter

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openroutertest"
)

// adminOf returns an Admin that repeats a call up to three times, and what it
// was asked to wait for.
func adminOf(c Client) (Admin, *[]time.Duration) {
	var waits []time.Duration
	return Admin{Client: c, Wait: func(e *Error, tries int) error {
		if tries >= 3 {
			return errors.New("enough")
		}
		waits = append(waits, e.RetryAfter)
		return nil
	}}, &waits
}

// adminOperations are the calls of an Admin, with nothing but the error.
var adminOperations = map[string]func(Admin) error{
	"create":   func(a Admin) error { _, _, err := a.Create(NewKey{Name: "name"}); return err },
	"get":      func(a Admin) error { _, err := a.Record(userKeyHash); return err },
	"update":   func(a Admin) error { _, err := a.SetDisabled(userKeyHash, true); return err },
	"delete":   func(a Admin) error { return a.Delete(userKeyHash) },
	"list":     func(a Admin) error { return a.EachRecord(true, func(KeyRecord) error { return nil }) },
	"activity": func(a Admin) error { _, err := a.Activity(""); return err },
	"credits":  func(a Admin) error { _, _, err := a.Credits(); return err },
}

func TestAdminCreateSendsWhatIsAskedFor(t *testing.T) {
	limit := account.Credits(0)
	for want, key := range map[string]NewKey{
		`{"name":"n","limit":null}`: {Name: "n"},
		`{"name":"n","limit":0}`:    {Name: "n", Limit: &limit},
		`{"name":"n","limit":0,"limit_reset":"weekly","expires_at":"2027-01-31T17:00:00Z"}`: {Name: "n", Limit: &limit, LimitReset: Weekly,
			ExpiresAt: time.Date(2027, 1, 31, 18, 0, 0, 5, time.FixedZone("", 3600))},
	} {
		var sent string
		s, c := standIn()
		c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			var raw json.RawMessage
			if err := json.NewDecoder(body).Decode(&raw); err != nil {
				return nil, err
			}
			sent = string(raw)
			return s.RoundTrip(r)
		})
		admin, _ := adminOf(c)
		secret, hash, err := admin.Create(key)
		if err != nil || sent != want {
			t.Errorf("sent %s, want %s; %v", sent, want, err)
		} else if made := s.Keys()[0]; secret.Reveal() != made.Secret || hash != made.Hash {
			t.Errorf("returned another key than was made")
		}
	}
}

func TestARecordHasAllThatOpenRouterTells(t *testing.T) {
	for name, adapt := range map[string]func(*openroutertest.Options){
		"as it is":             func(o *openroutertest.Options) { o.FloatNoise = true },
		"unknown fields":       func(o *openroutertest.Options) { o.ExtraFields = true },
		"optional ones absent": func(o *openroutertest.Options) { o.OmitOptional = true },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := standIn(adapt)
			admin, _ := adminOf(c)
			limit, expires := account.Credit, now.Add(time.Hour)
			_, hash, err := admin.Create(NewKey{Name: "n", Limit: &limit, LimitReset: Daily, ExpiresAt: expires})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Spend(s.Keys()[0].Secret, 0.9); err != nil {
				t.Fatal(err)
			}
			got, err := admin.SetDisabled(hash, true)
			if err != nil || !got.Disabled {
				t.Errorf("%+v, %v", got, err)
			}
			if got, err = admin.SetDisabled(hash, false); err != nil {
				t.Fatal(err)
			}
			read, err := admin.Record(hash)
			if err != nil || read.Disabled || read.Hash != got.Hash || read.UpdatedAt.IsZero() || !read.CreatedAt.Equal(now) ||
				read.Limit.Credits != limit || read.Remaining.Credits != limit/10 || read.Usage.Credits != limit*9/10 || read.Label != s.Keys()[0].Label() {
				t.Errorf("%+v, %v", read, err)
			}
			if name != "optional ones absent" && (read.LimitReset != Daily || !read.ExpiresAt.Equal(expires) || read.UsageDaily != read.Usage) {
				t.Errorf("%+v", read)
			}
		})
	}
}

func TestNoLimitIsNotALimitOfZero(t *testing.T) {
	_, c := standIn()
	admin, _ := adminOf(c)
	zero := account.Credits(0)
	for _, limit := range []*account.Credits{nil, &zero} {
		_, hash, err := admin.Create(NewKey{Name: "n", Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		read, err := admin.Record(hash)
		if err != nil || (read.Limit == nil) != (limit == nil) || (read.Remaining == nil) != (limit == nil) {
			t.Errorf("%+v, %v", read, err)
		}
	}
}

func TestEachRecordVisitsEveryKeyOnce(t *testing.T) {
	s, c := standIn()
	makeKeys(t, s, c, 250)
	admin, _ := adminOf(c)
	for disabledToo, want := range map[bool]int{true: 250, false: 225} {
		seen := map[string]bool{}
		visits := 0
		err := admin.EachRecord(disabledToo, func(key KeyRecord) error {
			visits++
			seen[key.Name] = true
			return nil
		})
		if err != nil || visits != want || len(seen) != want {
			t.Errorf("%d visits of %d keys, want %d; %v", visits, len(seen), want, err)
		}
	}
}

func TestAmountsBeyondWhatIsExactAreStillShown(t *testing.T) {
	for text, want := range map[string]string{
		"10000000": "10000000", "0.1": "0.1", "0.30000000000000004": "0.3", "-0.5": "-0.5", "1e30": "9000000000", "-1e30": "-9000000000", "0": "0",
	} {
		var got Amount
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.String() != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{`"1"`, "true", "[]"} {
		var got Amount
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s is %v", text, got)
		}
	}
}

func TestActivityAndCredits(t *testing.T) {
	clock := now
	s, c := standIn(func(o *openroutertest.Options) {
		o.Now = func() time.Time { return clock }
		o.TotalCredits = 20_000_000
	})
	admin, _ := adminOf(c)
	key, _ := create(t, c, "n", account.Credit)
	for range 3 {
		if err := s.Spend(key, 0.1); err != nil {
			t.Fatal(err)
		}
	}
	clock = now.AddDate(0, 0, 1)
	day := now.Format(time.DateOnly)
	for _, date := range []string{"", day} {
		rows, err := admin.Activity(date)
		if err != nil || len(rows) != 1 || rows[0].Date != day || rows[0].Requests != 3 || rows[0].Usage.String() != "0.3" || rows[0].PromptTokens == 0 {
			t.Errorf("%+v, %v", rows, err)
		}
	}
	if rows, err := admin.Activity(now.AddDate(0, 0, -1).Format(time.DateOnly)); err != nil || len(rows) != 0 {
		t.Errorf("%+v, %v", rows, err)
	}
	_, unused := create(t, c, "n", account.Credit)
	hash := s.Keys()[0].Hash
	if err := admin.Delete(hash); err != nil {
		t.Fatal(err)
	}
	for of, count := range map[string]int{hash: 1, unused: 0} {
		rows, err := admin.KeyActivity(of)
		if err != nil || len(rows) != count || count > 0 && (rows[0].Key != of || rows[0].Requests != 3) {
			t.Errorf("of one key: %+v, %v", rows, err)
		}
	}
	if _, err := admin.KeyActivity(strings.Repeat("0", 64)); !IsGone(err) {
		t.Errorf("of a key that nobody knows: %v", err)
	}
	total, used, err := admin.Credits()
	if err != nil || total.String() != "20000000" || used.String() != "0.3" {
		t.Errorf("%v, %v, %v", total, used, err)
	}
	timed := Admin{Client: clientOf(answering(http.StatusOK, nil, `{"data":[{"date":"2026-11-20 00:00:00","requests":1}]}`))}
	if rows, err := timed.Activity(""); err != nil || rows[0].Date != "2026-11-20" {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestAnswersThatLackWhatWasAskedForAreNoAnswers(t *testing.T) {
	for _, body := range []string{`{}`, `[]`, `null`, `{"data":null}`, `{"data":{"hash":"other"}}`, `<html>`, ``} {
		for op, call := range adminOperations {
			if op == "delete" && body != "<html>" {
				continue // its status tells
			}
			admin, _ := adminOf(clientOf(answering(http.StatusOK, nil, body)))
			if e := fails(t, call(admin)); e.Op != op || e.Kind != Unavailable {
				t.Errorf("%s, %q: %+v", op, body, e)
			}
		}
	}
}

func TestSetDisabledIsDoneOnlyIfTheAnswerSaysSo(t *testing.T) {
	for _, disabled := range []bool{true, false} {
		admin, _ := adminOf(clientOf(answering(http.StatusOK, nil, fmt.Sprintf(`{"data":{"hash":%q,"disabled":%v}}`, userKeyHash, !disabled))))
		_, err := admin.SetDisabled(userKeyHash, disabled)
		if e := fails(t, err); e.Op != "update" || e.Kind != Unavailable || !e.Uncertain {
			t.Errorf("%v: %+v", disabled, e)
		}
	}
}

func TestAdminRepeatsWhatDoesNoHarm(t *testing.T) {
	for op := range adminOperations {
		for _, c := range []struct {
			fault openroutertest.Fault
			calls int // of a create; any other call is made three times
		}{
			{openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "7"}, 3},
			{openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 500}, 1},
			{openroutertest.Fault{Kind: openroutertest.KindHTML, Status: 502}, 1},
			{openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, 1},
			{openroutertest.Fault{Kind: openroutertest.KindCut, Applied: true}, 1},
		} {
			t.Run(fmt.Sprint(op, c.fault), func(t *testing.T) {
				s, client := standIn()
				admin, waits := adminOf(client)
				_, hash := create(t, client, "n", account.Credit)
				call := adminOperations[op]
				switch op { // of a key that is there
				case "get":
					call = func(a Admin) error { _, err := a.Record(hash); return err }
				case "update":
					call = func(a Admin) error { _, err := a.SetDisabled(hash, true); return err }
				case "delete":
					call = func(a Admin) error { return a.Delete(hash) }
				}
				s.ResetCalls()
				s.Fail(openroutertest.Op(op), c.fault, 2)
				err := call(admin)
				want := 3
				if op == "create" {
					want = c.calls
				}
				if (err == nil) != (want == 3) || s.Calls()[openroutertest.Op(op)] != want {
					t.Errorf("%d calls, want %d; %v", s.Calls()[openroutertest.Op(op)], want, err)
				}
				if want == 3 && len(*waits) != 2 || c.fault.RetryAfter != "" && (*waits)[0] != 7*time.Second {
					t.Errorf("waited %v", *waits)
				}
			})
		}
	}
}

func TestAdminEndsWhenItIsNotToWait(t *testing.T) {
	for op, call := range adminOperations {
		calls := 0
		client := clientOf(roundTrip(func(r *http.Request) (*http.Response, error) {
			calls++
			return answering(http.StatusTooManyRequests, nil, "{}")(r)
		}))
		admin, _ := adminOf(client)
		if e := fails(t, call(admin)); e.Status != http.StatusTooManyRequests || calls != 3 {
			t.Errorf("%s: %d calls, %v", op, calls, e)
		}
		calls = 0
		if fails(t, call(Admin{Client: client})); calls != 1 {
			t.Errorf("%s: %d calls", op, calls)
		}
	}
}

func TestAdminDoesNotRepeatWhatIsRefused(t *testing.T) {
	for _, status := range []int{400, 401, 403} {
		for op, call := range adminOperations {
			admin, waits := adminOf(clientOf(answering(status, nil, `{"error":{"message":"no `+provisioningKey+`"}}`)))
			e := fails(t, call(admin))
			if e.Kind != Refused || len(*waits) != 0 {
				t.Errorf("%s: %d: %+v, waited %v", op, status, e, *waits)
			}
			if strings.Contains(e.Error(), provisioningKey) {
				t.Errorf("%s shows the key", op)
			}
		}
	}
}

func TestAnAnswerMayBeLongWhereThatIsAskedFor(t *testing.T) {
	body := `{"data":[{"date":"2026-11-20","model":"` + strings.Repeat("m", 2<<20) + `"}]}`
	client := clientOf(answering(http.StatusOK, nil, body))
	if _, err := (Admin{Client: client}).Activity(""); err == nil {
		t.Error("two megabytes were read")
	}
	client.MaxBodyBytes = 4 << 20
	if _, err := (Admin{Client: client}).Activity(""); err != nil {
		t.Error(err)
	}
}
