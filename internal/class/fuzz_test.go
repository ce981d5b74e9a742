package class

import (
	"strings"
	"testing"
)

// FuzzManifest: a manifest is refused, or read up to where its last whole line ends, and
// what was read can be read again.
func FuzzManifest(f *testing.F) {
	for _, seed := range []string{
		`{"at":"2026-11-24T12:00:00Z","state":"begun","class":"c","identity":"id","limit":1}` + "\n",
		`{"at":"2026-11-24T12:00:00Z","state":"begun","class":"c","identity":"id"}` + "\n" + `{"at":"2026-11-24T12:00:01Z","state":"asked","person":"ada","key_name":"class:c:ada:1"}` + "\n" + `{"at":"20`,
		"", "\n", "{}", "null\n", "[]\n", "\x00", `{"state":"begun"}` + "\n" + `{"state":"begun"}` + "\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, whole, err := readManifest("manifest.jsonl", strings.NewReader(text))
		if err != nil {
			return
		}
		if whole < 0 || whole > int64(len(text)) || whole > 0 && text[whole-1] != '\n' {
			t.Fatalf("%d of %d bytes are said to be whole", whole, len(text))
		}
		again, same, err := readManifest("manifest.jsonl", strings.NewReader(text[:whole]))
		if err != nil || same != whole || again.Keys() != c.Keys() {
			t.Errorf("what was whole is read as %d bytes, %d keys, %v; not %d, %d", same, again.Keys(), err, whole, c.Keys())
		}
	})
}
