package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// order is --sort: the column that a list is sorted by, with a hyphen before it from
// the highest down.
type order struct {
	by      string
	columns []string // that there are
}

func (o *order) register(command *cobra.Command, columns []string) {
	o.columns = columns
	command.Flags().StringVar(&o.by, "sort", "", "sort by this `column`, with a hyphen before it from the highest down: "+strings.Join(columns, ", "))
	_ = command.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(columns, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses a column that there is not.
func (o *order) check() error {
	if column := strings.TrimPrefix(o.by, "-"); o.by != "" && !slices.Contains(o.columns, column) {
		return exit{exitUsage, fmt.Errorf("--sort %q is none of %s", o.by, strings.Join(o.columns, ", "))}
	}
	return nil
}

// sortBy sorts items by what they have in the column of an order, if there is one:
// a column of numbers by their values, any other as text, in upper or lower case.
// Those that have nothing there come last, and those that are alike stay as they
// are.
func sortBy[T any](o order, items []T, cell func(item T, column string) string) {
	if o.by == "" {
		return
	}
	column, falling := strings.CutPrefix(o.by, "-")
	type keyed struct {
		item  T
		text  string
		value float64
	}
	rows, numbers := make([]keyed, len(items)), true
	for i, item := range items {
		rows[i] = keyed{item: item, text: strings.ToLower(cell(item, column))}
		if rows[i].text != "" {
			value, err := strconv.ParseFloat(rows[i].text, 64)
			numbers = numbers && err == nil && plainNumber.MatchString(rows[i].text)
			rows[i].value = value
		}
	}
	slices.SortStableFunc(rows, func(a, b keyed) int {
		if a.text == "" || b.text == "" {
			return cmp.Compare(len(b.text), len(a.text))
		}
		order := strings.Compare(a.text, b.text)
		if numbers {
			order = cmp.Compare(a.value, b.value)
		}
		if falling {
			return -order
		}
		return order
	})
	for i, row := range rows {
		items[i] = row.item
	}
}
