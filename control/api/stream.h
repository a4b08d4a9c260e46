/* The inside of the feed's streams, for hub.c and stream.c alone. */
#ifndef BH_CONTROL_API_STREAM_H
#define BH_CONTROL_API_STREAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/api/hub.h"
#include "control/db.h"
#include "core/str.h"

struct bh_stream {
    struct bh_hub *hub;
    struct bh_stream *next;
    unsigned refs; /* the request's and the watcher's */
    char *cell;
    bool documents; /* its reader knows them */
    char incarnation[BH_UID_TEXT];
    int64_t seq;     /* the last row that was put into data; the watcher's own */
    int64_t beat_ms; /* when the next heartbeat is due; the watcher's own */
    struct MHD_Connection *connection;
    bool suspended;
    bool starved; /* the watcher left rows behind because data was full */
    bool dead;    /* the request is over */
    bool ended;   /* nothing more comes */
    char *data;
    size_t start;
    size_t len;
    size_t cap;
};

struct bh_hub {
    pthread_mutex_t lock; /* of the list, and of all members of streams that two threads use */
    struct bh_stream *streams;
    pthread_t thread;
    int wake; /* eventfd: a new stream, room in a starved one, or stop */
    bool stop;
    struct bh_db_pool *pool;
    struct bh_db *db; /* the watcher's; NULL while there is none */
};

/** bh_hub_kick(hub): wake the watcher. */
void bh_hub_kick(struct bh_hub *hub);

/** bh_stream_deliver(stream, text, end): hand ${text} to its connection; ${end}, or no memory:
 * nothing more comes. */
void bh_stream_deliver(struct bh_stream *stream, struct bh_str text, bool end);

/** bh_stream_has_room(stream): shall it get more rows?  Where not, its reader kicks once it took
 * some. */
bool bh_stream_has_room(struct bh_stream *stream);

/**
 * bh_stream_step(hub, last):
 * The next stream to look at after ${last} (NULL: the first), with a reference
 * of the watcher's, while that of ${last} is given back; NULL at the end.
 */
struct bh_stream *bh_stream_step(struct bh_hub *hub, struct bh_stream *last);

/** bh_stream_end_all(hub): nothing more comes on any stream; with the lock held. */
void bh_stream_end_all(struct bh_hub *hub);

#endif
