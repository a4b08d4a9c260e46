#include "control/api/hub.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "control/api/feedline.h"
#include "control/api/log.h"
#include "control/api/stream.h"
#include "control/registry/registry.h"

#define HEARTBEAT_MS 5000
#define RECONNECT_MS 500
#define PATIENCE_MS 10000
#define BATCH_ROWS 500
#define BATCH_FULL ((size_t)1 << 20) /* documents are large: the others come in the next batch */
#define BATCH_BYTES ((size_t)8 << 20)

/* Where the feed stood when a round began. */
struct round {
    char incarnation[BH_UID_TEXT];
    int64_t head;
    int64_t now_ms;
    bool more; /* some stream has rows to come */
};

static int64_t
clock_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static enum bh_code
read_rows(struct bh_hub *hub, struct bh_stream *stream, struct round *round, struct bh_buf *out,
    struct bh_error *err)
{
    struct bh_feed_row *rows;
    size_t count;

    const struct bh_feed_scope scope = {stream->cell, stream->documents};
    BH_TRY(bh_feed_read(hub->db, out->arena, &scope, stream->seq, BATCH_ROWS, &rows, &count, err));
    size_t taken = 0;
    while (taken < count && out->len < BATCH_FULL)
        bh_feed_line(out, round->incarnation, &rows[taken++]);
    if (!bh_buf_ok(out))
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (taken > 0)
        stream->seq = rows[taken - 1].seq;
    if (taken < count || count == BATCH_ROWS) {
        round->more = true;
        return BH_OK;
    }
    if (stream->beat_ms == 0) /* all that was there at the start is written */
        stream->beat_ms = round->now_ms;
    return BH_OK;
}

static void
beat(struct bh_stream *stream, const struct round *round, struct bh_buf *out)
{
    int64_t head = stream->seq > round->head ? stream->seq : round->head;

    if (stream->beat_ms == 0 || round->now_ms < stream->beat_ms)
        return;
    bh_buf_printf(out, "{\"head\":%lld}\n", (long long)head);
    stream->beat_ms = round->now_ms + HEARTBEAT_MS;
    stream->seq = head; /* no row for this reader lies between */
}

/* Give one stream what is new.  Fails only where the registry does. */
static enum bh_code
feed(struct bh_hub *hub, struct bh_stream *stream, struct round *round, struct bh_error *err)
{
    struct bh_chunks chunks;
    struct bh_buf out;
    enum bh_code code = BH_OK;

    if (!bh_stream_has_room(stream))
        return BH_OK;
    if (memcmp(stream->incarnation, round->incarnation, BH_UID_TEXT) != 0) {
        bh_stream_deliver(stream, BH_STR(""), true);
        return BH_OK;
    }
    bh_chunks_init(&chunks);
    bh_buf_init_arena(&out, &chunks.arena, BATCH_BYTES);
    if (stream->seq < round->head || stream->beat_ms == 0)
        code = read_rows(hub, stream, round, &out, err);
    if (code == BH_OK && !round->more)
        beat(stream, round, &out);
    if (code == BH_OK && out.len > 0)
        bh_stream_deliver(stream, bh_buf_str(&out), false);
    else if (code == BH_E_GONE || code == BH_E_NO_MEMORY)
        bh_stream_deliver(stream, BH_STR(""), true);
    bh_chunks_fini(&chunks);
    return code == BH_E_GONE || code == BH_E_NO_MEMORY ? BH_OK : code;
}

static enum bh_code
run_round(struct bh_hub *hub, struct round *round, struct bh_error *err)
{
    struct bh_stream *stream = NULL;
    enum bh_code code;

    round->more = false;
    round->now_ms = clock_ms();
    BH_TRY(bh_feed_head(hub->db, round->incarnation, &round->head, err));
    code = BH_OK;
    while ((stream = bh_stream_step(hub, stream)) != NULL) {
        struct round one = *round;
        one.more = false;
        if (code == BH_OK)
            code = feed(hub, stream, &one, err);
        round->more = round->more || one.more;
    }
    return code;
}

static enum bh_code
connect_watcher(struct bh_hub *hub, struct bh_error *err)
{
    if (hub->db != NULL)
        return BH_OK;
    BH_TRY(bh_db_take(hub->pool, &hub->db, err));
    bh_db_patience(hub->db, PATIENCE_MS);
    return bh_db_run(hub->db, NULL, err, "LISTEN bulkhead_feed");
}

/* Take the notifications that have come; were there any? */
static bool
take_notifications(struct bh_hub *hub)
{
    PGnotify *notify;
    bool any = false;

    while ((notify = PQnotifies(bh_db_conn(hub->db))) != NULL) {
        PQfreemem(notify);
        any = true;
    }
    return any;
}

/* When the next heartbeat is due, in ms from now. */
static int
until_beat(struct bh_hub *hub)
{
    int64_t now = clock_ms();
    int64_t due = now + HEARTBEAT_MS;

    (void)pthread_mutex_lock(&hub->lock);
    for (const struct bh_stream *stream = hub->streams; stream != NULL; stream = stream->next)
        if (!stream->dead && !stream->ended && !stream->starved && stream->beat_ms < due)
            due = stream->beat_ms;
    (void)pthread_mutex_unlock(&hub->lock);
    return due <= now ? 0 : (int)(due - now);
}

static void
wait_for_news(struct bh_hub *hub, int timeout_ms)
{
    struct pollfd fds[2] = {
        {.fd = hub->wake, .events = POLLIN},
        {.fd = hub->db == NULL ? -1 : PQsocket(bh_db_conn(hub->db)), .events = POLLIN},
    };
    uint64_t count;

    if (poll(fds, 2, timeout_ms) < 0)
        return;
    if (fds[0].revents != 0 && read(hub->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
        bh_log("feed", "cannot read the watcher's eventfd: %s", strerror(errno));
    if (fds[1].revents != 0)
        (void)PQconsumeInput(bh_db_conn(hub->db)); /* a broken connection shows in the round */
}

static bool
stopping(struct bh_hub *hub)
{
    bool stop;

    (void)pthread_mutex_lock(&hub->lock);
    stop = hub->stop;
    (void)pthread_mutex_unlock(&hub->lock);
    return stop;
}

static void *
watch(void *arg)
{
    struct bh_hub *hub = arg;
    struct round round;
    struct bh_error err;
    bool down = false;

    while (!stopping(hub)) {
        enum bh_code code = connect_watcher(hub, &err);
        if (code == BH_OK)
            code = run_round(hub, &round, &err);
        if (code != BH_OK) {
            if (!down)
                bh_log("feed", "the registry does not answer: %s", err.detail);
            down = true;
            bh_db_give(hub->db);
            hub->db = NULL;
            wait_for_news(hub, RECONNECT_MS);
            continue;
        }
        if (down)
            bh_log("feed", "the registry answers again");
        down = false;
        if (!take_notifications(hub) && !round.more)
            wait_for_news(hub, until_beat(hub));
    }
    return NULL;
}

/* ---- start and stop ---- */

enum bh_code
bh_hub_start(const char *registry, struct bh_hub **ret_hub, struct bh_error *err)
{
    struct bh_hub *hub = calloc(1, sizeof(*hub));
    enum bh_code code;

    if (hub == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    (void)pthread_mutex_init(&hub->lock, NULL);
    hub->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    code = bh_db_pool_new(registry, 1, &hub->pool, err);
    if (code == BH_OK && hub->wake < 0)
        code = bh_fail(err, BH_E_INTERNAL, "eventfd: %s", strerror(errno));
    if (code == BH_OK && pthread_create(&hub->thread, NULL, watch, hub) != 0)
        code = bh_fail(err, BH_E_INTERNAL, "cannot start the feed's thread");
    if (code != BH_OK) {
        bh_hub_free(hub);
        return code;
    }
    *ret_hub = hub;
    return BH_OK;
}

void
bh_hub_close(struct bh_hub *hub)
{
    (void)pthread_mutex_lock(&hub->lock);
    hub->stop = true;
    bh_stream_end_all(hub);
    (void)pthread_mutex_unlock(&hub->lock);
    bh_hub_kick(hub);
    (void)pthread_join(hub->thread, NULL);
}

void
bh_hub_free(struct bh_hub *hub)
{
    if (hub == NULL)
        return;
    bh_db_give(hub->db);
    bh_db_pool_free(hub->pool);
    if (hub->wake >= 0)
        (void)close(hub->wake);
    (void)pthread_mutex_destroy(&hub->lock);
    free(hub);
}
