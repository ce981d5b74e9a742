package durable_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/openroutertest"
)

// This file is what must always hold.

// state decodes what a instance has in storage.
func (w *simulation) state(user string) durable.State {
	var st durable.State
	if stored := w.instance(user).state; stored != "" {
		if err := json.Unmarshal([]byte(stored), &st); err != nil {
			w.violated("the state of %s: %v", user, err)
		}
	}
	return st
}

// checkRest checks, once all is at rest, what must always hold.
func (w *simulation) checkRest() {
	for user, h := range w.instances {
		if h.state == "" {
			continue // nothing was begun; D1 may hold a row that is to be imported
		}
		st := w.state(user)
		if st.Unseen && st.Record == nil && st.Pending == nil && len(st.Tasks) == 0 && h.alarm.IsZero() {
			continue // the same: D1 could not be asked
		}
		if st.Pending != nil || len(st.Tasks) > 0 || !h.alarm.IsZero() {
			w.violated("%s is not at rest: %s, alarm %v", user, h.state, h.alarm)
		}
		var record account.Record
		if st.Record != nil {
			record = *st.Record
		}
		w.checkKeys(user, record)
		w.checkMoney(h, record)
		w.checkTable(h, record)
	}
}

// checkKeys: at most one live key, and that is the record's.
func (w *simulation) checkKeys(user string, record account.Record) {
	names := map[string]int{}
	for _, c := range w.server.CallLog() {
		if c.Op == openroutertest.OpCreate {
			names[c.Name]++
		}
	}
	for name, n := range names {
		if n > 1 {
			w.violated("%d POSTs for %s", n, name)
		}
	}
	for _, key := range w.server.Keys() {
		if !key.Deleted && strings.HasPrefix(key.Name, "latchkey:"+user+":") && key.Hash != record.Hash {
			w.violated("%s has a live key that no record owns: %s", user, key.Name)
		}
	}
}

// checkMoney: what remains is what the ledger left of this quota, and nothing is
// charged that was not spent, or twice, or forgotten after it was read.
func (w *simulation) checkMoney(h *instance, record account.Record) {
	charges := map[string]account.Credits{}
	var remaining account.Credits
	var renewed time.Time
	for _, e := range h.ledger {
		switch e.Kind {
		case account.Provision, account.Renew:
			remaining, renewed = w.settings.Policy.TotalLimit, e.At
		case account.Adjust:
			remaining -= e.Credits
		case account.Charge:
			remaining -= e.Credits
			charges[e.Hash] += e.Credits
			if e.Credits <= 0 {
				w.violated("%s was charged %s", h.user, e.Credits)
			}
		}
	}
	if remaining != record.RemainingLimit && !record.Erased {
		w.violated("%s has %s left, and by the ledger %s", h.user, record.RemainingLimit, remaining)
	}
	for _, key := range w.server.Keys() {
		if !strings.HasPrefix(key.Name, "latchkey:"+h.user+":") {
			continue
		}
		charged, spent := charges[key.Hash], account.Credits(key.Usage)
		if charged > spent {
			w.violated("%s spent %s on %s and was charged %s", h.user, spent, key.Name, charged)
		}
		// A key may be read a last time, to be settled, just when its quota ends.
		ended := w.settings.SettleAfter+w.settings.RotationOverlap > 0 && key.CreatedAt.Before(renewed)
		if charged < w.read[key.Hash] && !ended {
			w.violated("%s had spent %s on %s when it was read, and was charged %s", h.user, w.read[key.Hash], key.Name, charged)
		}
	}
}

// checkTable: D1 holds what storage holds.
func (w *simulation) checkTable(h *instance, record account.Record) {
	row := w.db.rows[h.user]
	switch {
	case record.UserID == "" || record.Erased:
		if row != nil {
			w.violated("D1 has a row of %s, and storage has none", h.user)
		}
	case row == nil:
		w.violated("D1 has no row of %s", h.user)
	default:
		w.checkRow(row, record)
	}
	if len(w.db.ledger[h.user]) != len(h.ledger) {
		w.violated("the ledger of %s has %d entries in D1, and %d in storage", h.user, len(w.db.ledger[h.user]), len(h.ledger))
	}
	for _, e := range h.ledger {
		if row := w.db.ledger[h.user][e.Seq]; row == nil || row[3] != string(e.Kind) || row[4] != e.Credits.Float64() ||
			row[5] != e.RemainingLimit.Float64() || row[6] != e.Hash {
			w.violated("D1 has the entry %v, storage %v", row, e)
		}
	}
}

func (w *simulation) checkRow(row []any, record account.Record) {
	want := []any{record.UserID, record.UserName, record.Email, record.Key, record.Hash, record.TotalLimit.Float64(),
		record.RemainingLimit.Float64(), record.UsageLimit.Float64(), record.Seq}
	if !slices.Equal(row[:len(want)], want) {
		w.violated("D1 has %v, storage %v", row, want)
	}
}

// report fails the test with what happened in the simulation.
func (w *simulation) report(t *testing.T, what string) {
	t.Helper()
	if len(w.violations) > 0 {
		t.Fatalf("%s:\n%s\n\nwhat happened:\n%s", what, strings.Join(w.violations, "\n"), strings.Join(w.trace, "\n"))
	}
}
