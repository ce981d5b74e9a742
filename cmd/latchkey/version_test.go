package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionIsFromTheBuildInfo(t *testing.T) {
	for want, info := range map[string]debug.BuildInfo{
		"latchkey v1.2.3, go1.26.5": {GoVersion: "go1.26.5", Main: debug.Module{Version: "v1.2.3"}},
		"latchkey (devel) (0123abcd, modified), go1.26.5": {GoVersion: "go1.26.5", Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123abcd" + strings.Repeat("0", 32)}, {Key: "vcs.modified", Value: "true"}, {Key: "GOOS", Value: "linux"},
		}},
		"latchkey v0.0.1 (0123abcd), go1.26.5": {GoVersion: "go1.26.5", Main: debug.Module{Version: "v0.0.1"}, Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123abcd" + strings.Repeat("0", 32)}, {Key: "vcs.modified", Value: "false"},
		}},
	} {
		if got := buildOf(&info).String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestVersionForms(t *testing.T) {
	line := latchkey(t.Context(), nil, "--version").want(t, exitOK).out
	if !strings.HasPrefix(line, "latchkey ") || !strings.HasSuffix(line, ", "+runtime.Version()+"\n") {
		t.Errorf("%q", line)
	}
	if p := latchkey(t.Context(), nil, "version").want(t, exitOK); p.out != line {
		t.Errorf("version prints %q, and --version %q", p.out, line)
	}
	var b build
	if p := latchkey(t.Context(), nil, "version", "--json").want(t, exitOK); json.Unmarshal([]byte(p.out), &b) != nil || b.Go != runtime.Version() {
		t.Error(p)
	}
	if p := latchkey(t.Context(), nil, "version", "--csv").want(t, exitOK); !strings.HasPrefix(p.out, "version,revision,modified,go\n") {
		t.Error(p)
	}
}
