package main

import (
	"runtime"
	"slices"
	"syscall"
	"time"
)

// usage is what this process and the servers have used so far.
type usage struct {
	client, servers time.Duration // processor time
	mallocs         uint64
	at              time.Time
}

// used reads what has been used. Servers of a fleet that are paused do not answer.
func used(f *fleet) (usage, error) {
	servers, err := f.cpu()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{client: ownCPU(), servers: servers, mallocs: m.Mallocs, at: time.Now()}, err
}

// since returns what was used after before.
func (u usage) since(before usage) usage {
	u.client -= before.client
	u.servers -= before.servers
	u.mallocs -= before.mallocs
	return u
}

// ownCPU returns the processor time of this process.
func ownCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// memory returns what lives on the heap and on stacks, after two collections: what
// pools keep for the next call outlives one, and is no part of what is measured.
func memory() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// quantile returns the q-quantile of ds, which it sorts. Of none it is 0.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[min(int(q*float64(len(ds))), len(ds)-1)]
}

func median(vs []float64) float64 {
	vs = slices.Sorted(slices.Values(vs))
	if n := len(vs); n%2 == 0 {
		return (vs[n/2-1] + vs[n/2]) / 2
	}
	return vs[len(vs)/2]
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }
func millis(d time.Duration) float64 { return float64(d) / 1e6 }
