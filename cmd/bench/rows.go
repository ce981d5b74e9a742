package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// rows is what a run measured, as it is kept in a file and compared with another
// run's.
type rows struct {
	Machine string  `json:"machine"` // what was measured on, and when
	Rows    []row   `json:"rows"`
	Faults  []fault `json:"faults,omitempty"`
}

// row is one load on one subject, by their names.
type row struct {
	Load    string  `json:"load"`
	Subject string  `json:"subject"`
	Rounds  []round `json:"rounds"`
}

// round is how a load went once; times are in milliseconds. Where no request got a
// right answer, all but Wrong is 0.
type round struct {
	Requests int     `json:"requests"`
	Rate     float64 `json:"rate"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	CPU      float64 `json:"cpu"` // 0: not known
	Wrong    int     `json:"wrong,omitempty"`
	Refused  int     `json:"refused,omitempty"` // calls that OpenRouter refused, being asked too often
	Used     *usage  `json:"used,omitempty"`    // where what Cloudflare bills was counted
}

func (r result) round() round {
	kept := round{
		Requests: r.requests, Rate: r.rate, P50: milliseconds(r.p50), P99: milliseconds(r.p99), CPU: milliseconds(r.cpu),
		Wrong: r.wrong, Refused: r.refused,
	}
	if r.used != (usage{}) {
		kept.Used = &r.used
	}
	return kept
}

// rows returns what was measured so far.
func (b *bench) rows() (rows, error) {
	on, err := machine(b.root)
	if err != nil {
		return rows{}, err
	}
	all := rows{Machine: on, Faults: b.faults}
	for _, l := range b.loads {
		for _, c := range b.subjects {
			one := row{Load: l.name, Subject: c.name}
			for _, r := range b.results[l.name][c.name] {
				one.Rounds = append(one.Rounds, r.round())
			}
			if l.phase == cold {
				for _, start := range b.cold[c.name] {
					one.Rounds = append(one.Rounds, round{Requests: 1, P50: milliseconds(start.first), P99: milliseconds(start.first)})
				}
			}
			if len(one.Rounds) > 0 {
				all.Rows = append(all.Rows, one)
			}
		}
	}
	return all, nil
}

// write puts the rows into a file, and makes the folder that it is in.
func (r rows) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func readRows(path string) (r rows, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// of returns the rounds of a load on a subject.
func (r rows) of(load, subject string) []round {
	for _, one := range r.Rows {
		if one.Load == load && one.Subject == subject {
			return one.Rounds
		}
	}
	return nil
}
