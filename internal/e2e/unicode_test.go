//go:build e2e

package e2e

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Ids and names in any script reach the answer, OpenRouter and the database
// unchanged.
func TestUnicode(t *testing.T) {
	w := useShared(t)
	texts := map[string]string{
		"Latin":                     "Zoë Müller-Łukasiewicz",
		"Greek":                     "Ελένη Παπαδοπούλου",
		"Cyrillic":                  "Анна Ковальчук",
		"Arabic":                    "فاطمة الزهراء",
		"Hebrew":                    "שרה כהן",
		"Devanagari":                "प्रिया शर्मा",
		"Bengali":                   "অনন্যা সেন",
		"Tamil":                     "கவிதா முருகன்",
		"Thai":                      "สมหญิง ใจดี",
		"Georgian":                  "ნინო ბერიძე",
		"Armenian":                  "Անահիտ Պետրոսյան",
		"Ethiopic":                  "አበበ ቢቂላ",
		"Chinese":                   "李小龙",
		"Japanese":                  "山田 花子 やまだ ハナコ",
		"Korean":                    "김민지",
		"Plane 1 and 2":             "𐍈𝒜𠮷",
		"emoji":                     "👩🏽‍🚀🏳️‍🌈🇺🇦",
		"NFC":                       "\u00e9",
		"NFD":                       "e\u0301",
		"right to left":             "\u202eabc\u202c\u200f",
		"zero width":                "a\u200b\u200d\ufeffb",
		"newline and tab":           "a\r\nb\tc\n",
		"NUL":                       "a\x00b\x00",
		"control characters":        "\x01\x02\x1b[31m\x7f\u0085",
		"line separators":           "a\u2028b\u2029c",
		"quotes":                    `a"b'c\d` + "`;--",
		"markup":                    "<script>&amp;</script>",
		"percent":                   "%00%2F%ZZ%",
		"path":                      "../../etc/passwd?x=1#y",
		"colons":                    "latchkey:u:op",
		"spaces around":             "  a  ",
		"JavaScript's own":          "__proto__",
		"noncharacter":              "a\uffffb",
		"256 bytes in the id":       "",
		"256 bytes of 4-byte runes": "",
	}
	users := map[string]*user{}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, w)
			switch {
			case strings.HasPrefix(name, "256 bytes in"):
				u.id += strings.Repeat("x", 256-len(u.id))
			case strings.HasPrefix(name, "256 bytes of"):
				u.id = strings.Repeat("😀", 61) + rand.Text()[:12]
			default:
				u.id = text + rand.Text()[:4] + text
				u.name, u.email = text, text+"@example.org"
			}
			v := u.provisioned()
			u.spend(v, 0.25)
			u.expect(u.get(), "kept", 9.75, 0.75)
			u.called("GET")
			u.settles(u.expect(u.refresh(), "rotated", 9.75, 1))
			users[name] = u
		})
	}

	// In hex a zero shows too.
	var found map[string]map[string]any
	missing := func() string {
		found = map[string]map[string]any{}
		for _, row := range w.query(t, "SELECT hex(user_id) AS id, hex(user_name) AS name, hex(email) AS email, remaining_limit, usage_limit FROM users") {
			found[fmt.Sprint(row["id"])] = row
		}
		for name, u := range users {
			if row := found[hexOf(u.id)]; row == nil || row["usage_limit"] != 1.0 || row["remaining_limit"] != 9.75 {
				return fmt.Sprintf("%s: %v", name, row)
			}
		}
		return ""
	}
	eventually(t, 30*time.Second, "a row for each user, up to date", func() (string, bool) { seen := missing(); return seen, seen == "" })
	for name, u := range users {
		row := found[hexOf(u.id)]
		if row["name"] != hexOf(u.name) || row["email"] != hexOf(u.email) || row["remaining_limit"] != 9.75 {
			t.Errorf("%s: the row is %v, want name %s and email %s", name, row, hexOf(u.name), hexOf(u.email))
		}
	}
}

func hexOf(text string) string { return fmt.Sprintf("%X", text) }
