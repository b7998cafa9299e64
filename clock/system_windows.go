package clock

import (
	"time"

	"golang.org/x/sys/windows"
)

func systemNow() Instant { return Instant(windows.DurationSinceBoot() / time.Nanosecond) }
