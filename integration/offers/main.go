// Command offers says which real Redis servers the tests of this module will find
// on this machine. `go test` does not: it is silent about tests that it skips.
package main

import (
	"fmt"

	"github.com/leasehold-go/leasehold/integration/cluster"
)

func main() {
	for _, o := range cluster.Offers() {
		fmt.Println(o)
	}
}
