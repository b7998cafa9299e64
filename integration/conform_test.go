package integration

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest/conform"
)

// The cases that nodetest passes in its own package, on a real server.
func TestConformReal(t *testing.T) {
	for _, kind := range cluster.Kinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			server := cluster.Open(t, kind, 1).Servers[0]
			conform.Run(t, func(t *testing.T) conform.Target {
				if _, err := server.Do("FLUSHALL"); err != nil {
					t.Fatal(err)
				}
				return conform.Target{
					Conn:   node.URL(server.URL()),
					Option: rueidis.ClientOption{InitAddress: []string{server.Addr()}},
				}
			})
		})
	}
}

func TestConformMiniredis(t *testing.T) {
	conform.Run(t, func(t *testing.T) conform.Target {
		server := miniredis.RunT(t)
		return conform.Target{
			Conn:   node.URL(server.Addr()),
			Option: rueidis.ClientOption{InitAddress: []string{server.Addr()}},
			Elapse: server.FastForward,
			Lacks:  []conform.Feature{conform.Info, conform.NoEvict, conform.Strictness, conform.ScriptCodes, conform.Tracking},
		}
	})
}
