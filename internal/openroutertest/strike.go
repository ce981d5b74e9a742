package openroutertest

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// strike lets a call fail. perform carries out the operation.
func (s *Server) strike(w http.ResponseWriter, x *exchange, f Fault, perform func() reply) {
	earlier := s.lastReply(x.call.Op) // before this call is the last itself
	if f.Kind == KindStale {
		x.ago = f.Delay
	}
	var done reply // the right answer, where the operation has taken effect
	if f.takesEffect() {
		done = perform()
	}
	switch f.Kind {
	case KindStatus:
		status := cmp.Or(f.Status, http.StatusInternalServerError)
		failure := s.apiErrorReply(refuse(status, http.StatusText(status)))
		failure.retryAfter = f.RetryAfter
		s.answer(w, x, failure)
	case KindHTML:
		page := htmlPage(cmp.Or(f.Status, http.StatusBadGateway))
		page.retryAfter = f.RetryAfter
		s.answer(w, x, page)
	case KindDrop:
		drop(w)
	case KindCut:
		if !f.Applied {
			done = s.apiReply(s.successStatus(x.call), map[string]any{"data": map[string]any{}})
		}
		s.recordStatus(x, done.status)
		cut(w, done)
	case KindHang:
		select {
		case <-x.r.Context().Done():
		case <-s.closed:
		}
		panic(http.ErrAbortHandler)
	case KindSlow:
		s.wait(x.r.Context(), f.Delay)
		if !f.Applied {
			done = perform()
		}
		s.answer(w, x, done)
	case KindAlter:
		if done.contentType == "application/json" { // a stream stays as it is
			done.body = f.altered(done.body)
		}
		s.answer(w, x, done)
	case KindReplay:
		s.answer(w, x, earlier)
	case KindStale:
		s.answer(w, x, done)
	case KindHuge:
		s.recordStatus(x, done.status)
		writePadded(w, x.r, done, f.Bytes)
	default:
		panic("openroutertest: no such fault: " + string(f.Kind))
	}
}

// takesEffect reports whether the operation is carried out before its answer
// fails.
func (f Fault) takesEffect() bool {
	switch f.Kind {
	case KindAlter, KindStale, KindHuge:
		return true
	}
	return f.Applied
}

// lastReply returns the answer to the last successful call of op, or a 500.
func (s *Server) lastReply(op Op) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.last[op]; ok {
		return p
	}
	return s.apiErrorReply(refuse(http.StatusInternalServerError, "No earlier call to replay"))
}

// altered changes a document as KindAlter says.
func (f Fault) altered(document []byte) []byte {
	v := mustUnmarshal(document)
	if f.Patch != nil {
		v = merge(v, mustUnmarshal(f.Patch))
	}
	for _, path := range f.Nulls {
		// A patch whose null is a value of its own, and so is kept.
		var patch any = json.RawMessage("null")
		for _, name := range slices.Backward(strings.Split(path, ".")) {
			patch = map[string]any{name: patch}
		}
		v = merge(v, patch)
	}
	return mustMarshal(v)
}

// merge applies a merge patch to target, as RFC 7396 defines it.
func merge(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range members {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = merge(object[name], value)
		}
	}
	return object
}

// wait returns after d. It abandons the call if the client leaves before, or at
// Server.Close.
func (s *Server) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	case <-s.closed:
		panic(http.ErrAbortHandler)
	}
}

// drop closes the connection without an answer.
func drop(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	conn.Close()
}

// cut announces the whole reply, sends half of its body and closes the
// connection.
func cut(w http.ResponseWriter, p reply) {
	p.writeHead(w)
	w.Write(p.body[:len(p.body)/2])
	// Flushing puts the half on the wire; a writer that cannot flush has
	// passed it on already.
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
