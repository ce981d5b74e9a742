package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestEveryCodeIsAProblemDocument(t *testing.T) {
	for code, kind := range kinds {
		a := New(code, "some detail").Answer()
		var doc map[string]any
		if err := json.Unmarshal([]byte(a.Body), &doc); err != nil {
			t.Fatal(err)
		}
		if a.Status != kind.status || doc["status"] != float64(kind.status) || doc["code"] != code || doc["title"] == "" ||
			doc["detail"] != "some detail" || doc["type"] == "" {
			t.Errorf("%s: %d %s", code, a.Status, a.Body)
		}
		headers := fmt.Sprint(a.Header)
		if !strings.Contains(headers, "application/problem+json") || !strings.Contains(headers, "no-store") {
			t.Errorf("%s: headers %s", code, headers)
		}
	}
}

func TestAnUnknownErrorTellsTheClientNothing(t *testing.T) {
	err := fmt.Errorf("opening: %w", errors.New("table users: no such column"))
	if p := From(err); strings.Contains(p.Answer().Body, "users") || !strings.Contains(p.Error(), "no such column") {
		t.Errorf("body %s, log %s", p.Answer().Body, p)
	}
}

func TestFromFindsAWrappedProblem(t *testing.T) {
	if p := From(fmt.Errorf("ada: %w", New(KeyDisabled, "d"))); p.Code != KeyDisabled {
		t.Errorf("code %s", p.Code)
	}
}

func TestRetryAfterIsWholeSecondsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Millisecond: "1", time.Second: "1", 1500 * time.Millisecond: "2", time.Hour: "3600"} {
		p := New(UpstreamUnavailable, "")
		p.RetryAfter = d
		if got := fmt.Sprint(p.Answer().Header); !strings.Contains(got, "[Retry-After "+want+"]") {
			t.Errorf("%v: %s", d, got)
		}
	}
}
