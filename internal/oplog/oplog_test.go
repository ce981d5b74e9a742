package oplog

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"latchkey/internal/account"
)

func credits(c account.Credits) *account.Credits { return &c }

// Whoever filters the log relies on these names and values.
func TestALineIsGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		line Line
		want string
	}{
		{"full", Line{
			Evt: Key, User: "u_42", Op: "me", Outcome: "rotated", Status: 200, Millis: 731,
			RemainingLimit: credits(9_400_000_000), UsageLimit: credits(account.Credit), Hash: ShortHash("0fa1b2c3d4e5f6"), Waiting: 3, Shared: 2,
			Calls:  []Call{{"GET", 200, 180}, {"DELETE", 404, 201}, {"POST", 0, 350}, {"D1", 200, 0}},
			Method: "GET", Path: "/api/users/me", Tries: 4, Stuck: true, Err: "openrouter: get: status 500",
		}, `{"evt":"key","user":"u_42","op":"me","outcome":"rotated","status":200,"ms":731,` +
			`"remaining_limit":9.4,"usage_limit":1,"hash":"0fa1b2c3","waiting":3,"shared":2,` +
			`"calls":[{"method":"GET","status":200,"ms":180},{"method":"DELETE","status":404,"ms":201},` +
			`{"method":"POST","status":0,"ms":350},{"method":"D1","status":200,"ms":0}],` +
			`"method":"GET","path":"/api/users/me","tries":4,"stuck":true,"err":"openrouter: get: status 500"}`},
		{"empty", Line{}, `{"evt":"","ms":0}`},
		{"request", Line{Evt: Request, Method: "GET", Path: "/healthz", Status: 200}, `{"evt":"request","status":200,"ms":0,"method":"GET","path":"/healthz"}`},
		{"background", Line{Evt: Background, Op: "d1", Outcome: "again", Tries: 1, Err: "down"},
			`{"evt":"background","op":"d1","outcome":"again","ms":0,"tries":1,"err":"down"}`},
		{"limits of nothing and below are shown", Line{Evt: Key, RemainingLimit: credits(0), UsageLimit: credits(-1)},
			`{"evt":"key","ms":0,"remaining_limit":0,"usage_limit":-0.000000001}`},
		{"settings", Line{Evt: Settings, Outcome: "misconfigured"}, `{"evt":"settings","outcome":"misconfigured","ms":0}`},
		{"panic", Line{Evt: Panic, Err: "a\nb"}, `{"evt":"panic","ms":0,"err":"a\nb"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.line.String(); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// docs/logs-and-database.md names these.
func TestTheContractsFieldNamesAreThere(t *testing.T) {
	names := map[string]bool{}
	for field := range reflect.TypeFor[Line]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names[name] = true
	}
	for _, name := range []string{"evt", "user", "outcome", "op", "ms", "remaining_limit", "usage_limit", "hash", "waiting", "calls", "err"} {
		if !names[name] {
			t.Errorf("no field is called %q", name)
		}
	}
}

// The line is written by hand, so a field may be forgotten.
func TestEveryFieldIsWrittenAsJSONHasIt(t *testing.T) {
	full := Line{
		Evt: "a", User: "b", Op: "c", Outcome: "d", Status: 1, Millis: 2, RemainingLimit: credits(3), UsageLimit: credits(-4), Hash: "e", Waiting: 5, Shared: 6,
		Calls: []Call{{"f", 7, 8}, {}}, Method: "g", Path: "h", Tries: 9, Stuck: true, Err: "<ж\u2028&\xff>", State: map[string]any{"i": []int{10}},
	}
	for field, value := range reflect.ValueOf(full).Fields() {
		if value.IsZero() {
			t.Errorf("this test forgets %s", field.Name)
		}
	}
	for _, line := range []Line{full, {}} {
		if want, err := json.Marshal(line); err != nil || line.String() != string(want) {
			t.Errorf("\n got %s\nwant %s, %v", line, want, err)
		}
	}
}

func TestALineIsOneLineOfJSON(t *testing.T) {
	for _, text := range []string{"пользователь-用户-🔑", "two\nlines\r\u2028\u2029", `"quoted" \ <b>&`, "\xff\x00\x1b", ""} {
		line := Line{Evt: Panic, User: text, Err: text, Millis: math.MaxInt64}.String()
		var got Line
		if err := json.Unmarshal([]byte(line), &got); err != nil || strings.ContainsAny(line, "\n\r\u2028\u2029") {
			t.Errorf("%q: %s, %v", text, line, err)
		}
		if want := strings.ToValidUTF8(text, "\ufffd"); got.User != want || got.Err != want || got.Millis != math.MaxInt64 {
			t.Errorf("%q became %+v", text, got)
		}
	}
}

func TestWhatATerminalObeysIsEscaped(t *testing.T) {
	for _, c := range []struct {
		name string
		all  []rune
	}{
		{"below U+0020", []rune{0, '\a', 0x1b, 0x1f}},
		{"DEL", []rune{0x7f}},
		{"C1", []rune{0x80, 0x85, 0x9b, 0x9c, 0x9f}},
		{"separators of lines", []rune{0x2028, 0x2029}},
		{"direction", []rune{0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069, 0x200e, 0x200f, 0x061c}},
		{"no width", []rune{0x200b, 0x200c, 0x200d, 0x2060, 0xfeff}},
		{"other invisible ones", []rune{0xad, 0x180e, 0x2064, 0x206f, 0xfff9, 0x1d173, 0xe0001, 0xe0041, 0xe007f}},
	} {
		for _, r := range c.all {
			text := "a" + string(r) + "ж用🔑"
			line := Line{Evt: Panic, User: text, State: map[string]string{text: text}}.String()
			if strings.ContainsRune(line, r) || strings.Count(line, "ж用🔑") != 3 {
				t.Errorf("%s: %U stands in %s", c.name, r, line)
			}
			var got Line
			if err := json.Unmarshal([]byte(line), &got); err != nil || got.User != text || !reflect.DeepEqual(got.State, map[string]any{text: text}) {
				t.Errorf("%s: %U became %+v, %v", c.name, r, got, err)
			}
		}
	}
}

func TestShortHashIsItsFirstEightDigits(t *testing.T) {
	for hash, want := range map[string]string{"": "", "0fa": "0fa", "01234567": "01234567", "0123456789abcdef": "01234567"} {
		if got := ShortHash(hash); got != want {
			t.Errorf("ShortHash(%q) = %q, want %q", hash, got, want)
		}
	}
}

func TestAPointHasAPlaceForEachFigure(t *testing.T) {
	remaining := account.Credits(9_400_000_000)
	line := Line{
		Evt: Key, User: strings.Repeat("ж", 60), Op: "me", Outcome: "rotated", Status: 200, Millis: 12, RemainingLimit: &remaining, Waiting: 3, Shared: 2,
		Calls: []Call{{"GET", 200, 4}, {"DELETE", 200, 2}, {"POST", 201, 1}, {"GET", 200, 5}},
	}
	p := line.Point()
	if want := []string{string(Key), "me", "rotated", line.User, ""}; !slices.Equal(p.Blobs, want) {
		t.Errorf("blobs %q, want %q", p.Blobs, want)
	}
	if want := []float64{12, 200, 9.4, 3, 2, 9, 1, -1, 2, -1}; !slices.Equal(p.Doubles, want) {
		t.Errorf("doubles %v, want %v", p.Doubles, want)
	}
	if index := p.Indexes[0]; len(index) > 96 || !utf8.ValidString(index) {
		t.Errorf("index %q", index)
	}
	if p := (Line{Evt: Request}).Point(); p.Doubles[2] != -1 || p.Doubles[4] != 1 {
		t.Errorf("doubles of a bare line: %v", p.Doubles)
	}
}

func BenchmarkLine(b *testing.B) {
	remaining := account.Credits(9_400_000_000)
	line := Line{
		Evt: Key, User: "u_42", Op: "me", Outcome: "kept", Status: 200, Millis: 12, RemainingLimit: &remaining, UsageLimit: &remaining,
		Hash: "0fa1b2c3", Calls: []Call{{"GET", 200, 4}},
	}
	for b.Loop() {
		_ = line.String()
	}
}
