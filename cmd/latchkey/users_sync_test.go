package main

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// withBoth is an environment for a latchkey and its account.
func withBoth(f *fixture, account *accountFixture) map[string]string {
	env := f.env()
	maps.Copy(env, account.env)
	return env
}

func TestSyncFromKeysLeavesOutWhatItCannotDo(t *testing.T) {
	f, account := newFixture(t), newAccount(t, nil)
	for _, name := range []string{
		"latchkey:u_7:op", "latchkey:u_42:op1", "latchkey:u_42:op2", "latchkey:клас/Ada 1:op", "latchkey:.:op", "latchkey:..:op", "latchkey:refused\u202e:op",
		"other:u_9:op", "latchkey:u_9", "latchkey::op", "latchkey-class:c:u_9:op", "u_9",
	} {
		account.runWithKeys(0, "keys", "create", name, "--limit", "1")
	}
	p := latchkey(t.Context(), withBoth(f, account), "users", "sync", "--from-keys").want(t, exitNotFound)
	golden(t, "users-sync-from-keys", p.out+p.stderr)
	want := []string{
		"POST /api/admin/users/refused%E2%80%AE/sync", "POST /api/admin/users/u_42/sync", "POST /api/admin/users/u_7/sync",
		"POST /api/admin/users/%D0%BA%D0%BB%D0%B0%D1%81%2FAda%201/sync",
	}
	if got := f.Asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}

	// An id that no URL can name is reason enough to fail.
	f, account = newFixture(t), newAccount(t, nil)
	account.runWithKeys(0, "keys", "create", "latchkey:..:op", "--limit", "1")
	account.runWithKeys(0, "keys", "create", "staging-2:u_42:op", "--limit", "1")
	if p := latchkey(t.Context(), withBoth(f, account), "users", "sync", "--from-keys").want(t, exitFailed); !strings.Contains(p.stderr, "left out: 1 of 1") {
		t.Error(p)
	}
	if p := latchkey(t.Context(), withBoth(f, account), "users", "sync", "--from-keys", "--prefix", "staging-2").want(t, exitOK); !strings.Contains(p.stderr, "1 of 1 users") {
		t.Error(p)
	}
}

func TestSyncGoesOnAfterWhatIsOneUsersAlone(t *testing.T) {
	for status, c := range map[int]struct{ code, asked int }{
		400: {exitFailed, 3}, 404: {exitNotFound, 3}, 500: {exitUnavailable, 3}, 503: {exitUnavailable, 3},
		// These are not.
		401: {exitRefused, 2}, 403: {exitRefused, 2}, 302: {exitFailed, 2}, 0: {exitUnavailable, 2},
	} {
		f := newFixture(t)
		f.answerWith(func(w http.ResponseWriter) bool {
			switch {
			case len(f.Asked()) != 2:
				return false
			case status == 0:
				panic(http.ErrAbortHandler)
			}
			problemDocument(w, status, "some_code", "No.")
			return true
		})
		p := f.run(t, "users", "sync", "u_42", "u_7", "u_42").want(t, c.code)
		if len(f.Asked()) != c.asked || !strings.Contains(p.stderr, "left out: ") {
			t.Errorf("%d: asked %q: %v", status, f.Asked(), p)
		}
	}
}
