// Package plainfile opens files that hold secrets, or decide what is done with
// them, and refuses whatever is no file of one's own making: a link leads where
// somebody else chose, a FIFO or a device can keep a program waiting or feed it
// without end.
package plainfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Open opens a regular file as [os.OpenFile] does. The flags must not create it.
func Open(path string, flags int) (*os.File, error) {
	named, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %s, and has to be a regular file", path, kind(named.Mode()))
	}
	// O_NONBLOCK: it may have become a FIFO since, which would wait for a writer.
	file, err := os.OpenFile(path, flags|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	opened, err := file.Stat()
	if err == nil && !os.SameFile(named, opened) {
		err = fmt.Errorf("%s was exchanged while it was opened", path)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// Read reads a regular file of at most so many bytes. With private, it refuses
// one that others than its owner may read or write.
func Read(path string, most int64, private bool) ([]byte, error) {
	file, err := Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); private && mode&^0o600 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: others could read it; make it 0600", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a link"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}
