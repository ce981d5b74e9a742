//go:build !unix

package class

import (
	"errors"
	"os"
)

// lockFile fails: without a lock, two programs at work on one class would give
// people two keys each.
func lockFile(*os.File) error { return errors.New("files cannot be locked on this system") }
