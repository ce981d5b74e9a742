package class

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"latchkey/internal/seal"
)

func TestADamagedManifestIsNotGuessedAt(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":           "{\n",
		"no class":          `{"state":"asked","person":"a","key_name":"n","file":"f"}` + "\n",
		"an unknown state":  `{"state":"begun","class":"c","identity":"id","limit":2}` + "\n" + `{"state":"new","person":"a"}` + "\n",
		"a path for a file": `{"state":"begun","class":"c","identity":"id","limit":2}` + "\n" + `{"state":"live","person":"a","key_name":"n","hash":"h","file":"../f"}` + "\n",
	} {
		if _, _, err := readManifest("m", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAKeyFileThatIsThereIsNotWrittenOver(t *testing.T) {
	dir := t.TempDir()
	if err := writeKeyFile(dir, "ada.key", seal.NewSecret("first")); err != nil {
		t.Fatal(err)
	}
	if err := writeKeyFile(dir, "ada.key", seal.NewSecret("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "ada.key")); err != nil || string(text) != "first\n" {
		t.Errorf("%q, %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestALinkInThePlaceOfATemporaryFileIsNotFollowed(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(os.WriteFile(elsewhere, nil, 0o666), os.Symlink(elsewhere, filepath.Join(dir, temporary+"ada.key"))); err != nil {
		t.Fatal(err)
	}
	if err := writeKeyFile(dir, "ada.key", seal.NewSecret("key")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(elsewhere); err != nil || len(text) > 0 {
		t.Errorf("%q, %v", text, err)
	}
}

// A manifest decides which keys are deleted, and a key file whose key is whose.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	file, link, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, []byte("key\n"), 0o600), os.Symlink(file, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{link: "a link", fifo: "a FIFO", dir: "a directory", "/dev/zero": "a device"} {
		// A folder is taken for that of the manifest.
		if _, err := OpenManifest(path); err == nil || path != dir && !strings.Contains(err.Error(), why) {
			t.Errorf("manifest %s: %v", path, err)
		}
		if _, err := keyFileHash(filepath.Split(path)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("key file %s: %v", path, err)
		}
	}
	if err := os.WriteFile(file, make([]byte, maxKeyFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyFileHash(dir, "file"); err == nil {
		t.Error("a key may be as long as it likes")
	}
}

func TestALinkInThePlaceOfAManifestIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(os.Chmod(dir, 0o700), os.Symlink(elsewhere, filepath.Join(dir, ManifestName))); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(dir); err == nil {
		t.Error("it was followed")
	}
	if _, err := os.Lstat(elsewhere); err == nil {
		t.Error("a file was made elsewhere")
	}
}

func TestTwoProgramsDoNotWorkOnOneClass(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	c, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("the second: %v", err)
	}
	c.Close()
	if c, err = OpenFolder(dir); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestAFolderThatOthersCanReadIsRefused(t *testing.T) {
	for name, open := range map[string]func(string) (*Class, error){
		"the folder":                             OpenFolder,
		"the folder of a manifest that is there": OpenManifest,
		"its manifest":                           func(dir string) (*Class, error) { return OpenManifest(filepath.Join(dir, ManifestName)) },
	} {
		for _, mode := range []os.FileMode{0o750, 0o777} {
			dir := t.TempDir()
			if err := errors.Join(os.WriteFile(filepath.Join(dir, ManifestName), nil, 0o600), os.Chmod(dir, mode)); err != nil {
				t.Fatal(err)
			}
			if _, err := open(dir); err == nil {
				t.Errorf("%s, %04o: it was taken", name, mode)
			} else if _, ok := errors.AsType[*Unsuitable](err); !ok {
				t.Errorf("%s, %04o: %v", name, mode, err)
			}
		}
	}
}
