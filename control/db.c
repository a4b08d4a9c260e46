#include "control/db.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/postgres/sql.h"

#define TAKE_TIMEOUT_S 5
#define CONNECT_TIMEOUT_S 3
#define PATIENCE_MS 65000 /* the server ends a statement after 60 s by itself */

struct bh_db {
    struct bh_db_pool *pool;
    PGconn *conn;      /* NULL: not connected */
    unsigned lifetime; /* of the server that it was made to */
    int patience_ms;
    bool taken;
};

struct bh_db_pool {
    pthread_mutex_t lock; /* guards taken */
    /* Where one connection broke, the others are to the same server that went away, though some
     * may not have heard of it yet: the next number has begun, and they are made anew. */
    _Atomic unsigned lifetime;
    pthread_cond_t given;
    char *conninfo;
    unsigned size;
    struct bh_db items[];
};

enum bh_code
bh_db_pool_new(
    const char *conninfo, unsigned size, struct bh_db_pool **ret_pool, struct bh_error *err)
{
    struct bh_db_pool *pool = calloc(1, sizeof(*pool) + size * sizeof(struct bh_db));
    char *copy = strdup(conninfo);
    if (!pool || !copy) {
        free(pool);
        free(copy);
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a pool of %u connections", size);
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->given, &attr);
    pthread_condattr_destroy(&attr);
    pool->conninfo = copy;
    pool->size = size;
    for (unsigned i = 0; i < size; i++)
        pool->items[i].pool = pool;
    *ret_pool = pool;
    return BH_OK;
}

void
bh_db_pool_free(struct bh_db_pool *pool)
{
    if (!pool)
        return;
    for (unsigned i = 0; i < pool->size; i++)
        PQfinish(pool->items[i].conn);
    pthread_cond_destroy(&pool->given);
    pthread_mutex_destroy(&pool->lock);
    free(pool->conninfo);
    free(pool);
}

/* A connected one first: connecting costs milliseconds. */
static struct bh_db *
find_free(struct bh_db_pool *pool)
{
    struct bh_db *free_one = NULL;
    for (unsigned i = 0; i < pool->size; i++) {
        struct bh_db *db = &pool->items[i];
        if (db->taken)
            continue;
        if (db->conn)
            return db;
        free_one = db;
    }
    return free_one;
}

static struct bh_db *
wait_for_free(struct bh_db_pool *pool)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += TAKE_TIMEOUT_S;
    pthread_mutex_lock(&pool->lock);
    struct bh_db *db;
    while (!(db = find_free(pool)))
        if (pthread_cond_timedwait(&pool->given, &pool->lock, &until) == ETIMEDOUT)
            break;
    if (!db)
        db = find_free(pool);
    if (db)
        db->taken = true;
    pthread_mutex_unlock(&pool->lock);
    return db;
}

/* A server that went away closed the socket; one that lives has nothing to say when idle. */
static bool
is_alive(PGconn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
    if (PQstatus(conn) != CONNECTION_OK)
        return false;
    if (poll(&fd, 1, 0) > 0 && !PQconsumeInput(conn))
        return false;
    return PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) == PQTRANS_IDLE;
}

/* Ends what a frozen daemon left open, so that it cannot block the others for ever. */
static const char session_settings[] =
    "SET search_path = public; SET timezone = 'UTC'; SET lock_timeout = '10s';"
    "SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '10s'";

static enum bh_code
connect_db(struct bh_db *db, struct bh_error *err)
{
    PGconn *conn;
    unsigned lifetime = db->pool->lifetime;
    BH_TRY(bh_sql_connect(db->pool->conninfo, NULL, CONNECT_TIMEOUT_S, &conn, err));
    enum bh_code code = bh_sql_script(conn, session_settings, err);
    if (code != BH_OK) {
        PQfinish(conn);
        return code;
    }
    db->conn = conn;
    db->lifetime = lifetime;
    return BH_OK;
}

enum bh_code
bh_db_take(struct bh_db_pool *pool, struct bh_db **ret_db, struct bh_error *err)
{
    struct bh_db *db = wait_for_free(pool);
    if (!db)
        return bh_fail(err, BH_E_UNAVAILABLE,
            "all %u connections to the registry were busy for %d s", pool->size, TAKE_TIMEOUT_S);
    if (db->conn && (db->lifetime != pool->lifetime || !is_alive(db->conn))) {
        PQfinish(db->conn);
        db->conn = NULL;
    }
    if (!db->conn) {
        enum bh_code code = connect_db(db, err);
        if (code != BH_OK) {
            bh_db_give(db);
            return code;
        }
    }
    db->patience_ms = PATIENCE_MS;
    *ret_db = db;
    return BH_OK;
}

void
bh_db_patience(struct bh_db *db, int ms)
{
    db->patience_ms = ms;
}

void
bh_db_give(struct bh_db *db)
{
    if (!db)
        return;
    if (db->conn) {
        bh_db_rollback(db);
        if (PQstatus(db->conn) != CONNECTION_OK) {
            unsigned mine = db->lifetime; /* only the first that breaks ends it */
            atomic_compare_exchange_strong(&db->pool->lifetime, &mine, mine + 1);
            PQfinish(db->conn);
            db->conn = NULL;
        }
    }
    struct bh_db_pool *pool = db->pool;
    pthread_mutex_lock(&pool->lock);
    db->taken = false;
    pthread_cond_signal(&pool->given);
    pthread_mutex_unlock(&pool->lock);
}

PGconn *
bh_db_conn(struct bh_db *db)
{
    return db->conn;
}

static enum bh_code
code_of_sqlstate(const char *state)
{
    static const struct {
        const char *prefix;
        enum bh_code code;
    } table[] = {
        {"08", BH_E_UNAVAILABLE},
        {"57P", BH_E_UNAVAILABLE},   /* the server shuts down or ended this session */
        {"25P03", BH_E_UNAVAILABLE}, /* idle in transaction for too long: the session is gone */
        {"53", BH_E_UNAVAILABLE},
        {"57014", BH_E_UNAVAILABLE}, /* statement timeout */
        {"40", BH_E_CONFLICT},
        {"55P03", BH_E_CONFLICT},
        {"23505", BH_E_CONFLICT},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strncmp(state, table[i].prefix, strlen(table[i].prefix)) == 0)
            return table[i].code;
    return BH_E_INTERNAL;
}

static enum bh_code
fail_with(struct bh_db *db, const PGresult *result, struct bh_error *err)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *message = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    if (PQstatus(db->conn) != CONNECTION_OK || !state) {
        if (!message)
            message = PQerrorMessage(db->conn);
        return bh_fail(err, BH_E_UNAVAILABLE, "the connection to the registry broke: %.*s",
            (int)strcspn(message, "\n"), message);
    }
    return bh_fail(err, code_of_sqlstate(state), "the registry says %s: %s", state,
        message ? message : "no message");
}

/* Like PQexecParams, and it ends in time. */
static PGresult *
exec_in_time(struct bh_db *db, const char *sql, int count, const char *const *params)
{
    const struct bh_sql_call call = {sql, count, params, db->patience_ms};
    return bh_sql_send(db->conn, &call);
}

enum bh_code
bh_db_exec(struct bh_db *db, PGresult **ret_result, struct bh_error *err, const char *sql,
    int count, const char *const *params)
{
    PGresult *result = exec_in_time(db, sql, count, params);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        enum bh_code code = fail_with(db, result, err);
        PQclear(result);
        return code;
    }
    if (ret_result)
        *ret_result = result;
    else
        PQclear(result);
    return BH_OK;
}

enum bh_code
bh_db_begin(struct bh_db *db, struct bh_error *err)
{
    return bh_db_run(db, NULL, err, "BEGIN");
}

enum bh_code
bh_db_commit(struct bh_db *db, struct bh_error *err)
{
    PGresult *result = NULL;
    BH_TRY(bh_db_run(db, &result, err, "COMMIT"));
    /* COMMIT of a failed transaction rolls back, and says so only here. */
    bool committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
    PQclear(result);
    if (!committed)
        return bh_fail(err, BH_E_INTERNAL, "the registry rolled a failed transaction back");
    return BH_OK;
}

void
bh_db_rollback(struct bh_db *db)
{
    if (PQtransactionStatus(db->conn) == PQTRANS_IDLE)
        return;
    PQclear(exec_in_time(db, "ROLLBACK", 0, NULL));
}

enum bh_code
bh_db_finish(struct bh_db *db, enum bh_code code, struct bh_error *err)
{
    if (code == BH_OK)
        return bh_db_commit(db, err);
    bh_db_rollback(db);
    return code;
}

const char *
bh_db_text(const PGresult *result, int row, int column, struct bh_arena *arena)
{
    if (PQgetisnull(result, row, column))
        return NULL;
    return bh_arena_strndup(
        arena, PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}

int64_t
bh_db_int(const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return 0;
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

bool
bh_db_null(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column);
}
