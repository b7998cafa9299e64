package clock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// On Apple systems CLOCK_MONOTONIC counts sleep, unlike the clock under
// time.Now, which is mach_absolute_time.
func systemNow() Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("clock: CLOCK_MONOTONIC: %v", err))
	}
	return Instant(ts.Nano())
}
