package durable

import (
	"fmt"
	"net/http"

	"latchkey/internal/account"
	"latchkey/internal/answer"
)

// reseal seals anew what is sealed with the previous KEY_ENCRYPTION_KEY: the key of
// the record, and a new one that nobody has been handed yet. Where there is none of it,
// it is the row in D1 alone that is old, and is written anew.
func (op *operation) reseal() (answer.Answer, Outcome, error) {
	st := op.store.snapshot()
	var recordKey, newKey string
	var err error
	if st.Record != nil {
		if recordKey, err = op.resealed(st.Record.Key); err != nil {
			return answer.Answer{}, "", err
		}
	}
	if st.Pending != nil && st.Pending.New != nil {
		if newKey, err = op.resealed(st.Pending.New.Key); err != nil {
			return answer.Answer{}, "", err
		}
	}
	if recordKey != "" || newKey != "" {
		// Dying before this write leaves all as it was.
		err = op.store.apply(func(st *State) *account.Entry {
			if recordKey != "" {
				st.Record.Key = recordKey
			}
			if newKey != "" {
				made := *st.Pending.New
				made.Key = newKey
				st.Pending.New = &made
			}
			return nil
		})
		if err != nil {
			return answer.Answer{}, "", err
		}
	} else if st.Record != nil && !st.d1Pending() {
		if err := op.store.apply(writeD1Anew(op.now())); err != nil {
			return answer.Answer{}, "", err
		}
	}
	return answer.JSON(http.StatusOK, "application/json", map[string]bool{"resealed": recordKey != "" || newKey != ""}), done, nil
}

// resealed is a key sealed anew; empty where there is none, or none that needs it.
func (op *operation) resealed(sealed string) (string, error) {
	if sealed == "" {
		return "", nil
	}
	key, stale, err := op.settings.Sealer.Open(op.user, sealed)
	if err != nil {
		return "", fmt.Errorf("durable: sealing anew: %w", err)
	}
	if !stale {
		return "", nil
	}
	return op.settings.Sealer.Seal(op.user, key), nil
}
