package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/adminapi/adminapitest"
)

// Secrets that are none.
const (
	adminToken = "fake-admin-token-of-the-tests-0123456789"
	jwtSecret  = "fake-jwt-secret-of-the-tests-01234567890"
)

// fixture is a latchkey with users, and the command line at work on it.
type fixture struct {
	*adminapitest.Server
	users   map[string]adminapitest.User // as they were at first
	orphans []string                     // hashes of keys that no record owns
}

// fakeHash is a hash that begins so.
func fakeHash(begin string) string { return begin + strings.Repeat("0", 64-len(begin)) }

func credits(text string) account.Credits {
	c, err := account.ParseCredits(text)
	if err != nil {
		panic(err)
	}
	return c
}

// at is a time in November 2026.
func at(text string) time.Time {
	t, err := time.Parse("02 15:04:05.999", text)
	if err != nil {
		panic(err)
	}
	return t.AddDate(2026, 10, 0)
}

// newFixture has three users: one is well, one is suspended and has a name that
// would upset a terminal, and one has unfinished work of every kind; and two keys
// that no record owns.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Server: adminapitest.New(t, adminToken, func() time.Time { return testTime }), users: map[string]adminapitest.User{}}
	key, hash := f.NewKey("latchkey:u_42:op0", 20*time.Minute)
	_, before := f.NewKey("gone", time.Hour)
	f.put(adminapitest.User{
		Record: account.Record{
			UserID: "u_42", UserName: "Ada", Email: "ada@example.org", Key: key, Hash: hash,
			TotalLimit: credits("10"), RemainingLimit: credits("9.4"), UsageLimit: credits("0.4"), Seq: 3,
			CreatedAt: at("20 08:00:00"), UpdatedAt: at("22 09:12:31.25"),
		},
		Ledger: []account.Entry{
			{Seq: 1, At: at("20 08:00:00"), Kind: account.Provision, Credits: credits("1"), RemainingLimit: credits("10"), Hash: before},
			{Seq: 2, At: at("22 09:12:31"), Kind: account.Charge, Credits: credits("0.6"), RemainingLimit: credits("9.4"), Hash: before},
			{Seq: 3, At: at("22 09:12:31.25"), Kind: account.Rotate, Credits: credits("1"), RemainingLimit: credits("9.4"), Hash: hash},
		},
		Rest: `"d1":{"seq":3}`,
	})
	f.put(adminapitest.User{
		Record: account.Record{
			UserID: "клас/Ada 1", UserName: "Eve\x1b[31m\u202e", TotalLimit: credits("10"), RemainingLimit: credits("0.05"), Seq: 12, Suspended: true,
			CreatedAt: at("01 08:00:00"), UpdatedAt: at("21 17:45:00"),
		},
		Rest: `"d1":{"seq":12}`,
	})
	_, hash = f.NewKey("latchkey:u_7:op0", 20*time.Minute)
	f.put(adminapitest.User{
		Record: account.Record{
			UserID: "u_7", UserName: "Grace", Email: "grace@example.com", Hash: hash,
			TotalLimit: credits("10"), RemainingLimit: credits("7.123456789"), UsageLimit: credits("1"), Seq: 8,
			CreatedAt: at("02 08:00:00"), UpdatedAt: at("20 10:00:00"),
		},
		Rest: `"pending":{"delete":"` + hash + `","since":"2026-11-22T09:29:00Z","tries":1,"due":"2026-11-22T09:30:04Z"},
			"chores":[{"orphan":"op9","since":"2026-11-22T09:20:00Z","tries":4,"due":"2026-11-22T09:31:00Z"},
				{"settle":"` + fakeHash("66bb66bb") + `","since":"2026-11-22T09:25:00Z","due":"2026-11-22T09:35:00Z"}],
			"d1":{"seq":6,"since":"2026-11-22T09:29:00Z","tries":2,"due":"2026-11-22T09:30:10Z"},"alarm":"2026-11-22T09:30:04Z"`,
	})
	for _, name := range []string{"latchkey:u_42:op1", "latchkey:клас/Ada 1:op2"} {
		_, hash := f.NewKey(name, 23*time.Hour)
		f.orphans = append(f.orphans, hash)
	}
	return f
}

func (f *fixture) put(u adminapitest.User) {
	f.users[u.Record.UserID] = u
	f.Put(u)
}

// damage adds a user of whom nothing but the id can be read.
func (f *fixture) damage(t *testing.T, id, state string) {
	f.PutState(id, state, nil)
	f.D1.Exec(t, `INSERT INTO users (user_id, total_limit, remaining_limit, usage_limit) VALUES (?, 'much', 0, 0)`, id)
}

// answerWith has all further requests answered in the API's stead, unless answer
// returns false.
func (f *fixture) answerWith(answer func(w http.ResponseWriter) bool) {
	f.Instead(func(w http.ResponseWriter, _ *http.Request) bool { return answer(w) })
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func problemDocument(w http.ResponseWriter, status int, code, detail string) {
	respond(w, status, map[string]any{
		"type": "urn:latchkey:problem:" + code, "title": code, "status": status, "detail": detail, "code": code,
	})
}

// env is an environment with the secrets.
func (f *fixture) env() map[string]string {
	return map[string]string{"ADMIN_TOKEN": adminToken, "JWT_SECRET_CLOUD": jwtSecret, "LATCHKEY_URL": f.URL}
}

// run runs the command line and checks that it printed no secret, and nothing
// that controls a terminal.
func (f *fixture) run(t *testing.T, args ...string) printed {
	t.Helper()
	p := latchkey(t.Context(), f.env(), args...)
	checkPrinted(t, p, slices.Contains(args, "--csv"))
	return p
}

func checkPrinted(t *testing.T, p printed, exact bool) {
	t.Helper()
	all := p.out + p.stderr
	for _, secret := range []string{adminToken, jwtSecret} {
		if strings.Contains(all, secret) {
			t.Errorf("a secret was printed: %v", p)
		}
	}
	if !exact && strings.ContainsAny(all, "\x1b\x07") {
		t.Errorf("control characters were printed: %q", all)
	}
}

// want checks the exit code.
func (p printed) want(t *testing.T, code int) printed {
	t.Helper()
	if p.code != code {
		t.Fatalf("want exit code %d, got %v", code, p)
	}
	return p
}
