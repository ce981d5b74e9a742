package settings

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// origins reads the origins of pages, and returns each as browsers send it.
func (p *parser) origins(name string) []string {
	var origins []string
	for _, text := range p.list(name) {
		origin := asSent(text)
		if origin == "" {
			p.bad(name, "must be a comma-separated list of origins, each a scheme, a host in ASCII and maybe a port, as in https://app.example.org")
			continue
		}
		if !slices.Contains(origins, origin) {
			origins = append(origins, origin)
		}
	}
	return origins
}

// standardPorts are those that a browser leaves out of an origin.
var standardPorts = map[string]string{"http": "80", "https": "443"}

// asSent returns an origin as browsers send it: in lower case, and without the port
// that its scheme has anyway. It returns "" for what is no origin.
func asSent(text string) string {
	text = strings.ToLower(text)
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || text != u.Scheme+"://"+u.Host || strings.Contains(u.Host, "*") || !ascii(u.Host) {
		return ""
	}
	port := u.Port()
	number, _ := strconv.ParseUint(port, 10, 16)
	if strings.HasSuffix(u.Host, ":") || port != "" && (number == 0 || port != strconv.FormatUint(number, 10)) {
		return ""
	}
	if port == standardPorts[u.Scheme] {
		return strings.TrimSuffix(text, ":"+port)
	}
	return text
}

// ascii tells whether a host is as it is sent: of one in another script browsers send
// its other form, xn--….
func ascii(host string) bool {
	return !strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' })
}
