package users

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
)

// loose is a database whose table `users` takes anything in every column, as one
// may that somebody else has made.
func loose(t testing.TB) (sqlite, Table) {
	t.Helper()
	db, table := migrated(t)
	var columns []string
	for _, column := range recordColumns {
		columns = append(columns, column.Name)
	}
	db.exec(t, `DROP TABLE users;
CREATE TABLE users (`+strings.Join(columns, ", ")+`, PRIMARY KEY (user_id));
CREATE INDEX users_by_change ON users (updated_at, user_id)`)
	return db, table
}

func (d sqlite) exec(t testing.TB, statements string, args ...any) {
	t.Helper()
	if _, err := d.Exec(statements, args...); err != nil {
		t.Fatal(err)
	}
}

// pages returns all users that are listed, page by page, and how long the longest
// page is in bytes.
func pages(t testing.TB, table Table, text string, limit int) (all []adminapi.User, longest int) {
	t.Helper()
	after := First
	for range 1000 {
		page, next, err := table.List(after, text, limit)
		if err != nil || len(page) > limit {
			t.Fatalf("a page of %d of %d: %v", len(page), limit, err)
		}
		encoded, err := json.Marshal(page)
		if err != nil {
			t.Fatal(err)
		}
		all, longest = append(all, page...), max(longest, len(encoded))
		if next == nil {
			return all, longest
		}
		if encoded, err = json.Marshal(next); err != nil { // as it comes back
			t.Fatal(err)
		}
		after = First
		if err := json.Unmarshal(encoded, &after); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the list has no end")
	return nil, 0
}

func idsOf(listed []adminapi.User) []string {
	var ids []string
	for _, l := range listed {
		ids = append(ids, l.UserID)
	}
	return ids
}

const megabyte = `replace(hex(zeroblob(524288)), '0', 'sk')`

func TestADamagedRowHindersNoOther(t *testing.T) {
	for _, damage := range []struct{ set, why string }{
		{`total_limit = 'sk-or-v1-0'`, "total_limit is no number"},
		{`total_limit = '10'`, "total_limit is no number"}, // text, where the column does not make a number of it
		{`remaining_limit = NULL`, "remaining_limit is no number"},
		{`remaining_limit = 9e999`, "remaining_limit is no number"}, // JSON has no form for Infinity
		{`usage_limit = -9e999`, "usage_limit is no number"},
		{`usage_limit = x'00'`, "usage_limit is no number"},
		{`usage_limit = ` + megabyte, "usage_limit is no number"},
		{`total_limit = 1e300`, "total_limit is out of range"},
		{`remaining_limit = -4000001`, "remaining_limit is out of range"},
		{`suspended = 'no'`, "suspended is no whole number from 0 to 1"},
		{`suspended = 2`, "suspended is no whole number from 0 to 1"},
		{`seq = -1`, "seq is no whole number from 0 to 4503599627370496"},
		{`seq = 1.5`, "seq is no whole number from 0 to 4503599627370496"},
		{`seq = 'x'`, "seq is no whole number from 0 to 4503599627370496"},
		{`seq = NULL`, "seq is no whole number from 0 to 4503599627370496"},
		{`seq = 9223372036854775807`, "seq is no whole number from 0 to 4503599627370496"},
		{`user_name = ` + megabyte, "user_name is too long"},
		{`email = ` + megabyte, "email is too long"},
		{`email = zeroblob(1000000)`, "email is too long"},
		{`hash = x'ff00'`, "hash is no text"},
		{`hash = ` + megabyte, "hash is too long"},
		{`created_at = 'yesterday'`, "created_at is no time"},
		{`created_at = '2026-13-45T00:00:00Z'`, "created_at is no time"},
		{`created_at = '9999-12-31T23:59:59-23:59'`, "created_at is no time"}, // in UTC, a year of five digits
		{`created_at = '0000-01-01T00:00:00+23:59'`, "created_at is no time"},
		{`created_at = 12`, "created_at is no text"},
		{`updated_at = 'yesterday'`, "updated_at is no time"},
		{`updated_at = x'ff'`, "updated_at is no text"},
		{`updated_at = 1e300`, "updated_at is no text"},
		{`updated_at = ` + megabyte, "updated_at is too long"},
	} {
		t.Run(damage.set[:min(len(damage.set), 40)], func(t *testing.T) {
			db, table := loose(t)
			var sane []adminapi.User
			for i := range int64(5) {
				r := aRecord(i + 1)
				r.UserID = fmt.Sprint("u", i)
				save(t, table, r)
			}
			sane, _ = pages(t, table, "", 100)
			if ids := idsOf(sane); !slices.Equal(ids, []string{"u4", "u3", "u2", "u1", "u0"}) || slices.ContainsFunc(sane, func(l adminapi.User) bool { return l.Damaged != "" }) {
				t.Fatalf("listed are %+v", sane)
			}
			db.exec(t, `UPDATE users SET `+damage.set+` WHERE user_id = 'u2'`)
			isDamaged := func(l adminapi.User) bool { return l.UserID == "u2" }
			for limit := 1; limit <= 6; limit++ {
				got, longest := pages(t, table, "", limit)
				i := slices.IndexFunc(got, isDamaged)
				if i < 0 {
					t.Fatalf("%d a page: the damaged row is missing: %v", limit, idsOf(got))
				}
				bad := got[i]
				if zero := (adminapi.User{
					UserID: "u2", UserName: bad.UserName, Email: bad.Email, Hash: bad.Hash, CreatedAt: bad.CreatedAt, UpdatedAt: bad.UpdatedAt, Damaged: damage.why,
				}); bad != zero {
					t.Errorf("%d a page: %.500v", limit, fmt.Sprintf("%+v", bad))
				}
				if longest > 16<<10 {
					t.Errorf("a page is %d bytes long", longest)
				}
				want := slices.DeleteFunc(slices.Clone(sane), isDamaged)
				if rest := slices.Delete(got, i, i+1); !reflect.DeepEqual(rest, want) {
					t.Errorf("%d a page: the others are\n%+v, want\n%+v", limit, rest, want)
				}
			}
			if found, _ := pages(t, table, "U2", 100); !slices.Equal(idsOf(found), []string{"u2"}) {
				t.Errorf("a search for its id finds %v", idsOf(found))
			}

			_, ok, err := table.Find("u2")
			var damaged *DamagedError
			if !errors.As(err, &damaged) || ok || damaged.Why != damage.why {
				t.Fatalf("found: %t, %v", ok, err)
			}
			if want := int64(3); damaged.Seq != want && !strings.HasPrefix(damage.set, "seq") || damaged.Seq != 0 && strings.HasPrefix(damage.set, "seq") {
				t.Errorf("its seq is %d", damaged.Seq)
			}

			if err := table.Erase(account.Record{UserID: "u2", Seq: damaged.Seq + 1}, nil); err != nil {
				t.Fatal(err)
			}
			if got, _ := pages(t, table, "", 100); !reflect.DeepEqual(got, slices.DeleteFunc(slices.Clone(sane), isDamaged)) {
				t.Errorf("after the erasure there are %v", idsOf(got))
			}
		})
	}
}

func TestAKeyThatIsNoneIsDamage(t *testing.T) {
	for set, why := range map[string]string{`x'ff'`: "key is no text", megabyte: "key is too long"} {
		db, table := loose(t)
		save(t, table, aRecord(3))
		db.exec(t, `UPDATE users SET key = `+set)
		_, _, err := table.Find("u_42")
		if damaged := (&DamagedError{}); !errors.As(err, &damaged) || *damaged != (DamagedError{why, 3, damaged.Key}) {
			t.Errorf("found: %v", err)
		}
	}
}

// Every row is listed once, whatever it holds, and however long a page is.
func TestTheListHasEveryRowOnce(t *testing.T) {
	times := []string{
		`NULL`, `''`, `'~'`, `'~~'`, `'2026-11-21T12:00:00.123Z'`, `'2026-11-21T12:00:00.124Z'`, `'2026-11-21 12:00:00'`, `'когда-то'`, `'🔑'`, `x''`, `x'00'`,
		`x'ff'`, `CAST(x'ff' AS TEXT)`, `CAST(x'3230ff' AS TEXT)`, `CAST(x'3230ff00ff' AS TEXT)`, `0`, `-1.5`, `1e300`, `9e999`, `-9e999`, `9223372036854775807`, megabyte,
	}
	ids := []string{
		`'u'`, `''`, `'U'`, `'пользователь'`, `'👩🏽‍🚀'`, `char(1114111)`, `'a' || char(0) || 'b'`, `'a' || char(0) || 'c'`, `CAST(x'ff' AS TEXT)`, `CAST(x'80' AS TEXT)`,
		`CAST(x'fe61' AS TEXT)`, `x'ff'`, `x'80'`, `x''`, `0`, `1.5`, `hex(zeroblob(127))`, `hex(zeroblob(128))`, `hex(zeroblob(250))`, `hex(zeroblob(600))`,
	}
	db, table := loose(t)
	for i, at := range times {
		for j, id := range ids {
			// The ids differ in where their row's time is in the list of times.
			db.exec(t, fmt.Sprintf(`INSERT INTO users (user_id, user_name, updated_at) SELECT CASE typeof(id) WHEN 'text' THEN CAST(CAST('%[1]d:' AS BLOB) || CAST(id AS BLOB) AS TEXT)
WHEN 'blob' THEN CAST(CAST('%[1]d:' AS BLOB) || id AS BLOB) ELSE id + %[1]d END, '%[1]d/%[2]d', %[3]s FROM (SELECT %[4]s AS id)`, i, j, at, id))
		}
	}
	whole, _ := pages(t, table, "", 10_000)
	seen := map[string]int{}
	for _, l := range whole {
		seen[l.UserName]++
	}
	for i := range times {
		for j := range ids {
			if name := fmt.Sprintf("%d/%d", i, j); seen[name] != 1 {
				t.Errorf("the row of %s and %s is listed %d times", times[i][:min(len(times[i]), 40)], ids[j], seen[name])
			}
		}
	}
	for _, limit := range []int{1, 2, 7, 200} {
		if got, _ := pages(t, table, "", limit); !reflect.DeepEqual(got, whole) {
			t.Errorf("%d a page: %d rows, want %d; or not in the same order", limit, len(got), len(whole))
		}
	}
}

func TestTheNewestChangeComesFirst(t *testing.T) {
	_, table := migrated(t)
	var want []string
	for i := range int64(20) {
		r := aRecord(i/4 + 1) // four at a time
		r.UserID = fmt.Sprintf("u%02d", i)
		save(t, table, r)
		want = append([]string{r.UserID}, want...)
	}
	for _, limit := range []int{1, 3, 4, 20, 21} {
		if got, _ := pages(t, table, "", limit); !slices.Equal(idsOf(got), want) {
			t.Errorf("%d a page: %v", limit, idsOf(got))
		}
	}
	if got, _ := pages(t, table, "U1", 3); !slices.Equal(idsOf(got), want[:10]) {
		t.Errorf("with u1 in it: %v", idsOf(got))
	}
}

// Sorting all users for each page would be too slow.
func TestAPageIsReadByTheIndex(t *testing.T) {
	db, _ := migrated(t)
	plan := db.Dump(t, `EXPLAIN QUERY PLAN `+lists().placed, "", "", "ff", "", 50)
	if !strings.Contains(plan, `SEARCH users USING INDEX users_by_change ((updated_at,user_id)`) || strings.Contains(plan, "TEMP B-TREE") {
		t.Error(plan)
	}
}

// Somebody else's nonsense is no newer record.
func TestARecordReplacesARowWhoseNumbersMakeNoSense(t *testing.T) {
	for _, set := range []string{
		`seq = 'x'`, `seq = NULL`, `seq = x'ff'`, `seq = 9.5`, `seq = -9`, `seq = 9223372036854775807`, `seq = 9007199254740993`, `suspended = 'no'`,
		`total_limit = 'x', seq = 99`, `remaining_limit = NULL, seq = 99`, `usage_limit = 9e999, seq = 99`, `total_limit = -4000001`,
	} {
		db, table := loose(t)
		save(t, table, aRecord(3))
		db.exec(t, `UPDATE users SET `+set)
		save(t, table, aRecord(3))
		holds(t, table, aRecord(3))

		db.exec(t, `UPDATE users SET `+set)
		if err := table.Erase(account.Record{UserID: "another", Seq: 9}, nil); err != nil {
			t.Fatal(err)
		}
		if err := table.Erase(account.Record{UserID: "u_42", Seq: 1}, nil); err != nil {
			t.Fatal(err)
		}
		if got := db.Dump(t, `SELECT count(*) n FROM users`); got != `[{"n":0}]` {
			t.Errorf("%s: not erased", set)
		}
	}
}

func TestAnErasureLeavesANewerRowAndAllOthers(t *testing.T) {
	db, table := loose(t)
	save(t, table, aRecord(5))
	damaged := aRecord(5)
	damaged.UserID = "damaged"
	save(t, table, damaged)
	db.exec(t, `UPDATE users SET seq = 'x' WHERE user_id = 'damaged'`)
	for _, seq := range []int64{4, 5} { // a late one
		if err := table.Erase(account.Record{UserID: "u_42", Seq: seq}, nil); err != nil {
			t.Fatal(err)
		}
		holds(t, table, aRecord(5))
	}
	if err := table.Erase(account.Record{UserID: "u_42", Seq: 6}, entriesTo(1)); err != nil {
		t.Fatal(err)
	}
	if got := db.Dump(t, `SELECT (SELECT group_concat(user_id) FROM users) users, (SELECT count(*) FROM ledger WHERE user_id = 'u_42') entries`); got != `[{"entries":1,"users":"damaged"}]` {
		t.Errorf("there are %s", got)
	}
}

func TestHashesAreFoundInRowsAndLedger(t *testing.T) {
	db, table := loose(t)
	hash := func(i int) string { return fmt.Sprintf("%064x", i) }
	for i, id := range []string{"a", "b", "c"} {
		r := aRecord(1)
		r.UserID, r.Hash = id, hash(i)
		save(t, table, r, account.Entry{Seq: 1, Hash: hash(i)}, account.Entry{Seq: 2, Hash: hash(i)}, account.Entry{Seq: 3, Hash: hash(9)})
	}
	db.exec(t, `UPDATE users SET hash = x'ff', seq = NULL WHERE user_id = 'c'`)
	db.exec(t, `INSERT INTO ledger (user_id, seq, at, kind, credits, remaining_limit, hash) VALUES (x'ff', 'x', '', '', '', '', ?)`, hash(0))

	var many []string
	for i := range MaxHashes {
		many = append(many, hash(i))
	}
	if got, err := table.Held(many); err != nil || !reflect.DeepEqual(got, map[string]bool{hash(0): true, hash(1): true}) {
		t.Errorf("held: %v, %v", got, err)
	}
	got, err := table.Earlier(many)
	slices.Sort(got[hash(9)])
	want := map[string][]string{hash(0): {"a"}, hash(1): {"b"}, hash(2): {"c"}, hash(9): {"a", "b", "c"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("earlier: %v, %v", got, err)
	}
	hashes, err := table.Hashes([]string{"a", "c", "nobody"})
	if err != nil || !reflect.DeepEqual(hashes, map[string]string{"a": hash(0), "c": ""}) {
		t.Errorf("hashes: %v, %v", hashes, err)
	}
}
