package adminapi

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"latchkey/internal/account"
)

// A field that is added to the record is shown to operators, or left out here on purpose.
func TestAUserIsShownWithEveryFieldOfTheRecordButTheKey(t *testing.T) {
	at := time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)
	record := account.Record{
		UserID: "u", UserName: "n", Email: "e", Key: "k", Hash: "h", TotalLimit: 1, RemainingLimit: 2, UsageLimit: 3, Seq: 4,
		CreatedAt: at, UpdatedAt: at.Add(time.Second), Suspended: true, Erased: true,
	}
	asMap := func(value any) map[string]any {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]any{}
		if err := json.Unmarshal(encoded, &fields); err != nil {
			t.Fatal(err)
		}
		return fields
	}
	stored, shown := asMap(record), asMap(UserOf(record))
	for _, f := range account.RecordFields {
		if hidden := slices.Contains([]string{"key", "erased"}, f.Name); stored[f.Name] == nil || !hidden && shown[f.Name] != stored[f.Name] || hidden && shown[f.Name] != nil {
			t.Errorf("%s is %v, and shown as %v", f.Name, stored[f.Name], shown[f.Name])
		}
	}
}
