package users

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/auth"
	"latchkey/internal/problem"
	"latchkey/internal/users/d1test"
)

var began = time.Date(2026, 11, 21, 12, 0, 0, 123_000_000, time.UTC)

// aRecord has a value in every field.
func aRecord(seq int64) account.Record {
	return account.Record{
		UserID: "u_42", UserName: "Ada", Email: "ada@example.org", Key: "v1.0fa1b2c3.c2VhbGVk", Hash: strings.Repeat("0f", 32),
		TotalLimit: 10 * account.Credit, RemainingLimit: 9_400_000_001, UsageLimit: account.Credit / 3, Seq: seq,
		CreatedAt: began, UpdatedAt: began.Add(time.Duration(seq) * time.Second),
	}
}

// entriesTo returns the ledger entries 1 to n.
func entriesTo(n int64) []account.Entry {
	var entries []account.Entry
	for seq := int64(1); seq <= n; seq++ {
		entries = append(entries, account.Entry{
			Seq: seq, At: began.Add(time.Duration(seq) * time.Second), Kind: account.Charge, Credits: account.Credits(seq),
			RemainingLimit: 10*account.Credit - account.Credits(seq), Hash: fmt.Sprintf("%064d", seq),
		})
	}
	return entries
}

// fakeDB records statements and answers as it is told.
type fakeDB struct {
	batches [][]Statement
	rows    []json.RawMessage
	err     error
}

func (d *fakeDB) Batch(statements []Statement, _ func()) ([]json.RawMessage, error) {
	d.batches = append(d.batches, statements)
	return d.rows, d.err
}

func found(row string) *fakeDB {
	return &fakeDB{rows: []json.RawMessage{json.RawMessage("[" + row + "]")}}
}

func TestFindAsksForOneUserByParameter(t *testing.T) {
	for _, id := range []string{"u_42", "'; DROP TABLE users; --", "пользователь-用户-🔑"} {
		db := found("")
		if _, ok, err := (Table{db}).Find(id); ok || err != nil {
			t.Errorf("%t, %v", ok, err)
		}
		if len(db.batches) != 1 || len(db.batches[0]) != 1 {
			t.Fatalf("%q: batches %v", id, db.batches)
		}
		if s := db.batches[0][0]; strings.Contains(s.SQL, id) || !slices.Equal(s.Args, []any{id}) || strings.Count(s.SQL, "?") != 1 {
			t.Errorf("%q: %+v", id, s)
		}
	}
}

// numbers of a row.
const numbers = `"total_limit":0,"remaining_limit":0,"usage_limit":0,"suspended":0,"seq":0`

func TestFindReadsWhatARowMayHold(t *testing.T) {
	for _, c := range []struct {
		name, row string
		want      account.Record
	}{
		{"a full row", `{"user_id":"u","user_name":"Ada","email":"a@b","key":"v1.x.y","hash":"0f","total_limit":10,"remaining_limit":9.4,"usage_limit":0.5,` +
			`"suspended":0,"seq":7,"created_at":"2026-11-21T12:00:00.123Z","updated_at":"2026-11-21T12:00:01.000Z"}`,
			account.Record{UserID: "u", UserName: "Ada", Email: "a@b", Key: "v1.x.y", Hash: "0f", TotalLimit: 10 * account.Credit,
				RemainingLimit: 9_400_000_000, UsageLimit: account.Credit / 2, Seq: 7, CreatedAt: began, UpdatedAt: began.Add(877 * time.Millisecond)}},
		{"an adopted row with NULLs", `{"user_id":"u","user_name":null,"email":null,"key":"sk-or-v1-0","hash":null,` + numbers + `,"created_at":null,"updated_at":null}`,
			account.Record{UserID: "u", Key: "sk-or-v1-0"}},
		{"texts that are not there", `{` + numbers + `}`, account.Record{UserID: "u"}},
		{"further columns", `{"user_id":"u",` + numbers + `,"notes":{"a":[1]}}`, account.Record{UserID: "u"}},
		{"the noise of doubles", `{"user_id":"u","total_limit":0.30000000000000004,"remaining_limit":-0.09999999999999998,"usage_limit":1e-9,"suspended":0,"seq":0}`,
			account.Record{UserID: "u", TotalLimit: 300_000_000, RemainingLimit: -100_000_000, UsageLimit: 1}},
		{"times in other zones", `{"user_id":"u",` + numbers + `,"created_at":"2026-11-21T14:00:00.123+02:00","updated_at":"2026-11-21T12:00:00Z"}`,
			account.Record{UserID: "u", CreatedAt: began, UpdatedAt: began.Truncate(time.Second)}},
		{"SQLite's own form of time", `{"user_id":"u",` + numbers + `,"created_at":"","updated_at":"2026-11-21 12:00:00"}`,
			account.Record{UserID: "u", UpdatedAt: began.Truncate(time.Second)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok, err := Table{found(c.row)}.Find("u")
			if err != nil || !ok || !same(got, c.want) {
				t.Errorf("%+v, %t, %v; want %+v", got, ok, err, c.want)
			}
		})
	}
}

// same compares records; times are the same whatever their zone.
func same(a, b account.Record) bool {
	times := a.CreatedAt.Equal(b.CreatedAt) && a.UpdatedAt.Equal(b.UpdatedAt)
	a.CreatedAt, a.UpdatedAt = b.CreatedAt, b.UpdatedAt
	return times && a == b
}

func TestFindFailsOnWhatIsNoRow(t *testing.T) {
	down := errors.New("D1 is down")
	for name, db := range map[string]*fakeDB{
		"the database fails": {err: down},
		"no result":          {},
		"two results":        {rows: []json.RawMessage{json.RawMessage("[]"), json.RawMessage("[]")}},
		"no JSON":            {rows: []json.RawMessage{json.RawMessage("<html>")}},
		"no array":           {rows: []json.RawMessage{json.RawMessage(`{"user_id":"u"}`)}},
		"no columns":         found(`{"user_id":"u"}`),
	} {
		t.Run(name, func(t *testing.T) {
			record, ok, err := Table{db}.Find("u")
			if err == nil || ok || record != (account.Record{}) || db.err != nil && !errors.Is(err, down) {
				t.Errorf("%+v, %t, %v", record, ok, err)
			}
		})
	}
}

// maxParameters is what D1 binds to a statement.
const maxParameters = 100

func TestSaveStaysWithinWhatD1Binds(t *testing.T) {
	for n, statements := range map[int64]int{0: 1, 1: 2, perStatement: 2, perStatement + 1: 3, MaxEntries: 5} {
		db := &fakeDB{}
		if err := (Table{db}).Save(aRecord(n), entriesTo(n)); err != nil {
			t.Fatal(err)
		}
		if len(db.batches) != 1 || len(db.batches[0]) != statements {
			t.Fatalf("%d entries: not one batch of %d: %+v", n, statements, db.batches)
		}
		for _, s := range db.batches[0] {
			if marks := strings.Count(s.SQL, "?"); marks != len(s.Args) || marks > maxParameters {
				t.Errorf("%d entries: %d marks for %d parameters", n, marks, len(s.Args))
			}
			for _, arg := range s.Args {
				switch arg.(type) {
				case string, int64, float64:
				default:
					t.Errorf("%d entries: a parameter is a %T", n, arg)
				}
			}
		}
	}
	if (perStatement+1)*(1+len(entryColumns)) <= maxParameters {
		t.Error("a statement could take more")
	}
}

func TestTimesAreTextThatSortsByTime(t *testing.T) {
	for at, want := range map[time.Time]string{
		began:                     "2026-11-21T12:00:00.123Z",
		began.Truncate(time.Hour): "2026-11-21T12:00:00.000Z",
		began.Add(999_999):        "2026-11-21T12:00:00.123Z",
		began.In(time.FixedZone("", -5*3600)).Add(time.Hour): "2026-11-21T13:00:00.123Z",
		{}: "0001-01-01T00:00:00.000Z",
	} {
		if got := timestamp(at); got != want {
			t.Errorf("%v is written %s, want %s", at, got, want)
		}
	}
	var written []string
	for i := range 3000 {
		written = append(written, timestamp(began.Add(time.Duration(i)*337*time.Millisecond)))
	}
	if !slices.IsSorted(written) {
		t.Error("the text does not sort by time")
	}
}

func TestStaleFindsEachRowOfAUserWhoseKeyIsSealedWithAPreviousKey(t *testing.T) {
	db, table := loose(t)
	const previous, older, current = "v1.00000001.", "v1.00000002.", "v1.00000003."
	var want []string
	for i, c := range []struct {
		id, key string
		stale   bool
	}{
		{"'a'", previous, true}, {"'b'", older, true}, {"'c'", current, false}, {"'d'", "", false}, {"'e'", "sk-or-v1-not-a-real-key", false},
		{"'f'", "v1.00000001", false}, {"'F'", previous, true}, {"'ж'", previous, true}, {"'e' || char(0) || 'x'", previous, true}, {"'🔑'", previous, true},
		{"''", previous, false}, {"x'ff'", previous, false}, {"7", previous, false}, {"CAST(x'ff' AS TEXT)", previous, false}, {"CAST(x'61ff' AS TEXT)", previous, false},
		{"hex(zeroblob(128))", previous, true}, {"hex(zeroblob(128)) || 'x'", previous, false}, {"'damaged'", previous, true},
	} {
		db.exec(t, `INSERT INTO users (user_id, key, total_limit) VALUES (`+c.id+`, ?, 'x')`, c.key)
		if c.stale {
			var id string
			if err := db.QueryRow(`SELECT ` + c.id).Scan(&id); err != nil {
				t.Fatal(i, err)
			}
			want = append(want, id)
		}
	}
	db.exec(t, `INSERT INTO users (user_id, key) VALUES ('blob', CAST(? AS BLOB)), ('number', 1), ('null', NULL)`, previous)
	slices.Sort(want)
	for limit := 1; limit <= 20; limit++ {
		var got, place = []string(nil), []byte(nil)
		for range 100 {
			ids, last, more, err := table.Stale([]string{previous, older}, place, limit)
			if err != nil || len(ids) > limit {
				t.Fatalf("%d at once: %v, %v", limit, ids, err)
			}
			if got, place = append(got, ids...), last; more == 0 {
				break
			}
			if n := len(want) - len(got); more < n || more > n+2 { // two ids that are not Unicode
				t.Errorf("%d at once: %d more, and %d are missing", limit, more, n)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d at once: %q, want %q", limit, got, want)
		}
	}
	if ids, _, more, err := table.Stale(nil, nil, 9); ids != nil || more != 0 || err != nil {
		t.Errorf("without a previous key: %v, %d, %v", ids, more, err)
	}
}

func TestADatabaseThatIsDownIsAProblemThatAClientMaySee(t *testing.T) {
	table := Table{&fakeDB{err: errors.New("D1 is down")}}
	_, _, find := table.Find("u")
	_, _, list := table.List(First, "", 1)
	_, hashes := table.Hashes([]string{"u"})
	_, held := table.Held([]string{"u"})
	_, earlier := table.Earlier([]string{"u"})
	_, _, _, stale := table.Stale([]string{"v1.0."}, nil, 1)
	for what, err := range map[string]error{
		"find": find, "list": list, "hashes": hashes, "held": held, "earlier": earlier, "stale": stale, "save": table.Save(aRecord(1), nil), "erase": table.Erase(aRecord(1), nil),
	} {
		if p := problem.From(err); p.Code != problem.UpstreamUnavailable || p.RetryAfter == 0 || strings.Contains(p.Answer().Body, "down") || !strings.Contains(err.Error(), "users: "+what+": D1 is down") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSaveFailsWithTheDatabase(t *testing.T) {
	down := errors.New("D1 is down")
	if err := (Table{&fakeDB{err: down}}).Save(aRecord(1), nil); !errors.Is(err, down) {
		t.Errorf("%v", err)
	}
}

// sqlite is a real database in D1's place.
type sqlite struct{ d1test.DB }

// Batch implements DB.
func (d sqlite) Batch(statements []Statement, _ func()) ([]json.RawMessage, error) {
	return d.Run(statements)
}

// migrated returns an empty database with the schema of the repository.
func migrated(t testing.TB) (sqlite, Table) {
	t.Helper()
	db := sqlite{d1test.New(t)}
	return db, Table{db}
}

func save(t *testing.T, table Table, r account.Record, entries ...account.Entry) {
	t.Helper()
	if err := table.Save(r, entries); err != nil {
		t.Fatal(err)
	}
}

// holds demands the record that the table has.
func holds(t *testing.T, table Table, want account.Record) {
	t.Helper()
	got, ok, err := table.Find(want.UserID)
	if err != nil || !ok || !same(got, want) {
		t.Errorf("the table has %+v, %t, %v; want %+v", got, ok, err, want)
	}
}

func TestWhatWasSavedIsFound(t *testing.T) {
	for name, change := range map[string]func(*account.Record){
		"as it is":         func(*account.Record) {},
		"empty":            func(r *account.Record) { *r = account.Record{UserID: "u", Seq: 1} },
		"without a key":    func(r *account.Record) { r.Key, r.Hash = "", "" },
		"overdrawn":        func(r *account.Record) { r.RemainingLimit, r.UsageLimit = -1, -800_000_000 },
		"one nano-credit":  func(r *account.Record) { r.TotalLimit, r.RemainingLimit, r.UsageLimit = 1, 2, 3 },
		"the most credits": func(r *account.Record) { r.TotalLimit, r.RemainingLimit = account.MaxCredits, account.MaxCredits-1 },
		"the least":        func(r *account.Record) { r.RemainingLimit, r.UsageLimit = -account.MaxCredits, 1-account.MaxCredits },
		"thirds":           func(r *account.Record) { r.TotalLimit, r.RemainingLimit = 3_333_333_333, 6_666_666_667 },
		"a high seq":       func(r *account.Record) { r.Seq = 1 << 52 },
	} {
		t.Run(name, func(t *testing.T) {
			_, table := migrated(t)
			want := aRecord(7)
			change(&want)
			save(t, table, want, entriesTo(3)...)
			holds(t, table, want)
			if _, ok, err := table.Find("another"); ok || err != nil {
				t.Errorf("another user: %t, %v", ok, err)
			}
		})
	}
}

func TestMoneyIsExactThroughREAL(t *testing.T) {
	db, table := migrated(t)
	r := aRecord(1)
	for _, nano := range []account.Credits{0, 1, 100_000_000, 123_456_789, 300_000_000, 999_999_999, 9_400_000_000, 3_999_999_123_456_789} {
		for _, r.RemainingLimit = range []account.Credits{nano, -nano} {
			save(t, table, r, account.Entry{Seq: r.Seq, Credits: r.RemainingLimit, RemainingLimit: nano})
			holds(t, table, r)
			var credits, remaining float64
			if err := db.QueryRow(`SELECT credits, remaining_limit FROM ledger WHERE seq = ?`, r.Seq).Scan(&credits, &remaining); err != nil {
				t.Fatal(err)
			}
			back, err := account.CreditsOf(credits)
			backRemaining, errRemaining := account.CreditsOf(remaining)
			if back != r.RemainingLimit || backRemaining != nano || err != nil || errRemaining != nil {
				t.Errorf("%d became %d, and %d became %d", r.RemainingLimit, back, nano, backRemaining)
			}
			r.Seq++
		}
	}
	if got := db.Dump(t, `SELECT DISTINCT typeof(total_limit) a, typeof(usage_limit) b, typeof(seq) c FROM users`); got != `[{"a":"real","b":"real","c":"integer"}]` {
		t.Errorf("types %s", got)
	}
}

func TestAnOlderRecordNeverOverwritesANewerOne(t *testing.T) {
	_, table := migrated(t)
	newer := aRecord(5)
	save(t, table, newer)
	for _, seq := range []int64{4, 1, 0, -1} {
		late := aRecord(seq)
		late.UserName, late.Key, late.RemainingLimit = "late", "late", 1
		save(t, table, late)
		holds(t, table, newer)
	}
	newest := aRecord(6)
	newest.UserName, newest.Email, newest.Key, newest.Hash = "Grace", "", "", ""
	newest.TotalLimit, newest.RemainingLimit, newest.UsageLimit, newest.CreatedAt = 1, 2, 3, began.Add(time.Hour)
	save(t, table, newest)
	holds(t, table, newest)
}

// `users sync` writes rows that are there: their columns may be younger, or somebody has changed them.
func TestTheSameRecordFillsARowAnew(t *testing.T) {
	db, table := migrated(t)
	full := aRecord(5)
	full.Suspended = true
	save(t, table, full)
	for _, column := range recordColumns {
		if column.Name == "user_id" || column.Name == "seq" {
			continue
		}
		db.exec(t, `UPDATE users SET `+column.Name+` = (SELECT coalesce(dflt_value, '0') FROM pragma_table_info('users') WHERE name = ?)`, column.Name)
		if got, _, err := table.Find(full.UserID); err == nil && same(got, full) {
			t.Errorf("%s: the row is as it was", column.Name)
		}
		save(t, table, full)
		holds(t, table, full)
	}
}

// A field of the record that is no column would be lost with the object.
func TestEveryColumnIsOfTheSchema(t *testing.T) {
	db, _ := migrated(t)
	var users, ledger []string
	for _, c := range recordColumns {
		users = append(users, c.Name)
	}
	for _, c := range entryColumns {
		ledger = append(ledger, c.Name)
	}
	columns := func(table string) string {
		return db.Dump(t, `SELECT group_concat(name) names FROM pragma_table_info('`+table+`')`)
	}
	if got, want := columns("users"), `[{"names":"`+strings.Join(users, ",")+`"}]`; got != want {
		t.Errorf("users has %s, want %s", got, want)
	}
	if got, want := columns("ledger"), `[{"names":"user_id,`+strings.Join(ledger, ",")+`"}]`; got != want {
		t.Errorf("ledger has %s, want %s", got, want)
	}
}

func TestSavesInAnyOrderEndAlike(t *testing.T) {
	type step struct{ record, from, to int64 } // a record by seq, with the entries after from up to to
	steps := []step{{2, 0, 2}, {5, 2, 5}, {5, 0, 5}, {9, 5, 9}}
	expected, expectedTable := migrated(t)
	for _, s := range steps {
		save(t, expectedTable, aRecord(s.record), entriesTo(9)[s.from:s.to]...)
	}
	const everything = `SELECT * FROM users ORDER BY user_id`
	const ledger = `SELECT * FROM ledger ORDER BY user_id, seq`
	for _, order := range [][]int{{3, 2, 1, 0}, {1, 3, 0, 2}, {0, 0, 1, 1, 2, 3, 3, 0}, {2, 3, 2, 0, 1}, {3, 0, 1, 3, 2, 3}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			db, table := migrated(t)
			for _, i := range order {
				entries := entriesTo(9)[steps[i].from:steps[i].to]
				slices.Reverse(entries)
				save(t, table, aRecord(steps[i].record), entries...)
			}
			for _, query := range []string{everything, ledger} {
				if got, want := db.Dump(t, query), expected.Dump(t, query); got != want {
					t.Errorf("\n got %s\nwant %s", got, want)
				}
			}
		})
	}
}

func TestALedgerEntryThatIsThereStays(t *testing.T) {
	db, table := migrated(t)
	save(t, table, aRecord(3), entriesTo(3)...)
	before := db.Dump(t, `SELECT * FROM ledger`)
	changed := entriesTo(3)
	for i := range changed {
		changed[i].Kind, changed[i].Credits = account.Renew, 77
	}
	save(t, table, aRecord(4), changed...)
	if after := db.Dump(t, `SELECT * FROM ledger`); after != before {
		t.Errorf("\nbefore %s\nafter  %s", before, after)
	}
}

func TestALedgerEntryKeepsAllItsFields(t *testing.T) {
	db, table := migrated(t)
	save(t, table, aRecord(1), account.Entry{Seq: 1, At: began, Kind: account.Rotate, Credits: account.Credit, RemainingLimit: 9_400_000_000, Hash: "0f"})
	want := `[{"at":"2026-11-21T12:00:00.123Z","credits":1,"hash":"0f","kind":"rotate","remaining_limit":9.4,"seq":1,"user_id":"u_42"}]`
	if got := db.Dump(t, `SELECT * FROM ledger`); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestTheMostEntriesThatASaveMayCarryAllArrive(t *testing.T) {
	db, table := migrated(t)
	save(t, table, aRecord(MaxEntries), entriesTo(MaxEntries)...)
	if got := db.Dump(t, `SELECT count(*) n, max(seq) last FROM ledger`); got != fmt.Sprintf(`[{"last":%d,"n":%d}]`, MaxEntries, MaxEntries) {
		t.Errorf("the ledger has %s", got)
	}
}

func TestASaveIsAllOrNothing(t *testing.T) {
	db, table := migrated(t)
	if _, err := db.Exec(`DROP TABLE ledger`); err != nil {
		t.Fatal(err)
	}
	if err := table.Save(aRecord(1), entriesTo(1)); err == nil {
		t.Error("no error")
	}
	if _, ok, err := table.Find("u_42"); ok || err != nil {
		t.Errorf("the row was written: %t, %v", ok, err)
	}
}

func TestIDsAndNamesInManyScriptsAreUnchanged(t *testing.T) {
	ids := []string{
		"u_42", "U_42", "u_42 ", "пользователь", "用户-一二三", "مستخدم", "משתמש", "उपयोगकर्ता", "ผู้ใช้", "👩🏽‍🚀🔑",
		"é", "e\u0301", // the same to the eye, but not the same id
		"ß", "SS", "İ", "i\u0307", "'", `"`, `\`, "%", "_", "?1", "<&>\u2028\t\n", "1", "01", "1.0", "0x1", "null",
		strings.Repeat("字", 85), "\u200b", "\u202eabc",
	}
	db, table := migrated(t)
	for i, id := range ids {
		r := aRecord(int64(i + 1))
		r.UserID, r.UserName, r.Email = id, "name of "+id, id+"@example.org"
		save(t, table, r, account.Entry{Seq: 1, Kind: account.Provision})
	}
	for i, id := range ids {
		want := aRecord(int64(i + 1))
		want.UserID, want.UserName, want.Email = id, "name of "+id, id+"@example.org"
		holds(t, table, want)
	}
	for _, name := range []string{"users", "ledger"} {
		if got := db.Dump(t, `SELECT count(*) n FROM `+name); got != fmt.Sprintf(`[{"n":%d}]`, len(ids)) {
			t.Errorf("%s: %s rows for %d ids", name, got, len(ids))
		}
	}
}

func TestARecordWithTheLongestNameIsReadAgain(t *testing.T) {
	_, table := migrated(t)
	r := aRecord(1)
	r.UserName, r.Email = strings.Repeat("\uFFFD", auth.MaxTextBytes/3), strings.Repeat("x", auth.MaxTextBytes)
	save(t, table, r)
	holds(t, table, r)
	if page, _, err := table.List(First, "", 10); err != nil || len(page) != 1 || page[0].Damaged != "" {
		t.Errorf("the list has %d rows, %v", len(page), err)
	}
}

func TestARowOfTheSchemasDefaultsIsAdopted(t *testing.T) {
	db, table := migrated(t)
	const insert = `INSERT INTO users (user_id, key, total_limit, remaining_limit, usage_limit) VALUES ('u_42', 'sk-or-v1-0', 10, 3.5, 0.25)`
	if _, err := db.Exec(insert); err != nil {
		t.Fatal(err)
	}
	adopted := account.Record{UserID: "u_42", Key: "sk-or-v1-0", TotalLimit: 10 * account.Credit, RemainingLimit: 3_500_000_000, UsageLimit: 250_000_000}
	holds(t, table, adopted)
	next := adopted
	next.Seq, next.Key, next.UpdatedAt = 1, "v1.x.y", began
	save(t, table, next)
	holds(t, table, next)
}
