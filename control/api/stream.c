#include "control/api/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/api/log.h"

#define PENDING_MAX ((size_t)256 << 10) /* a slow reader gets no more before it took this */

void
bh_hub_kick(struct bh_hub *hub)
{
    const uint64_t one = 1;

    if (write(hub->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
        bh_log("feed", "cannot wake the watcher: %s", strerror(errno));
}

enum bh_code
bh_stream_new(struct bh_hub *hub, const struct bh_feed_scope *scope, const char *incarnation,
    int64_t after, struct bh_stream **ret_stream, struct bh_error *err)
{
    struct bh_stream *stream = calloc(1, sizeof(*stream));

    if (stream != NULL)
        stream->cell = strdup(scope->cell);
    if (stream == NULL || stream->cell == NULL) {
        free(stream);
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    }
    stream->hub = hub;
    stream->refs = 1;
    stream->seq = after;
    stream->documents = scope->documents;
    memcpy(stream->incarnation, incarnation, BH_UID_TEXT);
    (void)pthread_mutex_lock(&hub->lock);
    stream->ended = hub->stop;
    stream->next = hub->streams;
    hub->streams = stream;
    (void)pthread_mutex_unlock(&hub->lock);
    bh_hub_kick(hub);
    *ret_stream = stream;
    return BH_OK;
}

/* With the lock held.  The last reference frees. */
static void
unref(struct bh_stream *stream)
{
    if (--stream->refs > 0)
        return;
    for (struct bh_stream **at = &stream->hub->streams; *at != NULL; at = &(*at)->next)
        if (*at == stream) {
            *at = stream->next;
            break;
        }
    free(stream->cell);
    free(stream->data);
    free(stream);
}

void
bh_stream_drop(struct bh_stream *stream)
{
    struct bh_hub *hub = stream->hub;

    (void)pthread_mutex_lock(&hub->lock);
    stream->dead = true;
    stream->connection = NULL;
    unref(stream);
    (void)pthread_mutex_unlock(&hub->lock);
}

void
bh_stream_bind(struct bh_stream *stream, struct MHD_Connection *connection)
{
    (void)pthread_mutex_lock(&stream->hub->lock);
    stream->connection = connection;
    (void)pthread_mutex_unlock(&stream->hub->lock);
}

ssize_t
bh_stream_read(void *closure, uint64_t position, char *data, size_t size)
{
    struct bh_stream *stream = closure;
    struct bh_hub *hub = stream->hub;
    ssize_t result = 0;
    bool wake = false;

    (void)position;
    (void)pthread_mutex_lock(&hub->lock);
    if (stream->len > 0) {
        size_t take = stream->len < size ? stream->len : size;
        memcpy(data, stream->data + stream->start, take);
        stream->start += take;
        stream->len -= take;
        if (stream->len == 0)
            stream->start = 0;
        wake = stream->starved && stream->len < PENDING_MAX;
        result = (ssize_t)take;
    } else if (stream->ended) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        stream->suspended = true;
        MHD_suspend_connection(stream->connection);
    }
    (void)pthread_mutex_unlock(&hub->lock);
    if (wake)
        bh_hub_kick(hub);
    return result;
}

/* With the lock held. */
static void
resume(struct bh_stream *stream)
{
    if (!stream->suspended)
        return;
    stream->suspended = false;
    MHD_resume_connection(stream->connection);
}

static bool
append(struct bh_stream *stream, struct bh_str text)
{
    if (stream->start > 0) {
        memmove(stream->data, stream->data + stream->start, stream->len);
        stream->start = 0;
    }
    if (stream->len + text.len > stream->cap) {
        size_t cap = 2 * (stream->len + text.len);
        char *data = realloc(stream->data, cap);
        if (data == NULL)
            return false;
        stream->data = data;
        stream->cap = cap;
    }
    memcpy(stream->data + stream->len, text.data, text.len);
    stream->len += text.len;
    return true;
}

void
bh_stream_deliver(struct bh_stream *stream, struct bh_str text, bool end)
{
    (void)pthread_mutex_lock(&stream->hub->lock);
    if (!stream->dead) {
        if (end || !append(stream, text))
            stream->ended = true;
        if (stream->len > 0 || stream->ended)
            resume(stream);
    }
    (void)pthread_mutex_unlock(&stream->hub->lock);
}

bool
bh_stream_has_room(struct bh_stream *stream)
{
    bool room;

    (void)pthread_mutex_lock(&stream->hub->lock);
    room = stream->len < PENDING_MAX;
    stream->starved = !room;
    (void)pthread_mutex_unlock(&stream->hub->lock);
    return room;
}

struct bh_stream *
bh_stream_step(struct bh_hub *hub, struct bh_stream *last)
{
    struct bh_stream *stream;

    (void)pthread_mutex_lock(&hub->lock);
    stream = last == NULL ? hub->streams : last->next;
    while (stream != NULL && (stream->dead || stream->ended))
        stream = stream->next;
    if (stream != NULL)
        stream->refs++;
    if (last != NULL)
        unref(last);
    (void)pthread_mutex_unlock(&hub->lock);
    return stream;
}

void
bh_stream_end_all(struct bh_hub *hub)
{
    for (struct bh_stream *stream = hub->streams; stream != NULL; stream = stream->next) {
        stream->ended = true;
        if (!stream->dead)
            resume(stream);
    }
}
