package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand makes the command that writes the manual, for packagers of leasehold.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages into a directory",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return &exit{no, err}
			}
			c.Root().DisableAutoGenTag = true
			if err := doc.GenManTree(c.Root(), &doc.GenManHeader{Section: "1", Source: "leasehold", Manual: "leasehold"}, args[0]); err != nil {
				return &exit{no, err}
			}
			return nil
		},
	}
}

// newCopyCommand makes the command that copies the binary out of an image without a shell.
func newCopyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "copy-to FILE",
		Short: "Copy this binary, for example from its container image to a volume",
		Long: `copy-to writes an executable copy of this binary to a file. If the file exists, it is replaced. An init
container of the image of leasehold, which has nothing else in it, gives another container the command that way.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := copyTo(args[0]); err != nil {
				return &exit{no, fmt.Errorf("copy-to: %w", err)}
			}
			return nil
		},
	}
}

// copyTo replaces a file by a copy of this binary: at once, as others may run it.
func copyTo(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	from, err := os.Open(self)
	if err != nil {
		return err
	}
	defer from.Close()
	part := path + ".part"
	to, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if closed := to.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(part, path)
}
