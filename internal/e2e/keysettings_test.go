//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	or "latchkey/internal/openroutertest"
)

// Under KEY_TTL a key is replaced before it ends, whatever is left on it. The
// provisioning key goes by its new name here.
func TestKeyTTL(t *testing.T) {
	const ttl = 12 * time.Second
	w := startQuiet(t, with{
		vars:    map[string]string{"KEY_TTL": ttl.String()},
		secrets: map[string]string{"OPENROUTER_PROVISIONING_API_KEY": "", "OPENROUTER_MANAGEMENT_KEY": provisioningKey},
	})
	expires := func(v view) time.Time {
		at, err := time.Parse(time.RFC3339, v.ExpiresAt)
		for _, key := range w.openrouter.Keys() {
			if key.Hash == v.Hash && !key.ExpiresAt.Equal(at) {
				t.Errorf("key_expires_at is %s, and at OpenRouter %v, %v", v.ExpiresAt, key.ExpiresAt, err)
			}
		}
		return at
	}
	// with less than a tenth left, and when it is past its end
	for name, left := range map[string]time.Duration{"about to end": ttl / 10, "past its end": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUser(t, w)
			began := time.Now()
			first := u.provisioned()
			end := expires(first)
			if life := end.Sub(began); life < ttl || life > ttl+5*time.Second {
				t.Errorf("it lives for %v", life)
			}
			u.spend(first, 0.3)
			if left > 0 {
				u.expect(u.get(), "kept", 9.7, 0.7)
			}
			eventually(t, 2*ttl, "that time", func() (string, bool) { return first.ExpiresAt, time.Until(end) < left })
			v := u.expect(u.get(), "rotated", 9.7, 1)
			if !expires(v).After(end) {
				t.Errorf("the new key ends at %s, the old one did at %s", v.ExpiresAt, first.ExpiresAt)
			}
			u.settles(v)
			chargedOnce(t, u.inD1(v, 20*time.Second), 0.3)
		})
	}
}

// Keys are made and found in a workspace, under a guardrail, with names of this
// deployment.
func TestWorkspaceGuardrailAndPrefix(t *testing.T) {
	const workspace, prefix = "0fa1b2c3-d4e5-4f60-8a9b-0c1d2e3f4a5b", "course-b"
	const guardrail = "00000000-0000-4000-9000-000000000001" // the first one that the stand-in makes
	w := start(t, with{
		vars:    map[string]string{"OPENROUTER_WORKSPACE_ID": workspace, "OPENROUTER_GUARDRAIL_ID": guardrail, "KEY_NAME_PREFIX": prefix},
		secrets: administered.secrets,
	})

	if w.openrouter.AddGuardrail("of the course") != guardrail {
		t.Fatal("the guardrail has another id")
	}

	for _, status := range []int{404, 403} {
		t.Run(fmt.Sprint("it cannot be assigned: ", status), func(t *testing.T) {
			u := newUser(t, w)
			w.openrouter.Fail(or.OpAssign, or.Fault{Kind: or.KindStatus, Status: status}, 1)
			problem(t, u.get(), 502, "upstream_refused")
			eventually(t, 20*time.Second, "the key's end", func() (string, bool) { return u.methods(), len(u.live()) == 0 })
			u.settles(u.expect(u.get(), "provisioned", 10, 1))
		})
	}
	for _, fault := range []or.Fault{{Kind: or.KindStatus}, {Kind: or.KindStatus, Status: 429}, {Kind: or.KindDrop, Applied: true}} {
		t.Run(fmt.Sprint("it is not known to be assigned: ", nameOf(fault)), func(t *testing.T) {
			u := newUser(t, w)
			w.openrouter.Fail(or.OpAssign, fault, 1)
			retryAfter(t, problem(t, u.get(), 503, "upstream_unavailable"), 1, 60)
			u.settles(u.expect(u.get(), "provisioned", 10, 1))
			created := 0
			for _, call := range u.calls() {
				if call.Op == or.OpCreate {
					created++
				}
			}
			if created != 1 {
				t.Errorf("%d keys were made", created)
			}
		})
	}
	t.Run("an orphan is found there", func(t *testing.T) {
		u := newUser(t, w)
		w.openrouter.Fail(or.OpCreate, or.Fault{Kind: or.KindDrop, Applied: true}, 1)
		problem(t, u.get(), 503, "upstream_unavailable")
		v := u.expect(u.get(), "provisioned", 10, 1)
		u.spend(v, 0.6)
		u.settles(u.expect(u.get(), "rotated", 9.4, 1))
	})
	for _, key := range w.openrouter.Live() {
		if key.WorkspaceID != workspace || key.GuardrailID != guardrail || !strings.HasPrefix(key.Name, prefix+":") {
			t.Errorf("a key is %+v", key)
		}
	}

	t.Run("reconcile", func(t *testing.T) {
		u := newUser(t, w)
		w.behind.Store(int64(time.Hour))
		owned := u.provisioned()
		const op = ":0123456789abcdef0123456789abcdef"
		make := func(name, workspace string) {
			u.operator("POST", "/keys", `{"name":"`+name+op+`","limit":1,"workspace_id":"`+workspace+`"}`)
		}
		const orphans = 15
		for i := range orphans {
			make(fmt.Sprint(prefix, ":nobody-", i), workspace)
		}
		make("latchkey:nobody", workspace) // another deployment's
		make(prefix+":nobody", "1fa1b2c3-d4e5-4f60-8a9b-0c1d2e3f4a5b")
		w.behind.Store(0)
		for _, test := range []struct {
			body       string
			suspicious bool
			deleted    int
		}{{`{"dry_run":true}`, true, 0}, {`{"dry_run":false}`, true, 0}, {`{"dry_run":false,"force":true}`, true, orphans}, {`{"dry_run":false}`, false, 0}} {
			before := w.openrouter.Live()
			var report struct {
				Orphans    []any
				Suspicious bool
				Deleted    int
			}
			w.admin(t, "POST", "/reconcile", test.body, 200, &report)
			if report.Suspicious != test.suspicious || report.Deleted != test.deleted || len(w.openrouter.Live()) != len(before)-test.deleted {
				t.Errorf("%s: %d orphans, suspicious: %v, deleted: %d; %d keys live, %d did",
					test.body, len(report.Orphans), report.Suspicious, report.Deleted, len(w.openrouter.Live()), len(before))
			}
		}
		for _, name := range []string{"latchkey:nobody" + op, prefix + ":nobody" + op} {
			if !slices.ContainsFunc(w.openrouter.Live(), func(key or.Key) bool { return key.Name == name }) {
				t.Errorf("%s, which is no key of this deployment, was deleted", name)
			}
		}
		u.settles(owned)
	})
}
