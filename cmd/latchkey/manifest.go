package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/seal"
)

// manifestName is the manifest's name in the folder of a class.
const manifestName = "manifest.jsonl"

// manifestState is what a line of a manifest says.
type manifestState string

// The first line of a manifest begins the class. All others are about one
// attempt to create a key, except that one may say that the class is revoked.
const (
	classBegun   manifestState = "begun"
	classRevoked manifestState = "revoking" // no keys are made any more, and all are deleted

	keyAsked   manifestState = "asked"   // a POST with this name may be under way, or have taken effect
	keyLive    manifestState = "live"    // the key is in its file
	keyDeleted manifestState = "deleted" // the key was made, nobody got it, and it was deleted
	keyAbsent  manifestState = "absent"  // the key was never made
	keyRevoked manifestState = "revoked" // the key was live, and was deleted
)

// manifestLine is one line of a manifest. It holds no secret.
type manifestLine struct {
	At    time.Time     `json:"at"`
	State manifestState `json:"state"`

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

// manifest is the journal of a class: what was asked of OpenRouter, and what
// became of it. It is only ever added to, and what was added is on disk before
// anything is done that relies on it: the last line about an attempt counts.
//
// While it is open it is locked, so that no two programs work on one class.
type manifest struct {
	path string

	mu       sync.Mutex // guards all below
	file     *os.File
	class    manifestLine
	revoked  bool
	broken   error           // of a write that failed: what would follow it could not be read
	attempts []*manifestLine // in their order, each with its last state
	byName   map[string]*manifestLine
	last     map[string]*manifestLine // the attempt for a person that was begun last
}

func (m *manifest) folder() string { return filepath.Dir(m.path) }

// prefix begins the names of all keys of the class.
func (m *manifest) prefix() string { return openrouter.ClassPrefix + ":" + m.class.Class + ":" }

// owns tells whether a key with this name is of the class. What else a manifest
// says that somebody edited may be about any key.
func (m *manifest) owns(keyName string) bool { return strings.HasPrefix(keyName, m.prefix()) }

// openManifest opens and locks the manifest of a class, and reads it. It need
// not have a first line yet: then class is zero.
func openManifest(path string) (*manifest, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, exit{exitNotFound, err}
	}
	if err != nil {
		return nil, err
	}
	m, err := lockedManifest(path, file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return m, nil
}

func lockedManifest(path string, file *os.File) (*manifest, error) {
	if err := lockFile(file); err != nil {
		return nil, exit{exitUnavailable, fmt.Errorf("%s is in use by another latchkey: %w", path, err)}
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	m, whole, err := readManifest(path, file)
	if err != nil {
		return nil, err
	}
	m.file = file
	// A line that was cut short by a loss of power was never relied on. It has
	// to go, or the next one would be a part of it.
	if whole < info.Size() {
		if err := errors.Join(file.Truncate(whole), file.Sync()); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// readManifest reads a manifest up to its last whole line, which ends at whole.
func readManifest(path string, from io.Reader) (m *manifest, whole int64, err error) {
	m = &manifest{path: path, byName: map[string]*manifestLine{}, last: map[string]*manifestLine{}}
	lines := bufio.NewReader(from)
	for n := 1; ; n++ {
		text, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return m, whole, nil
		}
		if err != nil {
			return nil, 0, err
		}
		var line manifestLine
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, 0, fmt.Errorf("%s, line %d is damaged: %w", path, n, err)
		}
		if err := m.take(line); err != nil {
			return nil, 0, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		whole += int64(len(text))
	}
}

// take folds a line in. mu is held.
func (m *manifest) take(line manifestLine) error {
	if (m.class.Class == "") != (line.State == classBegun) {
		return errors.New("a class begins with its first line, and once")
	}
	switch line.State {
	case classBegun:
		if line.Class == "" || line.Identity == "" || line.Limit == nil {
			return errors.New("the class has no name, no identity or no limit")
		}
		m.class = line
	case classRevoked:
		m.revoked = true
	case keyAsked, keyLive, keyDeleted, keyAbsent, keyRevoked:
		if line.Person == "" || line.KeyName == "" || line.File == "" || filepath.Base(line.File) != line.File {
			return errors.New("an attempt has a person, a name and a file in this folder")
		}
		if (line.State == keyLive || line.State == keyRevoked) && !wholeHash.MatchString(line.Hash) {
			return errors.New("the key has no hash, which is 64 hex digits")
		}
		attempt := m.byName[line.KeyName]
		if attempt == nil {
			attempt = &manifestLine{}
			m.attempts = append(m.attempts, attempt)
			m.byName[line.KeyName] = attempt
			m.last[line.Person] = attempt // which it stays, whatever becomes of those before it
		}
		*attempt = line
	default:
		return fmt.Errorf("%q is not known here; was it written by a newer latchkey?", line.State)
	}
	return nil
}

// add writes a line, and returns once it is on disk.
func (m *manifest) add(line manifestLine) error {
	encoded, err := json.Marshal(line)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	// Dying within the write leaves part of a line, which the next run cuts off.
	_, err = m.file.Write(append(encoded, '\n'))
	if err == nil {
		err = m.file.Sync()
	}
	if err != nil {
		m.broken = fmt.Errorf("the manifest cannot be written: %w", err)
		return m.broken
	}
	return m.take(line)
}

// of returns the attempt for a person that was begun last, and whether there is
// one. All before it are closed or open, never live.
func (m *manifest) of(person string) (manifestLine, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if attempt := m.last[person]; attempt != nil {
		return *attempt, true
	}
	return manifestLine{}, false
}

// in returns the attempts that are in a state.
func (m *manifest) in(state manifestState) []manifestLine {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []manifestLine
	for _, attempt := range m.attempts {
		if attempt.State == state {
			found = append(found, *attempt)
		}
	}
	return found
}

// named returns the attempt that used this name of the class for its key.
func (m *manifest) named(keyName string) (manifestLine, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if attempt := m.byName[keyName]; attempt != nil && m.owns(keyName) {
		return *attempt, true
	}
	return manifestLine{}, false
}

func (m *manifest) close() { _ = m.file.Close() } // every line was synced, and the lock goes with it

// openFolder opens the manifest of a folder, and makes both where there are
// none.
func openFolder(folder string) (*manifest, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if err := checkFolder(folder); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, manifestName)
	// Dying here leaves an empty manifest, which is as good as none.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	// Both names have to outlast a loss of power before a key is asked for.
	if err := errors.Join(syncFolder(folder), syncFolder(filepath.Dir(filepath.Clean(folder)))); err != nil {
		return nil, err
	}
	return openManifest(path)
}

// checkFolder refuses a folder in which others could read the keys.
func checkFolder(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); !info.IsDir() || mode&0o077 != 0 {
		return exit{exitUsage, fmt.Errorf("%s has mode %04o: it has to be a folder that is yours alone (0700)", folder, mode)}
	}
	return nil
}

func syncFolder(folder string) error {
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// temporary begins the names of files that are not written to their end.
const temporary = ".tmp-"

// writeKeyFile puts a key into its file. The file is whole or not there.
func writeKeyFile(folder, name string, key seal.Secret) error {
	path := filepath.Join(folder, temporary+name)
	// Dying from here on leaves a temporary file, which the next run removes.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, key.Reveal()+"\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if err := os.Rename(path, filepath.Join(folder, name)); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return syncFolder(folder)
}

// removeTemporary removes what a run left that died within writeKeyFile.
func removeTemporary(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), temporary) {
			if err := os.Remove(filepath.Join(folder, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// keyFileHash returns the hash of the key in a file.
func keyFileHash(folder, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return "", err
	}
	key, whole := bytes.CutSuffix(text, []byte("\n"))
	if !whole || len(key) == 0 || bytes.ContainsAny(key, " \n\r\t") {
		return "", fmt.Errorf("%s holds something else than one key", filepath.Join(folder, name))
	}
	return openrouter.HashOf(string(key)), nil
}

// randomID is a part of a name that nothing else has.
func randomID(bytes int) string {
	random := make([]byte, bytes)
	rand.Read(random) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(random)
}
