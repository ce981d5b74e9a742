package answer

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestJSONIsEncodedAndKeptByNoCache(t *testing.T) {
	a := JSON(418, "application/problem+json", map[string]any{"name": "Ἀδα 用户", "limit": 9.4})
	want := Answer{Status: 418, Header: [][2]string{{"Content-Type", "application/problem+json"}, {"Cache-Control", "no-store"}}, Body: `{"limit":9.4,"name":"Ἀδα 用户"}`}
	if a.Status != want.Status || !slices.Equal(a.Header, want.Header) || a.Body != want.Body {
		t.Errorf("%+v, want %+v", a, want)
	}
}

func TestJSONPanicsOnWhatCannotBeEncoded(t *testing.T) {
	for _, body := range []any{math.NaN(), func() {}, make(chan int)} {
		func() {
			defer func() {
				if cause, ok := recover().(string); !ok || !strings.HasPrefix(cause, "answer: ") {
					t.Errorf("%T: recovered %v", body, cause)
				}
			}()
			JSON(200, "application/json", body)
		}()
	}
}

func TestWithAddsAHeaderInOrder(t *testing.T) {
	a := Answer{Status: 204, Body: "b"}.With("Allow", "GET").With("Vary", "Origin").With("Vary", "Accept")
	if want := [][2]string{{"Allow", "GET"}, {"Vary", "Origin"}, {"Vary", "Accept"}}; !slices.Equal(a.Header, want) || a.Status != 204 || a.Body != "b" {
		t.Errorf("%+v", a)
	}
}

// One answer goes to every request that waited for it, each with headers of its own.
func TestAnswersThatShareHeadersDoNotDisturbEachOther(t *testing.T) {
	common := Answer{Header: make([][2]string, 0, 16)}.With("A", "1")
	first := common.With("Origin", "first")
	second := common.With("Origin", "second").With("B", "2")
	for _, c := range []struct {
		got  Answer
		want [][2]string
	}{
		{common, [][2]string{{"A", "1"}}},
		{first, [][2]string{{"A", "1"}, {"Origin", "first"}}},
		{second, [][2]string{{"A", "1"}, {"Origin", "second"}, {"B", "2"}}},
	} {
		if !slices.Equal(c.got.Header, c.want) {
			t.Errorf("%v, want %v", c.got.Header, c.want)
		}
	}
}
