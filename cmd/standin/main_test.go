package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func environment(key string) func(string) string {
	return func(name string) string {
		if name == keyVariable {
			return key
		}
		return ""
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestRefusesToStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, test := range map[string]struct {
		key  string
		args []string
		says string
	}{
		"without a provisioning key":  {"", nil, keyVariable},
		"on every interface":          {"k", []string{"-addr", ":8788"}, "loopback"},
		"on every IPv4 interface":     {"k", []string{"-addr", "0.0.0.0:0"}, "loopback"},
		"on every IPv6 interface":     {"k", []string{"-addr", "[::]:0"}, "loopback"},
		"on a public address":         {"k", []string{"-addr", "192.0.2.1:0"}, "loopback"},
		"on a name":                   {"k", []string{"-addr", "example.org:0"}, "loopback"},
		"on an address without port":  {"k", []string{"-addr", "127.0.0.1"}, "port"},
		"with a negative lag":         {"k", []string{"-lag", "-1s"}, "-lag"},
		"with an unexpected argument": {"k", []string{"serve"}, "serve"},
		"on a port that is taken":     {"k", []string{"-addr", taken.Addr().String()}, "-addr"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), test.args, environment(test.key), io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v does not say %q", err, test.says)
			}
		})
	}
}

func TestServesUntilStoppedEvenWhileACallHangs(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		logged, log := io.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- run(ctx, []string{"-addr", net.JoinHostPort(host, "0"), "-lag", "35s"}, environment("k"), log)
			log.Close()
		}()
		lines := bufio.NewScanner(logged)
		if !lines.Scan() {
			t.Fatalf("no log line: %v", <-done)
		}
		url := regexp.MustCompile(`http://\S+/api/v1`).FindString(lines.Text())
		if url == "" || !strings.Contains(lines.Text(), "lag 35s") {
			t.Fatalf("log line %q", lines.Text())
		}

		control := strings.TrimSuffix(url, "/api/v1") + "/_control/"
		response, err := http.Post(control+"faults", "application/json", strings.NewReader(`{"op":"list","kind":"hang"}`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		hung := make(chan error, 1)
		go func() {
			response, err := http.Get(url + "/keys")
			if err == nil {
				response.Body.Close()
			}
			hung <- err
		}()
		for !strings.Contains(get(t, control+"calls"), `"list":1`) {
			time.Sleep(time.Millisecond)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := <-hung; err == nil {
			t.Error("the call that hung was answered")
		}
		if lines.Scan() {
			t.Errorf("a second log line: %q", lines.Text())
		}
	}
}
