/*
 * Counters to the control plane: absolute values of slots that changed, about
 * every 4 s.  A post that is lost or repeated is harmless, so this thread keeps
 * nothing but what it has told, and tells all once after a restart.
 *
 * A counters file that was replaced stays mapped and is told on: requests that
 * were in flight, and workers of another version, still count in it.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/http.h"
#include "agent/log.h"
#include "agent/node.h"
#include "agent/slots.h"
#include "core/time.h"

#define EVERY_MS 3500
#define BODY_MAX 61440 /* below the control plane's 64 KiB */
#define SLOT_TEXT_MAX (BH_METER_EDGE_COUNT * 80)

#define SOURCES_MAX 8 /* the current counters file and those that it replaced */

struct source {
    struct bh_counters *counters; /* never unmapped: metrics.c may read it */
    int file;                     /* to ask where the sparse file has data */
    uint64_t *told;               /* per slot: sum of its values when last told; values only grow */
};

struct poster {
    struct bh_node *node;
    struct bh_http *http;
    struct source sources[SOURCES_MAX]; /* the current one last */
    size_t source_count;
    struct source *source; /* that is told now */
    uint32_t *pending;     /* slots in the body */
    uint64_t *sums;        /* theirs */
    size_t count;
    struct bh_buf body;
    char *storage;
};

static uint64_t
sum_of(const struct bh_slot *slot)
{
    uint64_t sum = 0;
    for (int i = 0; i < BH_METER_EDGE_COUNT; i++)
        sum += atomic_load_explicit(&slot->meters[i], memory_order_relaxed);
    return sum;
}

static void
begin_body(struct poster *poster)
{
    char now[BH_TIME_TEXT];
    bh_time_format(bh_now_us(), now);
    bh_buf_reset(&poster->body);
    bh_buf_printf(&poster->body,
        "{\"source\":\"%s\",\"file_epoch\":%" PRIu64 ",\"sampled_at\":\"%s\",\"values\":[",
        poster->node->config.id, poster->source->counters->file_epoch, now);
    poster->count = 0;
}

static void
add_slot(struct poster *poster, uint32_t index)
{
    const struct bh_slot *slot = &poster->source->counters->slots[index];
    uint32_t no = atomic_load_explicit(&slot->no, memory_order_acquire);
    bool first = poster->count == 0;
    uint64_t sum = 0;
    for (int i = 0; i < BH_METER_EDGE_COUNT; i++) {
        uint64_t value = atomic_load_explicit(&slot->meters[i], memory_order_relaxed);
        sum += value;
        bh_buf_printf(&poster->body, "%s{\"no\":%u,\"meter\":\"%s\",\"value\":%" PRIu64 "}",
            first ? "" : ",", no, bh_meter_slug((enum bh_meter)i), value);
        first = false;
    }
    poster->pending[poster->count] = index;
    poster->sums[poster->count++] = sum;
}

static enum bh_code
send_body(struct poster *poster, long *ret_status, struct bh_error *err)
{
    bh_buf_puts(&poster->body, "]}");
    struct bh_str body = bh_buf_str(&poster->body);
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_http_call call = {
        .method = "POST", .path = "/v1/usage", .body = &body, .arena = &chunks.arena};
    enum bh_code code = bh_http_send(poster->http, &call, err);
    bh_chunks_fini(&chunks);
    *ret_status = call.status;
    return code;
}

/* The control plane knows a tenant of the batch no more: tell the others one by one. */
static enum bh_code
tell_singly(struct poster *poster, struct bh_error *err)
{
    size_t count = poster->count;
    for (size_t i = 0; i < count; i++) {
        uint32_t index = poster->pending[i];
        long status;
        begin_body(poster);
        uint32_t kept = poster->pending[0]; /* add_slot writes entry 0 */
        add_slot(poster, index);
        uint64_t sum = poster->sums[0];
        poster->pending[0] = kept;
        BH_TRY(send_body(poster, &status, err));
        if (status >= 500 || status == 401 || status == 403)
            return bh_fail(err, BH_E_UNAVAILABLE, "the control plane answered %ld", status);
        if (status >= 300)
            bh_log("usage: counters of tenant number %u were refused with %ld",
                atomic_load(&poster->source->counters->slots[index].no), status);
        poster->source->told[index] = sum;
    }
    return BH_OK;
}

static enum bh_code
flush(struct poster *poster, struct bh_error *err)
{
    if (poster->count == 0)
        return BH_OK;
    long status;
    enum bh_code code = send_body(poster, &status, err);
    if (code == BH_OK && status == 422 && poster->count > 1)
        code = tell_singly(poster, err);
    else if (code == BH_OK && status >= 300 && status != 422)
        code = bh_fail(err, BH_E_UNAVAILABLE, "the control plane answered %ld", status);
    else if (code == BH_OK)
        for (size_t i = 0; i < poster->count; i++)
            poster->source->told[poster->pending[i]] = poster->sums[i];
    begin_body(poster);
    return code;
}

static enum bh_code
post_changed(
    void *arg, uint32_t index, const struct bh_slot *slot, uint32_t no, struct bh_error *err)
{
    struct poster *poster = arg;
    (void)no;
    if (sum_of(slot) == poster->source->told[index])
        return BH_OK;
    if (poster->body.len + SLOT_TEXT_MAX > BODY_MAX)
        BH_TRY(flush(poster, err));
    add_slot(poster, index);
    return BH_OK;
}

static enum bh_code
post_changes(struct poster *poster, struct bh_error *err)
{
    for (size_t i = 0; i < poster->source_count; i++) {
        poster->source = &poster->sources[i];
        begin_body(poster);
        BH_TRY(bh_slots_each(
            poster->source->file, poster->source->counters, post_changed, poster, err));
        BH_TRY(flush(poster, err));
    }
    return BH_OK;
}

/* ---- which files ---- */

static bool
add_source(struct poster *poster, struct bh_counters *counters)
{
    struct source source = {.counters = counters};
    source.file = open(poster->node->config.counters, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (source.file < 0)
        return false;
    source.told = calloc(counters->capacity, sizeof(*source.told));
    if (!source.told || bh_counters_replaced(counters, poster->node->config.counters)) {
        close(source.file); /* another one has its name already */
        free(source.told);
        return false;
    }
    if (poster->source_count == SOURCES_MAX) {
        close(poster->sources[0].file);
        free(poster->sources[0].told);
        memmove(poster->sources, poster->sources + 1, (SOURCES_MAX - 1) * sizeof(source));
        poster->source_count--;
    }
    poster->sources[poster->source_count++] = source;
    return true;
}

/* Another file has the name: the edge counts there, or will in a second. */
static enum bh_code
follow_file(struct poster *poster, struct bh_error *err)
{
    struct bh_node *node = poster->node;
    struct bh_counters *counters = bh_node_counters(node);
    bool replaced = bh_counters_replaced(counters, node->config.counters);
    if (poster->source_count > 0 && !replaced)
        return BH_OK;
    if (replaced)
        BH_TRY(bh_counters_open(node->config.counters, true, &counters, err));
    if (!add_source(poster, counters)) {
        if (replaced)
            bh_counters_close(counters);
        return BH_OK; /* at the next turn */
    }
    if (!replaced)
        return BH_OK;
    pthread_mutex_lock(&node->lock);
    node->counters = counters;
    pthread_mutex_unlock(&node->lock);
    bh_log("usage: the counters file %s was replaced: the new one is told, and what still changes "
           "in the old one",
        node->config.counters);
    return BH_OK;
}

static bool
prepare(struct poster *poster, struct bh_node *node)
{
    struct bh_error err;
    size_t most = BODY_MAX / BH_METER_EDGE_COUNT / 40;
    *poster = (struct poster){.node = node};
    poster->pending = calloc(most, sizeof(*poster->pending));
    poster->sums = calloc(most, sizeof(*poster->sums));
    poster->storage = malloc(BODY_MAX + 16);
    if (!poster->pending || !poster->sums || !poster->storage)
        return false;
    bh_buf_init(&poster->body, poster->storage, BODY_MAX + 16);
    return bh_http_new(node->config.url, node->config.token, &poster->http, &err) == BH_OK;
}

void *
bh_usage_thread(void *arg)
{
    struct poster poster;
    if (!prepare(&poster, arg))
        abort();
    bool failing = false;
    for (;;) {
        struct bh_error err = {.code = BH_OK};
        bool ok = follow_file(&poster, &err) == BH_OK && post_changes(&poster, &err) == BH_OK;
        if (!ok && !failing)
            bh_log_error("usage", &err);
        failing = !ok;
        int64_t us = bh_jitter(EVERY_MS * 1000);
        nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
    }
    return NULL;
}
