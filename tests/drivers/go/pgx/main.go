// pgx with pgxpool.
package main

import (
	"context"
	"errors"
	"log"
	"slices"

	"bulkhead.test/drivers/scenario"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

type pool struct{ *pgxpool.Pool }

// [connect]

// PgBouncer 1.18 mixes up the named statements of its clients: with QueryExecModeExec pgx makes none
// (in a URI: default_query_exec_mode=exec).
func connect(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, err
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.MaxConns = 4
	return pgxpool.NewWithConfig(ctx, config)
}

// A transaction of the tenant whose token came with the request (X-Bulkhead-Token).
func (p pool) tenant(ctx context.Context, token string, options pgx.TxOptions, work func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, p, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT bulkhead.enter($1)", token); err != nil {
			return err
		}
		return work(tx)
	})
}

// [end]

// [retry]

// The tenant has moved; conflicts; the server process or the connection went away (then there is no SQLSTATE).
var retry = []string{"TN004", "40001", "40P01", "57P01", "08P01", ""}

func (p pool) inTenant(ctx context.Context, token string, options pgx.TxOptions, work func(pgx.Tx) error) error {
	for tries := 3; ; tries-- {
		err := p.tenant(ctx, token, options, work)
		if err == nil || tries == 1 || ctx.Err() != nil || !slices.Contains(retry, sqlstate(err)) {
			return err
		}
		scenario.Retrying(sqlstate(err))
	}
}

func sqlstate(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// [end]

func (p pool) InTenant(ctx context.Context, token string, repeatable bool, work func(scenario.DB) error) error {
	options := pgx.TxOptions{}
	if repeatable {
		options.IsoLevel = pgx.RepeatableRead
	}
	return p.inTenant(ctx, token, options, func(tx pgx.Tx) error { return work(db{tx}) })
}

type db struct{ tx pgx.Tx }

func (d db) Names(ctx context.Context) ([]string, error) {
	rows, _ := d.tx.Query(ctx, "SELECT name FROM items ORDER BY id")
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (d db) NameOf(ctx context.Context, id int) (name string, err error) {
	err = d.tx.QueryRow(ctx, "SELECT name FROM items WHERE id = $1", id).Scan(&name)
	return
}

func (d db) Insert(ctx context.Context, name string) error {
	_, err := d.tx.Exec(ctx, "INSERT INTO items (name) VALUES ($1)", name)
	return err
}

func (d db) Add(ctx context.Context, name string) error {
	_, err := d.tx.Exec(ctx, "UPDATE items SET qty = qty + 1 WHERE name = $1", name)
	return err
}

func (d db) PID(ctx context.Context) (pid int, err error) {
	err = d.tx.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	return
}

func (d db) State(ctx context.Context) (state string, err error) {
	err = d.tx.QueryRow(ctx, "SELECT state FROM items WHERE id = $1", 1).Scan(&state)
	return
}

func (p pool) Unbound(ctx context.Context) error {
	_, err := p.Exec(ctx, "SELECT name FROM items")
	return err
}

// The pool finds the connection in a transaction and destroys it.
func (p pool) LeaveDirty(ctx context.Context, token string) error {
	connection, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	defer connection.Release()
	if _, err := connection.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if _, err := connection.Exec(ctx, "SELECT bulkhead.enter($1)", token); err != nil {
		return err
	}
	_, err = connection.Exec(ctx, "SELECT name FROM items")
	return err
}

func (p pool) Health(ctx context.Context) error { return p.Ping(ctx) }

func (pool) SQLState(err error) string { return sqlstate(err) }

func main() {
	it, err := connect(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer it.Close()
	scenario.Run(pool{it}, "github.com/jackc/pgx/v5")
}
