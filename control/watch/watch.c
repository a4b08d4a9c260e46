#include "control/watch/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "control/api/log.h"
#include "control/registry/quota.h"
#include "control/registry/audit.h"
#include "control/watch/reader.h"

#define CONNECTIONS 4
#define PATIENCE_MS 10000
#define PRUNE_MS 60000
#define FEED_ROUNDS 60
#define STOP_S 5
#define START_S 5 /* the first check: what starts together is complete by then */

void
bh_watch_sleep(struct bh_watch *watch, int ms)
{
    struct pollfd fd = {.fd = watch->wake_fd, .events = POLLIN};
    if (!atomic_load(&watch->stopping))
        (void)poll(&fd, 1, ms);
}

enum bh_code
bh_watch_db(struct bh_watch *watch, struct bh_db **ret_db, struct bh_error *err)
{
    BH_TRY(bh_db_take(watch->pool, ret_db, err));
    bh_db_patience(*ret_db, PATIENCE_MS);
    return BH_OK;
}

/* ---- the keeper ---- */

static bool
is_read(const struct bh_watch *watch, const char *server)
{
    for (size_t i = 0; i < watch->reader_count; i++)
        if (strcmp(watch->readers[i]->server, server) == 0)
            return true;
    return false;
}

/* Servers that are new; one that left the registry costs a thread until the daemon's end. */
static enum bh_code
start_readers(struct bh_watch *watch, struct bh_db *db, struct bh_error *err)
{
    struct bh_chunks memory;
    struct bh_watched *servers;
    size_t count;
    bh_chunks_init(&memory);
    enum bh_code code =
        bh_watched_list(db, &memory.arena, watch->config.cell, &servers, &count, err);
    for (size_t i = 0; code == BH_OK && i < count; i++) {
        if (!servers[i].database || is_read(watch, servers[i].server) ||
            watch->reader_count == BH_WATCH_SERVERS_MAX)
            continue;
        code = bh_reader_start(watch, &servers[i], &watch->readers[watch->reader_count], err);
        watch->reader_count += code == BH_OK;
    }
    bh_chunks_fini(&memory);
    return code;
}

/* Every database that is due.  The claim is given back, or runs out. */
static enum bh_code
check_due(struct bh_watch *watch, struct bh_error *err)
{
    enum bh_code code = BH_OK;
    bool found = true;
    while (code == BH_OK && found && !atomic_load(&watch->stopping)) {
        struct bh_chunks memory;
        struct bh_watched place;
        struct bh_db *db;
        BH_TRY(bh_watch_db(watch, &db, err));
        bh_chunks_init(&memory);
        code = bh_selfcheck_claim(db, &memory.arena, watch->config.cell, &place, &found, err);
        bh_db_give(db);
        if (code == BH_OK && found)
            code = bh_watch_check(watch, &place, err);
        bh_chunks_fini(&memory);
    }
    return code;
}

/* ${turn} counts the rounds of pruning; the feed is looked through each hour. */
static enum bh_code
prune(struct bh_watch *watch, int64_t turn, struct bh_db *db, struct bh_error *err)
{
    int64_t pruned;
    if (turn % FEED_ROUNDS == 0) {
        BH_TRY(bh_feed_prune(db, &pruned, err));
        if (pruned > 0)
            bh_log("watch", "%lld rows of the feed were pruned", (long long)pruned);
        BH_TRY(bh_budget_prune(db, &pruned, err));
    }
    BH_TRY(bh_audit_prune(db, watch->config.audit_days, watch->config.audit_rows, &pruned, err));
    if (pruned > 0)
        bh_log("watch", "%lld audit rows were pruned", (long long)pruned);
    return BH_OK;
}

/* One turn; ${turn} counts them from 0. */
static enum bh_code
keep(struct bh_watch *watch, int64_t turn, struct bh_error *err)
{
    struct bh_db *db;
    int64_t asked_us;
    int every = 1 + PRUNE_MS / watch->config.interval_ms;
    BH_TRY(bh_watch_db(watch, &db, err));
    enum bh_code code = start_readers(watch, db, err);
    if (code == BH_OK && turn == 0)
        code = bh_selfcheck_wake(db, watch->config.cell, START_S, &asked_us, err);
    if (code == BH_OK && turn % every == 0)
        code = prune(watch, turn / every, db, err);
    bh_db_give(db);
    BH_TRY(code);
    return check_due(watch, err);
}

static void *
keep_on(void *arg)
{
    struct bh_watch *watch = arg;
    struct bh_error err;
    int64_t turn = 0;
    bool failed = false;
    while (!atomic_load(&watch->stopping)) {
        enum bh_code code = keep(watch, turn, &err);
        if (code == BH_OK)
            turn++;
        else if (!failed)
            bh_log("watch",
                "self-checks and pruning failed and are tried again every %d ms; see bulkhead server "
                "list: %s",
                (int)watch->config.interval_ms, err.detail);
        failed = code != BH_OK;
        bh_watch_sleep(watch, watch->config.interval_ms);
    }
    return NULL;
}

/* ---- start and stop ---- */

static void
free_watch(struct bh_watch *watch)
{
    for (size_t i = 0; i < watch->reader_count; i++)
        bh_reader_free(watch->readers[i]);
    bh_db_pool_free(watch->pool);
    if (watch->wake_fd >= 0)
        (void)close(watch->wake_fd);
    free(watch);
}

enum bh_code
bh_watch_start(
    const struct bh_watch_config *config, struct bh_watch **ret_watch, struct bh_error *err)
{
    struct bh_watch *watch = calloc(1, sizeof(*watch));
    char host[64] = "";
    if (!watch)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the watch");
    watch->config = *config;
    watch->wake_fd = eventfd(0, EFD_CLOEXEC);
    (void)gethostname(host, sizeof(host) - 1);
    (void)snprintf(watch->owner, sizeof(watch->owner), "%s:%d", host, (int)getpid());
    enum bh_code code = bh_db_pool_new(config->registry, CONNECTIONS, &watch->pool, err);
    if (code == BH_OK && watch->wake_fd < 0)
        code = bh_fail(err, BH_E_INTERNAL, "no eventfd: %s", strerror(errno));
    if (code == BH_OK && pthread_create(&watch->keeper, NULL, keep_on, watch) != 0)
        code = bh_fail(err, BH_E_NO_MEMORY, "cannot start the watch's thread");
    if (code != BH_OK) {
        free_watch(watch);
        return code;
    }
    *ret_watch = watch;
    return BH_OK;
}

static bool
join_until(pthread_t thread, const struct timespec *until)
{
    return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, until) == 0;
}

void
bh_watch_stop(struct bh_watch *watch)
{
    struct timespec until;
    if (!watch)
        return;
    atomic_store(&watch->stopping, true);
    (void)!write(watch->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_S;
    if (!join_until(watch->keeper, &until))
        return; /* it may still start readers; all this stays until the process ends */
    bool joined = true;
    for (size_t i = 0; i < watch->reader_count; i++)
        joined = join_until(watch->readers[i]->thread, &until) && joined;
    if (joined)
        free_watch(watch);
}
