package admin

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"latchkey/internal/adminapi"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
	"latchkey/internal/users"
)

func newSealer(t *testing.T, current byte, previous ...byte) *seal.Sealer {
	t.Helper()
	var keys [][]byte
	for _, b := range previous {
		keys = append(keys, bytes.Repeat([]byte{b}, seal.KeySize))
	}
	sealer, err := seal.New(bytes.Repeat([]byte{current}, seal.KeySize), keys...)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// deployment is D1, with a sealed key for each user, and those users' objects.
type deployment struct {
	rows    map[string]string // sealed keys, as D1 has them
	lags    bool              // D1 shows nothing of what the objects do
	failing map[string]bool   // objects
	asked   []string
	away    error // of D1
}

// Batch implements users.DB, as far as Stale asks for it. The SQL is tested with the table.
func (d *deployment) Batch(statements []users.Statement, _ func()) ([]json.RawMessage, error) {
	after, _ := hex.DecodeString(statements[0].Args[0].(string))
	stale := slices.DeleteFunc(slices.Sorted(maps.Keys(d.rows)), func(id string) bool {
		return id <= string(after) || !slices.ContainsFunc(statements[0].Args[1:], func(prefix any) bool { return strings.HasPrefix(d.rows[id], prefix.(string)) })
	})
	rows := []map[string]any{}
	if _, end, ok := strings.Cut(statements[0].SQL, " LIMIT "); ok {
		var limit int
		fmt.Sscan(end, &limit)
		for _, id := range stale[:min(limit, len(stale))] {
			rows = append(rows, map[string]any{"id_bytes": hex.EncodeToString([]byte(id))})
		}
	} else {
		rows = append(rows, map[string]any{"count": len(stale)})
	}
	encoded, err := json.Marshal(rows)
	return []json.RawMessage{encoded}, errors.Join(err, d.away)
}

func (d *deployment) service(sealer *seal.Sealer) Service {
	return Service{Table: users.Table{DB: d}, Sealer: sealer, SealAnew: func(user string) error {
		d.asked = append(d.asked, user)
		if d.failing[user] {
			return errors.New("away")
		}
		if !d.lags {
			d.rows[user] = sealer.Seal(user, seal.NewSecret("not-a-real-key"))
		}
		return nil
	}}
}

// walk asks until there is no more, and returns the sum of what was resealed, who
// failed, and the last report.
func walk(t *testing.T, s Service, limit int) (resealed int, failed []string, last adminapi.ResealReport) {
	t.Helper()
	options := adminapi.ResealOptions{Limit: limit}
	for range 100 {
		report, err := s.Reseal(options)
		if err != nil || report.Failed == nil {
			t.Fatal(report, err)
		}
		resealed, failed, last = resealed+report.Resealed, append(failed, report.Failed...), report
		if report.NextCursor == nil {
			return resealed, failed, last
		}
		options.Cursor = *report.NextCursor
	}
	t.Fatal("it has no end")
	return 0, nil, last
}

func TestResealAsksForEveryUserOnceAndEnds(t *testing.T) {
	old, sealer := newSealer(t, 1), newSealer(t, 2, 1)
	for _, c := range []struct {
		name    string
		lags    bool
		failing map[string]bool
	}{
		{"all is well", false, nil},
		{"D1 lags", true, nil},
		{"the first and the last fail", false, map[string]bool{"u00": true, "u09": true}},
		{"D1 lags, and one fails", true, map[string]bool{"u04": true}},
	} {
		for limit := 1; limit <= 12; limit++ {
			d := &deployment{rows: map[string]string{"current": sealer.Seal("current", seal.NewSecret("x")), "none": ""}, lags: c.lags, failing: c.failing}
			var stale []string
			for i := range 10 {
				id := fmt.Sprintf("u%02d", i)
				d.rows[id], stale = old.Seal(id, seal.NewSecret("not-a-real-key")), append(stale, id)
			}
			s := d.service(sealer)
			resealed, failed, last := walk(t, s, limit)
			if !slices.Equal(d.asked, stale) || resealed != len(stale)-len(c.failing) || !slices.Equal(failed, slices.Sorted(maps.Keys(c.failing))) || last.Remaining != len(c.failing) {
				t.Errorf("%s, %d at once: asked for %v; %d resealed, %v failed, %d remain", c.name, limit, d.asked, resealed, failed, last.Remaining)
			}
			d.failing, d.lags = nil, false
			if _, _, last = walk(t, s, limit); last.Remaining != 0 {
				t.Errorf("%s, %d at once: begun anew, %d remain", c.name, limit, last.Remaining)
			}
		}
	}
}

func TestResealCountsWhatIsStillToBeDone(t *testing.T) {
	old, sealer := newSealer(t, 1), newSealer(t, 2, 1)
	d := &deployment{rows: map[string]string{}, lags: true, failing: map[string]bool{"b": true}}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		d.rows[id] = old.Seal(id, seal.NewSecret("not-a-real-key"))
	}
	s, cursor := d.service(sealer), ""
	for _, remaining := range []int{4, 2, 1} { // c, d, e and b; e and b; b
		report, err := s.Reseal(adminapi.ResealOptions{Limit: 2, Cursor: cursor})
		if err != nil || report.Remaining != remaining || (report.NextCursor == nil) != (remaining == 1) {
			t.Fatalf("%+v, %v; want %d to remain", report, err, remaining)
		}
		if report.NextCursor != nil {
			cursor = *report.NextCursor
		}
	}
}

func TestWithoutAPreviousKeyThereIsNothingToReseal(t *testing.T) {
	d := &deployment{rows: map[string]string{"a": newSealer(t, 1).Seal("a", seal.NewSecret("x"))}}
	report, err := d.service(newSealer(t, 2)).Reseal(adminapi.ResealOptions{})
	encoded, _ := json.Marshal(report)
	if err != nil || string(encoded) != `{"resealed":0,"failed":[],"remaining":0,"next_cursor":null}` || d.asked != nil {
		t.Errorf("%s, %v", encoded, err)
	}
}

func TestResealRefusesWhatItCannotDo(t *testing.T) {
	sealer := newSealer(t, 2, 1)
	for _, options := range []adminapi.ResealOptions{{Limit: -1}, {Limit: adminapi.MaxPage + 1}, {Cursor: "!"}, {Cursor: base64.RawURLEncoding.EncodeToString([]byte(`{"After":1}`))}} {
		if _, err := (&deployment{}).service(sealer).Reseal(options); err == nil || problem.From(err).Code != problem.InvalidRequest {
			t.Errorf("%+v: %v", options, err)
		}
	}
	if _, err := (&deployment{away: errors.New("away")}).service(sealer).Reseal(adminapi.ResealOptions{}); err == nil || problem.From(err).Code != problem.UpstreamUnavailable {
		t.Errorf("D1 is away: %v", err)
	}
}
