package cluster

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// patience is how long Docker may take over one request.
const patience = 30 * time.Second

// hush keeps testcontainers from greeting on stderr.
var hush = sync.OnceFunc(func() { log.SetDefault(log.NewNoopLogger()) })

type redisContainer struct {
	address
	t      testing.TB
	docker *client.Client
	id     string
}

// openContainer publishes the server on a port that was chosen beforehand: Docker
// would choose another one at each start.
func openContainer(t testing.TB, args []string) (Server, error) {
	hush()
	docker, err := dockerClient()
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { docker.Close() })
	c := &redisContainer{t: t, docker: docker}
	err = onFreePort(t, func(a address) error {
		c.address = a
		return c.create(args)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *redisContainer) create(args []string) error {
	ctx, cancel := within(patience)
	defer cancel()
	inside := network.MustParsePort("6379/tcp")
	made, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Image:        image(),
			ExposedPorts: []string{inside.String()},
			Cmd: append([]string{
				"--bind", "0.0.0.0", "--protected-mode", "no", // it is published on loopback only
				"--save", "", "--appendonly", "no",
			}, args...),
			HostConfigModifier: func(h *container.HostConfig) {
				h.PortBindings = network.PortMap{inside: {{
					HostIP:   netip.MustParseAddr("127.0.0.1"),
					HostPort: c.port(),
				}}}
			},
		},
		Started: true,
		Logger:  log.NewNoopLogger(),
	})
	if made != nil { // even if it could not be started
		c.t.Cleanup(func() {
			if err := testcontainers.TerminateContainer(made, testcontainers.StopTimeout(0)); err != nil {
				c.t.Errorf("remove the container of %s: %v", c.address, err)
			}
		})
	}
	if err != nil {
		return err
	}
	c.id = made.GetContainerID()
	return c.answers()
}

func (c *redisContainer) answers() error {
	return await(func() error { _, err := c.Do("PING"); return err })
}

func (c *redisContainer) Start() {
	c.t.Helper()
	ctx, cancel := within(patience)
	defer cancel()
	_, err := c.docker.ContainerStart(ctx, c.id, client.ContainerStartOptions{})
	if err == nil {
		err = c.answers()
	}
	c.report("start", err)
}

// Kill returns when the container has ended, which Docker's kill does not wait
// for: a start would find it running, and do nothing.
func (c *redisContainer) Kill() {
	c.t.Helper()
	ctx, cancel := within(patience)
	defer cancel()
	ended := c.docker.ContainerWait(ctx, c.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	_, err := c.docker.ContainerKill(ctx, c.id, client.ContainerKillOptions{Signal: "KILL"})
	if err == nil {
		select {
		case <-ended.Result:
		case err = <-ended.Error:
		}
	}
	c.report("kill", err)
}

func (c *redisContainer) Pause() {
	c.t.Helper()
	ctx, cancel := within(patience)
	defer cancel()
	_, err := c.docker.ContainerPause(ctx, c.id, client.ContainerPauseOptions{})
	c.report("pause", err)
}

func (c *redisContainer) Resume() {
	c.t.Helper()
	ctx, cancel := within(patience)
	defer cancel()
	_, err := c.docker.ContainerUnpause(ctx, c.id, client.ContainerUnpauseOptions{})
	c.report("resume", err)
}

func (c *redisContainer) report(what string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Errorf("%s the Redis container %s: %v", what, c.address, err)
	}
}
