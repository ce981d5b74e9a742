package main

import "time"

// This file runs into what gives way where there are many users: with so little of
// each that a few users are enough. The model of cmd/scale is checked against it.

// d1Busy is how long a call keeps D1's one writer, and limitedCalls how many calls a
// second OpenRouter carries out.
const (
	d1Busy       = 30 * time.Millisecond
	limitedCalls = 100
)

func wallLoads(regulars []user) []load {
	kept := load{phase: walled, users: newUsers("wall-kept", 512), long: 2, outcomes: []string{"kept"}}
	with := func(l load, name, title string, connections int, change func(*load)) load {
		l.name, l.title, l.connections = "walls/"+name, "walls: "+title, connections
		l.without, l.extra = []string{"plain", "floor", "serve"}, true
		change(&l)
		return l
	}
	return []load{
		// Plain JavaScript waits for two calls of D1 more: so much does one take by itself.
		with(kept, "alone", "nothing gives way", 1, func(l *load) { l.users, l.without = regulars[:8], []string{"floor", "serve"} }),
		with(kept, "knee", "three fifths of a thread", 96, func(*load) {}),
		with(kept, "thread", "an isolate's thread", 256, func(*load) {}),
		with(kept, "openrouter", "OpenRouter's rate limit", 32, func(l *load) { l.limit, l.outcomes = limitedCalls, []string{"kept", "unmetered"} }),
		with(load{phase: walled, once: true, unknown: true, outcomes: []string{"provisioned"}}, "d1", "D1's one writer", 32,
			func(l *load) { l.users = newUsers("wall-first", 160) }),
	}
}
