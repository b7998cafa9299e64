//go:build !unix

package cluster

import (
	"errors"
	"testing"
)

var errNoSignals = errors.New("processes cannot be paused on this system")

func redisServer() (string, error) { return "", errNoSignals }

func openProcess(testing.TB, []string) (Server, error) { return nil, errNoSignals }
