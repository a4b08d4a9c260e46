#include "control/flow/work.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "control/failpoint.h"

#define LEASE_MS 10000
#define RECONNECT_MS 500
#define STOP_S 5

int64_t
bh_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
bh_flow_log(const struct bh_flow *flow, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    if (!flow->config.log)
        return;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    flow->config.log(flow->config.log_arg, line);
}

/* ---- waiting ---- */

/* Were there any?  Queries read notifications too, and then the socket stays silent about them. */
static bool
drain_notifications(PGconn *conn)
{
    PGnotify *notify;
    bool any = false;
    while (PQconsumeInput(conn) && (notify = PQnotifies(conn))) {
        PQfreemem(notify);
        any = true;
    }
    return any;
}

void
bh_worker_wait(struct bh_worker *worker, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = worker->flow->wake_fd, .events = POLLIN}, {.fd = -1}};
    PGconn *conn = worker->db ? bh_db_conn(worker->db) : NULL;
    if (conn && drain_notifications(conn))
        return;
    if (conn)
        fds[1] = (struct pollfd){.fd = PQsocket(conn), .events = POLLIN};
    if (poll(fds, 2, timeout_ms) > 0 && fds[1].revents)
        drain_notifications(conn);
}

/* ---- workers ---- */

static bool
connect_worker(struct bh_worker *worker)
{
    struct bh_error err;
    if (worker->db && PQstatus(bh_db_conn(worker->db)) == CONNECTION_OK)
        return true;
    bh_db_give(worker->db);
    worker->db = NULL;
    if (bh_db_take(worker->flow->config.pool, &worker->db, &err) != BH_OK)
        return false;
    if (bh_db_run(worker->db, NULL, &err, "LISTEN bulkhead_flow") == BH_OK)
        return true;
    bh_db_give(worker->db);
    worker->db = NULL;
    return false;
}

static void
set_lease(struct bh_worker *worker, const struct bh_lease *lease)
{
    pthread_mutex_lock(&worker->lock);
    worker->leased = lease != NULL;
    if (lease)
        worker->lease = *lease;
    pthread_mutex_unlock(&worker->lock);
}

static void
run_lease(struct bh_worker *worker, const struct bh_lease *lease)
{
    struct bh_work work = {
        .worker = worker,
        .config = &worker->flow->config,
        .db = worker->db,
        .lease = *lease,
    };
    set_lease(worker, lease);
    bh_chunks_init(&work.memory);
    bh_work_run(&work);
    bh_chunks_fini(&work.memory);
    set_lease(worker, NULL);
    /* What a failure left half open must not reach the next operation. */
    bh_db_rollback(worker->db);
}

static void
work_or_wait(struct bh_worker *worker)
{
    struct bh_error err;
    struct bh_lease lease;
    bool found = false;
    int due_ms = RECONNECT_MS;
    enum bh_code code = bh_lease_take(worker->db, worker->flow, &found, &lease, &err);
    if (code == BH_OK && found) {
        run_lease(worker, &lease);
        return;
    }
    if (code == BH_OK)
        code = bh_lease_due_ms(worker->db, worker->flow->config.cell, &due_ms, &err);
    if (code != BH_OK)
        bh_flow_log(
            worker->flow, "worker %u cannot read the registry: %s", worker->index, err.detail);
    bh_worker_wait(worker, due_ms);
}

static void *
worker_main(void *arg)
{
    struct bh_worker *worker = arg;
    while (!atomic_load(&worker->flow->stopping)) {
        if (connect_worker(worker))
            work_or_wait(worker);
        else
            bh_worker_wait(worker, RECONNECT_MS);
    }
    bh_postgres_close(&worker->postgres);
    if (worker->db) {
        PQclear(PQexec(bh_db_conn(worker->db), "UNLISTEN *"));
        drain_notifications(bh_db_conn(worker->db));
    }
    bh_db_give(worker->db);
    return NULL;
}

/* ---- heartbeat ---- */

static void
beat(struct bh_flow *flow, struct bh_db **db, struct bh_worker *worker)
{
    struct bh_error err;
    pthread_mutex_lock(&worker->lock);
    struct bh_lease lease = worker->lease;
    bool due = worker->leased && !worker->frozen;
    pthread_mutex_unlock(&worker->lock);
    if (!due || (!*db && bh_db_take(flow->config.pool, db, &err) != BH_OK))
        return;
    /* A lease that is lost needs nothing here: the worker's next write tells it. */
    if (bh_lease_beat(*db, &lease, flow->lease_ms, &err) == BH_E_UNAVAILABLE) {
        bh_db_give(*db);
        *db = NULL;
    }
}

static void *
heartbeat_main(void *arg)
{
    struct bh_flow *flow = arg;
    struct bh_db *db = NULL;
    struct pollfd wake = {.fd = flow->wake_fd, .events = POLLIN};
    while (!atomic_load(&flow->stopping)) {
        poll(&wake, 1, flow->lease_ms / 3);
        for (unsigned i = 0; i < flow->config.workers; i++)
            beat(flow, &db, &flow->workers[i]);
    }
    bh_db_give(db);
    return NULL;
}

/* ---- start and stop ---- */

static void
free_flow(struct bh_flow *flow)
{
    for (unsigned i = 0; i < flow->config.workers; i++)
        pthread_mutex_destroy(&flow->workers[i].lock);
    bh_chunks_fini(&flow->memory);
    close(flow->wake_fd);
    free(flow);
}

static struct bh_flow *
new_flow(const struct bh_flow_config *config)
{
    struct bh_flow *flow = calloc(1, sizeof(*flow) + config->workers * sizeof(struct bh_worker));
    if (!flow)
        return NULL;
    flow->config = *config;
    flow->lease_ms = config->lease_ms ? config->lease_ms : LEASE_MS;
    bh_chunks_init(&flow->memory);
    flow->wake_fd = eventfd(0, EFD_CLOEXEC);
    char host[64] = "";
    gethostname(host, sizeof(host) - 1);
    snprintf(flow->owner, sizeof(flow->owner), "%s:%d", host, (int)getpid());
    for (unsigned i = 0; i < config->workers; i++) {
        struct bh_worker *worker = &flow->workers[i];
        worker->flow = flow;
        worker->index = i;
        worker->postgres.conninfo = config->server_conninfo;
        pthread_mutex_init(&worker->lock, NULL);
    }
    return flow;
}

static enum bh_code
start_threads(struct bh_flow *flow, struct bh_error *err)
{
    if (pthread_create(&flow->heartbeat, NULL, heartbeat_main, flow) != 0) {
        free_flow(flow);
        return bh_fail(err, BH_E_NO_MEMORY, "cannot start the heartbeat's thread");
    }
    for (unsigned i = 0; i < flow->config.workers; i++) {
        if (pthread_create(&flow->workers[i].thread, NULL, worker_main, &flow->workers[i]) == 0)
            continue;
        /* The process has no room for what it was asked to do; it will not be told twice. */
        flow->config.workers = i;
        bh_flow_stop(flow);
        return bh_fail(err, BH_E_NO_MEMORY, "cannot start worker %u", i);
    }
    return BH_OK;
}

enum bh_code
bh_flow_start(const struct bh_flow_config *config, struct bh_flow **ret_flow, struct bh_error *err)
{
    struct bh_flow *flow = new_flow(config);
    if (!flow)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for %u workers", config->workers);
    if (flow->wake_fd < 0) {
        bh_fail(err, BH_E_INTERNAL, "no eventfd: %s", strerror(errno));
        free_flow(flow);
        return BH_E_INTERNAL;
    }
    enum bh_code code = bh_migrations_read(config->app_migrations, &flow->memory.arena,
        &flow->migrations, &flow->migration_count, err);
    if (code != BH_OK) {
        free_flow(flow);
        return code;
    }
    bh_failpoint_start(config->state_dir);
    BH_TRY(start_threads(flow, err));
    *ret_flow = flow;
    return BH_OK;
}

static bool
join_until(pthread_t thread, const struct timespec *until)
{
    return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, until) == 0;
}

void
bh_flow_stop(struct bh_flow *flow)
{
    struct timespec until;
    if (!flow)
        return;
    bool joined = true;
    atomic_store(&flow->stopping, true);
    (void)!write(flow->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_S;
    joined = join_until(flow->heartbeat, &until);
    for (unsigned i = 0; i < flow->config.workers; i++)
        joined = join_until(flow->workers[i].thread, &until) && joined;
    /* A thread that still hangs in an engine uses all this until the process ends. */
    if (joined)
        free_flow(flow);
}
