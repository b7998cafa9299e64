package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A duration is a flag for a duration.
type duration struct{ d *time.Duration }

func durationVar(d *time.Duration, def time.Duration) pflag.Value {
	*d = def
	return duration{d}
}

func (v duration) String() string {
	if v.d == nil || *v.d == 0 {
		return ""
	}
	return short(*v.d)
}

func (duration) Type() string { return "duration" }

func (v duration) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("want a duration with a unit, such as 30s, 500ms or 1h30m")
	}
	*v.d = d
	return nil
}

// short returns a duration without units that are zero: 1m for 1m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// A choice is a flag that takes one of a few words.
type choice struct {
	word  *string
	words []string
}

// oneOf returns a flag whose default is the first of the words.
func oneOf(word *string, words ...string) pflag.Value {
	*word = words[0]
	return choice{word, words}
}

func (v choice) String() string {
	if v.word == nil {
		return ""
	}
	return *v.word
}

func (choice) Type() string { return "word" }

func (v choice) Set(text string) error {
	if !slices.Contains(v.words, text) {
		return fmt.Errorf("want %s", strings.Join(v.words, " or "))
	}
	*v.word = text
	return nil
}

// withTwoDashes returns the arguments with a second dash before each long flag that has one,
// as in -ttl 2s, up to the "--" that ends the flags. pflag alone would read that as -t -t -l.
func withTwoDashes(root *cobra.Command, args []string) []string {
	args = slices.Clone(args)
	known := make(map[string]bool)
	var learn func(*cobra.Command)
	learn = func(c *cobra.Command) {
		add := func(f *pflag.Flag) { known[f.Name] = len(f.Name) > 1 }
		c.PersistentFlags().VisitAll(add)
		c.Flags().VisitAll(add)
		for _, sub := range c.Commands() {
			learn(sub)
		}
	}
	known["help"], known["version"] = true, true
	learn(root)
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if len(arg) < 3 || arg[0] != '-' || arg[1] == '-' {
			continue
		}
		if name, _, _ := strings.Cut(arg[1:], "="); known[name] {
			args[i] = "-" + arg
		}
	}
	return args
}
