package openroutertest

import (
	"strings"
	"unicode"
)

// NameForm says in which form names are stored and answered.
type NameForm string

const (
	NamesAsGiven NameForm = "given"
	// NamesNormal drops control characters and composes e and a combining acute
	// accent to é, which is as much of Unicode's NFC as tests need.
	NamesNormal NameForm = "normal"
)

func (f NameForm) known() bool { return f == NamesAsGiven || f == NamesNormal }

// of returns the name in this form.
func (f NameForm) of(name string) string {
	if f != NamesNormal {
		return name
	}
	printable := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, name)
	return strings.ReplaceAll(printable, "e\u0301", "\u00e9")
}

// SetNameForm changes Options.NameForm, for names given from now on. It panics
// on an unknown form.
func (s *Server) SetNameForm(form NameForm) {
	if !form.known() {
		panic("openroutertest: unknown name form " + string(form))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.NameForm = form
}
