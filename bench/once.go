package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// once measures what names leave behind that are used once and never again.
func (p plan) once() []scenario {
	const n = 102_400
	return []scenario{{
		name: "once/N=5", nodes: 5, libs: named(ours, floor, "redsync rueidis, fail-fast"), repeat: 1, fresh: true, slow: true, bound: 60 * time.Second,
		about: fmt.Sprintf("256 callers of one client acquire and release %d names, each once: what is left on the first server.", n),
		measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
			return useOnce(ctx, f, lib, n)
		},
	}}
}

func useOnce(ctx context.Context, f *fleet, lib library, n int) (figures []figure, err error) {
	const callers = 256
	all := names(n)
	s := f.servers[0]
	err = with(f, lib, func(l locker) error {
		if err := warm(ctx, l, 100); err != nil {
			return err
		}
		keys, memory, err := s.keeps()
		if err != nil {
			return err
		}
		var callersDone sync.WaitGroup
		errs := make(chan error, callers)
		begun := time.Now()
		for c := range callers {
			callersDone.Go(func() {
				for i := c; i < n; i += callers {
					h, err := l.acquire(ctx, all[i])
					if err == nil {
						err = h.release(ctx)
					}
					if err != nil {
						errs <- err
						return
					}
				}
			})
		}
		callersDone.Wait()
		took := time.Since(begun)
		select {
		case err := <-errs:
			return err
		default:
		}
		keysAfter, memoryAfter, err := s.keeps()
		if err != nil {
			return err
		}
		figures = []figure{
			{"keys left", "", float64(keysAfter - keys)},
			{"memory left", "MB", float64(memoryAfter-memory) / 1e6},
			{"pairs", "1/s", float64(n) / took.Seconds()},
		}
		return nil
	})
	return figures, err
}

// keeps returns how many keys a server has, but for registers, and how much memory its data take.
func (s *server) keeps() (keys int, memory int64, err error) {
	registers, err := s.do("EVAL \"local n, at = 0, '0' repeat local r = redis.call('SCAN', at, 'MATCH', 'leasehold:fence:*', 'COUNT', 10000) at, n = r[1], n + #r[2] until at == '0' return n\" 0")
	if err != nil {
		return 0, 0, err
	}
	size, err := s.do("DBSIZE")
	if err != nil {
		return 0, 0, err
	}
	r, err := strconv.Atoi(registers)
	if err != nil {
		return 0, 0, fmt.Errorf("registers: %q", registers)
	}
	n, err := strconv.Atoi(size)
	if err != nil {
		return 0, 0, fmt.Errorf("DBSIZE: %q", size)
	}
	info, err := s.info("memory")
	if err != nil {
		return 0, 0, err
	}
	memory, err = strconv.ParseInt(info["used_memory_dataset"], 10, 64)
	return n - r, memory, err
}
