package fence_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/leasehold-go/leasehold/lease/fence"
)

// A database shows what it is sent. It stands for an *sql.Tx, and has one row, whose mark is 34.
type database struct{}

func (database) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	fmt.Println(query, args)
	if args[0].(int64) < 34 {
		return driver.RowsAffected(0), nil
	}
	return driver.RowsAffected(1), nil
}

// A holder advances the mark before its first read, and with each write. One that was replaced is
// refused.
func ExampleSQL_Advance() {
	ctx := context.Background()
	var tx database // a program has an *sql.Tx here
	mark := fence.SQL{Table: "fences", Dollar: true}

	err := mark.Advance(ctx, tx, "account-7", 35) // held.Fence()
	fmt.Println(err)

	err = mark.Advance(ctx, tx, "account-7", 33) // of a former holder, which was frozen meanwhile
	fmt.Println(errors.Is(err, fence.ErrStale))
	// Output:
	// UPDATE "fences" SET fence = $1 WHERE resource = $2 AND fence <= $3 [35 account-7 35]
	// <nil>
	// UPDATE "fences" SET fence = $1 WHERE resource = $2 AND fence <= $3 [33 account-7 33]
	// true
}
