//go:build js && wasm

package edge

import (
	"strings"
	"syscall/js"

	"github.com/syumai/workers/cloudflare"
)

// Getenv returns a variable or secret as text, "" where it is not set.
func Getenv(name string) string {
	switch value := cloudflare.GetBinding(name); value.Type() {
	case js.TypeUndefined, js.TypeNull:
		return ""
	case js.TypeString:
		return value.String()
	default: // a number or boolean in wrangler.toml
		return js.Global().Get("String").Invoke(value).String()
	}
}

// Names returns the names of all variables, secrets and bindings.
func Names() []string {
	names := js.Global().Get("Object").Call("keys", js.Global().Get("context").Get("env")).Call("join", separator).String()
	return strings.Split(names, separator)
}

// Bound tells whether there is a binding of that name.
func Bound(name string) bool { return cloudflare.GetBinding(name).Truthy() }

// Log writes a line to the log.
func Log(line string) { log(line) }

// Measure writes a data point, as JSON, where the binding METRICS is there.
func Measure(point string) { measure(point) }
