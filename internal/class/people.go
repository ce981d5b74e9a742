package class

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"latchkey/internal/account"
	"latchkey/internal/roster"
)

// member is somebody for whom a key is made.
type member struct {
	person, name, email string
	file                string           // of the key
	limit               *account.Credits // of their own; nil: that of the class
	paused              bool             // as their last key was
	line                int              // of the roster, 0: none
}

// memberOf is the person of an attempt.
func memberOf(attempt entry) member {
	return member{person: attempt.Person, name: attempt.Name, email: attempt.Email, file: attempt.File, limit: attempt.Limit, paused: attempt.Paused}
}

// members are the people on a roster. Who is in the manifest keeps what the last
// attempt for them says, but for a limit of the roster.
func (c *Class) members(r roster.Roster) []member {
	members := make([]member, len(r.People))
	for i, p := range r.People {
		m := member{person: p.ID, file: fileName(p.ID)}
		if attempt, ok := c.of(p.ID); ok {
			m = memberOf(attempt)
		}
		m.name, m.email, m.line = p.Name, p.Email, p.Line
		if p.Limit != nil {
			m.limit = p.Limit
		}
		members[i] = m
	}
	return members
}

// fileName is the name of the file for a person's key, or "".
func fileName(id string) string {
	safe := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || strings.ContainsRune("@._+-", r) {
			return r
		}
		return '-'
	}, id)
	safe = strings.TrimLeft(safe, ".-") // neither hidden nor taken for a flag
	if safe == "" {
		return ""
	}
	return safe + ".key"
}

// Find returns the people of the class whom each of these means: what tells them
// apart, their address or their name, in upper or lower case. Nobody: everybody of
// the class.
func (c *Class) Find(meant []string) ([]string, error) {
	people := c.people()
	if len(meant) == 0 {
		return people, nil
	}
	var found []string
	for _, text := range meant {
		var like []string
		key := roster.Key(text)
		for _, person := range people {
			last, _ := c.of(person)
			if roster.Key(person) == key {
				like = []string{person}
				break
			}
			// A text that is empty is a slip, and nobody's address.
			if key != "" && (roster.Key(last.Email) == key || roster.Key(last.Name) == key) {
				like = append(like, person)
			}
		}
		switch len(like) {
		case 0:
			return nil, &Unknown{fmt.Errorf("nobody in %s is %q", c.path, text)}
		case 1:
			if !slices.Contains(found, like[0]) {
				found = append(found, like[0])
			}
		default:
			return nil, &Unsuitable{fmt.Errorf("%q can be %s: say which", text, strings.Join(like, " or "))}
		}
	}
	return found, nil
}

// people returns everybody of whom the manifest knows.
func (c *Class) people() []string {
	var people []string
	for _, attempt := range byPerson(c.all()) {
		if last := len(people) - 1; last < 0 || roster.Key(people[last]) != roster.Key(attempt.Person) {
			people = append(people, attempt.Person)
		}
	}
	return people
}

// byPerson sorts attempts by their people; those of one person stay in their order.
// In the manifest people stand as they got their keys, which is no order.
func byPerson(attempts []entry) []entry {
	slices.SortStableFunc(attempts, func(a, b entry) int { return strings.Compare(roster.Key(a.Person), roster.Key(b.Person)) })
	return attempts
}

// away returns who has a key and is not on the roster.
func (c *Class) away(members []member) []string {
	there := map[string]bool{}
	for _, m := range members {
		there[roster.Key(m.person)] = true
	}
	var away []string
	for _, person := range c.people() {
		if last, _ := c.of(person); last.holds() && !there[roster.Key(person)] {
			away = append(away, person)
		}
	}
	return away
}

// placeFor tells whether there is room for another key of a person: no file, or one
// with a key that they had before. It returns the latter's path.
func (c *Class) placeFor(m member) (old string, err error) {
	path := filepath.Join(c.folder(), m.file)
	hash, err := keyFileHash(c.folder(), m.file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil {
		if before, ok := c.hashed(hash); ok && roster.Key(before.Person) == roster.Key(m.person) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the file %s is there already, and holds no key that %s had", path, m.person)
}

// clearPlace makes room for a key. Dying after it loses nothing: what it removes is
// the key that is replaced.
func (c *Class) clearPlace(m member) error {
	old, err := c.placeFor(m)
	if err != nil || old == "" {
		return err
	}
	return errors.Join(os.Remove(old), syncFolder(c.folder()))
}

// dropFiles removes the files of keys that are deleted, where they are still there.
// Dying in between leaves some, with keys that are good for nothing.
func (c *Class) dropFiles(attempts []entry) error {
	for _, attempt := range attempts {
		if hash, err := keyFileHash(c.folder(), attempt.File); err == nil && hash == attempt.Hash {
			if err := os.Remove(filepath.Join(c.folder(), attempt.File)); err != nil {
				return err
			}
		}
	}
	return nil
}
