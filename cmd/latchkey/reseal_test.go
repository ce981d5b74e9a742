package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestResealSealsEveryKeyAnewOnce(t *testing.T) {
	f := newFixture(t)
	golden(t, "reseal-none", f.run(t, "reseal").want(t, exitOK).out)
	f.ChangeEncryptionKey()
	golden(t, "reseal", f.run(t, "reseal").want(t, exitOK).out)
	golden(t, "reseal-json", f.run(t, "reseal", "--json").want(t, exitOK).out)
	if got := f.Asked(); !slices.Contains(got, `POST /api/admin/reseal {"limit":200}`) {
		t.Errorf("asked %q", got)
	}
}

func TestResealNamesThoseWhomItFailedFor(t *testing.T) {
	f := newFixture(t)
	f.Instead(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"resealed":3,"failed":["u_7","e\u001b[31m"],"remaining":2,"next_cursor":null}`))
		return true
	})
	p := f.run(t, "reseal").want(t, exitFailed)
	if !strings.Contains(p.out, "Sealed anew: 3, failed: 2") || !strings.Contains(p.stderr, "u_7") || strings.Contains(p.stderr, "\x1b[31m") || !strings.Contains(p.stderr, "2 users still") {
		t.Errorf("%v", p)
	}
}

func TestResealByAServerThatDoesNotGetOnEnds(t *testing.T) {
	f := newFixture(t)
	f.Instead(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"resealed":1,"failed":[],"remaining":9,"next_cursor":"again"}`))
		return true
	})
	f.run(t, "reseal").want(t, exitFailed)
	if n := len(f.Asked()); n > 3 {
		t.Errorf("it asked %d times", n)
	}
}
