//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
)

// connected opens sockets of users, so many of each, some at once. A user's first one
// makes the key.
func connected(t *testing.T, users []*user, each int) [][]*socket {
	t.Helper()
	const atATime = 25
	sockets := make([][]*socket, len(users))
	for _, err := range atOnce(atATime, func(lane int) error {
		for i := lane; i < len(users); i += atATime {
			token := users[i].token()
			for range each {
				s, _, err := users[i].dial(token, nil)
				if err != nil {
					return fmt.Errorf("user %d: %w", i, err)
				}
				sockets[i] = append(sockets[i], s)
			}
		}
		return nil
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return sockets
}

// All objects are in one isolate here, and all keys are replaced at once. That a message
// is of the user whose socket it reached is looked at where it arrives (socket.read).
func TestEventsOfManyUsers(t *testing.T) {
	w := start(t, patient) // that a call is late is of no interest here
	users := make([]*user, 300)
	for i := range users {
		users[i] = newUser(t, w)
	}
	const tabs = 3
	sockets := connected(t, users, tabs)
	owner := map[string]int{} // of a key
	for i, r := range atOnce(len(users), func(i int) reply { return users[i].try(t.Context(), "POST", refresh) }) {
		if r.err != nil {
			t.Fatal(r.err)
		}
		v, err := users[i].check(r.answer)
		if err != nil {
			t.Fatal(err)
		}
		owner[v.Key] = i
	}
	for i, tabs := range sockets {
		for _, tab := range tabs {
			first, second := tab.message(0, "key"), tab.message(1, "key")
			if i != owner[second.Key] || first.Key == second.Key {
				t.Fatalf("a tab of user %d was told of a key of user %d", i, owner[second.Key])
			}
			owner[first.Key] = i
		}
	}
	if want := 2 * len(users); len(owner) != want {
		t.Errorf("%d keys were told of, want %d: two of each user", len(owner), want)
	}
	for i, tabs := range sockets {
		for _, tab := range tabs {
			for _, m := range tab.received() {
				if m.wrong != nil || owner[m.Key] != i {
					t.Errorf("a tab of user %d got a message of user %d: %v", i, owner[m.Key], m.wrong)
				}
			}
			tab.conn.CloseNow()
		}
	}
}

// received returns all messages so far.
func (s *socket) received() []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}
