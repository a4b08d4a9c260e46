/*
 * Talking to a PostgreSQL server that we drive: connect, run, quote.
 *
 * Values travel as parameters.  Where SQL knows no parameter (names in DDL),
 * bh_sql_name is the one way to quote, and names come from core/tenant.h or
 * are checked first.
 */
#ifndef BH_ENGINE_POSTGRES_SQL_H
#define BH_ENGINE_POSTGRES_SQL_H

#include <libpq-fe.h>

#include "core/buf.h"
#include "core/error.h"

/**
 * bh_sql_connect(conninfo, database, timeout_s, ret_conn, err):
 * Connect with ${conninfo} (no password in it: passfile) to ${database} (NULL:
 * as ${conninfo} says), with search_path pinned to pg_catalog.  The caller
 * PQfinishes.  BH_E_UNAVAILABLE where the server cannot be reached now;
 * BH_E_CONFIG where it refuses us for good.
 */
enum bh_code bh_sql_connect(const char *conninfo, const char *database, int timeout_s,
    PGconn **ret_conn, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_sql_open(conninfo, database, timeout_s, ret_conn, err):
 * The same, with no setting changed: as an application would connect.
 */
enum bh_code bh_sql_open(const char *conninfo, const char *database, int timeout_s,
    PGconn **ret_conn, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_sql_exec(conn, sql, count, params, ret_result, err):
 * Run one statement with text parameters (0 and NULL: none).  ${ret_result} may
 * be NULL, else the caller PQclears it.  BH_E_UNAVAILABLE where the connection
 * broke or the server shuts down (retry helps); BH_E_CONFLICT for deadlock,
 * lock timeout, serialization; the code of errors.def for SQLSTATE class TN; BH_E_ENGINE
 * else.  The detail holds SQLSTATE and message, never parameters.
 */
enum bh_code bh_sql_exec(PGconn *conn, const char *sql, int count, const char *const *params,
    PGresult **ret_result, struct bh_error *err) BH_MUSTCHECK;

/* One statement with its text parameters, and how long its answer may take. */
struct bh_sql_call {
    const char *sql;
    int count;
    const char *const *params;
    int timeout_ms;
};

/**
 * bh_sql_send(conn, call):
 * Like PQexecParams, and it ends in time: once ${call}->timeout_ms have passed
 * the connection is shut down and counts as broken, because a server that is
 * frozen must not freeze who asks.  NULL where nothing could be sent.
 */
PGresult *bh_sql_send(PGconn *conn, const struct bh_sql_call *call);

/** bh_sql_call(conn, call, ret_result, err): as bh_sql_exec, and it ends in time
 * (BH_E_UNAVAILABLE).
 */
enum bh_code bh_sql_call(PGconn *conn, const struct bh_sql_call *call, PGresult **ret_result,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_sql_script(conn, sql, err): run many statements, as in a migration file; same failures. */
enum bh_code bh_sql_script(PGconn *conn, const char *sql, struct bh_error *err) BH_MUSTCHECK;

/** bh_sql_name(out, name): append ${name} as a quoted identifier. */
void bh_sql_name(struct bh_buf *out, const char *name);

/** bh_sql_literal(out, text): append ${text} as a string literal (standard_conforming_strings is
 * on), for utility statements that take no parameters. */
void bh_sql_literal(struct bh_buf *out, const char *text);

#endif
