/*
 * Requests that last: WebSockets, streams, long answers.  They are counted while
 * they run, and end when their tenant does.
 */
#include "edge/edge.h"

#define TICK_MS 2000

/* Of this worker, in the order in which they were admitted, so the oldest come first. */
static ngx_queue_t streams;
static ngx_event_t tick;

static uint64_t
bytes_in(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    off_t bytes = r->request_length;
    if (ctx->upgraded) { /* nginx's own sum ends with the handshake */
        ngx_http_upstream_t *u = r->upstream;
        off_t sent = u->peer.connection != NULL ? u->peer.connection->sent : u->state->bytes_sent;
        bytes += sent > ctx->sent_before ? sent - ctx->sent_before : 0;
    }
    return (uint64_t)bytes;
}

/* What runs while the counters file is replaced counts on in the new one. */
void
bh_edge_counters_follow(struct bh_edge_ctx *ctx)
{
    if (bh_edge.counters == NULL || ctx->counters == bh_edge.counters) {
        return;
    }
    struct bh_slot *slot = bh_slot_claim(bh_edge.counters, ctx->tenant.record.no);
    if (slot != NULL) {
        ctx->slot = slot;
        ctx->counters = bh_edge.counters;
    }
}

void
bh_edge_streams_follow(void)
{
    if (streams.next == NULL) {
        return;
    }
    for (ngx_queue_t *at = ngx_queue_head(&streams); at != ngx_queue_sentinel(&streams);
         at = ngx_queue_next(at)) {
        struct bh_edge_ctx *ctx = ngx_queue_data(at, struct bh_edge_ctx, stream);
        bh_edge_counters_follow(ctx);
        bh_edge_inflight_follow(ctx);
    }
}

void
bh_edge_stream_count(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    bh_edge_counters_follow(ctx);
    uint64_t in = bytes_in(r, ctx);
    uint64_t out = (uint64_t)r->connection->sent;
    if (in > ctx->counted_in) {
        bh_slot_add(ctx->slot, BH_METER_BYTES_IN, in - ctx->counted_in);
        ctx->counted_in = in;
    }
    if (out > ctx->counted_out) {
        bh_slot_add(ctx->slot, BH_METER_BYTES_OUT, out - ctx->counted_out);
        ctx->counted_out = out;
    }
}

/* Is the tenant still the one, and in the state, for which the request was admitted? */
static bool
lives(struct bh_edge_ctx *ctx, ngx_log_t *log)
{
    struct bh_edge_tenant now;
    struct bh_error err;
    if (bh_edge.snapshot == NULL || bh_snapshot_begin(bh_edge.snapshot, &err) != BH_OK) {
        return true; /* nothing newer is known */
    }
    bool known = bh_edge_tenant((struct bh_str){ctx->tenant.id, ctx->tenant.id_len}, &now, log);
    bh_snapshot_end(bh_edge.snapshot);
    if (!known) {
        return false;
    }
    bh_edge_policy_drop(now.policy);
    /* What runs while its tenant is being moved may end by itself. */
    return now.record.no == ctx->tenant.record.no &&
           (now.record.state == BH_TENANT_ACTIVE || now.record.state == BH_TENANT_MOVING) &&
           now.record.epoch == ctx->tenant.record.epoch;
}

#if (NGX_HTTP_V2)
/*
 * A stream shares its connection, also with streams of other tenants: only it
 * ends, after the tick, in the way in which nginx drains connections.  nginx
 * merely queues the reset and nothing else may come that would send it, so the
 * connection's turn comes behind the streams'.
 */
static void
reset_stream(ngx_http_request_t *r)
{
    ngx_event_t *shared = r->stream->connection->connection->write;
    r->connection->close = 1;
    ngx_post_event(r->connection->read, &ngx_posted_events);
    if (shared->posted) {
        ngx_delete_posted_event(shared);
    }
    ngx_post_event(shared, &ngx_posted_events);
}
#endif

/* nginx ends the request when it reads the end of the connection, in its own time. */
static void
close_stream(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
        "bulkhead: ends a request of tenant %*s, which is not served any more", ctx->tenant.id_len,
        ctx->tenant.id);
#if (NGX_HTTP_V2)
    if (r->stream != NULL) {
        reset_stream(r);
        return;
    }
#endif
    (void)shutdown(r->connection->fd, SHUT_RDWR);
}

static void
on_tick(ngx_event_t *event)
{
    ngx_queue_t *at = ngx_queue_head(&streams);
    if (at !=
        ngx_queue_sentinel(&streams)) { /* no request may come that would look for new files */
        struct bh_edge_ctx *oldest = ngx_queue_data(at, struct bh_edge_ctx, stream);
        const char *reason;
        (void)bh_edge_ready(
            ngx_http_get_module_main_conf(oldest->request, ngx_http_bulkhead_module), event->log,
            &reason);
    }
    for (; at != ngx_queue_sentinel(&streams); at = ngx_queue_next(at)) {
        struct bh_edge_ctx *ctx = ngx_queue_data(at, struct bh_edge_ctx, stream);
        if (ngx_current_msec - ctx->since < TICK_MS) {
            break;
        }
        bh_edge_stream_count(ctx->request, ctx);
        if (!ctx->closed && !ctx->observed && !lives(ctx, event->log)) {
            ctx->closed = 1;
            close_stream(ctx->request, ctx);
        }
    }
    if (!ngx_queue_empty(&streams)) {
        ngx_add_timer(event, TICK_MS);
    }
}

void
bh_edge_stream_begin(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    if (tick.handler == NULL) {
        ngx_queue_init(&streams);
        tick.handler = on_tick;
        tick.log = ngx_cycle->log;
        tick.cancelable = 1; /* a worker that should end does not wait for it */
        tick.data = &streams;
    }
    ctx->request = r;
    ctx->since = ngx_current_msec;
    ngx_queue_insert_tail(&streams, &ctx->stream);
    if (!tick.timer_set) {
        ngx_add_timer(&tick, TICK_MS);
    }
}

void
bh_edge_stream_end(struct bh_edge_ctx *ctx)
{
    if (ctx->request != NULL) {
        ngx_queue_remove(&ctx->stream);
        ctx->request = NULL;
    }
}
