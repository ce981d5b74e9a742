package users

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
)

// maxPlace is how many bytes of an id and of a time can place a row in the list:
// twice what the longest id has.
const maxPlace = 512

// listing is a page of the users who have a place in the order by time, and of the others.
type listing struct{ placed, others string }

var lists = sync.OnceValue(func() listing {
	// placed holds for a row that has a place in the order by time. That place is
	// told in hex, to be exact: not all that a row may hold is Unicode. The + takes
	// an affinity away that would keep the index from being used for the ids.
	placed := fmt.Sprintf(`(typeof(user_id) = 'text' AND length(CAST(user_id AS BLOB)) <= %[1]d
  AND typeof(updated_at) = 'text' AND length(CAST(updated_at AS BLOB)) <= %[1]d)`, maxPlace)
	// other places a row that is not placed. Two long ids that begin alike share
	// a place, and a page that ends between them leaves the second out.
	other := `typeof(user_id) || ` + hexOf("user_id")
	listed := `SELECT ` + selected("key") + `, ` + hexOf("user_id") + ` AS id_bytes, ` + hexOf("updated_at") + ` AS time_bytes, ` + other + ` AS other, ` + placed + ` AS placed FROM users
WHERE (? = '' OR instr(lower(user_id || char(10) || coalesce(user_name, '') || char(10) || coalesce(email, '')), lower(?)) > 0) AND `
	return listing{
		placed: listed + placed + ` AND (updated_at, user_id) < (+CAST(unhex(?) AS TEXT), +CAST(unhex(?) AS TEXT))
ORDER BY users.updated_at DESC, users.user_id DESC LIMIT ?`, // not the columns as they are cut
		others: listed + `NOT ` + placed + ` AND ` + other + ` > ? ORDER BY ` + other + ` LIMIT ?`,
	}
})

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
		rows, err = t.query(lists().placed, text, text, hex.EncodeToString(after.UpdatedAt), hex.EncodeToString(after.UserID), int64(limit))
		if err != nil {
			return nil, nil, unreachable("list", err)
		}
	}
	if len(rows) < limit {
		others, err := t.query(lists().others, text, text, after.Other, int64(limit-len(rows)))
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
