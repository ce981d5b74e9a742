package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const allowedOrigins = "ALLOWED_ORIGINS"

// pagePorts are those at which the usual development servers have their pages: Next.js
// and Create React App, Vite and its preview, Angular, Astro, Live Server, Flask,
// Django, and whatever takes 8080.
var pagePorts = []int{3000, 3001, 4173, 4200, 4321, 5000, 5173, 5174, 5500, 8000, 8080}

// localOrigins are the origins of development servers on this machine, as
// ALLOWED_ORIGINS has them. There is no form for any port: a page at a port that
// somebody else opened would do.
func localOrigins() string {
	var origins []string
	for _, port := range pagePorts {
		for _, host := range []string{"localhost", "127.0.0.1"} {
			origins = append(origins, "http://"+host+":"+strconv.Itoa(port))
		}
	}
	return strings.Join(origins, ",")
}

// originsAreSet tells whether .dev.vars or [vars] of wrangler.toml says whose pages may
// call the API. In .dev.vars an empty value says so too: nobody's.
func originsAreSet(root string, s secrets) (bool, error) {
	if _, ok := s[allowedOrigins]; ok {
		return true, nil
	}
	value, err := localVar(root, allowedOrigins)
	return value != "", err
}

// localVar returns what [vars] of wrangler.toml sets a variable to; "" if nothing does.
func localVar(root, name string) (string, error) {
	config, err := os.ReadFile(filepath.Join(root, "wrangler.toml"))
	if err != nil {
		return "", err
	}
	local, _, _ := strings.Cut(string(config), "\n[env.")
	if found := regexp.MustCompile(`(?m)^\s*` + name + `\s*=\s*["']([^"']*)`).FindStringSubmatch(local); found != nil {
		return found[1], nil
	}
	return "", nil
}
