package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which latchkey this is",
		Long: `Say which latchkey this is: its version or the commit that it was built from, a
mark if files differed from the commit, and the Go that built it. --version says
the same.`,
		Example: `  latchkey version
  latchkey version --json | jq -r .revision`,
		Args: usage(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			b := readBuild()
			if !a.asJSON && !a.asCSV {
				return a.print(b.String(), false)
			}
			return a.show(b, []string{"version", "revision", "modified", "go"}, [][]string{{b.Version, b.Revision, yesNo(b.Modified), b.Go}})
		},
	}
}

// build is what is known of how this program was built.
type build struct {
	Version  string `json:"version"`            // of the module; (devel) from a clone
	Revision string `json:"revision,omitempty"` // the commit
	Modified bool   `json:"modified"`           // files differed from it
	Go       string `json:"go"`
}

func readBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build{Version: "unknown"}
	}
	return buildOf(info)
}

func buildOf(info *debug.BuildInfo) build {
	b := build{Version: info.Main.Version, Go: info.GoVersion}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}

func (b build) String() string {
	text := "latchkey " + b.Version
	if b.Revision != "" {
		text += fmt.Sprintf(" (%s", b.Revision[:min(len(b.Revision), 8)])
		if b.Modified {
			text += ", modified"
		}
		text += ")"
	}
	return text + ", " + b.Go
}

// version is what --version prints.
func version() string { return readBuild().String() }
