package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version that the linker sets in a release build. If it is empty, the version of
// the module is used.
var release string

func newVersionCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and how it was built",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if s.json() {
				return s.emit(buildOf())
			}
			b := buildOf()
			fmt.Fprintf(s.out, "leasehold %s\n", b.Version)
			if b.Revision != "" {
				fmt.Fprintf(s.out, "built from %s of %s\n", b.Revision, b.Time)
			}
			fmt.Fprintf(s.out, "with %s for %s\n", b.Go, b.Platform)
			return nil
		},
	}
}

// A build says what a binary was made from.
type build struct {
	Version  string
	Revision string `json:",omitempty"`
	Time     string `json:",omitempty"`
	Modified bool   `json:",omitempty"`
	Go       string
	Platform string
}

func buildOf() build {
	b := build{Version: version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				b.Revision = setting.Value
			case "vcs.time":
				b.Time = setting.Value
			case "vcs.modified":
				b.Modified = setting.Value == "true"
			}
		}
	}
	return b
}

// version returns the version of this command.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
