package openroutertest

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// writePadded sends a reply whose body, a JSON object, has a member "padding" at
// its end that makes it at least size bytes long. It is made as it is sent, and
// announces no length.
func writePadded(w http.ResponseWriter, r *http.Request, p reply, size int64) {
	head, tail := strings.TrimSuffix(string(p.body), "}")+`,"padding":"`, `"}`
	padding := io.LimitReader(zeros{}, size-int64(len(head)+len(tail)))
	body := io.MultiReader(strings.NewReader(head), padding, strings.NewReader(tail))

	w.Header().Set("Content-Type", p.contentType)
	zip := takesGzip(r.Header.Get("Accept-Encoding"))
	if zip {
		w.Header().Set("Content-Encoding", "gzip")
	}
	w.WriteHeader(p.status)
	// An error means that the client has left: nobody to tell.
	if zip {
		z := gzip.NewWriter(w)
		io.Copy(z, body)
		z.Close()
		return
	}
	io.Copy(w, struct{ io.Reader }{body}) // in one piece: see recorder.ReadFrom
}

// takesGzip reports whether an Accept-Encoding header names gzip and does not
// refuse it with q=0.
func takesGzip(header string) bool {
	for coding := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.Trim(weight, " 0.") != "q="
		}
	}
	return false
}

// zeros reads as digits 0 without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}
