package durable_test

import (
	"bytes"
	"testing"
	"testing/synctest"

	"latchkey/durable"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

// changeKey makes what is sealed so far sealed with the previous key.
func (w *simulation) changeKey(t *testing.T) {
	t.Helper()
	current, err := seal.New(bytes.Repeat([]byte{1}, seal.KeySize), make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	w.crash(ada) // settings come with a new program
	w.settings.Sealer = current
}

func (w *simulation) expectResealed(t *testing.T, want string) {
	t.Helper()
	if got := w.asked(durable.Reseal); got.Status != 200 || got.body != `{"resealed":`+want+`}` {
		t.Errorf("%d %s, want resealed %s", got.Status, got.body, want)
	}
}

// openable tells whether a text opens with the present KEY_ENCRYPTION_KEY alone.
func openable(t *testing.T, sealed string) bool {
	t.Helper()
	current, err := seal.New(bytes.Repeat([]byte{1}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = current.Open(ada, sealed)
	return err == nil
}

func TestAKeyIsSealedAnewOnce(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.expectResealed(t, "false")
		w.changeKey(t)
		calls := len(w.server.CallLog())
		seq := w.state(ada).Record.Seq
		w.expectResealed(t, "true")
		w.expectResealed(t, "false")
		if record := w.state(ada).Record; !openable(t, record.Key) || record.Seq != seq+1 {
			t.Errorf("the record has seq %d after %d, and opens: %v", record.Seq, seq, openable(t, record.Key))
		}
		if row := w.db.rows[ada]; !openable(t, row[keyColumn].(string)) {
			t.Error("D1 has it as it was")
		}
		if n := len(w.server.CallLog()); n != calls {
			t.Errorf("OpenRouter was asked %d times", n-calls)
		}
		if got := w.asked(durable.Me); got.Outcome != "kept" || got.Key != key.Key {
			t.Errorf("then %d %s", got.Status, got.Outcome)
		}
	})
}

func TestAKeyThatNobodyHasYetIsSealedAnew(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		guarded(w)
		w.crash(ada)
		w.fail("ASSIGN", notSent)
		w.one(durable.Refresh)
		w.changeKey(t)
		got := w.one(durable.Reseal)
		if made := w.state(ada).Pending.New; got.body != `{"resealed":true}` || !openable(t, made.Key) {
			t.Errorf("%s, and the new key opens: %v", got.body, openable(t, made.Key))
		}
		w.decide = nil
		w.expect(w.asked(durable.Me), "rotated")
	})
}

func TestWhoHasNoKeyHasNothingSealedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		w.expectResealed(t, "false")
		w.asked(durable.Me)
		w.asked(durable.Erase)
		w.changeKey(t)
		w.expectResealed(t, "false")
		w.report(t, "after all")
	})
}

// A row of a user whose object was lost is sealed anew as well.
func TestAnImportedKeyIsSealedAnew(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.changeKey(t)
		w.instance(ada).state = ""
		w.expectResealed(t, "true")
		if row := w.db.rows[ada]; !openable(t, row[keyColumn].(string)) {
			t.Error("D1 has it as it was")
		}
	})
}

// The object has sealed anew long ago, and a row of before came back into D1.
func TestARowThatIsOlderThanItsObjectIsWrittenAnew(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		old := w.db.rows[ada]
		w.changeKey(t)
		w.expectResealed(t, "true")
		w.db.rows[ada] = old
		w.expectResealed(t, "false")
		if row := w.db.rows[ada]; !openable(t, row[keyColumn].(string)) {
			t.Error("D1 has it as it was")
		}
	})
}

// Whoever asks for a new key has no use for the old one.
func TestARefreshReplacesAKeyThatDoesNotOpen(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		w.settings.Sealer, _ = seal.New(bytes.Repeat([]byte{2}, seal.KeySize))
		w.crash(ada)
		w.expect(w.one(durable.Me), problem.Internal)
		w.expect(w.one(durable.Refresh), "rotated")
		w.expect(w.one(durable.Me), "kept")
	})
}

// What opens with neither key is no success.
func TestAKeyThatDoesNotOpenIsNotSealedAnew(t *testing.T) {
	withKey(t, func(t *testing.T, w *simulation, key *reply) {
		sealed := w.settings.Sealer
		w.settings.Sealer, _ = seal.New(bytes.Repeat([]byte{2}, seal.KeySize))
		w.crash(ada)
		if got := w.asked(durable.Reseal); got.Status != 500 {
			t.Errorf("%d %s", got.Status, got.body)
		}
		w.settings.Sealer = sealed
		w.crash(ada)
	})
}
