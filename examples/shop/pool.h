/*
 * Connections to the database, kept per alias: PgBouncer's name for the
 * database that holds a tenant.
 *
 * A connection carries no tenant from one use to the next: bulkhead.enter()
 * binds one for a single transaction.  The cap per alias keeps one crowded
 * database from taking all connections; idle ones are closed after a while.
 */
#ifndef SHOP_POOL_H
#define SHOP_POOL_H

#include <libpq-fe.h>
#include <stdbool.h>

struct shop_pool;

#define SHOP_ALIAS_MAX 63

enum shop_taken {
    SHOP_TAKEN,
    SHOP_POOL_FULL, /* nothing came free in time */
    SHOP_CONNECT_FAILED,
};

/** shop_alias_ok(alias): `^[a-z][a-z0-9_]{0,62}$`? */
bool shop_alias_ok(const char *alias);

/** shop_pool_new(conninfo): ${conninfo} is a libpq string without dbname; NULL where memory is
 * short. */
struct shop_pool *shop_pool_new(const char *conninfo);
void shop_pool_free(struct shop_pool *pool);

/**
 * shop_pool_take(pool, alias, fresh, ret_conn):
 * Borrow an idle, living connection to ${alias}, or open one, or wait up to two
 * seconds for one.  ${fresh}: the idle ones are not to be believed, close them
 * and open a new one.
 */
enum shop_taken shop_pool_take(
    struct shop_pool *pool, const char *alias, bool fresh, PGconn **ret_conn);

/** shop_pool_give(pool, conn): hand it back; closed unless it is idle outside any transaction. */
void shop_pool_give(struct shop_pool *pool, PGconn *conn);

/** shop_pool_sweep(pool): close what has been idle for 30 s. */
void shop_pool_sweep(struct shop_pool *pool);

#endif
