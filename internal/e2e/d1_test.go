//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

// rows returns a user's row, nil where there is none, and ledger.
func (u *user) rows() (row map[string]any, ledger []map[string]any) {
	u.t.Helper()
	all := u.w.query(u.t, fmt.Sprintf(`SELECT
		(SELECT json_group_array(json_object('user_id', user_id, 'user_name', user_name, 'email', email, 'key', key, 'hash', hash, 'total_limit', total_limit,
			'remaining_limit', remaining_limit, 'usage_limit', usage_limit, 'seq', seq, 'created_at', created_at, 'updated_at', updated_at))
			FROM users WHERE user_id = '%[1]s') AS users,
		(SELECT json_group_array(json_object('seq', seq, 'at', at, 'kind', kind, 'credits', credits, 'remaining_limit', remaining_limit, 'hash', hash))
			FROM (SELECT * FROM ledger WHERE user_id = '%[1]s' ORDER BY seq)) AS ledger`, u.id))
	var users []map[string]any
	for column, into := range map[string]any{"users": &users, "ledger": &ledger} {
		if err := json.Unmarshal([]byte(all[0][column].(string)), into); err != nil {
			u.t.Fatal(err)
		}
	}
	if len(users) > 0 {
		row = users[0]
	}
	return row, ledger
}

// sealedKey is what a sealed key looks like. One in two thousand has "sk-" in it by
// chance.
var sealedKey = regexp.MustCompile(`^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]{100,}$`)

// inD1 waits until the row is what was answered, and returns the ledger.
func (u *user) inD1(v view, within time.Duration) []map[string]any {
	u.t.Helper()
	var row map[string]any
	var ledger []map[string]any
	eventually(u.t, within, "the row in D1", func() (string, bool) {
		row, ledger = u.rows()
		return fmt.Sprint(row, ledger), row != nil && row["hash"] == v.Hash && row["remaining_limit"] == *v.RemainingLimit && row["usage_limit"] == *v.UsageLimit
	})
	if row["user_name"] != u.name || row["email"] != u.email || row["total_limit"] != *v.TotalLimit {
		u.t.Errorf("the row is %v", row)
	}
	if key, _ := row["key"].(string); !sealedKey.MatchString(key) {
		u.t.Errorf("the key is not sealed: %q", key)
	}
	for _, column := range []string{"created_at", "updated_at"} {
		text, _ := row[column].(string)
		if at, err := time.Parse(time.RFC3339, text); err != nil || !strings.HasSuffix(text, "Z") || time.Since(at).Abs() > 10*time.Minute {
			u.t.Errorf("%s is %q", column, text)
		}
	}
	return ledger
}

// kinds are those of a ledger, with credits and what remained.
func kinds(ledger []map[string]any) string {
	var all []string
	for _, entry := range ledger {
		all = append(all, fmt.Sprintf("%v %v %v", entry["kind"], entry["credits"], entry["remaining_limit"]))
	}
	return strings.Join(all, ", ")
}

// chargedOnce checks that since the quota began the ledger holds one charge, of
// so much, and that it adds up.
func chargedOnce(t *testing.T, ledger []map[string]any, credits float64) {
	t.Helper()
	charges, sum := 0, 0.0
	for _, entry := range ledger {
		if entry["kind"] == "charge" {
			charges++
			sum += entry["credits"].(float64)
		}
	}
	if charges != 1 || math.Abs(sum-credits) > 1e-9 {
		t.Errorf("the ledger is %s; want one charge of %v", kinds(ledger), credits)
	}
}

func TestRowAndLedgerEqualTheAnswers(t *testing.T) {
	w := useShared(t)
	u := newUser(t, w)
	first := u.provisioned()
	if got := kinds(u.inD1(first, 20*time.Second)); got != "provision 1 10" {
		t.Errorf("after the first key the ledger is %s", got)
	}
	u.spend(first, 0.4)
	u.expect(u.get(), "kept", 9.6, 0.6)
	u.expect(u.get(), "kept", 9.6, 0.6)
	u.spend(first, 0.25)
	second := u.expect(u.get(), "rotated", 9.35, 1)
	u.spend(second, 0.1)
	third := u.expect(u.refresh(), "rotated", 9.25, 1)
	u.spend(third, 9.25)
	fourth := u.expect(u.get(), "rotated", 0, 1)
	ledger := u.inD1(fourth, 20*time.Second)
	const before = "provision 1 10, charge 0.4 9.6, charge 0.25 9.35, rotate 1 9.35, charge 0.1 9.25, rotate 1 9.25, charge 9.25 0, rotate 1 0"
	if got := kinds(ledger); got != before {
		t.Errorf("the ledger is  %s\nthe answers are %s", got, before)
	}
	renewed := u.expect(u.get(), "renewed", 10, 1)
	ledger = u.inD1(renewed, 20*time.Second)
	if got := kinds(ledger); got != before+", renew 10 10" {
		t.Errorf("after the renewal the ledger is %s", got)
	}
	var last float64
	for _, entry := range ledger {
		seq, _ := entry["seq"].(float64)
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(entry["at"])); seq <= last || err != nil || time.Since(at).Abs() > 10*time.Minute {
			t.Errorf("the entry is %v", entry)
		}
		last = seq
	}
	for i, hash := range map[int]string{0: first.Hash, 3: second.Hash, 5: third.Hash, 7: fourth.Hash, 8: renewed.Hash} {
		if i < len(ledger) && ledger[i]["hash"] != hash {
			t.Errorf("entry %d has the hash %v, want %s", i, ledger[i]["hash"], hash)
		}
	}
}

// D1 is broken and mended while users come and go.
func TestD1Broken(t *testing.T) {
	w := start(t, with{})
	known := newUser(t, w)
	first := known.provisioned()
	known.inD1(first, 20*time.Second)

	w.query(t, "ALTER TABLE users RENAME TO users_away")
	known.spend(first, 0.6)
	second := known.expect(known.get(), "rotated", 9.4, 1)
	known.spend(second, 0.2)
	known.expect(known.get(), "kept", 9.2, 0.8)
	latest := known.expect(known.refresh(), "rotated", 9.2, 1)
	fresh := newUser(t, w)
	for range 2 {
		retryAfter(t, problem(t, fresh.get(), 503, "upstream_unavailable"), 1, 60)
	}
	fresh.called("") // whether D1 knows the user is not known

	w.query(t, "ALTER TABLE users_away RENAME TO users")
	mended := time.Now()
	ledger := known.inD1(latest, time.Minute)
	t.Logf("the row was right again after %v", time.Since(mended).Round(time.Second))
	if got, want := kinds(ledger), "provision 1 10, charge 0.6 9.4, rotate 1 9.4, charge 0.2 9.2, rotate 1 9.2"; got != want {
		t.Errorf("the ledger is %s, want %s", got, want)
	}
	fresh.inD1(fresh.expect(fresh.get(), "provisioned", 10, 1), 20*time.Second)
	known.settles(latest)
}

// A row of an older table, with its key unsealed, is adopted by the first
// request: the key stays, and is sealed.
func TestRowIsAdopted(t *testing.T) {
	w := start(t, with{})
	for _, test := range []struct {
		name             string
		spend, remaining float64
		outcome          string
		usage            float64
		calls            string
	}{
		{"kept", 0.2, 6.8, "kept", 0.8, "GET"},
		{"rotated", 0.7, 6.3, "rotated", 1, "GET DELETE POST"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUser(t, w)
			var created struct {
				Key  string
				Data struct{ Hash string }
			}
			if err := json.Unmarshal([]byte(u.operator("POST", "/keys", `{"name":"latchkey:`+u.id+`:before","limit":1}`)), &created); err != nil {
				t.Fatal(err)
			}
			w.planted[created.Key] = true
			w.query(t, fmt.Sprintf(`INSERT INTO users (user_id, user_name, email, key, hash, total_limit, remaining_limit, usage_limit, seq, created_at, updated_at)
				VALUES ('%s', 'Before', 'before@example.org', '%s', '%s', 10, 7, 1, 0, '%[4]s', '%[4]s')`,
				u.id, created.Key, created.Data.Hash, time.Now().UTC().Format(time.RFC3339)))
			old := view{Key: created.Key, Hash: created.Data.Hash}
			u.spend(old, test.spend)
			u.mark()
			v := u.expect(u.get(), test.outcome, test.remaining, test.usage)
			if (v.Key == old.Key) != (test.outcome == "kept") {
				t.Errorf("%s, and the key is the old one: %v", v.Outcome, v.Key == old.Key)
			}
			u.called(test.calls)
			u.settles(v)
			chargedOnce(t, u.inD1(v, 20*time.Second), test.spend)
		})
	}
	t.Run("nothing to charge: sealed all the same", func(t *testing.T) {
		u := newUser(t, w)
		u.name, u.email = "Before", "before@example.org"
		var created struct {
			Key  string
			Data struct{ Hash string }
		}
		if err := json.Unmarshal([]byte(u.operator("POST", "/keys", `{"name":"somebody's own name","limit":1}`)), &created); err != nil {
			t.Fatal(err)
		}
		w.planted[created.Key] = true
		w.query(t, fmt.Sprintf(`INSERT INTO users (user_id, user_name, email, key, hash, total_limit, remaining_limit, usage_limit)
			VALUES ('%s', 'Before', 'before@example.org', '%s', '%s', 10, 10, 1)`, u.id, created.Key, created.Data.Hash))
		a := u.get()
		if a.status != 200 || !strings.Contains(a.body, created.Key) || !strings.Contains(a.body, `"outcome":"kept"`) {
			t.Fatalf("got %v", a)
		}
		var row map[string]any
		eventually(t, 20*time.Second, "a sealed key in the row", func() (string, bool) {
			row, _ = u.rows()
			key, _ := row["key"].(string)
			return plainKey.ReplaceAllString(fmt.Sprint(row), "sk-or-v1-…"), sealedKey.MatchString(key)
		})
	})
}
