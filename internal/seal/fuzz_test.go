package seal

import (
	"testing"
)

// FuzzWhatWasSealedOpens for the same user, and for no other.
func FuzzWhatWasSealedOpens(f *testing.F) {
	f.Add("ada", text, "bob")
	f.Add("", "", "\x00")
	f.Add("\xff", "\xff", "\xff\x00")
	old, err := New(make([]byte, KeySize))
	if err != nil {
		f.Fatal(err)
	}
	key := make([]byte, KeySize)
	key[0] = 1
	s, err := New(key, make([]byte, KeySize))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, user, text, other string) {
		for _, from := range []*Sealer{old, s} {
			sealed := from.Seal(user, NewSecret(text))
			if got, stale, err := s.Open(user, sealed); err != nil || got.Reveal() != text || stale != (from == old) {
				t.Errorf("%q, stale %v, %v", got.Reveal(), stale, err)
			}
			if got, _, err := s.Open(other, sealed); err == nil && other != user {
				t.Errorf("%q opened %q of %q", other, got.Reveal(), user)
			}
		}
	})
}

// FuzzOpen: of all that may stand in a row nothing opens but what was sealed.
func FuzzOpen(f *testing.F) {
	s, err := New(make([]byte, KeySize))
	if err != nil {
		f.Fatal(err)
	}
	// One text that stays the same from run to run: its nonce and all.
	const sealed = "v1.66687aad.82pZBagVRqqtRvOsmeNiUBVOelCm9aCQ6ORXUZj5uorY8mDrQn-A5W-Ndy8oOPvdgb6x"
	if got, _, err := s.Open("ada", sealed); err != nil || got.Reveal() != text {
		f.Fatal(err)
	}
	f.Add("ada", sealed)
	f.Add("", "v1..")
	f.Add("ada", "v1.66687aad.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, user, in string) {
		got, _, err := s.Open(user, in)
		if err == nil && (user != "ada" || got.Reveal() != text) {
			t.Errorf("%q opens for %q: %q", in, user, got.Reveal())
		}
		if err != nil && (got != Secret{} || len(err.Error()) > 200) {
			t.Errorf("%q, and an error of %d bytes", got.Reveal(), len(err.Error()))
		}
	})
}
