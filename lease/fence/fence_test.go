package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/leasehold-go/leasehold/lease/fence"
)

// A table acts one out that has one resource.
type table struct {
	mark  int64
	query string
	fail  error
}

type rows int64

func (r rows) LastInsertId() (int64, error) { return 0, errors.New("not asked for") }
func (r rows) RowsAffected() (int64, error) { return int64(r), nil }

func (t *table) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	t.query = query
	if t.fail != nil {
		return nil, t.fail
	}
	if args[1] != "r" || args[0] != args[2] || t.mark > args[0].(int64) {
		return rows(0), nil
	}
	t.mark = args[0].(int64)
	return rows(1), nil
}

func TestSQL(t *testing.T) {
	ctx := t.Context()
	db := &table{}
	marks := fence.SQL{Table: "work.fences"}
	for _, f := range []uint64{7, 7, 9} {
		if err := marks.Advance(ctx, db, "r", f); err != nil {
			t.Fatalf("fence %d: %v", f, err)
		}
	}
	if want := `UPDATE "work"."fences" SET fence = ? WHERE resource = ? AND fence <= ?`; db.query != want {
		t.Errorf("query %s, want %s", db.query, want)
	}
	if err := marks.Advance(ctx, db, "r", 8); !errors.Is(err, fence.ErrStale) || db.mark != 9 {
		t.Errorf("a smaller fence: %v, mark %d", err, db.mark)
	}
	if err := marks.Advance(ctx, db, "no such resource", 10); !errors.Is(err, fence.ErrStale) {
		t.Errorf("a resource without a row: %v", err)
	}
	if err := marks.Advance(ctx, db, "r", 1<<63); err == nil || !strings.Contains(err.Error(), "9223372036854775807") {
		t.Errorf("a fence too large for the column: %v", err)
	}
	db.fail = errors.New("the database's own words")
	if err := marks.Advance(ctx, db, "r", 10); !errors.Is(err, db.fail) || errors.Is(err, fence.ErrStale) {
		t.Errorf("a failure: %v", err)
	}
	marks = fence.SQL{Table: `a"b`, Dollar: true}
	_ = marks.Advance(ctx, db, "r", 10)
	if want := `UPDATE "a""b" SET fence = $1 WHERE resource = $2 AND fence <= $3`; db.query != want {
		t.Errorf("query %s, want %s", db.query, want)
	}
}
