//go:build js && wasm

// Program serve is a subject of the benchmark: latchkey's job as a usual
// program on syumai/workers, which is booted anew for every request. The record
// is in D1 alone, read and written by every request. Nothing is shared between
// requests, sealed, logged, or written down before it is tried.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/syumai/workers"
	"github.com/syumai/workers/cloudflare"
	"github.com/syumai/workers/cloudflare/d1"
	"github.com/syumai/workers/cloudflare/fetch"
)

// The defaults of latchkey's settings, in credits.
const (
	totalLimit  = 10
	keyLimit    = 1
	rotateBelow = 0.5
	renewAt     = 0.1
)

func main() {
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	http.HandleFunc("GET /api/users/me", me)
	workers.Serve(nil) // http.DefaultServeMux
}

func me(w http.ResponseWriter, r *http.Request) {
	who, err := verify(r.Header.Get("Authorization"))
	if err != nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		reply(w, http.StatusUnauthorized, map[string]string{"code": "invalid_token", "detail": err.Error()})
		return
	}
	u, err := ensureKey(r.Context(), who)
	if err != nil {
		reply(w, http.StatusServiceUnavailable, map[string]string{"code": "upstream_unavailable", "detail": err.Error()})
		return
	}
	reply(w, http.StatusOK, u)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

type claims struct {
	UID      string `json:"uid"`
	Username string `json:"username"`
	Email    string `json:"email"`
	jwt.RegisteredClaims
}

// verify returns the claims in the value of an Authorization header.
func verify(authorization string) (claims, error) {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok {
		return claims{}, errors.New("there is no bearer token")
	}
	var c claims
	_, err := jwt.ParseWithClaims(token, &c,
		func(*jwt.Token) (any, error) { return []byte(cloudflare.Getenv("JWT_SECRET_CLOUD")), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithLeeway(30*time.Second))
	if err != nil {
		return claims{}, err
	}
	if c.UID == "" {
		c.UID = c.Subject
	}
	if c.UID == "" {
		return claims{}, errors.New("the token names no user")
	}
	return c, nil
}

// user is a row of the table, and the body of the answer.
type user struct {
	ID             string  `json:"id"`
	Name           string  `json:"user_name"`
	Email          string  `json:"email"`
	Key            string  `json:"openrouter_api_key"`
	Hash           string  `json:"hash"`
	TotalLimit     float64 `json:"total_limit"`
	RemainingLimit float64 `json:"remaining_limit"`
	UsageLimit     float64 `json:"usage_limit"`
	Outcome        string  `json:"outcome"`
	seq            int64
	createdAt      string
}

// ensureKey walks the flow: it makes sure that the user has a working key.
func ensureKey(ctx context.Context, who claims) (user, error) {
	connector, err := d1.OpenConnector("DB")
	if err != nil {
		return user{}, fmt.Errorf("open the database: %w", err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()

	u := user{ID: who.UID, Name: who.Username, Email: who.Email, Outcome: "kept"}
	err = db.QueryRowContext(ctx, `SELECT key, hash, total_limit, remaining_limit, usage_limit, seq, created_at
		FROM users WHERE user_id = ?`, u.ID).
		Scan(&u.Key, &u.Hash, &u.TotalLimit, &u.RemainingLimit, &u.UsageLimit, &u.seq, &u.createdAt)
	isNew := errors.Is(err, sql.ErrNoRows)
	if err != nil && !isNew {
		return user{}, fmt.Errorf("read the user: %w", err)
	}
	now := time.Now().UTC().Format(time.RFC3339)
	if isNew || u.RemainingLimit <= renewAt {
		err = begin(ctx, &u, isNew, now)
	} else {
		err = meter(ctx, &u)
	}
	if err != nil {
		return user{}, err
	}
	_, err = db.ExecContext(ctx, `INSERT INTO users
		(user_id, user_name, email, key, hash, total_limit, remaining_limit, usage_limit, seq, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (user_id) DO UPDATE SET user_name = excluded.user_name, email = excluded.email, key = excluded.key,
		  hash = excluded.hash, total_limit = excluded.total_limit, remaining_limit = excluded.remaining_limit,
		  usage_limit = excluded.usage_limit, seq = excluded.seq, created_at = excluded.created_at, updated_at = excluded.updated_at`,
		u.ID, u.Name, u.Email, u.Key, u.Hash, u.TotalLimit, u.RemainingLimit, u.UsageLimit, u.seq+1, u.createdAt, now)
	if err != nil {
		return user{}, fmt.Errorf("write the user: %w", err)
	}
	return u, nil
}

// begin gives a user a quota, and a first key of it.
func begin(ctx context.Context, u *user, isNew bool, now string) error {
	u.Outcome = "provisioned"
	if !isNew {
		u.Outcome = "renewed"
		// Not after the answer: the program ends with its request.
		if err := deleteKey(ctx, u.Hash); err != nil {
			return err
		}
	}
	u.TotalLimit, u.RemainingLimit, u.createdAt = totalLimit, totalLimit, now
	return createKey(ctx, u)
}

// meter charges what was spent on the user's key, and replaces it where little
// is left.
func meter(ctx context.Context, u *user) error {
	var got struct {
		Data struct {
			LimitRemaining *float64 `json:"limit_remaining"`
		} `json:"data"`
	}
	err := call(ctx, http.MethodGet, "/keys/"+u.Hash, nil, &got)
	if errors.Is(err, errGone) {
		u.Outcome = "rotated"
		return createKey(ctx, u)
	}
	if err != nil {
		return err
	}
	left := got.Data.LimitRemaining
	if left == nil { // an operator lifted the limit
		return nil
	}
	u.RemainingLimit -= max(0, u.UsageLimit-*left)
	u.UsageLimit = *left
	if *left > rotateBelow {
		return nil
	}
	u.Outcome = "rotated"
	if err := deleteKey(ctx, u.Hash); err != nil {
		return err
	}
	return createKey(ctx, u)
}

// createKey makes a new key and gives it to the user.
func createKey(ctx context.Context, u *user) error {
	suffix := make([]byte, 8)
	rand.Read(suffix) // never fails
	body := map[string]any{"name": "latchkey:" + u.ID + ":" + hex.EncodeToString(suffix), "limit": keyLimit}
	var created struct {
		Key  string `json:"key"`
		Data struct {
			Hash string `json:"hash"`
		} `json:"data"`
	}
	if err := call(ctx, http.MethodPost, "/keys", body, &created); err != nil {
		return err
	}
	u.Key, u.Hash, u.UsageLimit = created.Key, created.Data.Hash, keyLimit
	return nil
}

// deleteKey deletes a key. One that is gone already counts as deleted.
func deleteKey(ctx context.Context, hash string) error {
	err := call(ctx, http.MethodDelete, "/keys/"+hash, nil, &struct{}{})
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

var errGone = errors.New("the key is gone")

// call asks OpenRouter and decodes its answer; errGone stands for a 404.
func call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("openrouter: %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := fetch.NewRequest(ctx, method, cloudflare.Getenv("OPENROUTER_BASE_URL")+path, body)
	if err != nil {
		return fmt.Errorf("openrouter: %s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+cloudflare.Getenv("OPENROUTER_PROVISIONING_API_KEY"))
	req.Header.Set("Content-Type", "application/json")
	res, err := fetch.NewClient().Do(req, nil)
	if err != nil {
		return fmt.Errorf("openrouter: %s %s: %w", method, path, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return errGone
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("openrouter: %s %s: status %d", method, path, res.StatusCode)
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("openrouter: %s %s: %w", method, path, err)
	}
	return nil
}
