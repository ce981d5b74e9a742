package openroutertest

import (
	"encoding/json"
	"time"
)

// Op names an operation of the API.
type Op string

const (
	OpCreate   Op = "create"   // POST /keys
	OpGet      Op = "get"      // GET /keys/{hash}
	OpList     Op = "list"     // GET /keys
	OpUpdate   Op = "update"   // PATCH /keys/{hash}
	OpDelete   Op = "delete"   // DELETE /keys/{hash}
	OpKey      Op = "key"      // GET /key
	OpActivity Op = "activity" // GET /activity
	OpCredits  Op = "credits"  // GET /credits
	OpChat     Op = "chat"     // POST /chat/completions

	OpAssign     Op = "assign"     // POST /guardrails/{id}/assignments/keys
	OpGuardrails Op = "guardrails" // all else under /guardrails
)

func (op Op) known() bool {
	switch op {
	case OpCreate, OpGet, OpList, OpUpdate, OpDelete, OpKey, OpActivity, OpCredits, OpChat, OpAssign, OpGuardrails:
		return true
	}
	return false
}

// Call is one call of the API, logged when it arrives and completed when it is
// answered.
type Call struct {
	Op     Op        `json:"op"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Query  string    `json:"query,omitempty"` // raw
	Name   string    `json:"name,omitempty"`  // name in the request body
	Hash   string    `json:"hash,omitempty"`  // of the key addressed or created, or the first one assigned
	Fault  Kind      `json:"fault,omitempty"` // the fault that struck
	Status int       `json:"status"`          // 0 while, or if never, answered
	At     time.Time `json:"at"`
}

// Calls counts the calls of each operation since the last ResetCalls, answered
// or not.
func (s *Server) Calls() map[Op]int { return counted(s.CallLog()) }

func counted(log []Call) map[Op]int {
	counts := map[Op]int{}
	for _, call := range log {
		counts[call.Op]++
	}
	return counts
}

// CallLog returns the calls since the last ResetCalls in order of arrival.
func (s *Server) CallLog() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := make([]Call, len(s.log))
	for i, call := range s.log {
		calls[i] = *call
	}
	return calls
}

// ResetCalls empties the call log.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}

// begin logs a call and takes the fault that is to strike it, or nil. Both under
// one lock: calls take faults in the order of the log.
func (s *Server) begin(op Op, x *exchange) *Fault {
	var named struct{ Name string }
	_ = json.Unmarshal(x.body, &named) // a body without a name leaves it empty

	s.mu.Lock()
	defer s.mu.Unlock()
	x.call = &Call{
		Op:     op,
		Method: x.r.Method,
		Path:   x.r.URL.Path,
		Query:  x.r.URL.RawQuery,
		Name:   named.Name,
		Hash:   x.r.PathValue("hash"),
		At:     s.o.Now().UTC(),
	}
	s.log = append(s.log, x.call)
	fault := s.takeFault(op)
	if fault != nil {
		x.call.Fault = fault.Kind
	}
	return fault
}

func (s *Server) recordStatus(x *exchange, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.call.Status = status
}
