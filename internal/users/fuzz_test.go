package users

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"unicode/utf8"

	"latchkey/internal/account"
	"latchkey/internal/users/d1test"
)

// FuzzRow: whatever D1 answers, a row is read or damaged. What is read is within its
// bounds, is shown to operators as it is, and written as it was read.
func FuzzRow(f *testing.F) {
	full, _ := json.Marshal(rowOf(aRecord(7)))
	f.Add(string(full))
	for _, seed := range []string{
		`{` + numbers + `}`, `{"user_id":"u","total_limit":1e308,"remaining_limit":-0,"usage_limit":4000000,"suspended":1,"seq":4503599627370496}`,
		`{"user_id":"\ud800",` + numbers + `}`, `{"user_id":["u"],` + numbers + `}`, `{"created_at":"9999-12-31T23:59:59-23:59",` + numbers + `}`, `{"updated_at":"0000-01-01 00:00:00",` + numbers + `}`, `null`, `[]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		record, ok, err := Table{found(text)}.Find("u")
		if ok && err != nil {
			t.Fatalf("%s: both a record and %v", text, err)
		}
		if page, _, err := (Table{found(text)}).List(First, "", 2); err == nil {
			encoded, err := json.Marshal(page)
			if err != nil || len(encoded) > 16*maxText || len(page) > 0 && !utf8.ValidString(page[0].UserID) {
				t.Errorf("%s is listed as %s, %v", text, encoded, err)
			}
		}
		if !ok {
			return
		}
		for _, c := range []account.Credits{record.TotalLimit, record.RemainingLimit, record.UsageLimit} {
			if max(c, -c) > account.MaxCredits {
				t.Errorf("%s holds %d", text, c)
			}
		}
		if record.UserID != "u" || record.Seq < 0 || record.Seq > maxSeq {
			t.Errorf("%s is read as %+v", text, record)
		}
		if _, err := json.Marshal(record); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		written := rowOf(record)
		again, damage := written.record()
		if damage != "" || !reflect.DeepEqual(rowOf(again), written) {
			t.Errorf("%+v is read again as %+v, %s", record, again, damage)
		}
	})
}

// rowOf is a row as Save writes it, and D1 gives it.
func rowOf(record account.Record) row {
	written := row{}
	for _, c := range recordColumns {
		written[c.Name] = d1test.Crossed(parameter(c.Of(&record)))
	}
	return written
}

// FuzzStored: whatever somebody else has put into a row, of a database that takes
// anything, the row is listed beside a sound one, and the next record replaces it.
func FuzzStored(f *testing.F) {
	for i := range recordColumns {
		f.Add(byte(i), byte(i), "x", math.Inf(1), int64(math.MinInt64))
		f.Add(byte(i), byte(i+1), "\xff\x00", math.Copysign(0, -1), int64(math.MaxInt64))
		f.Add(byte(i), byte(i+2), "2026-11-21 12:00:00", 1e308, int64(1))
	}
	db, table := loose(f)
	f.Fuzz(func(t *testing.T, column, kind byte, text string, real float64, whole int64) {
		if len(text) > 3*maxText {
			return
		}
		db.exec(t, `DELETE FROM users`)
		sound, odd := aRecord(3), aRecord(3)
		sound.UserID = "sound"
		save(t, table, sound)
		save(t, table, odd)
		name := recordColumns[int(column)%len(recordColumns)].Name
		value := []any{text, []byte(text), real, whole, nil}[kind%5]
		db.exec(t, `UPDATE users SET `+name+` = ? WHERE user_id = 'u_42'`, value)

		all, longest := pages(t, table, "", 1)
		if len(all) != 2 || longest > 8*maxText {
			t.Errorf("%s = %#v: %d rows are listed, the longest has %d bytes", name, value, len(all), longest)
		}
		holds(t, table, sound)
		if name == "user_id" {
			return // it is another row now
		}
		_, _, err := table.Find("u_42")
		odd.Seq++
		if name == "seq" && err == nil {
			odd.Seq = maxSeq // above whatever it may be
		}
		save(t, table, odd)
		holds(t, table, odd)
	})
}
