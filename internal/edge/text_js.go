//go:build js && wasm

package edge

import (
	"errors"
	"strings"
	"unsafe"
)

// This file is how a text crosses.

// input is where edge.mjs writes the text that it hands over, unless that is
// longer: then it has reserved room for it.
var (
	input    [64 << 10]byte
	reserved []byte
)

//go:wasmexport input
func inputAddress() unsafe.Pointer { return unsafe.Pointer(&input) }

//go:wasmexport inputSize
func inputSize() int32 { return int32(len(input)) }

//go:wasmexport reserve
func reserve(length int32) unsafe.Pointer {
	reserved = make([]byte, length)
	return unsafe.Pointer(&reserved[0])
}

// text returns what edge.mjs has written.
func text(length int32) string {
	if reserved != nil {
		long := unsafe.String(&reserved[0], length) // nobody writes to it again
		reserved = nil
		return long
	}
	return string(input[:length])
}

// told is the result of an import that returns a length.
func told(length int32) (string, error) {
	if length < 0 {
		return "", errors.New(text(-1 - length))
	}
	return text(length), nil
}

// Several texts cross as one, since each costs a call. JSON, URLs and headers
// cannot hold the separator. What can is the last field: a user id, say.
const separator = "\x00"

func join(parts ...string) string { return strings.Join(parts, separator) }

// fields splits what edge.mjs has written into so many parts.
func fields(length int32, count int) []string { return strings.SplitN(text(length), separator, count) }
