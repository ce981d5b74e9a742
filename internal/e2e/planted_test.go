//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/internal/seal"
)

// plant writes the state of a user that nobody has asked for.
func (u *user) plant(state string) {
	u.t.Helper()
	a, err := u.w.send(u.t.Context(), "PUT", "/plant/"+u.id, nil, strings.NewReader(state))
	if err != nil || a.body != "planted" {
		u.t.Fatalf("%v, %v", a, err)
	}
}

// A user whose stored state makes no sense gets 500, is shown as damaged, and can
// be erased.
func TestAStateThatMakesNoSense(t *testing.T) {
	w := usePlanted(t)
	for _, state := range []string{
		`{"record":{"user_id":"`, `[]`, `{"record":{"seq":"1"}}`, `{"record":{"total_limit":1e99}}`, `{"alarm":"today"}`, `no JSON`,
	} {
		t.Run(state, func(t *testing.T) {
			u := newUser(t, w)
			u.plant(state)
			problem(t, u.get(), 500, "internal")
			problem(t, u.refresh(), 500, "internal")
			u.called("")
			u.isDamaged()
			u.isErased()
		})
	}
}

// What the previous version wrote goes on: a key in use, and what was left to be
// done to others.
func TestAStateOfThePreviousVersion(t *testing.T) {
	w := usePlanted(t)
	key, err := base64.StdEncoding.DecodeString(encryptionKey(1))
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.New(key)
	if err != nil {
		t.Fatal(err)
	}
	ago := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano)
	// made returns a key of the user, as the previous version would have made it.
	made := func(u *user, op string) view {
		t.Helper()
		var created struct {
			Key  string
			Data struct{ Hash string }
		}
		if err := json.Unmarshal([]byte(u.operator("POST", "/keys", `{"name":"latchkey:`+u.id+`:`+op+`","limit":1}`)), &created); err != nil {
			t.Fatal(err)
		}
		return view{Key: created.Key, Hash: created.Data.Hash}
	}
	record := func(u *user, v view) string {
		return fmt.Sprintf(`{"record":{"user_id":%q,"user_name":%q,"email":%q,"key":%q,"hash":%q,"total_limit":10,"remaining_limit":7,"usage_limit":1,"seq":12,`+
			`"created_at":%[6]q,"updated_at":%[6]q}`, u.id, u.name, u.email, sealer.Seal(u.id, seal.NewSecret(v.Key)), v.Hash, ago)
	}

	u := newUser(t, w)
	present, settled, deleted, orphan := made(u, "1"), made(u, "2"), made(u, "3"), made(u, "4")
	u.spend(present, 0.2)
	u.spend(settled, 0.4) // of which 0.3 is known
	disable(u, settled, true)
	u.plant(record(u, present) + fmt.Sprintf(`,"chores":[{"settle":%q,"left":0.7,"since":%[4]q,"due":%[4]q},{"delete":%[2]q,"since":%[4]q,"tries":1,"due":%[4]q},`+
		`{"orphan":%[3]q,"since":%[4]q,"due":%[4]q}],"d1":{"seq":12,"since":%[4]q,"due":%[4]q},"alarm":%[4]q}`, settled.Hash, deleted.Hash, "4", ago))
	u.mark()
	if v := u.expect(u.get(), "kept", 6.8, 0.8); v.Key != present.Key || v.Version <= 12 {
		t.Errorf("the key is another one, or the version %d", v.Version)
	}
	u.settles(present)
	eventually(t, 20*time.Second, "the end of the keys before", func() (string, bool) {
		return u.methods(), w.openrouter.Deleted(settled.Hash) && w.openrouter.Deleted(deleted.Hash) && w.openrouter.Deleted(orphan.Hash)
	})
	u.inD1(u.expect(u.get(), "kept", 6.7, 0.8), 20*time.Second)

	t.Run("in the middle of a rotation", func(t *testing.T) {
		u := newUser(t, w)
		old := made(u, "1")
		u.plant(record(u, old) + fmt.Sprintf(`,"pending":{"delete":%q,"since":%[2]q,"due":%[2]q},"d1":{"seq":12},"alarm":%[2]q}`, old.Hash, ago))
		u.mark()
		v := u.expect(u.get(), "rotated", 7, 1)
		u.called("DELETE POST")
		u.settles(v)
	})
}
