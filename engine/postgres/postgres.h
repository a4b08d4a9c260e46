/*
 * The drivers of PostgreSQL.  Their `engine` is a struct bh_postgres.
 *
 * `schema` (kind `database`, tier `standard`): a schema t<no> in a shared
 * database, owned by bh_o<no> (NOLOGIN, runs the migrations) and used by
 * bh_t<no> (NOLOGIN, DML only).  Every effect is one transaction that first
 * locks the tenant's row in bulkhead.tenant and refuses an older attempt.  A
 * row never leaves that table: what was removed is `gone` and keeps fencing.
 */
#ifndef BH_ENGINE_POSTGRES_POSTGRES_H
#define BH_ENGINE_POSTGRES_POSTGRES_H

#include <libpq-fe.h>

#include "core/error.h"
#include "engine/driver.h"

/* One worker's way to a server: a connection that is kept while it is good. */
struct bh_postgres {
    const char *conninfo; /* superuser, without a database; borrowed */
    PGconn *conn;         /* NULL: none */
    char database[64];    /* that ${conn} is in */
    unsigned uses;
};

/** bh_postgres_close(postgres): drop the connection, if any; it may be used again. */
void bh_postgres_close(struct bh_postgres *postgres);

/**
 * bh_postgres_use(postgres, database, err):
 * Have ${postgres}->conn be a live connection to ${database}, idle.
 */
enum bh_code bh_postgres_use(
    struct bh_postgres *postgres, const char *database, struct bh_error *err) BH_MUSTCHECK;

extern const struct bh_driver bh_driver_schema;

#endif
