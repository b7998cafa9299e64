// Fencing shows what a lease alone cannot do, and a store can: refuse the write of a
// holder that was frozen while another one came. The store is a real one, SQLite in
// a file; any database that knows UPDATE ... WHERE will do.
//
// The first worker reads a balance, and is frozen until its lease is gone. The
// second one takes over, reads, and writes. Then the first goes on and writes what it
// has made of the old balance, without looking at its lease: the store refuses it.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	_ "modernc.org/sqlite"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/lease/fence"
	"github.com/leasehold-go/leasehold/supervisor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func run(ctx context.Context, args []string, out io.Writer) int {
	fs, urls := setup.Flags("fencing")
	name := fs.String("name", "example-account", "the name to hold while working")
	ttl := fs.Duration("ttl", time.Second, "for how long the frozen worker's lease lasts")
	if status, ok := setup.Parse(fs, args); !ok {
		return status
	}
	nodes := setup.Open(*urls)
	defer nodes.Close()
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes.Conns, TTL: *ttl})
	if err != nil {
		return setup.Wrong(fs, err)
	}
	defer sup.Close(context.WithoutCancel(ctx))

	if err := play(ctx, sup, *name, out); err != nil {
		fmt.Fprintf(out, "failed: %v\n", err)
		return 1
	}
	return 0
}

func play(ctx context.Context, sup *supervisor.Supervisor, name string, out io.Writer) error {
	dir, err := os.MkdirTemp("", "leasehold-fencing")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, err := open(ctx, filepath.Join(dir, "account.db"))
	if err != nil {
		return err
	}
	defer a.db.Close()

	// Without renewal the lease ends although nobody is told: as if this process
	// were frozen from here on.
	first, err := sup.Acquire(ctx, name, supervisor.WithoutRenewal())
	if err != nil {
		return err
	}
	balance, err := a.read(ctx, first)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the first worker reads %d under fence %d, and is frozen\n", balance, first.Fence())

	second, err := sup.Acquire(ctx, name)
	if err != nil {
		return err
	}
	other, err := a.read(ctx, second)
	if err != nil {
		return err
	}
	if err := a.write(ctx, second, other+50); err != nil {
		return err
	}
	fmt.Fprintf(out, "the second one holds the name, reads %d and writes %d under fence %d\n", other, other+50, second.Fence())

	err = a.write(ctx, first, balance+20)
	if !errors.Is(err, fence.ErrStale) {
		return fmt.Errorf("the late write was not refused: %v", err)
	}
	fmt.Fprintf(out, "the first one goes on and writes %d: refused (%v)\n", balance+20, err)

	balance, err = a.read(ctx, second)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "done: the balance is %d, and nothing was lost\n", balance)
	return second.Release(ctx)
}

// An account is a balance in a table, and the mark of the holders that came for it.
type account struct {
	db   *sql.DB
	mark fence.SQL
}

const resource = "account-1"

func open(ctx context.Context, file string) (*account, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(file))
	if err != nil {
		return nil, err
	}
	for _, query := range []string{
		`CREATE TABLE fences (resource TEXT PRIMARY KEY, fence BIGINT NOT NULL)`,
		`INSERT INTO fences VALUES ('` + resource + `', 0)`,
		`CREATE TABLE accounts (id TEXT PRIMARY KEY, balance BIGINT NOT NULL)`,
		`INSERT INTO accounts VALUES ('` + resource + `', 100)`,
	} {
		if _, err := db.ExecContext(ctx, query); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return &account{db: db, mark: fence.SQL{Table: "fences"}}, nil
}

// read advances the mark before it reads. After that no earlier holder can write
// what this one will then overwrite with something older.
func (a *account) read(ctx context.Context, held *lease.Lease) (balance int, err error) {
	err = a.under(ctx, held, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT balance FROM accounts WHERE id = ?`, resource).Scan(&balance)
	})
	return balance, err
}

func (a *account) write(ctx context.Context, held *lease.Lease, balance int) error {
	return a.under(ctx, held, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE accounts SET balance = ? WHERE id = ?`, balance, resource)
		return err
	})
}

// under runs f in a transaction that begins with the mark.
func (a *account) under(ctx context.Context, held *lease.Lease, f func(*sql.Tx) error) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after a commit
	if err := a.mark.Advance(ctx, tx, resource, held.Fence()); err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
