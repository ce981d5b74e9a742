package main

import (
	"fmt"
	"strconv"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
)

// userField is a field of a user, wherever it is shown. A new one is a line in
// userFields, and one in adminapi.
type userField struct {
	name   string // as the admin API and CSV have it
	in     int    // where it is shown
	of     func(adminapi.Record) string
	column string // of the table for people; empty: name
	always bool   // it is known of a damaged user too
	amount bool   // in credits
}

// Where a field is shown.
const (
	inList  = 1 << iota // the table for people
	inCSV               // --csv of the same
	inShow              // users show
	inWatch             // a change of it is an event of users watch
)

var userFields = []userField{
	{name: "user_id", in: inList | inCSV | inShow, column: "id", always: true, of: func(r adminapi.Record) string { return r.UserID }},
	{name: "user_name", in: inList | inCSV | inShow | inWatch, column: "name", of: func(r adminapi.Record) string { return r.UserName }},
	{name: "email", in: inList | inCSV | inShow | inWatch, of: func(r adminapi.Record) string { return r.Email }},
	{name: "key", in: inShow | inWatch, of: func(r adminapi.Record) string { return r.Key }},
	{name: "hash", in: inCSV | inShow, of: func(r adminapi.Record) string { return r.Hash }},
	{name: "hash", in: inWatch, of: func(r adminapi.Record) string { return short(r.Hash) }},
	amountField("total_limit", "total", func(r adminapi.Record) account.Credits { return r.TotalLimit }),
	amountField("remaining_limit", "remaining", func(r adminapi.Record) account.Credits { return r.RemainingLimit }),
	amountField("usage_limit", "on key", func(r adminapi.Record) account.Credits { return r.UsageLimit }),
	{name: "seq", in: inCSV | inShow, of: func(r adminapi.Record) string { return strconv.FormatInt(r.Seq, 10) }},
	{name: "created_at", in: inCSV | inShow | inWatch, of: func(r adminapi.Record) string { return r.CreatedAt }},
	{name: "updated_at", in: inList | inCSV | inShow, column: "updated", of: func(r adminapi.Record) string { return r.UpdatedAt }},
	{name: "suspended", in: inCSV, of: func(r adminapi.Record) string { return strconv.FormatBool(r.Suspended) }},
	{name: "damaged", in: inCSV | inWatch, always: true, of: func(r adminapi.Record) string { return r.Damaged }},
	// The last: it may be red.
	{name: "state", in: inList | inShow, always: true, of: func(r adminapi.Record) string { return userState(r.User) }},
}

func amountField(name, column string, of func(adminapi.Record) account.Credits) userField {
	return userField{
		name: name, column: column, in: inList | inCSV | inShow | inWatch, amount: true,
		of: func(r adminapi.Record) string { return of(r).String() },
	}
}

const active = "active"

// userState is how a user stands, for people.
func userState(u adminapi.User) string {
	switch {
	case u.Damaged != "":
		return "damaged: " + u.Damaged
	case u.Suspended:
		return "suspended"
	}
	return active
}

// showUsers prints users as a table; JSON is of data, which may hold more.
func (a *app) showUsers(data any, users []adminapi.Record) error {
	form := inList
	if a.asCSV {
		form = inCSV
	}
	var header []string
	rows := make([][]string, len(users))
	for _, f := range userFields {
		if f.in&form == 0 {
			continue
		}
		name := f.name
		if form == inList && f.column != "" {
			name = f.column
		}
		header = append(header, name)
		for i, user := range users {
			value := f.of(user)
			if form == inList && f.amount && user.Damaged != "" {
				value = "-" // nobody knows
			}
			rows[i] = append(rows[i], value)
		}
	}
	return a.showAlarming(data, header, rows, func(row []string) bool { return row[len(row)-1] != active })
}

// recordChanges says what of a record changed, by the names of its fields. That
// only seq and updated_at did is not worth a line.
func recordChanges(was, is adminapi.Record) []string {
	if is.Damaged != "" {
		if was.Damaged == is.Damaged {
			return nil
		}
		return []string{userState(is.User)} // all else is not known, rather than changed
	}
	var changes []string
	if was.Suspended != is.Suspended {
		changes = append(changes, map[bool]string{true: "suspended", false: "resumed"}[is.Suspended])
	}
	for _, f := range userFields {
		if before, now := f.of(was), f.of(is); f.in&inWatch != 0 && before != now {
			changes = append(changes, fmt.Sprintf("%s %s -> %s", f.name, orNone(before), orNone(now)))
		}
	}
	return changes
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}
