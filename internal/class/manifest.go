package class

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/plainfile"
	"latchkey/internal/roster"
)

// ManifestName is the manifest's name in the folder of a class.
const ManifestName = "manifest.jsonl"

// state is what a line of a manifest says.
type state string

// The first line of a manifest begins the class. All others are about one
// attempt to create a key, except those that extend or revoke the class.
const (
	classBegun    state = "begun"
	classExtended state = "extended" // from here on its keys have another limit, reset or end
	classRevoked  state = "revoking" // no keys are made any more, and all are deleted

	asked     state = "asked"     // a POST with this name may be under way, or have taken effect
	live      state = "live"      // the key is in its file
	replacing state = "replacing" // the key was live, and another is to take its place
	replaced  state = "replaced"  // another took its place; it works on
	removed   state = "removed"   // the key was deleted, and its person gets no other
	deleted   state = "deleted"   // the key was made, nobody got it, and it was deleted
	absent    state = "absent"    // the key was never made
	revoked   state = "revoked"   // the key was live, and was deleted
)

// holding are the states in which a key is at OpenRouter, as far as is known.
var holding = []state{live, replacing, replaced}

// entry is one line of a manifest. It holds no secret.
type entry struct {
	At    time.Time `json:"at"`
	State state     `json:"state"`

	// Of a class.
	Class     string    `json:"class,omitempty"`
	Identity  string    `json:"identity,omitempty"` // the CSV column that tells people apart
	Reset     string    `json:"limit_reset,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Workspace string    `json:"workspace,omitempty"`
	Guardrail string    `json:"guardrail,omitempty"`

	// Of a class, and of a person who has another than the class.
	Limit *account.Credits `json:"limit,omitempty"`

	// Of an attempt.
	Person  string `json:"person,omitempty"` // what stands in the Identity column
	Name    string `json:"name,omitempty"`
	Email   string `json:"email,omitempty"`
	KeyName string `json:"key_name,omitempty"` // at OpenRouter, another for each attempt
	Hash    string `json:"hash,omitempty"`     // once the key is live
	File    string `json:"file,omitempty"`     // beside the manifest
	Paused  bool   `json:"paused,omitempty"`
	Revoke  bool   `json:"revoke,omitempty"` // of a key that is replacing: it is deleted then

	extensions int // of the end of the class, before the attempt was begun
}

// holds tells whether the key of an attempt is at OpenRouter, as far as is known.
func (e entry) holds() bool { return slices.Contains(holding, e.State) }

// Terms are what holds for all keys of a class, but for a limit of a person's own.
type Terms struct {
	Limit     account.Credits
	Reset     string    // openrouter.Daily, Weekly, Monthly or ""
	ExpiresAt time.Time // in whole seconds; zero: never
	Workspace string    // "": OpenRouter's default one
	Guardrail string    // "": none
}

func (t Terms) String() string {
	expires := "never"
	if !t.ExpiresAt.IsZero() {
		expires = t.ExpiresAt.Format(time.RFC3339)
	}
	text := fmt.Sprintf("limit %v, reset %s, expires %s", t.Limit, cmp.Or(t.Reset, "never"), expires)
	if t.Workspace != "" {
		text += ", workspace " + t.Workspace
	}
	if t.Guardrail != "" {
		text += ", guardrail " + t.Guardrail
	}
	return text
}

// Class is a class that is open: its manifest, the journal of what was asked of
// OpenRouter and of what became of it. A manifest is only ever added to, and what
// was added is on disk before anything is done that relies on it: the last line
// about an attempt counts.
type Class struct {
	path string

	mu         sync.Mutex // guards all below while calls are under way; before and after, one goroutine has them
	file       *os.File
	begun      entry // the first line; its State is empty where there is none yet
	terms      Terms // as they were extended last
	extensions int   // how often the end was moved
	revoked    bool
	broken     error    // of a write that failed: what would follow it could not be read
	attempts   []*entry // in their order, each with its last state
	byName     map[string]*entry
	last       map[string]*entry // by roster.Key of a person, the attempt that was begun last
}

// hash is a key's hash, whole.
var hash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Folder is where the manifest is, and the keys.
func (c *Class) Folder() string { return c.folder() }

func (c *Class) folder() string { return filepath.Dir(c.path) }

// prefix begins the names of all keys of the class.
func (c *Class) prefix() string { return openrouter.ClassPrefix + ":" + c.begun.Class + ":" }

// Owns tells whether a key with this name is of the class. What else a manifest
// says that somebody edited may be about any key.
func (c *Class) Owns(keyName string) bool { return strings.HasPrefix(keyName, c.prefix()) }

// ErrInUse says that another program works on the class.
var ErrInUse = errors.New("is in use by another latchkey")

// manifestIn is the manifest that a path means: its folder will do.
func manifestIn(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, ManifestName)
	}
	return path
}

// OpenManifest opens and locks the manifest of a class that is there; its folder
// will do for its path, and has to be as OpenFolder wants it. It may have no first line
// yet.
func OpenManifest(path string) (*Class, error) {
	path = manifestIn(path)
	file, err := plainfile.Open(path, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	c, err := lockedManifest(path, file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return c, nil
}

// Peek reads the manifest of a folder, and does not touch it. It need not be
// there.
func Peek(folder string) (*Class, error) {
	c, err := ReadManifest(filepath.Join(folder, ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		c, _, err = readManifest(filepath.Join(folder, ManifestName), strings.NewReader(""))
	}
	return c, err
}

// ReadManifest reads the manifest of a class that is there, and does not touch it;
// its folder will do for its path.
func ReadManifest(path string) (*Class, error) {
	path = manifestIn(path)
	file, err := plainfile.Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c, _, err := readManifest(path, file)
	return c, err
}

func lockedManifest(path string, file *os.File) (*Class, error) {
	if err := checkFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := lockFile(file); err != nil {
		return nil, fmt.Errorf("%s %w (%v)", path, ErrInUse, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	c, whole, err := readManifest(path, file)
	if err != nil {
		return nil, err
	}
	c.file = file
	// A line that was cut short by a loss of power was never relied on. It has
	// to go, or the next one would be a part of it.
	if whole < info.Size() {
		if err := errors.Join(file.Truncate(whole), file.Sync()); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// readManifest reads a manifest up to its last whole line, which ends at whole.
func readManifest(path string, from io.Reader) (c *Class, whole int64, err error) {
	c = &Class{path: path, byName: map[string]*entry{}, last: map[string]*entry{}}
	lines := bufio.NewReader(from)
	for n := 1; ; n++ {
		text, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return c, whole, nil
		}
		if err != nil {
			return nil, 0, err
		}
		var line entry
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, 0, fmt.Errorf("%s, line %d is damaged: %w", path, n, err)
		}
		if err := c.take(line); err != nil {
			return nil, 0, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		whole += int64(len(text))
	}
}

// take folds a line in. mu is held.
func (c *Class) take(line entry) error {
	if (c.begun.Class == "") != (line.State == classBegun) {
		return errors.New("a class begins with its first line, and once")
	}
	switch line.State {
	case classBegun:
		if line.Class == "" || line.Identity == "" || line.Limit == nil {
			return errors.New("the class has no name, no identity or no limit")
		}
		c.begun = line
		c.terms = Terms{*line.Limit, line.Reset, line.ExpiresAt, line.Workspace, line.Guardrail}
	case classExtended:
		if line.Limit == nil {
			return errors.New("the class has no limit")
		}
		if !line.ExpiresAt.Equal(c.terms.ExpiresAt) {
			c.extensions++
		}
		c.terms.Limit, c.terms.Reset, c.terms.ExpiresAt = *line.Limit, line.Reset, line.ExpiresAt
	case classRevoked:
		c.revoked = true
	case asked, live, replacing, replaced, removed, deleted, absent, revoked:
		if line.Person == "" || line.KeyName == "" || line.File == "" || filepath.Base(line.File) != line.File {
			return errors.New("an attempt has a person, a name and a file in this folder")
		}
		if (line.holds() || line.State == revoked) && !hash.MatchString(line.Hash) {
			return errors.New("the key has no hash, which is 64 hex digits")
		}
		attempt := c.byName[line.KeyName]
		if attempt == nil {
			attempt = &entry{extensions: c.extensions}
			c.attempts = append(c.attempts, attempt)
			c.byName[line.KeyName] = attempt
			c.last[roster.Key(line.Person)] = attempt // which it stays, whatever becomes of those before it
		}
		line.extensions = attempt.extensions
		*attempt = line
	default:
		return fmt.Errorf("%q is not known here; was it written by a newer latchkey?", line.State)
	}
	return nil
}

// add writes a line, and returns once it is on disk.
func (c *Class) add(line entry) error {
	encoded, err := json.Marshal(line)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	// Dying within the write leaves part of a line, which the next run cuts off.
	_, err = c.file.Write(append(encoded, '\n'))
	if err == nil {
		err = c.file.Sync()
	}
	if err != nil {
		c.broken = fmt.Errorf("the manifest cannot be written: %w", err)
		return c.broken
	}
	return c.take(line)
}

// of returns the attempt for a person that was begun last, and whether there is
// one. None before it is live.
func (c *Class) of(person string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if attempt := c.last[roster.Key(person)]; attempt != nil {
		return *attempt, true
	}
	return entry{}, false
}

// all returns every attempt, in their order.
func (c *Class) all() []entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]entry, len(c.attempts))
	for i, attempt := range c.attempts {
		all[i] = *attempt
	}
	return all
}

// in returns the attempts that are in one of these states, in their order.
func (c *Class) in(states ...state) []entry {
	return slices.DeleteFunc(c.all(), func(attempt entry) bool { return !slices.Contains(states, attempt.State) })
}

// inOf returns those of them that are of these people, by person.
func (c *Class) inOf(people []string, states ...state) []entry {
	meant := map[string]bool{}
	for _, person := range people {
		meant[roster.Key(person)] = true
	}
	return byPerson(slices.DeleteFunc(c.in(states...), func(attempt entry) bool { return !meant[roster.Key(attempt.Person)] }))
}

// hashed returns the attempt whose key has a hash.
func (c *Class) hashed(hash string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, attempt := range c.attempts {
		if attempt.Hash == hash {
			return *attempt, true
		}
	}
	return entry{}, false
}

// limitOf is the limit that the key of an attempt is to have.
func (c *Class) limitOf(attempt entry) account.Credits {
	if attempt.Limit != nil {
		return *attempt.Limit
	}
	return c.terms.Limit
}

// named returns the attempt that used this name of the class for its key.
func (c *Class) named(keyName string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if attempt := c.byName[keyName]; attempt != nil && c.Owns(keyName) {
		return *attempt, true
	}
	return entry{}, false
}

// Close lets others work on the class. A class that was peeked at needs none.
func (c *Class) Close() { _ = c.file.Close() } // every line was synced, and the lock goes with it
