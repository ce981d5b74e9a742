package openroutertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	KindAlter  Kind = "alter"  // the right answer, changed by Fault.Patch and Fault.Nulls
	KindReplay Kind = "replay" // the answer to the last successful call of the operation; a 500 where there was none
	KindStale  Kind = "stale"  // the right answer with the usage as it was Fault.Delay ago; for get and list
	KindHuge   Kind = "huge"   // the right answer, padded to Fault.Bytes; gzip where the client takes that
)

// Fault describes how a call fails.
type Fault struct {
	Kind Kind
	// Applied lets the operation take effect before the answer fails. Without
	// it the operation has no effect; a slow one then has it after the delay,
	// unless the client left before. With KindAlter, KindStale and KindHuge it
	// always takes effect.
	Applied bool
	// Status is the status of KindStatus (500 by default) and KindHTML (502 by
	// default).
	Status int
	// RetryAfter is the raw Retry-After header of KindStatus and KindHTML:
	// seconds, an HTTP date, or "" for none.
	RetryAfter string
	// Delay is how late KindSlow answers, and how old the usage of KindStale
	// is.
	Delay time.Duration
	// Patch is the JSON merge patch (RFC 7396) that KindAlter lays over the
	// body: null takes a member away, what is no object replaces all.
	Patch json.RawMessage
	// Nulls are the members that KindAlter answers as null, which a merge patch
	// cannot do: "data.limit".
	Nulls []string
	// Bytes is the least size of the body of KindHuge once decoded; at most
	// MaxBytes.
	Bytes int64
}

// MaxBytes is the most that Fault.Bytes may ask for: enough to be too much for
// any client, and sent within seconds.
const MaxBytes = 512 << 20

// check reports what makes the fault impossible for op.
func (f Fault) check(op Op) error {
	if !op.known() {
		return fmt.Errorf("unknown op %q", op)
	}
	lowest := 200
	switch f.Kind {
	case KindStatus:
		lowest = 400
	case KindHTML, KindDrop, KindCut, KindHang, KindSlow, KindReplay:
	case KindAlter:
		if f.Patch == nil && len(f.Nulls) == 0 {
			return errors.New("alter needs a patch or nulls")
		}
		if f.Patch != nil && !json.Valid(f.Patch) {
			return errors.New("the patch is not JSON")
		}
		if slices.Contains(f.Nulls, "") {
			return errors.New("an empty path in nulls")
		}
	case KindStale:
		if op != OpGet && op != OpList {
			return fmt.Errorf("stale is for get and list, not %s", op)
		}
		if f.Delay == 0 {
			return errors.New("stale needs a delay: the age of the usage")
		}
	case KindHuge:
		if f.Bytes < 1 || f.Bytes > MaxBytes {
			return fmt.Errorf("bytes %d is not from 1 to %d", f.Bytes, MaxBytes)
		}
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
