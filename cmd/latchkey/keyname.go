package main

import "strings"

// parseKeyName returns the user and the op of a key by its name,
// <prefix>:<user>:<op>, and false where the name is none of that prefix.
func parseKeyName(prefix, name string) (user, op string, ok bool) {
	rest, ours := strings.CutPrefix(name, prefix+":")
	colon := strings.LastIndex(rest, ":") // a user id may hold some
	if !ours || colon < 1 || colon == len(rest)-1 {
		return "", "", false
	}
	return rest[:colon], rest[colon+1:], true
}
