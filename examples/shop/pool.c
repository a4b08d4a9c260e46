#include "pool.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PER_ALIAS 16
#define IN_TOTAL 64
#define WAIT_S 2
#define IDLE_S 30

enum state { FREE, OPENING, IDLE, BUSY };

struct slot {
    enum state state;
    PGconn *conn;
    time_t since; /* idle since, monotonic */
    char alias[SHOP_ALIAS_MAX + 1];
};

struct shop_pool {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char *conninfo;
    time_t complained; /* about a failed connection; guarded by ${lock} */
    struct slot slots[IN_TOTAL];
};

bool
shop_alias_ok(const char *alias)
{
    size_t len = strlen(alias);
    return len >= 1 && len <= SHOP_ALIAS_MAX && alias[0] >= 'a' && alias[0] <= 'z' &&
           strspn(alias, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

static struct timespec
monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now;
}

struct shop_pool *
shop_pool_new(const char *conninfo)
{
    struct shop_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL || (pool->conninfo = strdup(conninfo)) == NULL) {
        free(pool);
        return NULL;
    }
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->changed, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

void
shop_pool_free(struct shop_pool *pool)
{
    for (size_t i = 0; i < IN_TOTAL; i++)
        PQfinish(pool->slots[i].conn);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->conninfo);
    free(pool);
}

static void
drop(struct slot *slot)
{
    PQfinish(slot->conn);
    *slot = (struct slot){.state = FREE};
}

/* An idle connection has nothing to say: readable means closed or broken. */
static bool
is_alive(PGconn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
    return fd.fd >= 0 && poll(&fd, 1, 0) == 0;
}

static struct slot *
find_idle(struct shop_pool *pool, const char *alias)
{
    for (size_t i = 0; i < IN_TOTAL; i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->state != IDLE || strcmp(slot->alias, alias) != 0)
            continue;
        if (is_alive(slot->conn))
            return slot;
        drop(slot);
    }
    return NULL;
}

static void
drop_idle(struct shop_pool *pool, const char *alias)
{
    for (size_t i = 0; i < IN_TOTAL; i++)
        if (pool->slots[i].state == IDLE && strcmp(pool->slots[i].alias, alias) == 0)
            drop(&pool->slots[i]);
}

/* A slot for a new connection: unused, or that of another alias's longest idle one. */
static struct slot *
find_room(struct shop_pool *pool, const char *alias)
{
    struct slot *unused = NULL, *oldest = NULL;
    size_t ours = 0;
    for (size_t i = 0; i < IN_TOTAL; i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->state == FREE)
            unused = slot;
        else if (strcmp(slot->alias, alias) == 0)
            ours++;
        else if (slot->state == IDLE && (oldest == NULL || slot->since < oldest->since))
            oldest = slot;
    }
    if (ours >= PER_ALIAS)
        return NULL;
    if (unused == NULL && oldest != NULL) {
        drop(oldest);
        unused = oldest;
    }
    return unused;
}

/* Wait for an idle connection or for room; NULL when the time is up.  Called with the lock. */
static struct slot *
wait_slot(struct shop_pool *pool, const char *alias, bool fresh)
{
    struct timespec deadline = monotonic();
    deadline.tv_sec += WAIT_S;
    if (fresh)
        drop_idle(pool, alias);
    for (;;) {
        struct slot *slot = fresh ? NULL : find_idle(pool, alias);
        if (slot == NULL)
            slot = find_room(pool, alias);
        if (slot != NULL)
            return slot;
        if (pthread_cond_timedwait(&pool->changed, &pool->lock, &deadline) != 0)
            return NULL;
    }
}

/* An outage is one fact, not one for each request: a line a second says enough. */
static void
complain(struct shop_pool *pool, const char *alias, const char *why)
{
    time_t now = monotonic().tv_sec;
    pthread_mutex_lock(&pool->lock);
    bool speak = pool->complained != now;
    pool->complained = now;
    pthread_mutex_unlock(&pool->lock);
    if (speak)
        fprintf(stderr, "bulkhead-shop: cannot connect to database %s: %s", alias, why);
}

static PGconn *
connect_to(struct shop_pool *pool, const char *alias)
{
    /* libpq expands the first dbname only, so an alias stays a plain name. */
    const char *names[] = {
        "dbname", "dbname", "connect_timeout", "application_name", "client_encoding", NULL};
    const char *values[] = {pool->conninfo, alias, "3", "bulkhead-shop", "UTF8", NULL};
    PGconn *conn = PQconnectdbParams(names, values, 1);
    if (PQstatus(conn) == CONNECTION_OK && PQsetnonblocking(conn, 1) == 0)
        return conn;
    complain(pool, alias, PQerrorMessage(conn));
    PQfinish(conn);
    return NULL;
}

enum shop_taken
shop_pool_take(struct shop_pool *pool, const char *alias, bool fresh, PGconn **ret_conn)
{
    pthread_mutex_lock(&pool->lock);
    struct slot *slot = wait_slot(pool, alias, fresh);
    bool open = slot != NULL && slot->state == FREE;
    if (slot != NULL) {
        slot->state = open ? OPENING : BUSY;
        snprintf(slot->alias, sizeof(slot->alias), "%s", alias);
    }
    pthread_mutex_unlock(&pool->lock);
    if (slot == NULL)
        return SHOP_POOL_FULL;
    if (open) {
        PGconn *conn = connect_to(pool, alias);
        pthread_mutex_lock(&pool->lock);
        slot->conn = conn;
        slot->state = conn != NULL ? BUSY : FREE;
        pthread_cond_broadcast(&pool->changed);
        pthread_mutex_unlock(&pool->lock);
        if (conn == NULL)
            return SHOP_CONNECT_FAILED;
    }
    *ret_conn = slot->conn;
    return SHOP_TAKEN;
}

void
shop_pool_give(struct shop_pool *pool, PGconn *conn)
{
    bool keep = PQstatus(conn) == CONNECTION_OK && PQpipelineStatus(conn) == PQ_PIPELINE_OFF &&
                PQtransactionStatus(conn) == PQTRANS_IDLE;
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < IN_TOTAL; i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->conn != conn || slot->state != BUSY)
            continue;
        slot->since = monotonic().tv_sec;
        slot->state = IDLE;
        if (!keep)
            drop(slot);
        break;
    }
    /* All of them: the one that one waiter can use may be of no use to another. */
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

void
shop_pool_sweep(struct shop_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    time_t now = monotonic().tv_sec;
    for (size_t i = 0; i < IN_TOTAL; i++)
        if (pool->slots[i].state == IDLE && now - pool->slots[i].since >= IDLE_S)
            drop(&pool->slots[i]);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}
