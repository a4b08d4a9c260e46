/*
 * Acknowledgements: what this node has applied, told at once when it changes
 * and every 5 s, on a connection of its own so that the feed never waits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/http.h"
#include "agent/log.h"
#include "agent/node.h"

#define EVERY_MS 5000
#define HELD_MS                                                                                    \
    20 /* between two looks at the requests in flight of tenants that are being moved              \
        */
#define RETRY_US 500000

struct told {
    struct bh_uid incarnation;
    uint64_t seq;
    uint32_t key_epoch;
    char in_flight[BH_HELD_TEXT];
};

struct teller {
    struct bh_node *node;
    struct bh_http *http;
    struct bh_held_counts counts;
    struct told now;
    struct told last;
    char body[BH_HELD_TEXT + 256];
};

/* What is applied first, then the counts: they are of a time when it was. */
static void
look(struct teller *teller)
{
    struct bh_node *node = teller->node;
    struct told *now = &teller->now;
    pthread_mutex_lock(&node->lock);
    now->incarnation = node->meta.incarnation;
    now->seq = node->meta.seq;
    now->key_epoch = node->key_epoch;
    pthread_mutex_unlock(&node->lock);
    bh_node_held(node);
    bh_held_json(&node->held, &teller->counts, node->config.counters, bh_node_counters(node),
        now->in_flight);
}

static bool
is_news(const struct told *now, const struct told *last)
{
    return now->seq != last->seq || now->key_epoch != last->key_epoch ||
           memcmp(&now->incarnation, &last->incarnation, sizeof(now->incarnation)) != 0 ||
           strcmp(now->in_flight, last->in_flight) != 0;
}

static void
wait_for_change(struct bh_node *node, const struct told *seen, int64_t ms)
{
    pthread_mutex_lock(&node->lock);
    if (node->meta.seq == seen->seq && node->key_epoch == seen->key_epoch &&
        memcmp(&node->meta.incarnation, &seen->incarnation, sizeof(seen->incarnation)) == 0)
        bh_node_wait(node, ms);
    pthread_mutex_unlock(&node->lock);
}

/* Wait until there is something to tell. */
static void
next(struct teller *teller)
{
    static const struct bh_uid none;
    int64_t until = bh_mono_us() + EVERY_MS * 1000;
    for (;;) {
        look(teller);
        int64_t left = until - bh_mono_us();
        bool known = memcmp(&teller->now.incarnation, &none, sizeof(none)) != 0;
        if (known && (left <= 0 || is_news(&teller->now, &teller->last)))
            return;
        int64_t ms = left > 0 ? left / 1000 + 1 : EVERY_MS;
        bool held = bh_held_any(&teller->node->held) && ms > HELD_MS;
        wait_for_change(teller->node, &teller->now, held ? HELD_MS : ms);
    }
}

static enum bh_code
tell(struct teller *teller, struct bh_error *err)
{
    const struct told *now = &teller->now;
    char path[160], incarnation[BH_UID_TEXT];
    bh_uid_format(&now->incarnation, incarnation);
    snprintf(path, sizeof(path), "/v1/agents/%s", teller->node->config.id);
    int len = snprintf(teller->body, sizeof(teller->body),
        "{\"applied\":{\"incarnation\":\"%s\",\"seq\":%llu},\"key_epoch\":%u,\"in_flight\":%s}",
        incarnation, (unsigned long long)now->seq, now->key_epoch, now->in_flight);
    struct bh_str text = {teller->body, (size_t)len};
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_http_call call = {
        .method = "PUT", .path = path, .body = &text, .arena = &chunks.arena};
    enum bh_code code = bh_http_send(teller->http, &call, err);
    bh_chunks_fini(&chunks);
    BH_TRY(code);
    if (call.status >= 300)
        return bh_fail(err, BH_E_UNAVAILABLE, "the control plane answered %ld to %s", call.status,
            "an acknowledgement");
    return BH_OK;
}

void *
bh_ack_thread(void *arg)
{
    struct bh_error err;
    struct teller *teller = calloc(1, sizeof(*teller));
    if (!teller)
        abort();
    teller->node = arg;
    const struct bh_node_config *config = &teller->node->config;
    if (bh_http_new(config->url, config->token, &teller->http, &err) != BH_OK)
        abort();
    bool failing = false;
    for (;;) {
        next(teller);
        err.hint[0] = '\0';
        bool ok = tell(teller, &err) == BH_OK;
        if (!ok && !failing)
            bh_log_error("acknowledge", &err);
        failing = !ok;
        if (ok)
            teller->last = teller->now;
        else
            nanosleep(&(struct timespec){0, bh_jitter(RETRY_US) * 1000}, NULL);
    }
    return NULL;
}
