package durable

import (
	"net/http"
	"slices"
	"strconv"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
)

// ledger answers an operator with a page of the ledger.
func (op *operation) ledger() (answer.Answer, Outcome, error) {
	if op.store.snapshot().Record == nil {
		return answer.Answer{}, "", unknownUser()
	}
	return op.ledgerPage(func(account.Entry) bool { return false })
}

// ownLedger answers the user with a page of the ledger. What was before an erasure
// belongs to nobody any more; one that was before its number was stored is known by its
// entry.
func (op *operation) ownLedger() (answer.Answer, Outcome, error) {
	erased := op.store.snapshot().erasedSeq()
	return op.ledgerPage(func(e account.Entry) bool { return e.Seq <= erased || e.Kind == account.Erase })
}

// ledgerPage answers a page, newest entry first, which ends before the entry that
// is the end.
func (op *operation) ledgerPage(isEnd func(account.Entry) bool) (answer.Answer, Outcome, error) {
	limit := min(max(op.request.Limit, 1), adminapi.MaxPage)
	entries, err := op.store.storage.Latest(op.request.Before, limit+1) // one more tells whether there is more
	if err != nil {
		return answer.Answer{}, "", err
	}
	if end := slices.IndexFunc(entries, isEnd); end >= 0 {
		entries = entries[:end]
	}
	page := adminapi.LedgerPage{Entries: []account.Entry{}}
	if len(entries) > limit {
		entries = entries[:limit]
		page.NextCursor = new(strconv.FormatInt(entries[limit-1].Seq, 10))
	}
	page.Entries = append(page.Entries, entries...)
	return answer.JSON(http.StatusOK, "application/json", page), done, nil
}
