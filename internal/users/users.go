// Package users is what D1 holds: one row for each user, and the ledger.
//
// D1 is a read model. The user's Durable Object holds the truth and writes here
// after the fact, as often as it takes: a row never gives way to one with a
// lower seq, and a ledger entry that is there already stays, so that writing
// twice or late does no harm.
//
// Others may write there too. SQLite takes anything in any column, so a row may
// make no sense; such a row is damaged. It hinders no other one, and can be
// listed, overwritten and erased.
package users

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/auth"
	"latchkey/internal/problem"
)

// DB is a database that runs statements as one transaction.
type DB interface {
	// Batch runs the statements, all or none, and returns the rows of each as
	// a JSON array of objects.
	Batch(statements []Statement) ([]json.RawMessage, error)
}

// Statement is SQL with ?-parameters: strings, float64s and int64s.
type Statement struct {
	SQL  string `json:"sql"`
	Args []any  `json:"args"`
}

// Table reads and writes the rows. Its errors are problems: upstream_unavailable
// where the database cannot be asked.
type Table struct{ DB DB }

// row is a row as the database gives it, by column: texts, float64s, and nil for
// what is NULL or has no form in JSON, as Infinity.
type row map[string]any

// query runs one statement and returns its rows.
func (t Table) query(sql string, args ...any) ([]row, error) {
	results, err := t.DB.Batch([]Statement{{sql, args}})
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("%d results for one statement", len(results))
	}
	var rows []row
	return rows, json.Unmarshal(results[0], &rows)
}

// unreachable is the error of what could not be read or written: a problem that a
// client may see, since later it may work.
func unreachable(what string, err error) error {
	p := problem.New(problem.UpstreamUnavailable, "The database cannot be reached just now.")
	p.RetryAfter, p.Cause = 5*time.Second, fmt.Errorf("users: %s: %w", what, err)
	return p
}

const (
	// maxText is the number of bytes at which a text is cut in SQL, so that no
	// page is huge. It is a bit above what a token of 8 KiB can carry.
	maxText = 8 << 10
	// maxShown is how many bytes are shown of a text that was cut.
	maxShown = 100
	// maxSeq bounds seq: numbers cross to D1 and back as doubles, and there have to
	// be numbers left for what follows on a row that is imported.
	maxSeq = 1 << 52
)

// textColumn selects a column of texts, none of them longer than maxText.
func textColumn(name string) string {
	return fmt.Sprintf(`CASE WHEN length(CAST(%[1]s AS BLOB)) < %[2]d THEN %[1]s ELSE CAST(substr(CAST(%[1]s AS BLOB), 1, %[2]d) AS TEXT) END AS %[1]s`, name, maxText)
}

// numberColumn selects a column of numbers, and NULL for anything else in it.
func numberColumn(name string) string {
	return fmt.Sprintf(`CASE WHEN typeof(%[1]s) IN ('integer', 'real') THEN %[1]s END AS %[1]s`, name)
}

// recordColumns are the fields of a record that the table has, and entryColumns
// those of a ledger entry: what is written and read is made from these lists.
var (
	recordColumns = slices.DeleteFunc(slices.Clone(account.RecordFields), func(f account.Field[account.Record]) bool { return f.ObjectOnly })
	entryColumns  = account.EntryFields
)

// selected selects all columns of a row but those left out.
func selected(without ...string) string {
	var columns []string
	for _, c := range recordColumns {
		if slices.Contains(without, c.Name) {
			continue
		}
		switch c.Of(new(account.Record)).(type) {
		case *string, *time.Time:
			columns = append(columns, textColumn(c.Name))
		default:
			columns = append(columns, numberColumn(c.Name))
		}
	}
	return strings.Join(columns, ", ")
}

var find = `SELECT ` + selected() + ` FROM users WHERE user_id = ?`

// DamagedError says that a user's row makes no sense.
type DamagedError struct {
	Why string // the column, and what is wrong with it; nothing of what it holds
	Seq int64  // of the row, so that what is written next can be above it; 0 where it makes no sense itself
	Key string // as it stands in the row, if it does
}

func (e *DamagedError) Error() string { return "the row in D1 is damaged: " + e.Why }

// Find returns a user's record, and false where there is none. Key is as it
// stands in the row: an older table may hold it unsealed. A row that makes no
// sense is a [*DamagedError].
func (t Table) Find(user string) (account.Record, bool, error) {
	rows, err := t.query(find, user)
	if err != nil {
		return account.Record{}, false, unreachable("find", err)
	}
	if len(rows) == 0 {
		return account.Record{}, false, nil
	}
	record, damage := rows[0].record()
	if damage != "" {
		return account.Record{}, false, fmt.Errorf("users: find: %w", &DamagedError{damage, record.Seq, record.Key})
	}
	record.UserID = user
	return record, true, nil
}

// record returns what a row holds, and the first thing that is wrong with it; ""
// where it makes sense. What makes none is left out of the record.
func (r row) record() (record account.Record, damage string) {
	for _, c := range recordColumns {
		if wrong := r.scan(c.Name, c.Of(&record)); wrong != "" && damage == "" {
			damage = c.Name + " " + wrong
		}
	}
	return record, damage
}

// scan reads a column into a field, and says what is wrong with it; "" where it
// makes sense.
func (r row) scan(column string, into any) (wrong string) {
	number, isNumber := r[column].(float64)
	switch field := into.(type) {
	case *string:
		*field, wrong = r.text(column)
	case *time.Time:
		var text string
		if text, wrong = r.text(column); wrong != "" {
			return wrong
		}
		at, ok := parseTime(text)
		if !ok {
			return "is no time"
		}
		*field = at
	case *account.Credits:
		if !isNumber {
			return "is no number"
		}
		credits, err := account.CreditsOf(number)
		if err != nil {
			return "is out of range"
		}
		*field = credits
	case *int64:
		if !isNumber || number != math.Trunc(number) || number < 0 || number > maxSeq {
			return fmt.Sprintf("is no whole number from 0 to %d", int64(maxSeq))
		}
		*field = int64(number)
	case *bool:
		if !isNumber || number != 0 && number != 1 {
			return "is no whole number from 0 to 1"
		}
		*field = number == 1
	default:
		panic("users: no such kind of column: " + column)
	}
	return wrong
}

// text returns the text of a column, or what it begins with, and what is wrong with it.
func (r row) text(column string) (text, wrong string) {
	text, ok := r[column].(string)
	switch {
	case !ok && r[column] != nil: // an older table may have NULL
		return "", "is no text"
	case len(text) >= maxText:
		return r.shown(column), "is too long"
	}
	return text, ""
}

// shown is a text for an operator to see, or what that begins with.
func (r row) shown(column string) string {
	text, _ := r[column].(string)
	if len(text) < maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}

// parseTime reads the times of older tables too: SQLite's own form, which is
// UTC, and none, for which the zero time stands: "long ago".
func parseTime(text string) (time.Time, bool) {
	if text == "" {
		return time.Time{}, true
	}
	for _, layout := range []string{time.RFC3339, time.DateTime} {
		t, err := time.Parse(layout, text)
		if t = t.UTC(); err == nil && t.Year() >= 0 && t.Year() <= 9999 { // JSON has no others
			return t, true
		}
	}
	return time.Time{}, false
}

// unsound holds for a row with numbers that make no sense. Its seq, even one that
// does, guards nothing.
var unsound = func() string {
	var sound []string
	for _, c := range recordColumns {
		switch name := "users." + c.Name; c.Of(new(account.Record)).(type) {
		case *int64:
			sound = append(sound, fmt.Sprintf(`%[1]s BETWEEN 0 AND %[2]d AND %[1]s = CAST(%[1]s AS INTEGER)`, name, int64(maxSeq)))
		case *bool:
			sound = append(sound, name+` BETWEEN 0 AND 1`)
		case *account.Credits:
			sound = append(sound, fmt.Sprintf(`%s BETWEEN -%[2]s AND %[2]s`, name, account.MaxCredits))
		}
	}
	return `NOT coalesce(` + strings.Join(sound, ` AND `) + `, 0)`
}()

// upsert writes a row. One that is there gives way to the same record too: that
// fills columns which are younger than the row.
var upsert = func() string {
	var names, changes []string
	for _, c := range recordColumns {
		names = append(names, c.Name)
		if c.Name != "user_id" {
			changes = append(changes, c.Name+` = excluded.`+c.Name)
		}
	}
	return `INSERT INTO users (` + strings.Join(names, `, `) + `)
VALUES (` + marks(len(names)) + `)
ON CONFLICT (user_id) DO UPDATE SET ` + strings.Join(changes, `, `) + `
WHERE excluded.seq >= users.seq OR ` + unsound
}()

// marks are so many parameters.
func marks(count int) string { return `?` + strings.Repeat(`, ?`, count-1) }

// parameter is a field as a statement takes it.
func parameter(field any) any {
	switch value := field.(type) {
	case *string:
		return *value
	case *account.Kind:
		return string(*value)
	case *account.Credits:
		return value.Float64()
	case *int64:
		return *value
	case *bool:
		if *value {
			return int64(1)
		}
		return int64(0)
	case *time.Time:
		return timestamp(*value)
	}
	panic(fmt.Sprintf("users: no column takes a %T", field))
}

// MaxEntries is how many ledger entries one Save may carry: four statements of as
// many as D1 takes, which binds at most 100 parameters to one; an entry has seven.
const (
	MaxEntries   = 4 * perStatement
	perStatement = 14
)

// Save writes a record and ledger entries of its user, in one transaction. It
// may be repeated, and a late one does not overwrite a newer record, unless that
// has numbers that make no sense.
func (t Table) Save(r account.Record, entries []account.Entry) error {
	var args []any
	for _, c := range recordColumns {
		args = append(args, parameter(c.Of(&r)))
	}
	statements := append([]Statement{{upsert, args}}, appendTo(r.UserID, entries)...)
	if _, err := t.DB.Batch(statements); err != nil {
		return unreachable("save", err)
	}
	return nil
}

var erase = `DELETE FROM users WHERE user_id = ?1 AND ` + unsound + ` OR user_id = ?1 AND seq < ?`

// Erase deletes a user's row, unless it is newer than the erased record and its
// numbers make sense, and writes ledger entries, in one transaction. The ledger
// stays; it has neither name nor address.
func (t Table) Erase(r account.Record, entries []account.Entry) error {
	statements := append([]Statement{{erase, []any{r.UserID, r.Seq}}}, appendTo(r.UserID, entries)...)
	if _, err := t.DB.Batch(statements); err != nil {
		return unreachable("erase", err)
	}
	return nil
}

// appendTo returns the statements that append entries to a user's ledger. An entry
// that is there already stays.
func appendTo(user string, entries []account.Entry) []Statement {
	names := []string{"user_id"}
	for _, c := range entryColumns {
		names = append(names, c.Name)
	}
	var statements []Statement
	for some := range slices.Chunk(entries, perStatement) {
		var args []any
		for i := range some {
			args = append(args, user)
			for _, c := range entryColumns {
				args = append(args, parameter(c.Of(&some[i])))
			}
		}
		row := `(` + marks(len(names)) + `)`
		statements = append(statements, Statement{
			`INSERT INTO ledger (` + strings.Join(names, `, `) + `) VALUES ` + row + strings.Repeat(`, `+row, len(some)-1) + ` ON CONFLICT (user_id, seq) DO NOTHING`, args,
		})
	}
	return statements
}

// maxPlace is how many bytes of an id and of a time can place a row in the list:
// twice what the longest id has.
const maxPlace = 512

var (
	// placed holds for a row that has a place in the order by time. That place is
	// told in hex, to be exact: not all that a row may hold is Unicode. The + takes
	// an affinity away that would keep the index from being used for the ids.
	placed = fmt.Sprintf(`(typeof(user_id) = 'text' AND length(CAST(user_id AS BLOB)) <= %[1]d
  AND typeof(updated_at) = 'text' AND length(CAST(updated_at AS BLOB)) <= %[1]d)`, maxPlace)
	listPlaced = listed + placed + ` AND (updated_at, user_id) < (+CAST(unhex(?) AS TEXT), +CAST(unhex(?) AS TEXT))
ORDER BY users.updated_at DESC, users.user_id DESC LIMIT ?` // not the columns as they are cut
	listOthers = listed + `NOT ` + placed + ` AND ` + other + ` > ? ORDER BY ` + other + ` LIMIT ?`

	listed = `SELECT ` + selected("key") + `, ` + hexOf("user_id") + ` AS id_bytes, ` + hexOf("updated_at") + ` AS time_bytes, ` + other + ` AS other, ` + placed + ` AS placed FROM users
WHERE (? = '' OR instr(lower(user_id || char(10) || coalesce(user_name, '') || char(10) || coalesce(email, '')), lower(?)) > 0) AND `
	// other places a row that is not placed. Two long ids that begin alike share
	// a place, and a page that ends between them leaves the second out.
	other = `typeof(user_id) || ` + hexOf("user_id")
)

func hexOf(column string) string {
	return fmt.Sprintf(`hex(substr(CAST(%s AS BLOB), 1, %d))`, column, maxPlace)
}

// Cursor is the end of a page: the next one begins after it.
type Cursor struct {
	UpdatedAt, UserID []byte
	Other             string // where it is past all rows that are placed by time
}

// First begins a list: before all that can be.
var First = Cursor{UpdatedAt: bytes.Repeat([]byte{0xff}, maxPlace+1)}

// List returns a page of users whose id, name or address holds a text; an empty
// one is in all. The newest change comes first, and last, by id, the rows whose
// time or id is none: a page that is not full reads the whole table for these.
// The cursor is nil where there is no more.
func (t Table) List(after Cursor, text string, limit int) ([]adminapi.User, *Cursor, error) {
	var rows []row
	var err error
	if after.Other == "" {
		rows, err = t.query(listPlaced, text, text, hex.EncodeToString(after.UpdatedAt), hex.EncodeToString(after.UserID), int64(limit))
		if err != nil {
			return nil, nil, unreachable("list", err)
		}
	}
	if len(rows) < limit {
		others, err := t.query(listOthers, text, text, after.Other, int64(limit-len(rows)))
		if err != nil {
			return nil, nil, unreachable("list", err)
		}
		rows = append(rows, others...)
	}
	page := make([]adminapi.User, len(rows))
	for i, r := range rows {
		page[i] = r.listed()
	}
	if len(rows) < limit {
		return page, nil, nil
	}
	last := rows[len(rows)-1]
	next := &Cursor{UpdatedAt: last.bytes("time_bytes"), UserID: last.bytes("id_bytes")}
	if last["placed"] != 1.0 {
		next.Other, _ = last["other"].(string)
	}
	return page, next, nil
}

// bytes returns what a column has in hex.
func (r row) bytes(column string) []byte {
	text, _ := r[column].(string)
	decoded, _ := hex.DecodeString(text) // SQLite has written it
	return decoded
}

func (r row) listed() adminapi.User {
	record, damage := r.record()
	id := string(r.bytes("id_bytes"))
	if id != record.UserID {
		damage = "user_id is no user's"
	}
	if damage != "" {
		record = account.Record{UserName: record.UserName, Email: record.Email, Hash: record.Hash}
	}
	listed := adminapi.UserOf(record)
	listed.UserID, listed.Damaged = strings.ToValidUTF8(id, "\uFFFD"), damage
	listed.CreatedAt, listed.UpdatedAt = r.shown("created_at"), r.shown("updated_at") // as an older table has them
	return listed
}

// MaxHashes is how many users or hashes one call of Hashes, Held and Earlier may
// ask for: each binds a parameter, and D1 takes 100.
const MaxHashes = 100

// in runs a statement that ends with a column, which has one of some values.
func (t Table) in(sql string, values []string) ([]row, error) {
	args := make([]any, len(values))
	for i, value := range values {
		args[i] = value
	}
	return t.query(sql+` IN (`+marks(len(values))+`)`, args...)
}

// Hashes returns the hashes in the rows of some users.
func (t Table) Hashes(ids []string) (map[string]string, error) {
	rows, err := t.in(`SELECT user_id, `+textColumn("hash")+` FROM users WHERE user_id`, ids)
	if err != nil {
		return nil, unreachable("hashes", err)
	}
	hashes := make(map[string]string, len(rows))
	for _, r := range rows {
		id, _ := r["user_id"].(string)
		hashes[id], _ = r["hash"].(string)
	}
	return hashes, nil
}

// Held tells which of some hashes are in the row of any user. It reads the whole
// table.
func (t Table) Held(hashes []string) (map[string]bool, error) {
	rows, err := t.in(`SELECT DISTINCT hash FROM users WHERE hash`, hashes)
	if err != nil {
		return nil, unreachable("held", err)
	}
	held := make(map[string]bool, len(rows))
	for _, r := range rows {
		hash, _ := r["hash"].(string)
		held[hash] = true
	}
	return held, nil
}

// Earlier returns, for some hashes, the users who have a ledger entry with it. It
// reads the whole ledger.
func (t Table) Earlier(hashes []string) (map[string][]string, error) {
	rows, err := t.in(`SELECT DISTINCT `+textColumn("user_id")+`, hash FROM ledger WHERE hash`, hashes)
	if err != nil {
		return nil, unreachable("earlier", err)
	}
	users := make(map[string][]string, len(rows))
	for _, r := range rows {
		hash, _ := r["hash"].(string)
		if id, ok := r["user_id"].(string); ok { // a user's id is a text
			users[hash] = append(users[hash], id)
		}
	}
	return users, nil
}

// Stale returns the ids of users, in their order, whose row has a key that begins
// with one of some prefixes, all of one length: at most limit, after a place in that
// order. It returns the place of the last one too, and how many there are behind it.
// A row is left out where no user can have its id: its key opens for nobody.
func (t Table) Stale(prefixes []string, after []byte, limit int) (ids []string, last []byte, more int, err error) {
	if len(prefixes) == 0 {
		return nil, nil, 0, nil
	}
	stale := fmt.Sprintf(`FROM users WHERE typeof(user_id) = 'text' AND length(CAST(user_id AS BLOB)) <= %d AND user_id > +CAST(unhex(?) AS TEXT) AND substr(key, 1, %d) IN (`,
		auth.MaxIDBytes, len(prefixes[0])) + marks(len(prefixes)) + `)`
	query := func(columns, end string, after []byte) ([]row, error) {
		args := []any{hex.EncodeToString(after)}
		for _, prefix := range prefixes {
			args = append(args, prefix)
		}
		return t.query(`SELECT `+columns+` `+stale+end, args...)
	}
	rows, err := query(hexOf("user_id")+` AS id_bytes`, ` ORDER BY user_id LIMIT `+strconv.Itoa(limit), after)
	if err != nil {
		return nil, nil, 0, unreachable("stale", err)
	}
	for _, r := range rows {
		if last = r.bytes("id_bytes"); utf8.Valid(last) {
			ids = append(ids, string(last))
		}
	}
	if len(rows) < limit {
		return ids, last, 0, nil
	}
	rows, err = query(`count(*) AS count`, ``, last)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows for one count", len(rows))
	}
	if err != nil {
		return nil, nil, 0, unreachable("stale", err)
	}
	count, _ := rows[0]["count"].(float64)
	return ids, last, int(count), nil
}

// timestamp is RFC 3339 in UTC with milliseconds, so that text sorts by time.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
