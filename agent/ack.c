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
#define RETRY_US 500000

struct told {
    struct bh_uid incarnation;
    uint64_t seq;
    uint32_t key_epoch;
};

/* Wait until there is something to tell; then take it. */
static struct told
next(struct bh_node *node, const struct told *last)
{
    static const struct bh_uid none;
    struct told now;
    int64_t until = bh_mono_us() + EVERY_MS * 1000;
    pthread_mutex_lock(&node->lock);
    for (;;) {
        now = (struct told){node->meta.incarnation, node->meta.seq, node->key_epoch};
        bool known = memcmp(&now.incarnation, &none, sizeof(none)) != 0;
        bool news = now.seq != last->seq || now.key_epoch != last->key_epoch ||
                    memcmp(&now.incarnation, &last->incarnation, sizeof(none)) != 0;
        int64_t left = until - bh_mono_us();
        if (known && (news || left <= 0))
            break;
        bh_node_wait(node, left > 0 ? left / 1000 + 1 : EVERY_MS);
    }
    pthread_mutex_unlock(&node->lock);
    return now;
}

static enum bh_code
tell(struct bh_node *node, struct bh_http *http, const struct told *now, struct bh_error *err)
{
    char path[160], body[256], incarnation[BH_UID_TEXT];
    bh_uid_format(&now->incarnation, incarnation);
    snprintf(path, sizeof(path), "/v1/agents/%s", node->config.id);
    int len = snprintf(body, sizeof(body),
        "{\"applied\":{\"incarnation\":\"%s\",\"seq\":%llu},\"key_epoch\":%u,\"in_flight\":{}}",
        incarnation, (unsigned long long)now->seq, now->key_epoch);
    struct bh_str text = {body, (size_t)len};
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_http_call call = {
        .method = "PUT", .path = path, .body = &text, .arena = &chunks.arena};
    enum bh_code code = bh_http_send(http, &call, err);
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
    struct bh_node *node = arg;
    struct bh_error err;
    struct bh_http *http;
    if (bh_http_new(node->config.url, node->config.token, &http, &err) != BH_OK)
        abort();
    struct told last = {.seq = 0};
    bool failing = false;
    for (;;) {
        struct told now = next(node, &last);
        err.hint[0] = '\0';
        bool ok = tell(node, http, &now, &err) == BH_OK;
        if (!ok && !failing)
            bh_log_error("acknowledge", &err);
        failing = !ok;
        if (ok)
            last = now;
        else
            nanosleep(&(struct timespec){0, bh_jitter(RETRY_US) * 1000}, NULL);
    }
    return NULL;
}
