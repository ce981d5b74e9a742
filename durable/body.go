package durable

import (
	"fmt"
	"time"

	"github.com/go-faster/jx"

	"latchkey/internal/account"
	"latchkey/internal/seal"
)

// body opens the key and returns what the client gets, in JSON.
func (t turn) body(outcome Outcome) (string, error) {
	st := t.snapshot()
	r := st.Record
	key, err := t.open(r)
	if err != nil {
		return "", err
	}
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
	}{{"key_expires_at", st.ExpiresAt}, {"renews_at", t.renewsAt(r)}} {
		if !f.at.IsZero() {
			e.FieldStart(f.name)
			account.EncodeTime(&e, f.at.UTC())
		}
	}
	e.FieldStart("outcome")
	e.StrEscape(string(outcome))
	e.ObjEnd()
	return e.String(), nil
}

// open returns the key of a record. One that was opened last is at hand as long
// as the object is in memory.
func (t turn) open(r *account.Record) (seal.Secret, error) {
	t.mu.Lock()
	key, sealed := t.key, t.sealed
	t.mu.Unlock()
	if sealed == r.Key && sealed != "" {
		return key, nil
	}
	key, stale, err := t.Settings.Sealer.Open(t.user, r.Key)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("durable: the key of %q: %w", r.Hash, err)
	}
	if stale {
		// Dying before this write leaves it to the next request.
		return key, t.update(func(st *State) *account.Entry {
			st.Record.Key = t.Settings.Sealer.Seal(t.user, key)
			return nil
		})
	}
	t.mu.Lock()
	t.key, t.sealed = key, r.Key
	t.mu.Unlock()
	return key, nil
}
