#include "agent/node.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/log.h"

#define WRITER_WAIT_US 3000000

/* How old the snapshot is that an earlier agent left: its file says when it was last written. */
static int64_t
last_write_us(const char *snapshot)
{
    char path[4096];
    struct stat st;
    struct bh_buf buf;
    bh_buf_init(&buf, path, sizeof(path));
    bh_buf_printf(&buf, "%s/data.mdb", snapshot);
    if (!bh_buf_ok(&buf) || stat(path, &st) != 0)
        return bh_mono_us();
    int64_t age = bh_now_us() - (int64_t)st.st_mtim.tv_sec * 1000000;
    return bh_mono_us() - (age > 0 ? age : 0);
}

/* The agent before us may be on its way out: its files close one after the other. */
static enum bh_code
open_writer(struct bh_node *node, struct bh_error *err)
{
    int64_t until = bh_mono_us() + WRITER_WAIT_US;
    for (;;) {
        enum bh_code code = bh_writer_open(node->config.snapshot, &node->writer, err);
        if (code != BH_E_CONFLICT || bh_mono_us() > until)
            return code;
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
}

enum bh_code
bh_node_open(struct bh_node *node, const struct bh_node_config *config, struct bh_error *err)
{
    memset(node, 0, sizeof(*node));
    node->config = *config;
    pthread_mutex_init(&node->writing, NULL);
    pthread_mutex_init(&node->lock, NULL);
    bh_held_init(&node->held);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&node->changed, &attr);
    pthread_condattr_destroy(&attr);
    node->heard_us = last_write_us(config->snapshot);
    BH_TRY(open_writer(node, err));
    BH_TRY(bh_writer_meta_get(node->writer, &node->meta, err));
    node->keyring = node->meta.keyring;
    node->commits = 1; /* not counted yet */
    return bh_counters_open(config->counters, true, &node->counters, err);
}

enum bh_code
bh_node_start(struct bh_node *node, struct bh_error *err)
{
    static void *(*const bodies[])(void *) = {
        bh_feed_thread, bh_ack_thread, bh_keys_thread, bh_usage_thread, bh_lease_thread};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        pthread_t thread;
        int rc = pthread_create(&thread, NULL, bodies[i], node);
        if (rc != 0)
            return bh_fail(err, BH_E_INTERNAL, "cannot start a thread: %s", strerror(rc));
        pthread_detach(thread);
    }
    return BH_OK;
}

enum bh_code
bh_node_commit(
    struct bh_node *node, const struct bh_uid *incarnation, uint64_t seq, struct bh_error *err)
{
    pthread_mutex_lock(&node->lock);
    struct bh_snapshot_meta meta = {*incarnation, seq, node->keyring};
    pthread_mutex_unlock(&node->lock);
    BH_TRY(bh_writer_meta(node->writer, &meta, err));
    BH_TRY(bh_writer_commit(node->writer, err));
    node->commits++;
    pthread_mutex_lock(&node->lock);
    node->meta = meta;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    return BH_OK;
}

void
bh_node_wait(struct bh_node *node, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + ms % 1000 * 1000000;
    until.tv_sec += ms / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    (void)pthread_cond_timedwait(&node->changed, &node->lock, &until);
}

void
bh_node_refresh_keys(struct bh_node *node)
{
    pthread_mutex_lock(&node->lock);
    node->fetch_keys = true;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

struct bh_counters *
bh_node_counters(struct bh_node *node)
{
    pthread_mutex_lock(&node->lock);
    struct bh_counters *counters = node->counters;
    pthread_mutex_unlock(&node->lock);
    return counters;
}

bool
bh_node_ready(struct bh_node *node)
{
    pthread_mutex_lock(&node->lock);
    bool ready = node->in_step && node->keyed;
    pthread_mutex_unlock(&node->lock);
    return ready;
}

static bool
count_state(void *arg, struct bh_str id, const struct bh_record *record)
{
    (void)id;
    int64_t *counts = arg;
    if (record->state < BH_TENANT_STATE_COUNT)
        counts[record->state]++;
    return true;
}

/*
 * The map of LMDB may move when a write begins, so no reader of this process
 * may be inside then; while a whole snapshot is being replaced the last count
 * stands.
 */
static void
count_tenants(struct bh_node *node, int64_t ret_counts[BH_TENANT_STATE_COUNT])
{
    if (pthread_mutex_trylock(&node->writing) == 0) {
        struct bh_snapshot *snapshot;
        if (node->counted != node->commits &&
            bh_writer_reader(node->writer, &snapshot, NULL) == BH_OK) {
            memset(node->counts, 0, sizeof(node->counts));
            if (bh_snapshot_begin(snapshot, NULL) == BH_OK) {
                bh_snapshot_each(snapshot, count_state, node->counts);
                bh_snapshot_end(snapshot);
            }
            bh_snapshot_close(snapshot);
            node->counted = node->commits;
        }
        pthread_mutex_unlock(&node->writing);
    }
    memcpy(ret_counts, node->counts, sizeof(node->counts));
}

void
bh_node_held(struct bh_node *node)
{
    struct bh_snapshot *snapshot;
    if (!bh_held_stale(&node->held) || pthread_mutex_trylock(&node->writing) != 0)
        return;
    if (bh_writer_reader(node->writer, &snapshot, NULL) == BH_OK) {
        if (bh_snapshot_begin(snapshot, NULL) == BH_OK) {
            bh_held_read(&node->held, snapshot);
            bh_snapshot_end(snapshot);
        }
        bh_snapshot_close(snapshot);
    }
    pthread_mutex_unlock(&node->writing);
}

void
bh_node_json(struct bh_node *node, struct bh_buf *out)
{
    pthread_mutex_lock(&node->lock);
    struct bh_snapshot_meta meta = node->meta;
    int64_t age_ms = (bh_mono_us() - node->heard_us) / 1000;
    pthread_mutex_unlock(&node->lock);
    static const struct bh_uid none;
    char incarnation[BH_UID_TEXT];
    bh_uid_format(&meta.incarnation, incarnation);
    if (memcmp(&meta.incarnation, &none, sizeof(none)) == 0)
        bh_buf_puts(out, "\"snapshot\":{\"incarnation\":null,");
    else
        bh_buf_printf(out, "\"snapshot\":{\"incarnation\":\"%s\",", incarnation);
    bh_buf_printf(out, "\"seq\":%llu,\"age_ms\":%lld},\"tenants\":{", (unsigned long long)meta.seq,
        (long long)age_ms);
    int64_t counts[BH_TENANT_STATE_COUNT] = {0};
    count_tenants(node, counts);
    bh_buf_printf(out, "\"active\":%lld", (long long)counts[BH_TENANT_ACTIVE]);
    for (int i = 0; i < BH_TENANT_STATE_COUNT; i++)
        if (i != BH_TENANT_ACTIVE && counts[i])
            bh_buf_printf(out, ",\"%s\":%lld", bh_tenant_state_name((enum bh_tenant_state)i),
                (long long)counts[i]);
    bh_buf_puts(out, "}");
}
