package users

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"latchkey/internal/account"
)

// This file is what there is to know of a column, by the type of its field: how it is
// selected, read and written, and when it makes sense.

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

// row is a row as the database gives it, by column: texts, float64s, and nil for
// what is NULL or has no form in JSON, as Infinity.
type row map[string]any

const (
	// maxText is the number of bytes at which a text is cut in SQL, so that no
	// page is huge. It is above the longest name, auth.MaxTextBytes.
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
	t, err := account.ParseTime(text)
	if err != nil {
		t, err = time.Parse(time.DateTime, text)
	}
	return t, err == nil
}

// unsound holds for a row with numbers that make no sense. Its seq, even one that
// does, guards nothing.
var unsound = sync.OnceValue(func() string {
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
})

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

// timestamp is RFC 3339 in UTC with milliseconds, so that text sorts by time.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
