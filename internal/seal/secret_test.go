package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
	"text/template"
)

// leaky is an error that somebody might write.
type leaky struct{ Key Secret }

func (e leaky) Error() string { return fmt.Sprintf("refused: %v", e.Key) }

// holders are a secret, and what one may be in. fmt does not call the methods of what
// is in an unexported field, and shows what it finds there.
func holders(s Secret) map[string]any {
	type embedded struct{ Secret }
	return map[string]any{
		"itself": s, "pointer": &s, "field": struct{ Key Secret }{s}, "pointer to a field": &struct{ Key Secret }{s}, "pointer in a field": struct{ Key *Secret }{&s},
		"unexported field": struct{ key Secret }{s}, "pointer to an unexported field": &struct{ key Secret }{s}, "unexported pointer": struct{ key *Secret }{&s},
		"embedded": embedded{s}, "list": []Secret{s}, "unexported list": struct{ keys []Secret }{[]Secret{s}}, "array": [1]Secret{s},
		"map": map[string]Secret{"key": s}, "key of a map": map[Secret]int{s: 1}, "any": struct{ key any }{s}, "error": leaky{s}, "two levels": struct{ in struct{ key Secret } }{struct{ key Secret }{s}},
	}
}

// shows tells whether an output shows a secret, in one of the forms that a verb or an
// encoder may give it.
func shows(out, text string) bool {
	for _, form := range []string{
		text, text[7:], hex.EncodeToString([]byte(text)), strings.ToUpper(hex.EncodeToString([]byte(text))), base64.StdEncoding.EncodeToString([]byte(text))[:20],
		strings.Trim(fmt.Sprint([]byte(text)), "[]"), strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(text)), "[]byte{"), "}"), fmt.Sprintf("% x", text),
	} {
		if strings.Contains(out, form) {
			return true
		}
	}
	return false
}

func TestNoVerbShowsASecret(t *testing.T) {
	for name, holder := range holders(NewSecret(text)) {
		for _, flags := range []string{"", "+", "#", " ", "-", "0", "+#", "# ", "40", ".3", "-40.30"} {
			for _, verb := range "vTtbcdoOqxXUeEfFgGspwzZ!" {
				format := "%" + flags + string(verb)
				if out := fmt.Sprintf(format, holder); shows(out, text) {
					t.Errorf("%s by %s: %s", name, format, out)
				}
			}
		}
		if err := fmt.Errorf("a: %w", errors.Join(fmt.Errorf("%v", holder), leaky{NewSecret(text)})); shows(err.Error(), text) || shows(fmt.Sprintf("%+v %#v", err, err), text) {
			t.Errorf("%s in an error: %v", name, err)
		}
	}
	for _, out := range []string{fmt.Sprint(NewSecret(text)), fmt.Sprintf("%v", NewSecret(text)), fmt.Sprintf("%q", NewSecret("")), fmt.Sprintf("%x", Secret{})} {
		if out != "[redacted]" {
			t.Errorf("printed as %s", out)
		}
	}
}

func TestNoEncoderShowsASecret(t *testing.T) {
	for name, holder := range holders(NewSecret(text)) {
		var out bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			l := slog.New(handler)
			l.Info("m", "key", holder)
			l.With("key", holder).WithGroup("g").Info("m", slog.Group("in", "key", holder))
		}
		log.New(&out, "", 0).Println(holder)
		// What an encoder refuses it may have written a part of.
		encoded, err := json.Marshal(holder)
		fmt.Fprintf(&out, "%s %v\n", encoded, err)
		encoded, err = xml.Marshal(holder)
		fmt.Fprintf(&out, "%s %v\n", encoded, err)
		err = gob.NewEncoder(&out).Encode(holder)
		fmt.Fprintln(&out, err)
		err = template.Must(template.New("").Parse("{{.}} {{printf \"%q\" .}} {{js .}} {{html .}}")).Execute(&out, holder)
		fmt.Fprintln(&out, err)
		if shows(out.String(), text) {
			t.Errorf("%s:\n%s", name, out.String())
		}
	}
	if encoded, err := json.Marshal(map[Secret]Secret{NewSecret(text): NewSecret(text)}); err != nil || string(encoded) != `{"[redacted]":"[redacted]"}` {
		t.Errorf("%s, %v", encoded, err)
	}
}
