// Package devvars reads .dev.vars, the file of local secrets, exactly as wrangler
// does, so that whatever uses the file uses the same secrets as the Worker that
// `make run` starts. wrangler 4.164 reads it with dotenv 16.3.1, and replaces
// nothing in what it reads: a $ is a $.
package devvars

import (
	"regexp"
	"strings"

	"latchkey/internal/plainfile"
)

// maxBytes bounds the file: a Worker's secrets have far less.
const maxBytes = 1 << 20

// Read reads a file that nobody but its owner may read.
func Read(path string) (map[string]string, error) {
	text, err := plainfile.Read(path, maxBytes, true)
	if err != nil {
		return nil, err
	}
	return Parse(string(text)), nil
}

// space is what JavaScript takes for white space, as a part of a class.
const space = `\t\n\v\f\r \x{00a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}`

// assignment is dotenv's own expression. A value is in quotes of one of three
// kinds, and then may have several lines, or goes up to a # or the line's end.
var assignment = regexp.MustCompile(strings.ReplaceAll(
	`(?m)^\s*(?:export\s+)?([\w.-]+)(?:\s*=\s*?|:\s+?)`+
		"("+`\s*'(?:\\'|[^'])*'|\s*"(?:\\"|[^"])*"|\s*`+"`(?:\\\\`|[^`])*`"+`|[^#\r\n]+)?`+
		`\s*(?:#.*)?$`,
	`\s`, `[`+space+`]`))

// Parse returns what a text sets, by name. The last assignment of a name counts,
// and what is no assignment is passed over.
func Parse(text string) map[string]string {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	set := map[string]string{}
	for _, match := range assignment.FindAllStringSubmatch(text, -1) {
		set[match[1]] = unquote(strings.Trim(match[2], jsSpaces))
	}
	return set
}

// jsSpaces are the characters of space.
const jsSpaces = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"

// unquote takes the quotes off. Only within double quotes is there an escape: of
// a line's end.
func unquote(value string) string {
	if value == "" || !strings.Contains("\"'`", value[:1]) {
		return value
	}
	inner := value
	if len(value) > 1 && value[len(value)-1] == value[0] {
		inner = value[1 : len(value)-1]
	}
	if value[0] == '"' {
		inner = strings.ReplaceAll(inner, `\n`, "\n")
		inner = strings.ReplaceAll(inner, `\r`, "\r")
	}
	return inner
}
