package nodetest

import "errors"

var errRefused = errors.New("connection refused")
