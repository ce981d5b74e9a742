package class

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"latchkey/internal/openrouter"
	"latchkey/internal/plainfile"
	"latchkey/internal/seal"
)

// OpenFolder opens the manifest of a folder, and makes both where there are
// none.
func OpenFolder(folder string) (*Class, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if err := checkFolder(folder); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, ManifestName)
	// Dying here leaves an empty manifest, which is as good as none.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	// Both names have to outlast a loss of power before a key is asked for.
	if err := errors.Join(syncFolder(folder), syncFolder(filepath.Dir(filepath.Clean(folder)))); err != nil {
		return nil, err
	}
	return OpenManifest(path)
}

// checkFolder refuses a folder in which others could read the keys.
func checkFolder(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); !info.IsDir() || mode&0o077 != 0 {
		return &Unsuitable{fmt.Errorf("%s has mode %04o: it has to be a folder that is yours alone (0700)", folder, mode)}
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

// writeKeyFile puts a key into its file, which is not there yet. The file is whole or
// not there.
func writeKeyFile(folder, name string, key seal.Secret) error {
	path := filepath.Join(folder, temporary+name)
	// Dying from here on leaves a temporary file, which the next run removes. What is
	// there by now is another's, or a link that leads elsewhere.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, key.Reveal()+"\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	// A rename would write over the key of whoever has a file of this name. Dying after
	// this leaves the file with its temporary name as well, which the next run removes.
	err = os.Link(path, filepath.Join(folder, name))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w (the file system has to have hard links)", err)
	}
	return errors.Join(err, os.Remove(path), syncFolder(folder))
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

// maxKeyFile is far above the length of a key, in bytes.
const maxKeyFile = 1 << 10

// readKeyFile returns the key in a file, and its hash.
func readKeyFile(folder, name string) (seal.Secret, string, error) {
	text, err := plainfile.Read(filepath.Join(folder, name), maxKeyFile, false)
	if err != nil {
		return seal.Secret{}, "", err
	}
	key, whole := bytes.CutSuffix(text, []byte("\n"))
	if !whole || len(key) == 0 || bytes.ContainsAny(key, " \n\r\t") {
		return seal.Secret{}, "", fmt.Errorf("%s holds something else than one key", filepath.Join(folder, name))
	}
	return seal.NewSecret(string(key)), openrouter.HashOf(string(key)), nil
}

// keyFileHash returns the hash of the key in a file.
func keyFileHash(folder, name string) (string, error) {
	_, hash, err := readKeyFile(folder, name)
	return hash, err
}

// randomID is a part of a name that nothing else has.
func randomID(bytes int) string {
	random := make([]byte, bytes)
	rand.Read(random) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(random)
}
