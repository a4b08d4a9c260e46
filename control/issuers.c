#include "control/issuers.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "control/api/log.h"
#include "control/registry/credential.h"
#include "engine/jwks/fetch.h"

#define LOOK_MS 250
#define SWEEP_TURNS 240 /* of looks: a minute */
#define PATIENCE_MS 10000
#define STOP_S 15

struct bh_issuers {
    struct bh_issuers_config config;
    struct bh_db_pool *pool;
    pthread_t thread;
    _Atomic bool stopping;
    int wake_fd; /* readable once it stops */
    bool failed; /* the last look at the registry */
};

static enum bh_code
take_db(struct bh_issuers *issuers, struct bh_db **ret_db, struct bh_error *err)
{
    BH_TRY(bh_db_take(issuers->pool, ret_db, err));
    bh_db_patience(*ret_db, PATIENCE_MS);
    return BH_OK;
}

/* Tell the registry what came of it; ${failure} NULL: ${answer} did. */
static enum bh_code
tell(struct bh_issuers *issuers, const struct bh_issuer_due *due,
    const struct bh_jwks_answer *answer, const char *failure, struct bh_error *err)
{
    struct bh_db *db;
    BH_TRY(take_db(issuers, &db, err));
    enum bh_code code = failure == NULL
                            ? bh_issuer_fetched(db, due, answer->keys.data, answer->fresh_s, err)
                            : bh_issuer_failed(db, due, failure, err);
    bh_db_give(db);
    return code;
}

/* No connection is held while the issuer is asked: it may be slow. */
static enum bh_code
fetch(struct bh_issuers *issuers, const struct bh_issuer_due *due, struct bh_arena *arena,
    struct bh_error *err)
{
    struct bh_error why = {.code = BH_OK};
    struct bh_jwks_answer answer;
    const struct bh_jwks_source source = {.issuer = due->issuer,
        .jwks_url = due->jwks_url,
        .ca_file = issuers->config.ca_file,
        .private_allowed = issuers->config.private_allowed,
        .stopping = &issuers->stopping};
    if (bh_jwks_fetch(&source, arena, &answer, &why) == BH_OK) {
        if (due->failed_before)
            bh_log("issuers", "issuer %s: its keys were fetched again", due->name);
        return tell(issuers, due, &answer, NULL, err);
    }
    if (atomic_load(&issuers->stopping))
        return BH_OK; /* it was not the issuer's fault; the claim runs out */
    if (!due->failed_before)
        bh_log("issuers",
            "issuer %s: its keys cannot be fetched, the last good ones stay, it is tried again; see "
            "bulkhead issuer get %s: %s",
            due->name, due->name, why.detail);
    return tell(issuers, due, NULL, why.detail, err);
}

/* One that is due, if any is. */
static enum bh_code
fetch_due(struct bh_issuers *issuers, struct bh_arena *arena, bool *ret_found, struct bh_error *err)
{
    struct bh_issuer_due due;
    struct bh_db *db;
    BH_TRY(take_db(issuers, &db, err));
    enum bh_code code = bh_issuer_claim(db, arena, &due, ret_found, err);
    bh_db_give(db);
    BH_TRY(code);
    return *ret_found ? fetch(issuers, &due, arena, err) : BH_OK;
}

static enum bh_code
sweep(struct bh_issuers *issuers, struct bh_error *err)
{
    struct bh_db *db;
    int64_t count;
    BH_TRY(take_db(issuers, &db, err));
    enum bh_code code = bh_apikey_sweep(db, &count, err);
    bh_db_give(db);
    if (code == BH_OK && count > 0)
        bh_log("issuers", "%lld API keys of tenants that are gone were revoked", (long long)count);
    return code;
}

static enum bh_code
look(struct bh_issuers *issuers, int64_t turn, struct bh_error *err)
{
    bool found = true;
    enum bh_code code = turn % SWEEP_TURNS == 0 ? sweep(issuers, err) : BH_OK;
    while (code == BH_OK && found && !atomic_load(&issuers->stopping)) {
        struct bh_chunks memory;
        bh_chunks_init(&memory);
        code = fetch_due(issuers, &memory.arena, &found, err);
        bh_chunks_fini(&memory);
    }
    return code;
}

static void *
keep_on(void *arg)
{
    struct bh_issuers *issuers = arg;
    struct pollfd fd = {.fd = issuers->wake_fd, .events = POLLIN};
    struct bh_error err;
    for (int64_t turn = 0; !atomic_load(&issuers->stopping); turn++) {
        bool failed = look(issuers, turn, &err) != BH_OK;
        if (failed && !issuers->failed)
            bh_log("issuers", "keys of issuers are not fetched, it is tried again: %s", err.detail);
        issuers->failed = failed;
        (void)poll(&fd, 1, LOOK_MS);
    }
    return NULL;
}

static void
free_issuers(struct bh_issuers *issuers)
{
    bh_db_pool_free(issuers->pool);
    if (issuers->wake_fd >= 0)
        (void)close(issuers->wake_fd);
    free(issuers);
}

enum bh_code
bh_issuers_start(
    const struct bh_issuers_config *config, struct bh_issuers **ret_issuers, struct bh_error *err)
{
    struct bh_issuers *issuers = calloc(1, sizeof(*issuers));
    if (issuers == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the keys of issuers");
    issuers->config = *config;
    issuers->wake_fd = eventfd(0, EFD_CLOEXEC);
    enum bh_code code = bh_db_pool_new(config->registry, 1, &issuers->pool, err);
    if (code == BH_OK && issuers->wake_fd < 0)
        code = bh_fail(err, BH_E_INTERNAL, "no eventfd: %s", strerror(errno));
    if (code == BH_OK && pthread_create(&issuers->thread, NULL, keep_on, issuers) != 0)
        code = bh_fail(err, BH_E_NO_MEMORY, "cannot start the thread for the keys of issuers");
    if (code != BH_OK) {
        free_issuers(issuers);
        return code;
    }
    *ret_issuers = issuers;
    return BH_OK;
}

void
bh_issuers_stop(struct bh_issuers *issuers)
{
    struct timespec until;
    if (issuers == NULL)
        return;
    atomic_store(&issuers->stopping, true);
    (void)!write(issuers->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_S;
    /* One that is still at work keeps what it uses; the process ends anyway. */
    if (pthread_clockjoin_np(issuers->thread, NULL, CLOCK_MONOTONIC, &until) == 0)
        free_issuers(issuers);
}
