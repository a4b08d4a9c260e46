/*
 * The database that adopt, lint and explain look at: --database DSN.
 *
 * Nothing is ever written to it: sessions are read only and have timeouts.
 */
#ifndef BH_CLI_DATABASE_H
#define BH_CLI_DATABASE_H

#include <jansson.h>
#include <libpq-fe.h>

#include "cli/cli.h"

/**
 * bh_database_dsn(cli, local, ret_dsn):
 * What --database holds, or where ${local} and without it the superuser's way
 * into the local set-up; in the arena.  A password in it is refused: the
 * command line is open to all.  Returns 0, or the exit code after saying what
 * is wrong.
 */
int bh_database_dsn(const struct bh_cli *cli, bool local, const char **ret_dsn);

/**
 * bh_database_read(dsn, ret_conn, err):
 * A read-only session with statement (60 s) and lock (5 s) timeouts, search_path
 * pinned, without just-in-time compilation.  The caller PQfinishes.
 */
enum bh_code bh_database_read(
    const char *dsn, PGconn **ret_conn, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_database_json(conn, sql, count, params, ret_value, err):
 * The JSON in the first column of the first row; owned by the caller.
 * BH_E_NOT_FOUND where there is no row.
 */
enum bh_code bh_database_json(PGconn *conn, const char *sql, int count, const char *const *params,
    json_t **ret_value, struct bh_error *err) BH_MUSTCHECK;

#endif
