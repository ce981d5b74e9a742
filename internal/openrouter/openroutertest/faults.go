package openroutertest

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"
)

// Kind is the way in which a call fails.
type Kind string

const (
	KindStatus Kind = "status" // a JSON error with Fault.Status
	KindHTML   Kind = "html"   // an HTML page with Fault.Status
	KindDrop   Kind = "drop"   // the connection is closed without an answer
	KindCut    Kind = "cut"    // status and headers of a success, half of the body, then the connection is closed
	KindHang   Kind = "hang"   // no answer until the client leaves or Server.Close
	KindSlow   Kind = "slow"   // the right answer, Fault.Delay late
)

// Fault describes how a call fails.
type Fault struct {
	Kind Kind
	// Applied lets the operation take effect before the answer fails. Without
	// it the operation has no effect; a slow one then has it after the delay,
	// unless the client left before.
	Applied bool
	// Status is the status of KindStatus (500 by default) and KindHTML (502 by
	// default).
	Status int
	// RetryAfter is the raw Retry-After header of KindStatus and KindHTML:
	// seconds, an HTTP date, or "" for none.
	RetryAfter string
	// Delay is how late KindSlow answers.
	Delay time.Duration
}

// check reports what makes the fault impossible for op.
func (f Fault) check(op Op) error {
	if !op.known() {
		return fmt.Errorf("unknown op %q", op)
	}
	lowest := 200
	switch f.Kind {
	case KindStatus:
		lowest = 400
	case KindHTML, KindDrop, KindCut, KindHang, KindSlow:
	default:
		return fmt.Errorf("unknown kind %q", f.Kind)
	}
	if f.Status != 0 && (f.Status < lowest || f.Status > 599) {
		return fmt.Errorf("status %d is not from %d to 599", f.Status, lowest)
	}
	if f.Delay < 0 {
		return fmt.Errorf("negative delay %v", f.Delay)
	}
	return nil
}

// pending is a fault waiting for calls to strike.
type pending struct {
	Fault
	forever bool
	left    int
}

// Fail makes the next times calls of op fail as f says; with times <= 0 all of
// them, until ClearFaults. Faults of one operation queue up: a later one strikes
// once those before it are used up. Fail panics on an unknown op or a fault that
// makes no sense: a test would otherwise pass for want of the fault.
func (s *Server) Fail(op Op, f Fault, times int) {
	if err := f.check(op); err != nil {
		panic("openroutertest: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[op] = append(s.faults[op], pending{f, times <= 0, times})
}

// ClearFaults forgets all faults that have not struck yet.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

// takeFault returns the fault for the next call of op, or nil. Server.mu is held.
func (s *Server) takeFault(op Op) *Fault {
	queue := s.faults[op]
	if len(queue) == 0 {
		return nil
	}
	fault := queue[0].Fault
	if !queue[0].forever {
		if queue[0].left--; queue[0].left == 0 {
			s.faults[op] = queue[1:]
		}
	}
	return &fault
}

// strike lets a call fail. perform carries out the operation.
func (s *Server) strike(w http.ResponseWriter, x *exchange, f Fault, perform func() reply) {
	var done reply // the right answer, where the operation has taken effect
	if f.Applied {
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
			done = s.apiReply(s.successStatus(x.call.Op), map[string]any{"data": map[string]any{}})
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
	}
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
