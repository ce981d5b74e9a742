package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"latchkey/internal/auth"
	"latchkey/internal/seal"
)

// clients are the users' ends of all sockets.
type clients struct {
	url     string
	sockets []*socket
}

// socket is one of a user's. What comes is told to news, which has room for all that is
// expected here: an error is the socket's end.
type socket struct {
	user string
	conn *websocket.Conn
	news chan news
}

type news struct {
	text string
	err  error
}

// atATime is how many sockets are opened, or written to, at once.
const atATime = 16

// open opens sockets until there are so many, so many of each user.
func (c *clients) open(ctx context.Context, count, each int) error {
	from := len(c.sockets)
	c.sockets = append(c.sockets, make([]*socket, max(count-from, 0))...)
	return c.all(from, func(i int) (err error) {
		c.sockets[i], err = c.dial(ctx, fmt.Sprintf("idle-%d-%d", each, i/each))
		return err
	})
}

// all calls f for all sockets from one on, some at once, and returns an error of one.
func (c *clients) all(from int, f func(i int) error) error {
	errs := make(chan error, atATime)
	var running sync.WaitGroup
	for lane := range atATime {
		running.Go(func() {
			for i := from + lane; i < len(c.sockets); i += atATime {
				if err := f(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	running.Wait()
	close(errs)
	return <-errs
}

func (c *clients) dial(ctx context.Context, user string) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	token, err := tokenOf(user)
	if err != nil {
		return nil, err
	}
	conn, _, err := websocket.Dial(ctx, strings.Replace(c.url, "http", "ws", 1)+"/api/users/me/events", &websocket.DialOptions{Subprotocols: []string{"bearer", token}})
	if err != nil {
		return nil, err
	}
	s := &socket{user, conn, make(chan news, 100)}
	go s.read()
	return s, s.expect(ctx, func(text string) bool { return true })
}

func tokenOf(user string) (string, error) {
	return auth.Sign(seal.NewSecret(jwtSecret), auth.Identity{ID: user}, "", "", time.Now(), time.Now().Add(time.Hour))
}

func (s *socket) read() {
	for {
		_, text, err := s.conn.Read(context.Background())
		s.news <- news{string(text), err}
		if err != nil {
			return
		}
	}
}

// expect waits for a message that fits. All before it have to be of the socket's user.
func (s *socket) expect(ctx context.Context, fits func(text string) bool) error {
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the socket of %s: %w", s.user, ctx.Err())
		case n := <-s.news:
			if n.err != nil {
				return fmt.Errorf("the socket of %s: %w", s.user, n.err)
			}
			var body struct{ ID string }
			if n.text != "pong" && (json.Unmarshal([]byte(n.text), &body) != nil || body.ID != s.user) {
				return fmt.Errorf("the socket of %s got a message of %q", s.user, body.ID)
			}
			if fits(n.text) {
				return nil
			}
		}
	}
}

// ping sends a ping on each socket, and waits for the answers.
func (c *clients) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return c.all(0, func(i int) error {
		s := c.sockets[i]
		if err := s.conn.Write(ctx, websocket.MessageText, []byte("ping")); err != nil {
			return fmt.Errorf("the socket of %s: %w", s.user, err)
		}
		return s.expect(ctx, func(text string) bool { return text == "pong" })
	})
}

// replaceKey replaces the key of the last socket's user, whose sockets are told of it, and
// no other one.
func (c *clients) replaceKey(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	user := c.sockets[len(c.sockets)-1].user
	token, err := tokenOf(user)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/api/users/me/openrouter-api-key/refresh", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the key of %s could not be replaced: status %d", user, response.StatusCode)
	}
	for _, s := range c.sockets {
		if s.user == user {
			if err := s.expect(ctx, func(text string) bool { return strings.Contains(text, `"event":"key"`) }); err != nil {
				return err
			}
		}
	}
	for _, s := range c.sockets {
		if s.user != user && len(s.news) > 0 {
			return fmt.Errorf("the socket of %s was told of the key of %s", s.user, user)
		}
	}
	return nil
}

func (c *clients) close() {
	for _, s := range c.sockets {
		if s != nil {
			s.conn.CloseNow()
		}
	}
}
