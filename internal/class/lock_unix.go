//go:build unix

package class

import (
	"os"
	"syscall"
)

// lockFile keeps other programs from locking the file. The lock ends with the
// program, however it ends.
func lockFile(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
