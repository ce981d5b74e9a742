// Package classtest is where tests keep a class.
package classtest

import (
	"os"
	"testing"
)

// MemoryDir is a folder in memory, where there is such a place, and is removed with the
// test: every line of a manifest is synced, and on a disk that takes nearly all the time.
func MemoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "latchkey-class-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
