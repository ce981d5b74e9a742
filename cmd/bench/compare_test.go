package main

import (
	"path/filepath"
	"reflect"
	"testing"
)

func rowsOf(ours, theirs []float64) rows {
	r := rows{Machine: "some machine"}
	for subject, rates := range map[string][]float64{"latchkey": ours, "plain": theirs} {
		one := row{Load: "steady", Subject: subject}
		for _, rate := range rates {
			one.Rounds = append(one.Rounds, round{Requests: 1, Rate: rate})
		}
		if len(rates) > 0 {
			r.Rows = append(r.Rows, one)
		}
	}
	return r
}

func TestOnlyWhatIsBeyondNoiseMoved(t *testing.T) {
	three := []float64{100, 100, 100}
	for _, c := range []struct {
		name          string
		before, after rows
		moved, better bool
	}{
		{"the same", rowsOf([]float64{250, 260, 240}, three), rowsOf([]float64{250, 260, 240}, three), false, false},
		{"a median within the other's range", rowsOf([]float64{200, 300, 250}, three), rowsOf([]float64{280, 290, 285}, three), false, false},
		{"ranges that nearly touch", rowsOf([]float64{250, 251, 252}, three), rowsOf([]float64{253, 255, 254}, three), false, false},
		{"faster", rowsOf([]float64{250, 260, 240}, three), rowsOf([]float64{300, 310, 305}, three), true, true},
		{"slower", rowsOf([]float64{300, 310, 305}, three), rowsOf([]float64{250, 260, 240}, three), true, false},
		{"a slower machine", rowsOf([]float64{250, 260, 240}, three), rowsOf([]float64{125, 130, 120}, []float64{50, 50, 50}), false, false},
		{"one round, and some", rowsOf([]float64{250}, []float64{100}), rowsOf([]float64{270}, []float64{100}), false, false},
		{"one round, and much", rowsOf([]float64{250}, []float64{100}), rowsOf([]float64{280}, []float64{100}), true, true},
		{"nothing beside it", rowsOf([]float64{250, 260, 240}, nil), rowsOf([]float64{300, 310, 305}, three), true, true},
		{"a round that failed", rowsOf([]float64{250, 0, 260}, three), rowsOf([]float64{250, 260, 255}, three), false, false},
	} {
		all := compare(c.before, c.after)
		if len(all) != 1 || all[0].measure != "req/s" { // no other measure is known
			t.Fatalf("%s: %+v", c.name, all)
		}
		if all[0].moved != c.moved || all[0].better != c.better {
			t.Errorf("%s: %+v", c.name, all[0])
		}
	}
}

func TestRowsAreReadAsTheyWereWritten(t *testing.T) {
	r := rowsOf([]float64{1, 2}, []float64{3})
	r.Faults = []fault{{"some load", "some subject", 1, 10, "500"}}
	path := filepath.Join(t.TempDir(), "new folder", "rows.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readRows(path)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v, want %+v", got, err, r)
	}
}
