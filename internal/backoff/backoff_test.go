package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/openrouter"
)

func TestAllWaitWhereOneIsToldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		b := &Backoff{Ctx: t.Context(), Tries: 3, Longest: time.Hour, Say: func(text string) { said = append(said, text) }}
		began := time.Now()
		done := make(chan error)
		for range 2 {
			go func() { done <- b.Wait(&openrouter.Error{RetryAfter: 2 * time.Second}, 1) }()
		}
		synctest.Wait()
		if err := b.Hold(); err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("held for %v, %v", time.Since(began), err)
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if len(said) != 1 {
			t.Errorf("said %q", said)
		}
	})
}

func TestAWaitGrowsWhereOpenRouterDoesNotSayHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Backoff{Ctx: t.Context(), Tries: 100, Longest: time.Hour, Say: func(string) {}}
		for tries, want := range map[int]time.Duration{
			1: 500 * time.Millisecond, 2: time.Second, 3: 2 * time.Second, 6: 16 * time.Second, 7: 30 * time.Second, 99: 30 * time.Second,
		} {
			began := time.Now()
			if err := b.Wait(&openrouter.Error{}, tries); err != nil || time.Since(began) != want {
				t.Errorf("try %d: waited %v, want %v; %v", tries, time.Since(began), want, err)
			}
		}
	})
}

func TestPatienceHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &Backoff{Ctx: ctx, Tries: 3, Longest: time.Hour, Say: func(string) {}}
		began := time.Now()
		if b.Wait(&openrouter.Error{}, 3) == nil || b.Wait(&openrouter.Error{RetryAfter: 2 * time.Hour}, 1) == nil {
			t.Error("it is repeated for ever")
		}
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := b.Wait(&openrouter.Error{RetryAfter: time.Minute}, 1); err == nil || time.Since(began) != 10*time.Millisecond {
			t.Errorf("an interruption after %v does not end a wait: %v", time.Since(began), err)
		}
		if b.Hold() == nil || b.Wait(&openrouter.Error{}, 1) == nil {
			t.Error("it goes on after an interruption")
		}
	})
}
