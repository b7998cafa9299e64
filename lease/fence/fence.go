// Package fence helps a store to refuse a holder that was replaced.
//
// A lease cannot stop a process that is frozen between its last look at the lease and the moment at
// which its write lands. The store can. It keeps a mark, the largest fence that it has seen, and
// accepts nothing from a holder with a smaller fence.
//
// The mark must be advanced before the holder's first read, not with its write. Otherwise a
// read-modify-write can be lost although every write is checked. The new holder reads. The frozen
// old one writes with its fence, which is still the largest seen. Then the new one writes a value
// that it computed from its outdated read. So a holder calls Advance before it reads, and checks
// its fence again with each write. The check and the advance are one step here, atomic in the
// store.
//
// This package needs no other package of leasehold: [SQL] works with database/sql, and [Advance]
// and [Write] are scripts for whatever Redis client the caller has.
package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrStale: the store has seen a larger fence. Another holder has come: stop, and write nothing. A
// missing row causes it too, see [SQL].
var ErrStale = errors.New("fence: stale: the store has seen a later holder")

// An Execer runs a statement: *sql.DB, *sql.Tx or *sql.Conn.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// SQL keeps the mark of each resource in a table. It may be used from any goroutine.
type SQL struct {
	// Table has a text column "resource", its primary key, and a column "fence" of 64 bits. Each
	// resource must have its row before the first Advance, with a fence of 0. Advance inserts none,
	// because every database has another syntax for that. Table may name a schema, as in
	// "work.fences". It is quoted as in standard SQL, so MySQL needs the SQL mode ANSI_QUOTES.
	Table string

	// Dollar writes parameters as $1 and $2, as PostgreSQL wants them. Default: as ?.
	Dollar bool
}

// Advance moves the mark of a resource up to the holder's fence, by one conditional UPDATE. It
// returns an error that wraps [ErrStale] if the mark is larger, or if there is no row. Any other
// error is the database's own. After that the mark may have been moved or not: try again. A fence
// is at most 2^63-1.
//
// Call Advance before the first read, in a transaction of its own or in that of the work. Call it
// also as the first statement of every transaction that writes: the row stays locked until that
// ends, so that no later holder comes in between. Advance relies on the number of rows that
// matched; with MySQL the connection must return that (clientFoundRows=true).
func (s SQL) Advance(ctx context.Context, db Execer, resource string, fence uint64) error {
	if fence > 1<<63-1 {
		return fmt.Errorf("fence: %d: want at most %d", fence, int64(1<<63-1))
	}
	p := func(i int) string {
		if s.Dollar {
			return "$" + strconv.Itoa(i)
		}
		return "?"
	}
	query := "UPDATE " + quote(s.Table) + " SET fence = " + p(1) + " WHERE resource = " + p(2) + " AND fence <= " + p(3)
	r, err := db.ExecContext(ctx, query, int64(fence), resource, int64(fence))
	if err != nil {
		return fmt.Errorf("fence: advance %q: %w", resource, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return fmt.Errorf("fence: advance %q: %w", resource, err)
	}
	if n == 0 {
		return fmt.Errorf("advance %q to %d: %w", resource, fence, ErrStale)
	}
	return nil
}

// quote returns an identifier, such as "schema.table", quoted as in standard SQL.
func quote(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}

// Advance is a script that moves the mark of a resource up to a fence, if Redis is the store. KEYS:
// the mark. ARGV: the fence. It returns 1, or 0 if the mark is larger. Call it before the first
// read:
//
//	EVAL fence.Advance 1 mark:account 1784000000123456
const Advance = compare + `
redis.call('SET', KEYS[1], ARGV[1])
return 1
`

// Write is a script that writes a value if the fence is not smaller than the mark, and moves the
// mark. KEYS: the mark, the key of the value. ARGV: the fence, the value. It returns 1. If the mark
// is larger it returns 0 and writes nothing.
const Write = compare + `
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
return 1
`

// compare compares fences as text, by length first: a number of Lua is exact only up to 2^53.
const compare = `
local mark = redis.call('GET', KEYS[1])
if mark and (#mark > #ARGV[1] or #mark == #ARGV[1] and mark > ARGV[1]) then
  return 0
end`
