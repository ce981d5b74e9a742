package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"latchkey/internal/workerdrun"
)

// A subject that answers some users wrong is measured by its other answers; one
// that answers all of them wrong is given up.
func TestWrongAnswersAreCounted(t *testing.T) {
	for _, c := range []struct {
		name             string
		wrong            func(user string) bool
		users            int
		requests, wrongs int
	}{
		{"none", func(string) bool { return false }, 10, 10, 0},
		{"one of ten", func(user string) bool { return user == "u-00003" }, 10, 9, 1},
		{"all", func(string) bool { return true }, 10, 0, 10},
		{"all of many", func(string) bool { return true }, maxWrong + 50, 0, maxWrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				user := r.Header.Get("Bench-User")
				if c.wrong(user) {
					http.Error(w, "broken", http.StatusInternalServerError)
					return
				}
				fmt.Fprintf(w, `{"id":%q,"outcome":"kept"}`, user)
			}))
			defer server.Close()
			upstream, err := newUpstream()
			if err != nil {
				t.Fatal(err)
			}
			defer upstream.close()
			b := &bench{}
			l := load{title: "some load", connections: 1, outcomes: []string{"kept"}}
			r, err := b.put(t.Context(), l, &subject{title: "some subject", process: &workerdrun.Process{URL: server.URL}, upstream: upstream}, newUsers("u", c.users), 0)
			if err != nil || r.requests != c.requests || r.wrong != c.wrongs {
				t.Fatalf("%d right, %d wrong, %v; want %d and %d", r.requests, r.wrong, err, c.requests, c.wrongs)
			}
			if c.wrongs == 0 {
				return
			}
			if len(b.faults) != 1 || b.faults[0].Wrong != c.wrongs || !strings.Contains(b.faults[0].Why, "500 broken") {
				t.Errorf("the faults are %+v", b.faults)
			}
		})
	}
}

func TestNamed(t *testing.T) {
	all := []string{"a", "b/1", "b/2", "bc"}
	for list, want := range map[string]string{"": "[a b/1 b/2 bc]", "b": "[b/1 b/2]", "b/2,a": "[b/2 a]", "bc": "[bc]", "d": "[]", "a,d": "[]"} {
		got, err := named(list, all, func(name string) string { return name })
		if fmt.Sprint(got) != want || (err == nil) == (want == "[]") {
			t.Errorf("named(%q) = %v, %v, want %s", list, got, err, want)
		}
	}
}
