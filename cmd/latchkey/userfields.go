package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/oplog"
)

// userField is a field of a user, wherever it is shown. A new one is a line in
// userFields, and one in adminapi.
type userField struct {
	name   string // as the admin API and CSV have it
	in     int    // where it is shown
	of     func(shownUser) string
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
	{name: "user_id", in: inList | inCSV | inShow, column: "id", always: true, of: func(r shownUser) string { return r.UserID }},
	{name: "user_name", in: inList | inCSV | inShow | inWatch, column: "name", of: func(r shownUser) string { return r.UserName }},
	{name: "email", in: inList | inCSV | inShow | inWatch, of: func(r shownUser) string { return r.Email }},
	{name: "key", in: inShow | inWatch, of: func(r shownUser) string { return r.Key }},
	{name: "hash", in: inCSV | inShow, of: func(r shownUser) string { return r.Hash }},
	{name: "hash", in: inWatch, of: func(r shownUser) string { return oplog.ShortHash(r.Hash) }},
	amountField("total_limit", "total", func(r shownUser) string { return r.TotalLimit.String() }),
	amountField("remaining_limit", "remaining", func(r shownUser) string { return r.RemainingLimit.String() }),
	amountField("usage_limit", "on key", func(r shownUser) string {
		if r.Hash == "" {
			return "" // there is no key
		}
		return r.UsageLimit.String()
	}),
	{name: "seq", in: inCSV | inShow, of: func(r shownUser) string { return strconv.FormatInt(r.Seq, 10) }},
	{name: "created_at", in: inCSV | inShow | inWatch, of: func(r shownUser) string { return timeOf(r.CreatedAt) }},
	{name: "updated_at", in: inList | inCSV | inShow, column: "updated", of: func(r shownUser) string { return timeOf(r.UpdatedAt) }},
	{name: "suspended", in: inCSV, of: func(r shownUser) string { return strconv.FormatBool(r.Suspended) }},
	{name: "damaged", in: inCSV | inWatch, always: true, of: func(r shownUser) string { return r.Damaged }},
	// The last: it may be red.
	{name: "state", in: inList | inShow, always: true, of: func(r shownUser) string { return r.state }},
}

func amountField(name, column string, of func(shownUser) string) userField {
	return userField{
		name: name, column: column, in: inList | inCSV | inShow | inWatch, amount: true,
		of: func(r shownUser) string {
			if r.Damaged != "" {
				return "" // nobody knows
			}
			return of(r)
		},
	}
}

// shownUser is a user and how that user stands, for people.
type shownUser struct {
	adminapi.Record
	state string
}

const active = "active"

// shown says how a user stands.
func (a *app) shown(r adminapi.Record) shownUser {
	u := shownUser{r, active}
	switch {
	case r.Damaged != "":
		u.state = "damaged: " + r.Damaged
	case r.Suspended:
		u.state = "suspended"
	case r.RemainingLimit <= account.Credits(a.renewAt):
		u.state = "exhausted"
	}
	return u
}

// listColumns are the columns of the table for people, without spaces.
func listColumns() []string {
	var columns []string
	for _, f := range userFields {
		if f.in&inList != 0 {
			columns = append(columns, f.heading())
		}
	}
	return columns
}

// heading is the column of a field in the table for people, without spaces.
func (f userField) heading() string {
	return strings.ReplaceAll(cmp.Or(f.column, f.name), " ", "-")
}

// column is what a user has in one of listColumns.
func (a *app) column(heading string, r adminapi.Record) string {
	i := slices.IndexFunc(userFields, func(f userField) bool { return f.in&inList != 0 && f.heading() == heading })
	return userFields[i].of(a.shown(r))
}

// creditsFlag is an amount as a flag.
type creditsFlag account.Credits

// String implements pflag.Value.
func (f *creditsFlag) String() string { return account.Credits(*f).String() }

// Set implements pflag.Value.
func (f *creditsFlag) Set(text string) error {
	credits, err := account.ParseCredits(text)
	*f = creditsFlag(credits)
	return err
}

// Type implements pflag.Value.
func (f *creditsFlag) Type() string { return "credits" }

// cell is a field of a user in a table. An amount that there is not is a hyphen for
// people.
func (a *app) cell(f userField, user shownUser) string {
	value := f.of(user)
	if value == "" && f.amount && !a.asCSV {
		return "-"
	}
	return value
}

// showUsers prints users as a table; JSON is of data, which may hold more.
func (a *app) showUsers(data any, users []adminapi.Record) error {
	form := inList
	if a.asCSV {
		form = inCSV
	}
	t := table{rows: make([][]string, len(users)), alarming: func(row []string) bool { return row[len(row)-1] != active }}
	for _, f := range userFields {
		if f.in&form == 0 {
			continue
		}
		name := f.name
		if form == inList {
			name = cmp.Or(f.column, f.name)
		}
		t.header = append(t.header, name)
		for i, user := range users {
			t.rows[i] = append(t.rows[i], a.cell(f, a.shown(user)))
		}
	}
	return a.showTable(data, t)
}

// recordChanges says what of a record changed, by the names of its fields. That
// only seq and updated_at did is not worth a line.
func recordChanges(was, is shownUser) []string {
	if is.Damaged != "" {
		if was.Damaged == is.Damaged {
			return nil
		}
		return []string{is.state} // all else is not known, rather than changed
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
