package durable

import (
	"fmt"
	"sync"
	"time"

	"github.com/go-faster/jx"

	"latchkey/internal/account"
	"latchkey/internal/seal"
)

// body opens the key and returns what the client gets, in JSON.
func (op *operation) body(outcome Outcome) (string, error) {
	r := op.store.snapshot().Record
	key, err := op.open(r)
	if err != nil {
		return "", err
	}
	return body(op.store.snapshot(), key, op.rules(), outcome), nil
}

// body is what a client gets, in JSON.
func body(st *State, key seal.Secret, rules rules, outcome Outcome) string {
	r := st.Record
	var e jx.Encoder
	e.Grow(512)
	e.ObjStart()
	for _, f := range [...]struct{ name, value string }{
		{"id", r.UserID}, {"user_name", r.UserName}, {"email", r.Email}, {"openrouter_api_key", key.Reveal()}, {"hash", r.Hash},
	} {
		e.FieldStart(f.name)
		e.StrEscape(f.value)
	}
	for _, f := range [...]struct {
		name  string
		value account.Credits
	}{{"total_limit", r.TotalLimit}, {"remaining_limit", r.RemainingLimit}, {"usage_limit", r.UsageLimit}} {
		e.FieldStart(f.name)
		f.value.Encode(&e)
	}
	e.FieldStart("version")
	e.Int64(r.Seq)
	for _, f := range [...]struct {
		name string
		at   time.Time
	}{{"key_expires_at", st.ExpiresAt}, {"renews_at", rules.renewsAt(st)}} {
		if !f.at.IsZero() {
			e.FieldStart(f.name)
			account.EncodeTime(&e, f.at.UTC())
		}
	}
	e.FieldStart("outcome")
	e.StrEscape(string(outcome))
	e.ObjEnd()
	return e.String()
}

// open returns the key of a record. One that was opened last is at hand as long
// as the object is in memory.
func (op *operation) open(r *account.Record) (seal.Secret, error) {
	key, stale, err := op.opened.open(op.settings.Sealer, op.user, r.Key)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("durable: the key of %q: %w", r.Hash, err)
	}
	if stale {
		// Dying before this write leaves it to the next request.
		return key, op.store.apply(func(st *State) *account.Entry {
			st.Record.Key = op.settings.Sealer.Seal(op.user, key)
			return nil
		})
	}
	return key, nil
}

// openedKey is the record's key that was opened last: to open it takes a while.
type openedKey struct {
	mu     sync.Mutex
	sealed string
	key    seal.Secret
}

// open opens a user's sealed key. stale: it was sealed with the previous key.
func (o *openedKey) open(sealer *seal.Sealer, user, sealed string) (key seal.Secret, stale bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if sealed != "" && sealed == o.sealed {
		return o.key, false, nil
	}
	key, stale, err = sealer.Open(user, sealed)
	if err == nil && !stale {
		o.sealed, o.key = sealed, key
	}
	return key, stale, err
}
