package durable

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// TestAQueueDoesOneThingAtATime, in the order in which they came; those who may
// share an answer do, also with what is being worked on.
func TestAQueueDoesOneThingAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began, ended []string
		gate := make(chan struct{})
		q := queue[string, string]{
			joins: func(a, b string) bool { return a == b && a[0] == 's' },
			work: func(r string) (string, func(joined, waiting int)) {
				began = append(began, r)
				<-gate
				return r + "!", func(joined, waiting int) { ended = append(ended, fmt.Sprint(r, joined, waiting)) }
			},
		}
		var got []string
		for _, r := range []string{"s1", "a", "s1", "a", "s2", "s1", "s2"} {
			q.add(r, func(answer string) { got = append(got, answer) })
		}
		if q.length() != 7 {
			t.Errorf("%d requests wait, want 7", q.length())
		}
		for n, want := range []string{"s1", "a", "a", "s2"} {
			synctest.Wait()
			if current, busy := q.current(); len(began) != n+1 || current != want || !busy {
				t.Fatalf("step %d: %v began, and %q is worked on, want %q", n, began, current, want)
			}
			gate <- struct{}{}
		}
		synctest.Wait()
		if want := []string{"s1!", "s1!", "s1!", "a!", "a!", "s2!", "s2!"}; !slices.Equal(got, want) {
			t.Errorf("the answers are %q, want %q", got, want)
		}
		if want := []string{"s13 4", "a1 3", "a1 2", "s22 0"}; !slices.Equal(ended, want) {
			t.Errorf("it tells of %q, want %q", ended, want)
		}
		if _, busy := q.current(); busy || q.length() != 0 {
			t.Errorf("at its end %d wait, busy: %v", q.length(), busy)
		}
		q.add("a", func(string) {})
		close(gate)
		synctest.Wait()
		if len(began) != 5 {
			t.Error("a queue that has been empty does not go on")
		}
	})
}
