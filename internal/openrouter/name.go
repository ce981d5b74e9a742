package openrouter

import "strings"

// ClassPrefix begins the names of the keys of a class, which the command line makes.
const ClassPrefix = "latchkey-class"

// KeyName is the name of a key of ours: <prefix>:<user>:<op>. op is what makes
// it unlike the user's other keys; it holds no colon, and neither does prefix.
func KeyName(prefix, user, op string) string { return prefix + ":" + user + ":" + op }

// ParseKeyName returns the user and the op of a key by its name, and false where
// [KeyName] makes no such name with this prefix. Should KeyName change, this has to go
// on reading the names of before: keys live for months, and one whose name is not read
// is nobody's. A reconciliation passes it by, and the search for the key of a lost POST
// does not find it.
func ParseKeyName(prefix, name string) (user, op string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix+":")
	colon := strings.LastIndex(rest, ":") // a user id may hold some
	if !ok || colon < 1 || colon == len(rest)-1 {
		return "", "", false
	}
	return rest[:colon], rest[colon+1:], true
}
