/* Counting what was served. */
#include "edge/edge.h"

ngx_uint_t
bh_edge_status(ngx_http_request_t *r)
{
    if (r->err_status != 0) {
        return r->err_status;
    }
    return r->headers_out.status != 0 ? r->headers_out.status : 499;
}

static enum bh_meter
class_of(ngx_uint_t status)
{
    return status < 300   ? BH_METER_STATUS_2XX
           : status < 400 ? BH_METER_STATUS_3XX
           : status < 500 ? BH_METER_STATUS_4XX
                          : BH_METER_STATUS_5XX;
}

static void
count(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    if (ctx->counted) {
        return;
    }
    ctx->counted = 1;
    bh_slot_add(ctx->slot, BH_METER_REQUESTS, 1);
    bh_slot_add(ctx->slot, class_of(bh_edge_status(r)), 1);
    int status = bh_code_http(ctx->code);
    if (status == NGX_HTTP_UNAUTHORIZED || status == NGX_HTTP_FORBIDDEN) {
        bh_slot_add(ctx->slot, BH_METER_DENIED, 1);
    } else if (status == NGX_HTTP_TOO_MANY_REQUESTS) {
        bh_slot_add(ctx->slot, BH_METER_LIMITED, 1);
    }
}

/* The context of a request that is counted; NULL for others. */
static struct bh_edge_ctx *
counted_ctx(ngx_http_request_t *r)
{
    struct bh_edge_ctx *ctx = r == r->main ? bh_edge_ctx_get(r) : NULL;
    return ctx != NULL && ctx->slot != NULL ? ctx : NULL;
}

/*
 * The log phase comes after the last byte was sent: a worker killed in between
 * would have served a request that nobody counted.  So requests are counted
 * before the first byte; a kill then counts at most what was in flight.
 */
static ngx_http_output_header_filter_pt next_filter;

/*
 * nginx 1.22 passes an interim answer on as if it were the last.  Its client
 * waits for another one, and whoever is next on that connection gets it.
 */
static bool
is_final(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    ngx_uint_t status = r->headers_out.status;
    if (status >= NGX_HTTP_OK) {
        return true;
    }
    if (status == NGX_HTTP_SWITCHING_PROTOCOLS) {
        return bh_edge_websocket_opens(r, ctx);
    }
    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
        "bulkhead: tenant %*s: the application's answer has status %ui", ctx->tenant.id_len,
        ctx->tenant.id, status);
    return false;
}

static ngx_int_t
header_filter(ngx_http_request_t *r)
{
    struct bh_edge_ctx *any = bh_edge_ctx_get(r);
    if (any != NULL && any->admitted && !any->observed && !bh_edge_cache_apart(r, any)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    struct bh_edge_ctx *ctx = counted_ctx(r);
    if (ctx != NULL) {
        if (!ctx->observed && !is_final(r, ctx)) {
            return NGX_HTTP_BAD_GATEWAY;
        }
        count(r, ctx);
        if (!ctx->observed && !bh_edge_cookies(r, ctx)) {
            return NGX_ERROR;
        }
        if (ctx->admitted && !ctx->observed) {
            bh_edge_limits_alone(r, ctx);
        }
    }
    return next_filter(r);
}

void
bh_edge_meter_setup(void)
{
    next_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
}

/* What nginx noted of each try, in its steps of a ms: too long as often as too short. */
static void
add_upstream(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    const ngx_http_upstream_state_t *states = r->upstream_states->elts;
    uint64_t tries = 0;
    uint64_t ms = 0;
    for (ngx_uint_t i = 0; i < r->upstream_states->nelts; i++) {
        if (states[i].peer == NULL || states[i].response_time == (ngx_msec_t)-1) {
            continue; /* no try, but a mark between two of an internal redirect */
        }
        tries++;
        ms += states[i].response_time;
    }
    bh_slot_add(ctx->slot, BH_METER_UPSTREAM_REQUESTS, tries);
    bh_slot_add(ctx->slot, BH_METER_UPSTREAM_US, ms * 1000);
}

/* A tunnel's life is no latency. */
static void
add_times(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    if (ctx->upgraded) {
        return;
    }
    bh_slot_took(ctx->slot, (bh_edge_monotonic_ns() - ctx->begun_ns) / 1000);
    if (r->upstream_states != NULL) {
        add_upstream(r, ctx);
    }
}

ngx_int_t
bh_edge_meter(ngx_http_request_t *r)
{
    struct bh_edge_ctx *ctx = counted_ctx(r);
    if (ctx == NULL) {
        return NGX_OK;
    }
    count(r, ctx); /* where no header was sent: the client left before */
    bh_edge_stream_count(r, ctx);
    add_times(r, ctx);
    bh_edge_stream_end(ctx);
    bh_edge_limits_settle(r, ctx);
    bh_edge_inflight_leave(ctx);
    bh_edge_hold_end(ctx);
    return NGX_OK;
}
