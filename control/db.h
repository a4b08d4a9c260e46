/*
 * The daemon's connections to its registry (libpq).
 *
 * Parameters always travel beside the SQL, never inside it.  A connection is
 * used by one thread at a time; it comes from a pool and goes back to it.
 */
#ifndef BH_CONTROL_DB_H
#define BH_CONTROL_DB_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"

struct bh_db;      /* one connection */
struct bh_db_pool; /* several */

/**
 * bh_db_pool_new(conninfo, size, ret_pool, err):
 * A pool of at most ${size} connections, made when first needed.  Keeps a copy
 * of ${conninfo} (a libpq URI or keyword string, without a password: passfile).
 */
enum bh_code bh_db_pool_new(const char *conninfo, unsigned size, struct bh_db_pool **ret_pool,
    struct bh_error *err) BH_MUSTCHECK;
void bh_db_pool_free(struct bh_db_pool *pool);

/**
 * bh_db_take(pool, ret_db, err) / bh_db_give(db):
 * Borrow a connection, waiting at most 5 s for one; give it back, rolling back
 * what was left open.  NULL is fine for give.  BH_E_UNAVAILABLE where the
 * server cannot be reached or all are busy.  Once a connection came back
 * broken, all that were made before it are made anew when they are next taken.
 */
enum bh_code bh_db_take(
    struct bh_db_pool *pool, struct bh_db **ret_db, struct bh_error *err) BH_MUSTCHECK;
void bh_db_give(struct bh_db *db);

/**
 * bh_db_patience(db, ms):
 * Until it is given back, wait at most ${ms} for the answer to each statement,
 * instead of a little more than the server's own statement timeout.  Past that
 * the connection counts as broken: a frozen server must not freeze who asks.
 */
void bh_db_patience(struct bh_db *db, int ms);

/** bh_db_conn(db): the libpq connection, for LISTEN and the like; borrowed. */
PGconn *bh_db_conn(struct bh_db *db);

/**
 * bh_db_exec(db, ret_result, err, sql, count, params):
 * Run one statement with ${count} text parameters (NULL: SQL NULL).  ${ret_result}
 * may be NULL; else the caller PQclears it.  BH_E_UNAVAILABLE where the
 * connection broke; BH_E_CONFLICT for serialization failures, deadlocks and
 * unique violations; BH_E_INTERNAL for other SQL errors (detail: SQLSTATE and message).
 */
enum bh_code bh_db_exec(struct bh_db *db, PGresult **ret_result, struct bh_error *err,
    const char *sql, int count, const char *const *params) BH_MUSTCHECK;

/* The same with the parameters as arguments: bh_db_run(db, &res, err, "SELECT $1", "x"). */
#define bh_db_run(db, ret_result, err, sql, ...)                                                   \
    bh_db_exec((db), (ret_result), (err), (sql),                                                   \
        (int)(sizeof((const char *const[]){NULL, ##__VA_ARGS__}) / sizeof(const char *)) - 1,      \
        ((const char *const[]){NULL, ##__VA_ARGS__}) + 1)

/** bh_db_begin / bh_db_commit / bh_db_rollback: rollback never fails and is fine outside a
 * transaction. */
enum bh_code bh_db_begin(struct bh_db *db, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_db_commit(struct bh_db *db, struct bh_error *err) BH_MUSTCHECK;
void bh_db_rollback(struct bh_db *db);

/** bh_db_finish(db, code, err): commit where ${code} is BH_OK, else roll back; what became of it.
 */
enum bh_code bh_db_finish(struct bh_db *db, enum bh_code code, struct bh_error *err) BH_MUSTCHECK;

/* Fields of a result: NULL text and 0 for SQL NULL; times in µs since the epoch
 * (select them as `(extract(epoch from t) * 1000000)::bigint`). */
const char *bh_db_text(const PGresult *result, int row, int column, struct bh_arena *arena);
int64_t bh_db_int(const PGresult *result, int row, int column);
bool bh_db_null(const PGresult *result, int row, int column);

/**
 * bh_db_migrate(db, err):
 * Bring the registry's schema up to date: apply the numbered files of
 * control/registry/sql (compiled in), each in a transaction, under one advisory
 * lock, so that several daemons may start at once.  BH_E_CONFIG where the
 * registry is newer than this program.
 */
enum bh_code bh_db_migrate(struct bh_db *db, struct bh_error *err) BH_MUSTCHECK;

#endif
