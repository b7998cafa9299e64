package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/internal/testserver"
	"github.com/moby/moby/client"
)

// A Kind is a kind of server.
type Kind uint8

const (
	Process   Kind = iota + 1 // a process of redis-server, or of what LEASEHOLD_SERVER names
	Container                 // a container of a Redis image
)

// String returns the kind in a word.
func (k Kind) String() string {
	switch k {
	case Process:
		return "process"
	case Container:
		return "container"
	}
	return "no kind"
}

// An Offer tells whether this machine offers a kind of server.
type Offer struct {
	Kind Kind
	What string // its program and version, or its image
	Err  error  // why not, or nil if it does
}

// String returns the offer as a sentence.
func (o Offer) String() string {
	if o.Err != nil {
		return fmt.Sprintf("left out: tests on real Redis servers (%v), because %v", o.Kind, o.Err)
	}
	return fmt.Sprintf("included: tests on real Redis servers (%v): %s", o.Kind, o.What)
}

// Offers returns what this machine offers: processes if there is a redis-server, or the server
// that LEASEHOLD_SERVER names; containers if Docker runs here and has or can pull the image that
// LEASEHOLD_REDIS_IMAGE names (default redis:7-alpine). It finds out once, within
// two seconds if there is no image to be pulled.
var Offers = sync.OnceValue(func() []Offer {
	process := Offer{Kind: Process}
	var path, version string
	if path, process.Err = redisServer(); process.Err == nil {
		version, process.Err = testserver.Version(path)
		process.What = fmt.Sprintf("%s, %s", path, version)
	}
	return []Offer{process, {Container, image(), docker()}}
})

// Kinds returns the kinds of servers that this machine offers. If there is
// none the test is skipped. With REQUIRE_REAL=1 in the environment, as in CI, each
// one that is missing fails the test instead, and so does a server that LEASEHOLD_SERVER names and
// that is not there.
func Kinds(t testing.TB) []Kind {
	t.Helper()
	var kinds []Kind
	var missing []string
	for _, o := range Offers() {
		if o.Err == nil {
			kinds = append(kinds, o.Kind)
			continue
		}
		missing = append(missing, o.String())
		if chosen := os.Getenv(testserver.Variable); o.Kind == Process && chosen != "" {
			t.Fatalf("%s=%s: %v", testserver.Variable, chosen, o.Err)
		}
	}
	if len(missing) > 0 && os.Getenv("REQUIRE_REAL") == "1" {
		t.Fatalf("REQUIRE_REAL=1, but %s", strings.Join(missing, "; "))
	}
	if len(kinds) == 0 {
		t.Skip(strings.Join(missing, "; "))
	}
	return kinds
}

func image() string {
	if name := os.Getenv("LEASEHOLD_REDIS_IMAGE"); name != "" {
		return name
	}
	return "redis:7-alpine"
}

// docker returns why there can be no containers here, or nil. It looks before
// testcontainers does, which takes long and panics if there is no Docker.
func docker() error {
	c, err := dockerClient()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := within(2 * time.Second)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{}); err != nil {
		return fmt.Errorf("there is no answer from Docker: %v", err)
	}
	if _, err := c.ImageInspect(ctx, image()); err == nil {
		return nil
	}
	ctx, cancel = within(2 * time.Minute)
	defer cancel()
	pull, err := c.ImagePull(ctx, image(), client.ImagePullOptions{})
	if err == nil {
		err = pull.Wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("the image %s is neither here nor can be pulled: %v", image(), err)
	}
	return nil
}

// dockerClient returns a client of the Docker that runs on this machine, found
// where testcontainers finds it too.
func dockerClient() (*client.Client, error) {
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		home, _ := os.UserHomeDir()
		for _, socket := range []string{
			"/var/run/docker.sock",
			filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "docker.sock"),
			filepath.Join(home, ".docker/run/docker.sock"),
			filepath.Join(home, ".docker/desktop/docker.sock"),
		} {
			if _, err := os.Stat(socket); err == nil {
				host = "unix://" + socket
				break
			}
		}
	}
	switch {
	case host == "":
		return nil, errors.New("there is no Docker")
	case !strings.HasPrefix(host, "unix://"):
		return nil, errors.New("DOCKER_HOST is not a socket of this machine")
	}
	return client.New(client.FromEnv, client.WithHost(host))
}
