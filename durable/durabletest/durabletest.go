// Package durabletest is an object's storage in memory, for tests.
package durabletest

import (
	"slices"
	"sync"
	"time"

	"latchkey/internal/account"
)

// Storage is a durable.Storage. Its alarm never rings.
type Storage struct {
	mu     sync.Mutex
	state  string
	ledger Ledger
}

// NewStorage returns a storage that holds this.
func NewStorage(state string, ledger []account.Entry) *Storage {
	return &Storage{state: state, ledger: slices.Clone(ledger)}
}

// Load implements durable.Storage.
func (s *Storage) Load() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, nil
}

// Write implements durable.Storage.
func (s *Storage) Write(state string, entry *account.Entry, _ *time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state = state; entry != nil {
		s.ledger = append(s.ledger, *entry)
	}
	return nil
}

// Entries implements durable.Storage.
func (s *Storage) Entries(seq int64, limit int) ([]account.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.Entries(seq, limit), nil
}

// Latest implements durable.Storage.
func (s *Storage) Latest(before int64, limit int) ([]account.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.Latest(before, limit), nil
}

// Ledger is a ledger, oldest entry first. Its methods are those of durable.Storage.
type Ledger []account.Entry

// Entries returns the entries after seq, oldest first, at most limit.
func (l Ledger) Entries(seq int64, limit int) []account.Entry {
	var some []account.Entry
	for _, e := range l {
		if e.Seq > seq && len(some) < limit {
			some = append(some, e)
		}
	}
	return some
}

// Latest returns the entries before a seq, or all where it is 0, newest first, at most limit.
func (l Ledger) Latest(before int64, limit int) []account.Entry {
	var some []account.Entry
	for _, e := range slices.Backward(l) {
		if (before == 0 || e.Seq < before) && len(some) < limit {
			some = append(some, e)
		}
	}
	return some
}
