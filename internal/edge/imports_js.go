//go:build js && wasm

package edge

// What edge.mjs does for us. None of these may throw: an exception would end
// the program. Those that return a length have written so many bytes of text to
// our input; below 0 it is -1 less the length of what went wrong.

//go:wasmimport edge respond
func respond(call, status int32, bodyAndHeaders string)

//go:wasmimport edge connect
func connect(call, code int32, idNoteMessageReasonAndHeaders string)

//go:wasmimport edge done
func done(call int32, failure string)

//go:wasmimport edge wantKeys
func wantKeys(call int32, url string)

//go:wasmimport edge forward
func forward(namespaceAndName string)

//go:wasmimport edge ask
func ask(id int32, namespaceCallAndName string)

//go:wasmimport edge fetch
func fetch(id, milliseconds int32, methodURLBodyAndHeaders string)

//go:wasmimport edge batch
func batch(id, milliseconds int32, dbAndStatements string)

//go:wasmimport edge load
func load(object int32) (length int32)

//go:wasmimport edge write
func write(object int32, seq, alarm float64, stateAndEntry string) (length int32)

//go:wasmimport edge entries
func entries(object int32, after float64, limit int32) (length int32)

//go:wasmimport edge latest
func latest(object int32, before float64, limit int32) (length int32)

//go:wasmimport edge sockets
func sockets(object int32) (length int32)

//go:wasmimport edge send
func send(object int32, idNoteAndMessage string)

//go:wasmimport edge closeSocket
func closeSocket(object, code int32, idAndReason string)

//go:wasmimport edge idle
func idle(object int32)

//go:wasmimport edge log
func log(line string)

//go:wasmimport edge measure
func measure(point string)
