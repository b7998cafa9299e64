package nodetest_test

import (
	"testing"

	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/node/nodetest/conform"
)

func TestConform(t *testing.T) {
	conform.Run(t, func(t *testing.T) conform.Target {
		n := nodetest.New()
		t.Cleanup(n.Close)
		return conform.Of(n)
	})
}
