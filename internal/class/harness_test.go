package class

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/backoff"
	"latchkey/internal/class/classtest"
	"latchkey/internal/openrouter"
	"latchkey/internal/openroutertest"
	"latchkey/internal/roster"
	"latchkey/internal/seal"
)

const provisioningKey = "sk-or-v1-provisioning-not-a-real-one"

// fixture is an OpenRouter account in process, and the folder of a class, which is
// not there yet. In a synctest bubble, waiting takes no time.
type fixture struct {
	*testing.T
	*openroutertest.Server
	out    string
	settle time.Duration
	wrap   func(*http.Request) (*http.Response, error) // comes between it and its client; may be nil
	said   []string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, out: filepath.Join(classtest.MemoryDir(t), "keys"), settle: 30 * time.Second}
	f.Server = openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey, Now: time.Now, Rand: rand.NewChaCha8([32]byte{1})})
	t.Cleanup(f.Server.Close)
	return f
}

// losePost provides so many people and is interrupted over a POST: that is carried out, and
// not answered.
func (f *fixture) losePost(people int) {
	f.Helper()
	ctx, interrupt := context.WithCancel(f.Context())
	f.wrap = func(r *http.Request) (*http.Response, error) {
		response, err := f.Server.RoundTrip(r)
		if r.Method == http.MethodPost {
			interrupt()
			return nil, io.ErrUnexpectedEOF
		}
		return response, err
	}
	if _, err := f.provide(ctx, people, 1); !errors.Is(err, ErrInterrupted) {
		f.Fatal(err)
	}
	f.wrap = nil
}

// RoundTrip implements http.RoundTripper.
func (f *fixture) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.wrap != nil {
		return f.wrap(r)
	}
	return f.Server.RoundTrip(r)
}

func (f *fixture) options(ctx context.Context, parallel int) Options {
	say := func(text string) { f.said = append(f.said, text) }
	b := &backoff.Backoff{Ctx: ctx, Tries: 10, Longest: time.Hour, Say: say}
	return Options{
		Account: openrouter.Admin{
			Client: openrouter.Client{BaseURL: "http://openrouter.test/api/v1", ProvisioningKey: seal.NewSecret(provisioningKey), Transport: f, Now: time.Now},
			Wait:   b.Wait,
		},
		Backoff: b, Parallel: parallel, Settle: f.settle, Now: time.Now, Say: say, Done: func(int) {},
	}
}

// people is a roster of n.
func people(t *testing.T, n int) roster.Roster {
	t.Helper()
	rows := "name,email\n"
	for i := range n {
		rows += fmt.Sprintf("Person %d,p%d@example.org\n", i, i)
	}
	read, err := roster.Read(strings.NewReader(rows), roster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// provide makes keys for n people.
func (f *fixture) provide(ctx context.Context, n, parallel int) (Provided, error) {
	f.Helper()
	c, err := OpenFolder(f.out)
	if err != nil {
		return Provided{}, err
	}
	defer c.Close()
	return c.Provide(ctx, people(f.T, n), Terms{Limit: 2 * account.Credit}, f.options(ctx, parallel))
}

// provided demands that n people have one key each, which works, that there is no
// other, and that no attempt is open.
func (f *fixture) provided(n int) {
	f.Helper()
	entries, err := os.ReadDir(f.out)
	if err != nil {
		f.Fatal(err)
	}
	owner := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(f.out, e.Name()))
		if err != nil {
			f.Fatal(err)
		}
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			f.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
		if e.Name() == ManifestName {
			if strings.Contains(string(text), "sk-or-v1-") {
				f.Error("the manifest has a key in it")
			}
			continue
		}
		owner[strings.TrimSuffix(string(text), "\n")] = e.Name()
	}
	live := f.Live()
	if len(live) != n || len(owner) != n {
		f.Errorf("%d live keys and %d owners, want %d", len(live), len(owner), n)
	}
	for _, key := range live {
		if file := owner[key.Secret]; file != strings.Split(key.Name, ":")[2]+".key" {
			f.Errorf("%q has the key %s", file, key.Name)
		}
		if err := f.Spend(key.Secret, 0.001); err != nil {
			f.Errorf("the key %s: %v", key.Name, err)
		}
	}
	if open := f.peek().in(asked); len(open) > 0 {
		f.Errorf("attempts are open: %+v", open)
	}
}

func (f *fixture) peek() *Class {
	f.Helper()
	c, err := Peek(f.out)
	if err != nil {
		f.Fatal(err)
	}
	return c
}
