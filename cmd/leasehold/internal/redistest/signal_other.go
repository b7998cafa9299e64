//go:build !unix

package redistest

import (
	"errors"
	"os"
)

func suspend(*os.Process) error { return errors.New("processes cannot be suspended on this system") }
