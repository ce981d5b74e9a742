//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/internal/adminapi"
)

// drill is a Worker under load whose secrets are changed. What it answers meanwhile has
// to be each user's own key.
type drill struct {
	*worker
	t       *testing.T
	users   []*user
	keys    []string // of the users
	secrets []string // that the load signs with, in turn

	deploying sync.RWMutex
	sent      atomic.Int64
}

// deploy gives the Worker other settings, as a deployment does: no request is under way
// while it starts.
func (d *drill) deploy(secrets map[string]string) {
	d.t.Helper()
	d.deploying.Lock()
	defer d.deploying.Unlock()
	d.Stop()
	d.again(d.t, with{secrets: secrets})
}

// signWith changes what the load signs with.
func (d *drill) signWith(secrets ...string) {
	d.deploying.Lock()
	defer d.deploying.Unlock()
	d.secrets = secrets
}

// load sends requests until the context ends.
func (d *drill) load(ctx context.Context, lane int) error {
	for i := lane; ctx.Err() == nil; i++ {
		if err := d.ask(ctx, i); err != nil && ctx.Err() == nil {
			return err
		}
		d.sent.Add(1)
	}
	return nil
}

func (d *drill) ask(ctx context.Context, i int) error {
	d.deploying.RLock()
	defer d.deploying.RUnlock()
	u := d.users[i%len(d.users)]
	token := sign(jwt.SigningMethodHS256, d.secrets[i%len(d.secrets)], u.claims())
	a, err := d.send(ctx, "GET", me, bearer(token), nil)
	if err != nil {
		return err
	}
	v, err := u.check(a)
	if err == nil && v.Key != d.keys[i%len(d.users)] {
		err = fmt.Errorf("%s has another key", u.id)
	}
	return err
}

// goOn waits until the load has asked for every user a few times more.
func (d *drill) goOn() {
	d.t.Helper()
	until := d.sent.Load() + int64(3*len(d.users))
	eventually(d.t, 30*time.Second, "more requests", func() (string, bool) {
		return fmt.Sprint(d.sent.Load(), " of ", until), d.sent.Load() >= until
	})
}

// Each secret is changed as docs/operations.md says, and no request fails.
func TestEverySecretIsChangedUnderLoad(t *testing.T) {
	const otherSecret, otherAdmin, otherProvisioning = "fake-second-jwt-secret-of-the-e2e-tests-0123", "fake-second-admin-token-of-the-e2e-tests-0123", "fake-second-provisioning-key-of-the-e2e-tests"
	w := start(t, administered)
	d := &drill{worker: w, t: t, secrets: []string{jwtSecret}}
	for range 6 {
		u := newUser(t, w)
		d.users, d.keys = append(d.users, u), append(d.keys, u.provisioned().Key)
	}
	idle := newUser(t, w) // who does not come meanwhile
	idleKey := idle.provisioned().Key
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for lane := range cap(ended) {
		go func() { ended <- d.load(ctx, lane) }()
	}
	d.goOn()

	t.Run("JWT_SECRET_CLOUD", func(t *testing.T) {
		d.deploy(map[string]string{"JWT_SECRET_CLOUD": otherSecret, "JWT_SECRET_CLOUD_PREVIOUS": jwtSecret})
		d.signWith(jwtSecret, otherSecret)
		d.goOn()
		d.signWith(otherSecret) // the last old token has expired
		d.deploy(map[string]string{"JWT_SECRET_CLOUD_PREVIOUS": ""})
		d.goOn()
		problem(t, d.users[0].get(), 401, "invalid_token")
	})
	t.Run("KEY_ENCRYPTION_KEY", func(t *testing.T) {
		d.deploy(map[string]string{"KEY_ENCRYPTION_KEY": encryptionKey(2), "KEY_ENCRYPTION_KEY_PREVIOUS": encryptionKey(1)})
		d.goOn()
		body, resealed := `{"limit":2}`, 0
		for {
			var report adminapi.ResealReport
			w.admin(t, "POST", "/reseal", body, 200, &report)
			resealed += report.Resealed
			if report.NextCursor == nil {
				if report.Remaining != 0 || len(report.Failed) > 0 {
					t.Errorf("in the end %+v", report)
				}
				break
			}
			next, err := json.Marshal(map[string]any{"limit": 2, "cursor": *report.NextCursor})
			if err != nil {
				t.Fatal(err)
			}
			body = string(next)
		}
		if resealed == 0 {
			t.Error("nobody was sealed anew, and one has not come since")
		}
		eventually(t, 30*time.Second, "D1 without what the old key sealed", func() (string, bool) {
			var report adminapi.ResealReport
			w.admin(t, "POST", "/reseal", "", 200, &report)
			return fmt.Sprintf("%+v", report), report.Resealed == 0 && report.Remaining == 0
		})
		d.deploy(map[string]string{"KEY_ENCRYPTION_KEY_PREVIOUS": ""})
		d.goOn()
		token := sign(jwt.SigningMethodHS256, otherSecret, idle.claims())
		if v, err := idle.check(w.ask(t, "GET", me, bearer(token))); err != nil || v.Key != idleKey {
			t.Errorf("the one who did not come meanwhile: %v, the same key: %t", err, v.Key == idleKey)
		}
	})
	t.Run("OPENROUTER_PROVISIONING_API_KEY", func(t *testing.T) {
		w.successor.Store(otherProvisioning) // OpenRouter's account has two for a while
		d.deploy(map[string]string{"OPENROUTER_PROVISIONING_API_KEY": otherProvisioning})
		d.goOn()
		w.retired.Store(true)
		d.goOn()
	})
	t.Run("ADMIN_TOKEN", func(t *testing.T) {
		d.deploy(map[string]string{"ADMIN_TOKEN": otherAdmin})
		problem(t, w.ask(t, "GET", "/api/admin/users", bearer(adminToken)), 401, "invalid_token")
		if a := w.ask(t, "GET", "/api/admin/users", bearer(otherAdmin)); a.status != http.StatusOK {
			t.Errorf("the new token is answered %v", a)
		}
		d.goOn()
	})

	stop()
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, `"status":500`) || strings.Contains(line, `"evt":"panic"`) {
			t.Errorf("logged %s", line)
		}
	}
	t.Logf("%d requests, none failed", d.sent.Load())
}
