package settings

import (
	"fmt"
	"slices"
	"strings"
)

// closeBy is how many letters a name may be off to be taken for a misspelt one: two
// that changed places, say, or a missing one. maxShare keeps short names from being
// close to everything.
const (
	closeBy  = 2
	maxShare = 4 // one letter of so many
)

// Misspelt returns a warning for each of the names that is no setting and no binding,
// but close to one: its value is ignored. It names no value.
func Misspelt(names []string) []string {
	known := []string{"METRICS"} // bound or not: see cmd/worker
	_, _ = Parse(
		func(name string) string { known = append(known, name); return "" },
		func(name string) bool { known = append(known, name); return true },
	)
	var warnings []string
	for _, name := range names {
		if meant := nearest(name, known); meant != "" {
			warnings = append(warnings, fmt.Sprintf("%s is no setting, and is ignored: is %s meant?", name, meant))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// nearest returns the known name that a name is close to; "" if there is none, or the
// name is known itself.
func nearest(name string, known []string) string {
	if slices.Contains(known, name) {
		return ""
	}
	meant, least := "", closeBy+1
	for _, other := range known {
		if off := distance(strings.ToUpper(name), other); off < least && off*maxShare <= len(other) {
			meant, least = other, off
		}
	}
	return meant
}

// distance returns how many letters have to be added, left out, replaced, or changed
// with their neighbour to make b of a; beyond closeBy, any number beyond it.
func distance(a, b string) int {
	if max(len(a)-len(b), len(b)-len(a)) > closeBy {
		return closeBy + 1
	}
	// row[j] is the distance of the first i letters of a and the first j of b; before
	// and last are the rows of i-1 and i-2.
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	var last []int
	for i := 1; i <= len(a); i++ {
		before := row
		row = make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := before[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			row[j] = min(before[j]+1, row[j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], last[j-2]+1)
			}
		}
		last = before
	}
	return row[len(b)]
}
