package class

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/plainfile"
)

// ManifestName is the manifest's name in the folder of a class.
const ManifestName = "manifest.jsonl"

// state is what a line of a manifest says.
type state string

// The first line of a manifest begins the class. All others are about one
// attempt to create a key, except that one may say that the class is revoked.
const (
	classBegun   state = "begun"
	classRevoked state = "revoking" // no keys are made any more, and all are deleted

	asked   state = "asked"   // a POST with this name may be under way, or have taken effect
	live    state = "live"    // the key is in its file
	deleted state = "deleted" // the key was made, nobody got it, and it was deleted
	absent  state = "absent"  // the key was never made
	revoked state = "revoked" // the key was live, and was deleted
)

// entry is one line of a manifest. It holds no secret.
type entry struct {
	At    time.Time `json:"at"`
	State state     `json:"state"`

	// Of a class. They hold for all its keys, and cannot change later.
	Class     string           `json:"class,omitempty"`
	Identity  string           `json:"identity,omitempty"` // the CSV column that tells people apart
	Limit     *account.Credits `json:"limit,omitempty"`
	Reset     string           `json:"limit_reset,omitempty"`
	ExpiresAt time.Time        `json:"expires_at,omitzero"`

	// Of an attempt.
	Person  string `json:"person,omitempty"` // what stands in the Identity column
	Name    string `json:"name,omitempty"`
	Email   string `json:"email,omitempty"`
	KeyName string `json:"key_name,omitempty"` // at OpenRouter, another for each attempt
	Hash    string `json:"hash,omitempty"`     // once the key is live
	File    string `json:"file,omitempty"`     // beside the manifest
}

// Class is a class that is open: its manifest, the journal of what was asked of
// OpenRouter and of what became of it. A manifest is only ever added to, and what
// was added is on disk before anything is done that relies on it: the last line
// about an attempt counts.
type Class struct {
	path string

	mu       sync.Mutex // guards all below
	file     *os.File
	begun    entry // the first line; its State is empty where there is none yet
	revoked  bool
	broken   error    // of a write that failed: what would follow it could not be read
	attempts []*entry // in their order, each with its last state
	byName   map[string]*entry
	last     map[string]*entry // the attempt for a person that was begun last
}

// hash is a key's hash, whole.
var hash = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (c *Class) folder() string { return filepath.Dir(c.path) }

// prefix begins the names of all keys of the class.
func (c *Class) prefix() string { return openrouter.ClassPrefix + ":" + c.begun.Class + ":" }

// Owns tells whether a key with this name is of the class. What else a manifest
// says that somebody edited may be about any key.
func (c *Class) Owns(keyName string) bool { return strings.HasPrefix(keyName, c.prefix()) }

// ErrInUse says that another program works on the class.
var ErrInUse = errors.New("is in use by another latchkey")

// OpenManifest opens and locks the manifest of a class that is there. It may have
// no first line yet.
func OpenManifest(path string) (*Class, error) {
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
	path := filepath.Join(folder, ManifestName)
	file, err := plainfile.Open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		c, _, err := readManifest(path, strings.NewReader(""))
		return c, err
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c, _, err := readManifest(path, file)
	return c, err
}

func lockedManifest(path string, file *os.File) (*Class, error) {
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
	case classRevoked:
		c.revoked = true
	case asked, live, deleted, absent, revoked:
		if line.Person == "" || line.KeyName == "" || line.File == "" || filepath.Base(line.File) != line.File {
			return errors.New("an attempt has a person, a name and a file in this folder")
		}
		if (line.State == live || line.State == revoked) && !hash.MatchString(line.Hash) {
			return errors.New("the key has no hash, which is 64 hex digits")
		}
		attempt := c.byName[line.KeyName]
		if attempt == nil {
			attempt = &entry{}
			c.attempts = append(c.attempts, attempt)
			c.byName[line.KeyName] = attempt
			c.last[line.Person] = attempt // which it stays, whatever becomes of those before it
		}
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
// one. All before it are closed or open, never live.
func (c *Class) of(person string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if attempt := c.last[person]; attempt != nil {
		return *attempt, true
	}
	return entry{}, false
}

// in returns the attempts that are in a state.
func (c *Class) in(want state) []entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []entry
	for _, attempt := range c.attempts {
		if attempt.State == want {
			found = append(found, *attempt)
		}
	}
	return found
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
