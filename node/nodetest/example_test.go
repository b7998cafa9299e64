package nodetest_test

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/node/nodetest"
)

func Example() {
	n := nodetest.New()
	defer n.Close()

	client, err := rueidis.NewClient(n.Option(""))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	ctx := context.Background()
	set := client.B().Set().Key("nightly-report").Value("me").Nx().PxMilliseconds(5000).Build()
	fmt.Println(client.Do(ctx, set).Error())

	n.Fail("GET", "MISCONF Redis is configured to save RDB snapshots")
	get := client.B().Get().Key("nightly-report").Build()
	fmt.Println(client.Do(ctx, get).Error())
	n.Fail("GET", "")

	n.Restart() // empty
	fmt.Println(n.Keys())
	// Output:
	// <nil>
	// MISCONF Redis is configured to save RDB snapshots
	// []
}
