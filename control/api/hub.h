/*
 * The streams of the feed.
 *
 * One watcher thread LISTENs on its own connection to the registry and, on
 * each notification, reads what is new for every open stream.  A stream is a
 * buffer that the watcher fills and the HTTP thread drains; while it is empty
 * its connection is suspended and costs nothing.
 */
#ifndef BH_CONTROL_API_HUB_H
#define BH_CONTROL_API_HUB_H

#include <microhttpd.h>
#include <stdint.h>

#include "control/registry/registry.h"
#include "core/error.h"
#include "core/tenant.h"

struct bh_hub;
struct bh_stream;

/** bh_hub_start(registry, ret_hub, err): start the watcher; ${registry} is the conninfo. */
enum bh_code bh_hub_start(
    const char *registry, struct bh_hub **ret_hub, struct bh_error *err) BH_MUSTCHECK;

/** bh_hub_close(hub): end every stream and stop the watcher; streams that are left stay valid. */
void bh_hub_close(struct bh_hub *hub);

/** bh_hub_free(hub): after bh_hub_close, when every stream was given back. */
void bh_hub_free(struct bh_hub *hub);

/**
 * bh_stream_new(hub, scope, incarnation, after, ret_stream, err):
 * A stream of the rows of ${scope} (copied) after ${after} in ${incarnation}.
 */
enum bh_code bh_stream_new(struct bh_hub *hub, const struct bh_feed_scope *scope,
    const char *incarnation, int64_t after, struct bh_stream **ret_stream,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_stream_drop(stream): its request is over. */
void bh_stream_drop(struct bh_stream *stream);

/** bh_stream_bind(stream, connection): the connection that it is sent on, to be suspended while
 * empty. */
void bh_stream_bind(struct bh_stream *stream, struct MHD_Connection *connection);

/** bh_stream_read: an MHD_ContentReaderCallback; its closure is the stream. */
ssize_t bh_stream_read(void *closure, uint64_t position, char *data, size_t size);

#endif
