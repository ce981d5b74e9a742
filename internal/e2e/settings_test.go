//go:build e2e

package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// No key may hold more than what remains of the quota, and one that already
// holds all of it is kept.
func TestHardCap(t *testing.T) {
	w := start(t, with{vars: map[string]string{"HARD_CAP": "true"}, secrets: administered.secrets})
	u := newUser(t, w)
	first := u.provisioned()
	u.spend(first, 9.4)
	capped := u.expect(u.get(), "rotated", 0.6, 0.6)
	u.called("GET DELETE POST")
	if key := u.live()[0]; key.Limit == nil || key.Limit.Credits() != 0.6 {
		t.Errorf("the new key's limit is %v", key.Limit)
	}
	for _, step := range []struct{ spend, left float64 }{{0.2, 0.4}, {0.25, 0.15}} {
		u.spend(capped, step.spend)
		if v := u.expect(u.get(), "kept", step.left, step.left); v.Key != capped.Key {
			t.Fatal("the key is another one")
		}
		u.called("GET")
	}
	u.settles(u.expect(u.refresh(), "rotated", 0.15, 0.15))
	if key := u.live()[0]; key.Limit == nil || key.Limit.Credits() != 0.15 {
		t.Errorf("after a refresh the key's limit is %v", key.Limit)
	}

	t.Run("an operator leaves less than the key holds", func(t *testing.T) {
		u := newUser(t, w)
		first := u.provisioned()
		w.admin(t, "PATCH", u.path(), `{"remaining_limit":0.2}`, 200, nil)
		u.called("GET DELETE")
		if !w.openrouter.Deleted(first.Hash) {
			t.Error("the key still lives")
		}
		u.settles(u.expect(u.get(), "rotated", 0.2, 0.2))
		if key := u.live()[0]; key.Limit == nil || key.Limit.Credits() != 0.2 {
			t.Errorf("the new key's limit is %v", key.Limit)
		}
	})
	t.Run("a reading that finds the quota spent", func(t *testing.T) {
		u := newUser(t, w)
		u.spend(u.provisioned(), 9.95)
		v := u.expect(u.get(), "renewed", 10, 1)
		u.settles(v)
		u.called("GET POST DELETE")
	})
}

// A spent quota is renewed only once it has lasted long enough. Until then the
// answer is 402, and there is no key.
func TestRenewAfter(t *testing.T) {
	const seconds = 15
	w := startQuiet(t, with{vars: map[string]string{"RENEW_AFTER": "15s"}})
	for name, ask := range map[string]func(*user) answer{"get": (*user).get, "refresh": (*user).refresh} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // both wait
			u := newUser(t, w)
			u.spent()
			began := time.Now()
			for range 2 {
				retryAfter(t, problem(t, ask(u), 402, "quota_exhausted"), 1, seconds)
			}
			eventually(t, 10*time.Second, "no live key", func() (string, bool) { return u.methods(), len(u.live()) == 0 })
			u.called("DELETE")
			var a answer
			eventually(t, (seconds+5)*time.Second, "the renewal", func() (string, bool) {
				a = ask(u)
				return a.String(), a.status != 402
			})
			v := u.expect(a, "renewed", 10, 1)
			u.called("POST")
			if took := time.Since(began); took < seconds*time.Second-5*time.Second {
				t.Errorf("renewed after %v", took)
			}
			u.settles(v)
		})
	}
	t.Run("a disabled key", func(t *testing.T) {
		u := newUser(t, w)
		v := u.provisioned()
		u.spend(v, 9.95)
		disable(u, v, true)
		problem(t, u.get(), 403, "key_disabled")
		problem(t, u.get(), 403, "key_disabled")
		if w.openrouter.Deleted(v.Hash) || u.count("POST") > 0 {
			t.Errorf("it was replaced: %s", u.methods())
		}
	})
}

// A reading is used again until it is as old as METER_INTERVAL.
func TestMeterInterval(t *testing.T) {
	const interval = 5 * time.Second
	w := startQuiet(t, with{vars: map[string]string{"METER_INTERVAL": interval.String()}})
	u := newUser(t, w)
	began := time.Now()
	first := u.provisioned()
	u.spend(first, 0.2)
	for range 3 {
		u.expect(u.get(), "kept", 10, 1)
	}
	if read := time.Since(began); read < interval {
		u.called("")
	}
	var a answer
	eventually(t, 2*interval, "a new reading", func() (string, bool) {
		a = u.get()
		return a.String(), strings.Contains(a.body, `"remaining_limit":9.8`)
	})
	u.expect(a, "kept", 9.8, 0.8)
	u.called("GET")
	if took := time.Since(began); took < interval {
		t.Errorf("read again after %v", took)
	}
	t.Run("a refresh reads at once", func(t *testing.T) {
		u := newUser(t, w)
		u.spend(u.provisioned(), 0.2)
		u.settles(u.expect(u.refresh(), "rotated", 9.8, 1))
		u.called("GET DELETE POST")
	})
}

func TestTokenSettings(t *testing.T) {
	const previous, iss, aud = "another-fake-jwt-secret-that-came-before-0123", "https://issuer.example.org", "latchkey-e2e"
	w := start(t, with{
		vars:    map[string]string{"JWT_ISSUER": iss, "JWT_AUDIENCE": aud},
		secrets: map[string]string{"JWT_SECRET_CLOUD_PREVIOUS": previous},
	})
	for _, test := range []struct {
		name   string
		change func(jwt.MapClaims)
		secret string
		ok     bool
	}{
		{"issuer and audience", func(jwt.MapClaims) {}, jwtSecret, true},
		{"one audience of several", func(c jwt.MapClaims) { c["aud"] = []string{"others", aud} }, jwtSecret, true},
		{"the previous secret", func(jwt.MapClaims) {}, previous, true},
		{"a third secret", func(jwt.MapClaims) {}, "a-third-fake-jwt-secret-nobody-ever-set-01234", false},
		{"another issuer", func(c jwt.MapClaims) { c["iss"] = "https://elsewhere.example.org" }, jwtSecret, false},
		{"no issuer", func(c jwt.MapClaims) { delete(c, "iss") }, jwtSecret, false},
		{"another audience", func(c jwt.MapClaims) { c["aud"] = "others" }, jwtSecret, false},
		{"no audience", func(c jwt.MapClaims) { delete(c, "aud") }, jwtSecret, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUser(t, w)
			claims := u.claims()
			claims["iss"], claims["aud"] = iss, aud
			test.change(claims)
			a := w.ask(t, "GET", me, bearer(sign(jwt.SigningMethodHS256, test.secret, claims)))
			if test.ok {
				u.expect(a, "provisioned", 10, 1)
			} else {
				problem(t, a, 401, "invalid_token")
				u.called("")
			}
		})
	}
}

func TestAcceptedTokens(t *testing.T) {
	w := useShared(t)
	for _, test := range []struct {
		name   string
		method jwt.SigningMethod
		change func(*user, jwt.MapClaims)
	}{
		{"HS256", jwt.SigningMethodHS256, func(*user, jwt.MapClaims) {}},
		{"HS384", jwt.SigningMethodHS384, func(*user, jwt.MapClaims) {}},
		{"HS512", jwt.SigningMethodHS512, func(*user, jwt.MapClaims) {}},
		{"sub where there is no uid", jwt.SigningMethodHS256, func(u *user, c jwt.MapClaims) { delete(c, "uid"); c["sub"] = u.id }},
		{"uid before sub", jwt.SigningMethodHS256, func(_ *user, c jwt.MapClaims) { c["sub"] = "somebody else" }},
		{"without name and address", jwt.SigningMethodHS256, func(u *user, c jwt.MapClaims) {
			delete(c, "username")
			delete(c, "email")
			u.name, u.email = "", ""
		}},
		{"expired within the leeway", jwt.SigningMethodHS256, func(_ *user, c jwt.MapClaims) { c["exp"] = time.Now().Add(-20 * time.Second).Unix() }},
		{"not yet valid within the leeway", jwt.SigningMethodHS256, func(_ *user, c jwt.MapClaims) { c["nbf"] = time.Now().Add(20 * time.Second).Unix() }},
		{"issued in the future within the leeway", jwt.SigningMethodHS256, func(_ *user, c jwt.MapClaims) { c["iat"] = time.Now().Add(20 * time.Second).Unix() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUser(t, w)
			claims := u.claims()
			test.change(u, claims)
			u.expect(w.ask(t, "GET", me, bearer(sign(test.method, jwtSecret, claims))), "provisioned", 10, 1)
		})
	}
	t.Run("the scheme in any case", func(t *testing.T) {
		u := newUser(t, w)
		header := bearer(u.token())
		header.Set("Authorization", strings.Replace(header.Get("Authorization"), "Bearer", "bEARER", 1))
		u.expect(w.ask(t, "GET", me, header), "provisioned", 10, 1)
	})
	t.Run("a new name and address", func(t *testing.T) {
		u := newUser(t, w)
		u.provisioned()
		u.name, u.email = "Ada Lovelace", "lovelace@example.org"
		u.expect(u.get(), "kept", 10, 1)
	})
}

// The encryption key is changed: what the previous one sealed still opens, and
// is sealed anew by the first request, so that the previous one can go.
func TestEncryptionKeyIsChanged(t *testing.T) {
	w := start(t, with{})
	u := newUser(t, w)
	first := u.provisioned()
	idle := newUser(t, w)
	idle.provisioned()
	w.Stop()

	w.again(t, with{secrets: map[string]string{"KEY_ENCRYPTION_KEY": encryptionKey(2), "KEY_ENCRYPTION_KEY_PREVIOUS": encryptionKey(1)}})
	if v := u.expect(u.get(), "kept", 10, 1); v.Key != first.Key {
		t.Fatal("with the previous key set, the key is another one")
	}
	w.Stop()

	w.again(t, with{secrets: map[string]string{"KEY_ENCRYPTION_KEY_PREVIOUS": ""}})
	if v := u.expect(u.get(), "kept", 10, 1); v.Key != first.Key {
		t.Fatal("with the previous key removed, the key is another one")
	}
	u.called("GET GET")
	u.settles(first)

	// One who did not come meanwhile has a key that opens no more.
	if a := idle.get(); a.status < 500 {
		if v, err := idle.check(a); err != nil {
			t.Errorf("one who did not come meanwhile: %v", err)
		} else {
			idle.settles(v)
		}
	}
}

// Past the limit nothing is asked of OpenRouter, and the client is told when to come again.
func TestRateLimit(t *testing.T) {
	w := start(t, with{vars: map[string]string{"RATE_LIMIT": "20"}})
	u := newUser(t, w)
	u.provisioned()
	u.expect(u.refresh(), "rotated", 10, 1)
	for range 100 { // some come back meanwhile
		u.mark()
		a := u.get()
		if a.status == 200 {
			continue
		}
		problem(t, a, 429, "rate_limited")
		u.called("")
		for name, form := range map[string]string{"Retry-After": `^[1-9][0-9]?$`, "Ratelimit": `^"user";r=0;t=[1-9][0-9]?$`, "Ratelimit-Policy": `^"user";q=20;w=60$`} {
			if got := a.header.Get(name); !regexp.MustCompile(form).MatchString(got) {
				t.Errorf("%s: %q", name, got)
			}
		}
		other := newUser(t, w)
		other.provisioned()
		return
	}
	t.Error("100 requests in a row, and none is refused")
}
