//go:build !(js && wasm)

package main

import (
	"fmt"
	"os"
)

// main tells whoever builds the program natively, as `go build ./...` does, that it only
// runs on workerd.
func main() {
	fmt.Fprintln(os.Stderr, "latchkey's Worker runs on workerd: see `make run`.")
	os.Exit(2)
}
