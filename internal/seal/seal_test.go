package seal

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

const text = "sk-or-v1-not-a-real-key"

func newSealer(t *testing.T, current byte, previous ...byte) *Sealer {
	t.Helper()
	var old [][]byte
	for _, b := range previous {
		old = append(old, bytes.Repeat([]byte{b}, KeySize))
	}
	s, err := New(bytes.Repeat([]byte{current}, KeySize), old...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpensWhatItSealedForTheSameUserOnly(t *testing.T) {
	s := newSealer(t, 1)
	sealed := s.Seal("ada", NewSecret(text))
	if strings.Contains(sealed, text) || sealed == s.Seal("ada", NewSecret(text)) {
		t.Errorf("sealed text shows the secret or repeats: %s", sealed)
	}
	if got, stale, err := s.Open("ada", sealed); err != nil || stale || got.Reveal() != text {
		t.Errorf("Open = %q, stale %v, %v", got.Reveal(), stale, err)
	}
	if _, _, err := s.Open("bob", sealed); err == nil {
		t.Error("bob opened what was sealed for ada")
	}
}

func TestOpensUnderAPreviousKeyAndSaysStale(t *testing.T) {
	sealed := newSealer(t, 1).Seal("ada", NewSecret(text))
	if got, stale, err := newSealer(t, 2, 1).Open("ada", sealed); err != nil || !stale || got.Reveal() != text {
		t.Errorf("Open = %q, stale %v, %v", got.Reveal(), stale, err)
	}
	if _, _, err := newSealer(t, 2).Open("ada", sealed); err == nil {
		t.Error("opened without the key it was sealed under")
	}
}

func TestStalePrefixesAreOfWhatAPreviousKeySealed(t *testing.T) {
	s := newSealer(t, 3, 1, 2, 3)
	prefixes := s.StalePrefixes()
	if len(prefixes) != 2 || len(prefixes[0]) != len(prefixes[1]) {
		t.Fatalf("prefixes %q", prefixes)
	}
	for key, want := range map[byte]bool{1: true, 2: true, 3: false, 4: false} {
		sealed := newSealer(t, key).Seal("ada", NewSecret(text))
		if got := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(sealed, p) }); got != want {
			t.Errorf("key %d: %v", key, got)
		}
		if _, stale, err := s.Open("ada", sealed); err == nil && stale != want {
			t.Errorf("key %d: stale %v, by its prefix %v", key, stale, want)
		}
	}
}

func TestOpenRefusesWhatWasTamperedWith(t *testing.T) {
	s := newSealer(t, 1)
	sealed := s.Seal("ada", NewSecret(text))
	for _, bad := range []string{
		"", text, "v1", "v1." + text + ".AAAA", "v1." + strings.Repeat("0", 1000) + ".AAAA", "v2" + sealed[2:], sealed[:len(sealed)-2], sealed + "AA", sealed[:20] + "!" + sealed[21:],
		strings.Join(append(strings.Split(sealed, ".")[:2], "AAAA"), "."),
	} {
		if got, _, err := s.Open("ada", bad); err == nil {
			t.Errorf("Open(%q) = %q", bad, got.Reveal())
		} else if strings.Contains(err.Error(), text) || len(err.Error()) > 100 {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestNewRefusesAKeyOfAnotherLength(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := New(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
}
