package nodetest

import "github.com/leasehold-go/leasehold/node/nodetest/keyspace"

// Mark and MayGrow are what the scripts make of a node's marker.
func Mark(before, incarnation string, maxTTL, now int64) (marker, life string) {
	return keyspace.Mark(before, incarnation, maxTTL, now)
}

func MayGrow(marker, life string) bool { return keyspace.MayGrow(marker, life) }
