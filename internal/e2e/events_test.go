//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

const events = "/api/users/me/events"

// socket is a client's end of GET /api/users/me/events.
type socket struct {
	u    *user
	conn *websocket.Conn

	mu       sync.Mutex
	messages []message
	closed   *websocket.CloseError // nil while it is open
	end      error                 // why reading ended
}

// message is what the server sends, and what is wrong with it.
type message struct {
	Event string `json:"event"`
	view
	wrong error
}

// dial asks for a socket as a browser does where token is not empty: it offers
// the protocols bearer and the token.
func (u *user) dial(token string, header http.Header) (*socket, *http.Response, error) {
	options := &websocket.DialOptions{HTTPHeader: header}
	if token != "" {
		options.Subprotocols = []string{"bearer", token}
	}
	ctx, cancel := context.WithTimeout(u.t.Context(), 20*time.Second)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, strings.Replace(u.w.URL, "http", "ws", 1)+events, options)
	if err != nil {
		return nil, response, err
	}
	u.t.Cleanup(func() { conn.CloseNow() })
	s := &socket{u: u, conn: conn}
	go s.read()
	return s, response, nil
}

// connect opens a socket with the user's token.
func (u *user) connect() *socket { return u.connectWith(u.token()) }

func (u *user) connectWith(token string) *socket {
	u.t.Helper()
	s, _, err := u.dial(token, nil)
	if err != nil {
		u.t.Fatalf("no socket: %v; the log ends\n%s", err, u.w.log.tail())
	}
	if s.conn.Subprotocol() != "bearer" {
		u.t.Errorf("the server selects the protocol %q", s.conn.Subprotocol())
	}
	return s
}

// read takes messages until the socket is closed.
func (s *socket) read() {
	for {
		kind, text, err := s.conn.Read(context.Background())
		s.mu.Lock()
		if err != nil {
			s.end = err
			var closed websocket.CloseError
			if errors.As(err, &closed) {
				s.closed = &closed
			}
			s.mu.Unlock()
			return
		}
		if string(text) != "pong" {
			var m message
			described().checkMessage(text)
			m.wrong = json.Unmarshal(text, &m)
			if m.wrong == nil && kind != websocket.MessageText {
				m.wrong = errors.New("not a text")
			}
			if m.wrong == nil && m.ID != s.u.id {
				m.wrong = fmt.Errorf("a message of %q reached %q", m.ID, s.u.id)
			}
			if n := len(s.messages); m.wrong == nil && n > 0 && m.Version < s.messages[n-1].Version {
				m.wrong = fmt.Errorf("version %d after %d", m.Version, s.messages[n-1].Version)
			}
			s.messages = append(s.messages, m)
		} else {
			s.messages = append(s.messages, message{Event: "pong"})
		}
		s.mu.Unlock()
	}
}

// message waits for the nth message, and checks that it is right.
func (s *socket) message(n int, event string) message {
	s.u.t.Helper()
	var m message
	eventually(s.u.t, 10*time.Second, fmt.Sprintf("message %d, %s", n, event), func() (string, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.messages) <= n {
			return fmt.Sprintf("%d messages, %v", len(s.messages), s.end), false
		}
		m = s.messages[n]
		return "", true
	})
	if m.wrong != nil || m.Event != event {
		s.u.t.Errorf("message %d is %q: %v", n, m.Event, m.wrong)
	}
	return m
}

// count is how many messages came so far.
func (s *socket) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}

// ends waits until the server closes the socket.
func (s *socket) ends(within time.Duration, code int, reason string) {
	s.u.t.Helper()
	eventually(s.u.t, within, fmt.Sprintf("the end, %d %s", code, reason), func() (string, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.end != nil && s.closed == nil {
			return s.end.Error(), false
		}
		if s.closed == nil {
			return "open", false
		}
		return s.closed.Error(), int(s.closed.Code) == code && s.closed.Reason == reason
	})
}

// open tells whether the server still answers on the socket.
func (s *socket) open() {
	s.u.t.Helper()
	n := s.count()
	if err := s.conn.Write(s.u.t.Context(), websocket.MessageText, []byte("ping")); err != nil {
		s.u.t.Errorf("ping: %v", err)
		return
	}
	s.message(n, "pong")
}

func TestEvents(t *testing.T) {
	w := start(t, with{secrets: administered.secrets, vars: map[string]string{"ALLOWED_ORIGINS": strings.Join(listed, ",")}})

	t.Run("a new user gets a first key", func(t *testing.T) {
		u := newUser(t, w)
		m := u.connect().message(0, "key")
		if m.Outcome != "provisioned" || !wholeKey.MatchString(m.Key) || *m.RemainingLimit != 10 {
			t.Errorf("got %+v", m)
		}
		u.called("POST")
	})

	t.Run("a user with a key gets it, and OpenRouter is asked nothing", func(t *testing.T) {
		u := newUser(t, w)
		v := u.provisioned()
		if m := u.connect().message(0, "key"); m.Key != v.Key || m.Version != v.Version || m.Outcome != "kept" {
			t.Errorf("got %+v after %+v", m, v)
		}
		u.called("")
	})

	t.Run("every tab has the new key when it changes, and nobody else", func(t *testing.T) {
		u, other := newUser(t, w), newUser(t, w)
		v := u.provisioned()
		tabs := []*socket{u.connect(), u.connect(), u.connect()}
		stranger := other.connect()
		stranger.message(0, "key")
		for _, tab := range tabs {
			tab.message(0, "key")
		}
		u.spend(v, 0.3)
		kept := u.expect(u.get(), "kept", 9.7, 0.7)
		for _, tab := range tabs {
			if m := tab.message(1, "quota"); m.Version != kept.Version || *m.RemainingLimit != 9.7 || m.Key != v.Key {
				t.Errorf("got %+v", m)
			}
		}
		rotated := u.expect(u.refresh(), "rotated", 9.7, 1)
		for _, tab := range tabs {
			if m := tab.message(2, "key"); m.Key != rotated.Key || m.Version != rotated.Version {
				t.Errorf("got %+v after %+v", m, rotated)
			}
		}
		if n := stranger.count(); n != 1 {
			t.Errorf("the other user's tab got %d messages", n)
		}
	})

	t.Run("what an operator does is seen", func(t *testing.T) {
		u := newUser(t, w)
		u.provisioned()
		tab := u.connect()
		tab.message(0, "key")
		w.admin(t, "PATCH", u.path(), `{"total_limit":20}`, 200, nil)
		if m := tab.message(1, "quota"); *m.TotalLimit != 20 {
			t.Errorf("got %+v", m)
		}
		w.admin(t, "PATCH", u.path(), `{"suspended":true}`, 200, nil)
		if m := tab.message(2, "suspended"); m.Key != "" {
			t.Error("a suspended user's tab got a key")
		}
		tab.ends(10*time.Second, 4403, "suspended")
		u.connect().ends(10*time.Second, 4403, "suspended")
		_, response, err := u.dial("", bearer(u.token()))
		if err == nil || response.StatusCode != 403 {
			t.Errorf("a suspended user got a socket: %v", err)
		}
		w.admin(t, "PATCH", u.path(), `{"suspended":false}`, 200, nil)
		u.connect().message(0, "key")
	})

	t.Run("tokens that are refused", func(t *testing.T) {
		u := newUser(t, w)
		expired := u.claims()
		expired["exp"] = time.Now().Add(-time.Hour).Unix()
		for _, c := range []struct {
			name, token, reason string
		}{
			{"bad", "a.b.c", "invalid_token"},
			{"of another secret", sign(jwt.SigningMethodHS256, strings.Repeat("x", 40), u.claims()), "invalid_token"},
			{"expired", sign(jwt.SigningMethodHS256, jwtSecret, expired), "expired_token"},
		} {
			t.Run(c.name, func(t *testing.T) {
				u := &user{t: t, w: w, id: u.id, name: u.name, email: u.email}
				s := u.connectWith(c.token)
				s.ends(10*time.Second, 4401, c.reason)
				if n := s.count(); n != 0 {
					t.Errorf("%d messages came", n)
				}
				// In the header a client sees the status.
				_, response, err := u.dial("", bearer(c.token))
				if err == nil || response.StatusCode != 401 {
					t.Errorf("got a socket: %v", err)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, _, err := websocket.Dial(ctx, strings.Replace(w.URL, "http", "ws", 1)+events, &websocket.DialOptions{Subprotocols: []string{"bearer"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		_, _, err = conn.Read(ctx)
		if websocket.CloseStatus(err) != 4401 || !strings.Contains(err.Error(), "missing_token") {
			t.Errorf("without a token: %v", err)
		}
	})

	t.Run("a token in Authorization selects no protocol", func(t *testing.T) {
		u := newUser(t, w)
		s, _, err := u.dial("", bearer(u.token()))
		if err != nil {
			t.Fatal(err)
		}
		if s.conn.Subprotocol() != "" {
			t.Errorf("the server selects %q", s.conn.Subprotocol())
		}
		s.message(0, "key")
	})

	t.Run("requests that are no upgrade, and other methods", func(t *testing.T) {
		u := newUser(t, w)
		problem(t, u.w.ask(t, "GET", events, bearer(u.token())), 426, "upgrade_required")
		problem(t, u.w.ask(t, "POST", events, bearer(u.token())), 405, "method_not_allowed")
		u.called("")
	})

	t.Run("pages of other origins", func(t *testing.T) {
		u := newUser(t, w)
		u.provisioned()
		for origin, allowed := range map[string]bool{"https://evil.example": false, "null": false, listed[0]: true, w.URL: true, w.URL + "0": false} {
			s, response, err := u.dial(u.token(), http.Header{"Origin": {origin}})
			switch {
			case allowed && err != nil:
				t.Errorf("%s: %v", origin, err)
			case allowed:
				s.message(0, "key")
			case err == nil || response.StatusCode != 403:
				t.Errorf("%s got a socket: %v", origin, err)
			}
		}
	})

	t.Run("what a client sends", func(t *testing.T) {
		u := newUser(t, w)
		s := u.connect()
		s.message(0, "key")
		for _, text := range []string{"hello", `{"event":"key"}`, strings.Repeat("x", 1024), "ping "} {
			if err := s.conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		s.open()
		if n := s.count(); n != 2 {
			t.Errorf("%d messages came", n)
		}
		if err := s.conn.Write(t.Context(), websocket.MessageBinary, []byte(strings.Repeat("ä", 513))); err != nil {
			t.Fatal(err)
		}
		s.ends(10*time.Second, 1009, "too_large")
	})

	t.Run("a client that says goodbye is answered", func(t *testing.T) {
		s := newUser(t, w).connect()
		s.message(0, "key")
		if err := s.conn.Close(websocket.StatusNormalClosure, "bye"); err != nil {
			t.Errorf("the close was not answered: %v", err)
		}
	})

	t.Run("the oldest of more than 50 sockets is closed", func(t *testing.T) {
		u := newUser(t, w)
		var tabs []*socket
		for range 50 {
			tabs = append(tabs, u.connect())
			tabs[len(tabs)-1].message(0, "key")
		}
		tabs[0].open()
		u.connect().message(0, "key")
		tabs[0].ends(10*time.Second, 4429, "too_many_sockets")
		tabs[1].open()
	})

	t.Run("an erased user's sockets are closed", func(t *testing.T) {
		u := newUser(t, w)
		tab := u.connect()
		tab.message(0, "key")
		w.admin(t, "DELETE", u.path(), "", 204, nil)
		tab.ends(10*time.Second, 4404, "erased")
	})
}

// A socket outlives the object that holds it: an object that is idle is taken out
// of memory after ten seconds.
func TestEventsOfAnIdleObject(t *testing.T) {
	w := startQuiet(t, with{})
	u := newUser(t, w)
	tab := u.connect()
	v := tab.message(0, "key")
	soon := u.claims()
	soon["exp"] = time.Now().Add(5 * time.Second).Unix() // and 30 s of leeway
	short := u.connectWith(sign(jwt.SigningMethodHS256, jwtSecret, soon))
	short.message(0, "key")
	time.Sleep(15 * time.Second) // nothing tells from outside that the object is out of memory
	tab.open()
	rotated := u.expect(u.refresh(), "rotated", 10, 1)
	for _, s := range []*socket{tab, short} {
		n := s.count() - 1
		if m := s.message(n, "key"); m.Key != rotated.Key || m.Key == v.Key {
			t.Errorf("got %+v", m)
		}
	}
	short.ends(90*time.Second, 4401, "expired_token")
	tab.open()
}
