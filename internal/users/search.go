package users

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"

	"latchkey/internal/auth"
)

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
