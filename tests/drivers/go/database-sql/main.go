// database/sql with the drivers of pgx (stdlib) and lib/pq: the first argument says which.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log"
	"os"
	"slices"

	"bulkhead.test/drivers/scenario"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
)

type pool struct{ *sql.DB }

// [connect]

// PgBouncer 1.18 mixes up the named statements of its clients. So that the driver makes none:
var settings = map[string]string{
	"pgx":      "default_query_exec_mode=exec",
	"postgres": "binary_parameters=yes", // lib/pq; with it a query takes one round trip
}

func connect(name string) (*sql.DB, error) {
	it, err := sql.Open(name, settings[name]+" sslmode=disable")
	if err == nil {
		it.SetMaxOpenConns(4)
		it.SetMaxIdleConns(4)
	}
	return it, err
}

// A transaction of the tenant whose token came with the request (X-Bulkhead-Token).
func (p pool) tenant(ctx context.Context, token string, options *sql.TxOptions, work func(*sql.Tx) error) error {
	tx, err := p.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if _, err := tx.ExecContext(ctx, "SELECT bulkhead.enter($1)", token); err != nil {
		return err
	}
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// [end]

// [retry]

// The tenant has moved; conflicts; the server process went away.
var retry = []string{"TN004", "40001", "40P01", "57P01", "08P01"}

func (p pool) inTenant(ctx context.Context, token string, options *sql.TxOptions, work func(*sql.Tx) error) error {
	for tries := 3; ; tries-- {
		err := p.tenant(ctx, token, options, work)
		if err == nil || tries == 1 || ctx.Err() != nil || !(lost(err) || slices.Contains(retry, sqlstate(err))) {
			return err
		}
		scenario.Retrying(sqlstate(err))
	}
}

// The connection broke: no SQLSTATE came with it.
func lost(err error) bool {
	return sqlstate(err) == "" && !errors.Is(err, sql.ErrNoRows) || errors.Is(err, driver.ErrBadConn)
}

func sqlstate(err error) string {
	var byPgx *pgconn.PgError
	var byPq *pq.Error
	if errors.As(err, &byPgx) {
		return byPgx.Code
	}
	if errors.As(err, &byPq) {
		return string(byPq.Code)
	}
	return ""
}

// [end]

func (p pool) InTenant(ctx context.Context, token string, repeatable bool, work func(scenario.DB) error) error {
	options := &sql.TxOptions{}
	if repeatable {
		options.Isolation = sql.LevelRepeatableRead
	}
	return p.inTenant(ctx, token, options, func(tx *sql.Tx) error { return work(db{tx}) })
}

type db struct{ tx *sql.Tx }

func (d db) Names(ctx context.Context) (names []string, err error) {
	rows, err := d.tx.QueryContext(ctx, "SELECT name FROM items ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

func (d db) NameOf(ctx context.Context, id int) (name string, err error) {
	err = d.tx.QueryRowContext(ctx, "SELECT name FROM items WHERE id = $1", id).Scan(&name)
	return
}

func (d db) Insert(ctx context.Context, name string) error {
	_, err := d.tx.ExecContext(ctx, "INSERT INTO items (name) VALUES ($1)", name)
	return err
}

func (d db) Add(ctx context.Context, name string) error {
	_, err := d.tx.ExecContext(ctx, "UPDATE items SET qty = qty + 1 WHERE name = $1", name)
	return err
}

func (d db) PID(ctx context.Context) (pid int, err error) {
	err = d.tx.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	return
}

func (d db) State(ctx context.Context) (state string, err error) {
	err = d.tx.QueryRowContext(ctx, "SELECT state FROM items WHERE id = $1", 1).Scan(&state)
	return
}

func (p pool) Unbound(ctx context.Context) error {
	_, err := p.ExecContext(ctx, "SELECT name FROM items")
	return err
}

// A transaction that its context ends: database/sql rolls back.
func (p pool) LeaveDirty(ctx context.Context, token string) error {
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	tx, err := p.BeginTx(short, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "SELECT bulkhead.enter($1)", token); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "SELECT name FROM items")
	return err
}

func (p pool) Health(ctx context.Context) error { return p.PingContext(ctx) }

func (pool) SQLState(err error) string { return sqlstate(err) }

func main() {
	modules := map[string]string{"pgx": "github.com/jackc/pgx/v5", "postgres": "github.com/lib/pq"}
	it, err := connect(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer it.Close()
	scenario.Run(pool{it}, modules[os.Args[1]])
}
