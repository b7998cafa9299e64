//go:build race

package shards_test

const fewHistories = 20
