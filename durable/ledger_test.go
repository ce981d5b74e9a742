package durable_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/problem"
)

// page asks for a page of a ledger.
func (w *simulation) page(user string, want durable.Action, before int64, limit int) (page adminapi.LedgerPage, got *reply) {
	got = w.request(user, durable.Request{Action: want, Before: before, Limit: limit})
	if got.Status == 200 {
		if err := json.Unmarshal([]byte(got.body), &page); err != nil {
			w.violated("%s is no page: %v", got.body, err)
		}
	}
	return page, got
}

func kinds(page adminapi.LedgerPage) (all []string) {
	for _, e := range page.Entries {
		all = append(all, string(e.Kind))
	}
	return all
}

func TestALedgerIsPagedNewestFirst(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		for range 4 {
			w.spend(ada, 0.1)
			w.asked(durable.Me)
		}
		for _, want := range []durable.Action{durable.Ledger, durable.OwnLedger} {
			var got []string
			var seqs []int64
			var before int64
			for pages := 1; ; pages++ {
				page, _ := w.page(ada, want, before, 2)
				got = append(got, kinds(page)...)
				for _, e := range page.Entries {
					seqs = append(seqs, e.Seq)
				}
				if page.NextCursor == nil {
					if pages != 3 {
						t.Errorf("%s: %d pages of 5 entries", want, pages)
					}
					break
				}
				if *page.NextCursor == "" || pages > 3 {
					t.Fatalf("%s: page %d has the cursor %q", want, pages, *page.NextCursor)
				}
				json.Unmarshal([]byte(*page.NextCursor), &before)
			}
			if strings.Join(got, " ") != "charge charge charge charge provision" || !slices.IsSortedFunc(seqs, func(a, b int64) int { return int(b - a) }) {
				t.Errorf("%s: %q, numbered %v", want, got, seqs)
			}
			if page, _ := w.page(ada, want, 0, 5); len(page.Entries) != 5 || page.NextCursor != nil {
				t.Errorf("%s: a page that holds all of it goes on", want)
			}
		}
	})
}

// A page has no more entries than may be, however many are asked for.
func TestAPageOfALedgerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		for seq := range int64(adminapi.MaxPage + 10) {
			w.instance(ada).ledger = append(w.instance(ada).ledger, account.Entry{Seq: seq + 1, Kind: account.Charge})
		}
		for limit, want := range map[int]int{-1: 1, 0: 1, 7: 7, adminapi.MaxPage: adminapi.MaxPage, 1 << 30: adminapi.MaxPage} {
			if page, _ := w.page(ada, durable.OwnLedger, 0, limit); len(page.Entries) != want {
				t.Errorf("limit %d: %d entries, want %d", limit, len(page.Entries), want)
			}
		}
	})
}

// The user's own ledger asks nobody and makes nothing, also for a user of whom D1
// alone knows.
func TestTheOwnLedgerOfAnUnknownUserIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		oldRow(w)
		w.instance(ada).ledger = nil
		calls := w.calls
		page, got := w.page(ada, durable.OwnLedger, 0, 10)
		if got.Status != 200 || page.Entries == nil || len(page.Entries) > 0 || page.NextCursor != nil {
			t.Errorf("%d %s", got.Status, got.body)
		}
		if w.calls != calls || w.instance(ada).writes > 0 {
			t.Errorf("it took %d calls and %d writes", w.calls-calls, w.instance(ada).writes)
		}
		_, got = w.page("eve", durable.Ledger, 0, 10)
		w.finish()
		if got.Status != 404 {
			t.Errorf("an operator who asks for an unknown user gets %d", got.Status)
		}
		w.report(t, "after both")
	})
}

// What was before an erasure is shown to an operator, and to nobody else.
func TestTheOwnLedgerBeginsAfterAnErasure(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.asked(durable.Erase)
		for before := range int64(3) {
			if page, _ := w.page(ada, durable.OwnLedger, before, 10); len(page.Entries) != 0 || page.NextCursor != nil {
				t.Errorf("after the erasure, before entry %d: %q", before, kinds(page))
			}
		}
		w.asked(durable.Me)
		w.spend(ada, 0.1)
		w.asked(durable.Me)
		if page, _ := w.page(ada, durable.OwnLedger, 0, 10); strings.Join(kinds(page), " ") != "charge provision" || page.NextCursor != nil {
			t.Errorf("anew: %q, %v", kinds(page), page.NextCursor)
		}
		if page, _ := w.page(ada, durable.OwnLedger, 0, 2); page.NextCursor != nil {
			t.Errorf("the end of a page tells of what was before: %v", *page.NextCursor)
		}
		for before := int64(1); before <= 3; before++ {
			if page, _ := w.page(ada, durable.OwnLedger, before, 10); len(page.Entries) != 0 || page.NextCursor != nil {
				t.Errorf("before entry %d: %q", before, kinds(page))
			}
		}
		if page, _ := w.page(ada, durable.Ledger, 0, 10); strings.Join(kinds(page), " ") != "charge provision erase provision" {
			t.Errorf("the operator is shown %q", kinds(page))
		}
	})
}

func TestTheOwnLedgerCountsAsARequest(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.settings.RateLimit, w.kept = 2, true
		w.crash(ada)
		for range 2 {
			if _, got := w.page(ada, durable.OwnLedger, 0, 10); got.Status != 200 {
				t.Errorf("%d %s", got.Status, got.Code)
			}
		}
		if _, got := w.page(ada, durable.OwnLedger, 0, 10); got.Code != problem.RateLimited {
			t.Errorf("past the limit: %d %s", got.Status, got.Code)
		}
		if _, got := w.page(ada, durable.Ledger, 0, 10); got.Status != 200 {
			t.Errorf("an operator is kept out: %d %s", got.Status, got.Code)
		}
		if line := w.lines[len(w.lines)-3]; string(line.Evt) != "key" || string(line.Op) != "own_ledger" {
			t.Errorf("it is logged as %s", line)
		}
	})
}

// While as many requests of the user wait as may, no more of them are begun.
func TestTheOwnLedgerIsBoundedWhileManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		for range durable.MaxWaiting {
			w.ask(ada, durable.Me)
		}
		if _, got := w.page(ada, durable.OwnLedger, 0, 10); got.Code != problem.Overloaded {
			t.Errorf("%d %s", got.Status, got.Code)
		}
		w.drain()
		object, answered := w.object(ada), 0
		for range durable.MaxWaiting + 5 { // however many are refused
			object.Ask(durable.Request{Action: durable.OwnLedger, Limit: 1}, func(answer.Answer) {
				w.mu.Lock()
				defer w.mu.Unlock()
				answered++
			})
		}
		synctest.Wait()
		if answered != durable.MaxWaiting+5 {
			t.Errorf("%d were answered", answered)
		}
		w.drain()
		if _, got := w.page(ada, durable.OwnLedger, 0, 10); got.Status != 200 {
			t.Errorf("afterwards: %d %s", got.Status, got.Code)
		}
		w.report(t, "after all")
	})
}
