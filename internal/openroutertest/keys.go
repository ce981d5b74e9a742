package openroutertest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Key is a snapshot of one key. Encoded as JSON it does not contain the secret.
type Key struct {
	Hash         string    `json:"hash"` // lower-case hex SHA-256 of Secret
	Secret       string    `json:"-"`    // the plaintext, sk-or-v1-…
	Name         string    `json:"name"`
	Limit        *Nano     `json:"limit"`       // nil: unlimited
	LimitReset   string    `json:"limit_reset"` // daily, weekly, monthly or "" for never
	Usage        Nano      `json:"usage"`       // all that was ever spent, whatever the usage lag
	Disabled     bool      `json:"disabled"`
	Deleted      bool      `json:"deleted"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at,omitzero"` // zero until patched
	ExpiresAt    time.Time `json:"expires_at,omitzero"` // zero: never
	WorkspaceID  string    `json:"workspace_id"`
	ExternalUser string    `json:"external_user,omitempty"` // "" for none
	GuardrailID  string    `json:"guardrail_id,omitempty"`  // "" for none
}

// Label returns the secret as it may be shown: sk-or-v1-0fa...240.
func (k Key) Label() string {
	return k.Secret[:len(secretPrefix)+3] + "..." + k.Secret[len(k.Secret)-3:]
}

const (
	secretPrefix     = "sk-or-v1-"
	defaultWorkspace = "00000000-0000-4000-8000-000000000001"
	defaultCreator   = "user_2standin"
)

// ErrKeyNotFound says that a key does not exist, or no longer.
var ErrKeyNotFound = errors.New("User not found.") // OpenRouter's words for it at inference

// key is a Key as the Server keeps it. Guarded by Server.mu.
type key struct {
	Key
	includeBYOK bool
	creator     string
	charges     []charge  // in order of spending
	assignedAt  time.Time // to the guardrail
}

func (k *key) expired(now time.Time) bool {
	return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
}

// hashOf is OpenRouter's own rule. It stands here anew: the stand-in shares nothing
// with the client that is tested against it.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Keys returns every key ever created, oldest first, deleted and disabled ones
// included.
func (s *Server) Keys() []Key {
	return s.snapshot(func(*key) bool { return true })
}

// Live returns the keys that can spend as far as their limits allow: neither
// deleted nor disabled nor expired. Oldest first.
func (s *Server) Live() []Key {
	now := s.o.Now()
	return s.snapshot(func(k *key) bool { return !k.Deleted && !k.Disabled && !k.expired(now) })
}

func (s *Server) snapshot(include func(*key) bool) []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := []Key{}
	for _, k := range s.keys {
		if include(k) {
			snapshot := k.Key
			if k.Limit != nil {
				snapshot.Limit = new(*k.Limit)
			}
			keys = append(keys, snapshot)
		}
	}
	return keys
}

// Deleted reports whether the key existed and was deleted.
func (s *Server) Deleted(hash string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.byHash[hash]
	return k != nil && k.Deleted
}

// SetDisabled disables or enables a key, as an operator would in the dashboard.
// It returns ErrKeyNotFound for an unknown or deleted key.
func (s *Server) SetDisabled(hash string, disabled bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.find(hash)
	if k == nil {
		return ErrKeyNotFound
	}
	k.Disabled = disabled
	return nil
}

// SetLimit sets the limit of a key in credits; nil lifts it. It returns
// ErrKeyNotFound for an unknown or deleted key, another error for an amount that
// cannot be a limit.
func (s *Server) SetLimit(hash string, credits *float64) error {
	limit, err := limitOf(credits)
	if err != nil {
		return fmt.Errorf("limit %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.find(hash)
	if k == nil {
		return ErrKeyNotFound
	}
	k.Limit = limit
	return nil
}

func limitOf(credits *float64) (*Nano, error) {
	if credits == nil {
		return nil, nil
	}
	limit, err := nanos(*credits)
	return &limit, err
}

// find returns the undeleted key with this hash, or nil. Server.mu is held.
func (s *Server) find(hash string) *key {
	if k := s.byHash[hash]; k != nil && !k.Deleted {
		return k
	}
	return nil
}

// addressed returns the key that the path of a call names.
func (s *Server) addressed(x *exchange) (*key, error) {
	if k := s.find(x.r.PathValue("hash")); k != nil {
		return k, nil
	}
	return nil, refuse(http.StatusNotFound, "API key not found")
}

type keyAnswer struct {
	Data record `json:"data"`
}

func (s *Server) createKey(x *exchange) (any, error) {
	b, err := parseKeyBody(x.body)
	if err != nil {
		return nil, err
	}
	if !b.name.present {
		return nil, invalid("name", "is required")
	}
	var random [32]byte
	if _, err := io.ReadFull(s.o.Rand, random[:]); err != nil {
		return nil, fmt.Errorf("no randomness for a key: %w", err)
	}
	secret := secretPrefix + hex.EncodeToString(random[:])
	now := s.o.Now().UTC()
	k := &key{
		Key: Key{
			Hash:        hashOf(secret),
			Secret:      secret,
			Name:        s.o.NameForm.of(b.name.or("")),
			Limit:       b.limit.value,
			LimitReset:  b.limitReset.or(""),
			CreatedAt:   now,
			ExpiresAt:   b.expiresAt.or(time.Time{}),
			WorkspaceID: b.workspaceID.or(defaultWorkspace),
		},
		includeBYOK: b.includeBYOK.or(false),
		creator:     b.creatorUserID.or(defaultCreator),
	}
	k.ExternalUser = b.external.or(external{}).User
	s.keys = append(s.keys, k)
	s.byHash[k.Hash] = k
	x.call.Hash = k.Hash
	return struct {
		keyAnswer
		Key string `json:"key"`
	}{keyAnswer{s.record(k, s.readAt(x))}, secret}, nil
}

func (s *Server) getKey(x *exchange) (any, error) {
	k, err := s.addressed(x)
	if err != nil {
		return nil, err
	}
	return keyAnswer{s.record(k, s.readAt(x))}, nil
}

// updateKey changes what the body mentions; null clears.
func (s *Server) updateKey(x *exchange) (any, error) {
	k, err := s.addressed(x)
	if err != nil {
		return nil, err
	}
	b, err := parseKeyBody(x.body)
	if err != nil {
		return nil, err
	}
	if b.expiresAt.present {
		return nil, invalid("expires_at", "cannot be changed")
	}
	if b.limit.present {
		k.Limit = b.limit.value
	}
	if b.limitReset.present {
		k.LimitReset = b.limitReset.or("")
	}
	if b.name.present {
		k.Name = s.o.NameForm.of(b.name.or(""))
	}
	k.Disabled = b.disabled.or(k.Disabled)
	k.includeBYOK = b.includeBYOK.or(k.includeBYOK)
	k.UpdatedAt = s.o.Now().UTC()
	return keyAnswer{s.record(k, s.readAt(x))}, nil
}

func (s *Server) deleteKey(x *exchange) (any, error) {
	k, err := s.addressed(x)
	if err != nil {
		return nil, err
	}
	k.Deleted = true
	return map[string]bool{"deleted": true}, nil
}

// listKeys answers one page: PageSize keys of one workspace from offset on.
// Disabled and expired keys are listed on request only.
func (s *Server) listKeys(x *exchange) (any, error) {
	query := x.r.URL.Query()
	offset, err := strconv.Atoi(cmp.Or(query.Get("offset"), "0"))
	if err != nil || offset < 0 {
		return nil, invalid("offset", "must be a whole number from 0")
	}
	includeDisabled, err := strconv.ParseBool(cmp.Or(query.Get("include_disabled"), "false"))
	if err != nil {
		return nil, invalid("include_disabled", "must be true or false")
	}
	workspace := cmp.Or(query.Get("workspace_id"), defaultWorkspace)

	now := s.o.Now()
	listed := slices.Clone(s.keys)
	if !s.o.OldestFirst {
		slices.Reverse(listed)
	}
	listed = slices.DeleteFunc(listed, func(k *key) bool {
		hidden := k.Disabled || k.expired(now)
		return k.Deleted || k.WorkspaceID != workspace || hidden && !includeDisabled
	})
	page := listed[min(offset, len(listed)):]
	page = page[:min(s.o.PageSize, len(page))]

	records := make([]record, len(page))
	for i, k := range page {
		records[i] = s.record(k, s.readAt(x))
	}
	return map[string]any{"data": records}, nil
}
