package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// TestDeployFiles checks that the files in deploy/ are what they say: the manifests parse, what their
// containers mount is there, and every command line of leasehold in them and in the units is one
// that leasehold takes, as is every variable.
func TestDeployFiles(t *testing.T) {
	for _, variable := range os.Environ() { // complete reads them
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "LEASEHOLD_") {
			t.Setenv(name, "")
		}
	}
	files, err := filepath.Glob("deploy/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in deploy/: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var lines [][]string
			switch filepath.Ext(file) {
			case ".yaml":
				lines = inManifest(t, string(text))
			case ".service":
				lines = inUnit(string(text))
			case ".timer":
				return // it has no commands
			default:
				t.Fatalf("this test does not know what %s is", file)
			}
			if len(lines) == 0 {
				t.Error("there is no command line of leasehold")
			}
			for _, line := range lines {
				if err := takes(line); err != nil {
					t.Errorf("leasehold %s: %v", strings.Join(line, " "), err)
				}
			}
			for _, name := range regexp.MustCompile(`LEASEHOLD_[A-Z_]+`).FindAllString(string(text), -1) {
				if !slices.Contains(variables(), name) {
					t.Errorf("%s: leasehold neither reads nor sets it", name)
				}
			}
		})
	}
}

// TestDeployFilesAreChecked has that test's parts find what is wrong.
func TestDeployFilesAreChecked(t *testing.T) {
	for _, line := range []string{"", "walk a", "run --tyr a -- b", "run --try a", "run --at-least soon a -- b", "copy-to", "run -q -v a -- b"} {
		if err := takes(strings.Fields(line)); err == nil {
			t.Errorf("leasehold %s: want an error", line)
		}
	}
	lines := inUnit("# ExecStart=/bin/leasehold list\nExecStart=-/bin/leasehold show a\nExecStop=/bin/true\n")
	if len(lines) != 1 || !slices.Equal(lines[0], []string{"show", "a"}) {
		t.Errorf("command lines of a unit: %q", lines)
	}
}

// takes returns what leasehold finds wrong with its arguments. It carries nothing out.
func takes(args []string) error {
	s := &settings{out: io.Discard, err: io.Discard}
	root := newRootCommand(s)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	ran := false
	for _, c := range root.Commands() {
		c.RunE = func(*cobra.Command, []string) error { ran = true; return nil }
	}
	root.SetArgs(withTwoDashes(root, args))
	if err := root.Execute(); err != nil {
		return err
	}
	if !ran {
		return errors.New("it runs no command")
	}
	return nil
}

// variables returns what leasehold reads and what it sets for a command.
func variables() []string {
	list := []string{"LEASEHOLD_NAME", "LEASEHOLD_FENCE"}
	root := newRootCommand(&settings{})
	for _, c := range append(root.Commands(), root) {
		for _, flags := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
			flags.VisitAll(func(f *pflag.Flag) { list = append(list, variable(f.Name)) })
		}
	}
	return list
}

// inManifest returns the arguments of leasehold in a manifest, also those that a comment proposes.
func inManifest(t *testing.T, text string) (lines [][]string) {
	t.Helper()
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var object struct {
			APIVersion string         `yaml:"apiVersion"`
			Kind       string         `yaml:"kind"`
			Rest       map[string]any `yaml:",inline"`
		}
		err := d.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if object.APIVersion == "" || object.Kind == "" {
			t.Error("an object without apiVersion or kind")
		}
		lines = append(lines, inPods(t, object.Rest)...)
	}
	for _, m := range regexp.MustCompile(`(?m)^\s*#\s*command: (\[.*\])$`).FindAllStringSubmatch(text, -1) {
		var command []string
		if err := yaml.Unmarshal([]byte(m[1]), &command); err != nil {
			t.Error(err)
		}
		lines = append(lines, ofLeasehold(command)...)
	}
	return lines
}

// inPods returns those of all pods that are somewhere below a value.
func inPods(t *testing.T, value any) (lines [][]string) {
	t.Helper()
	object, is := value.(map[string]any)
	if !is {
		return nil
	}
	if object["containers"] == nil {
		for _, below := range object {
			lines = append(lines, inPods(t, below)...)
		}
		return lines
	}
	var pod struct {
		InitContainers, Containers []struct {
			Name, Image   string
			Command, Args []string
			VolumeMounts  []struct{ Name string }
		}
		Volumes []struct{ Name string }
	}
	again, err := yaml.Marshal(lowered(object))
	if err == nil {
		err = yaml.Unmarshal(again, &pod)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		command := c.Command
		if len(command) == 0 && strings.HasPrefix(c.Image, "leasehold/leasehold:") {
			command = []string{"/leasehold"} // the entry point of the image
		}
		lines = append(lines, ofLeasehold(append(slices.Clone(command), c.Args...))...)
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Volumes, func(v struct{ Name string }) bool { return v.Name == m.Name }) {
				t.Errorf("container %s mounts the volume %s, which is not there", c.Name, m.Name)
			}
		}
	}
	return lines
}

// lowered returns a value with the keys of its objects in lower case, as package yaml wants them for
// fields without tags.
func lowered(value any) any {
	switch value := value.(type) {
	case map[string]any:
		low := make(map[string]any, len(value))
		for key, v := range value {
			low[strings.ToLower(key)] = lowered(v)
		}
		return low
	case []any:
		low := make([]any, len(value))
		for i, v := range value {
			low[i] = lowered(v)
		}
		return low
	}
	return value
}

// inUnit returns the arguments of leasehold in a unit of systemd.
func inUnit(text string) (lines [][]string) {
	for _, m := range regexp.MustCompile(`(?m)^Exec[A-Za-z]+=[-@:+!]*(.*)$`).FindAllStringSubmatch(text, -1) {
		lines = append(lines, ofLeasehold(strings.Fields(m[1]))...)
	}
	return lines
}

// ofLeasehold returns the arguments of a command line if it is one of leasehold.
func ofLeasehold(command []string) [][]string {
	if len(command) == 0 || filepath.Base(command[0]) != "leasehold" {
		return nil
	}
	return [][]string{command[1:]}
}

// TestUnitsVerify has systemd read the units, if it is installed.
func TestUnitsVerify(t *testing.T) {
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("left out: there is no systemd-analyze on the PATH")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, unit := range []string{"nightly-report.service", "nightly-report.timer"} {
		text, err := os.ReadFile(filepath.Join("deploy", unit))
		if err != nil {
			t.Fatal(err)
		}
		// The program must be there.
		text = []byte(strings.ReplaceAll(string(text), "=/usr/local/bin/leasehold ", "="+self+" "))
		if err := os.WriteFile(filepath.Join(dir, unit), text, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, filepath.Join(dir, unit))
	}
	if said, err := exec.Command(program, args...).CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}
