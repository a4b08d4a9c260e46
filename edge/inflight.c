/*
 * Requests in flight of each tenant: counted for the drain of a move, and
 * bounded, so that one tenant whose application hangs does not take all
 * connections of the edge.
 */
#include "edge/edge.h"

#define SWEEP_MS 250 /* how long a dead worker's requests may count */

static ngx_msec_t next_sweep;

enum bh_code
bh_edge_inflight_open(struct bh_edge_main *conf, struct bh_error *err)
{
    if (bh_edge.inflight != NULL) {
        return BH_OK;
    }
    BH_TRY(bh_inflight_open(
        (const char *)conf->counters.data, bh_edge.counters, true, &bh_edge.inflight, err));
    bh_edge_streams_follow();
    return BH_OK;
}

static void
sweep(ngx_msec_t every)
{
    if ((ngx_msec_int_t)(ngx_current_msec - next_sweep) >= 0) {
        bh_inflight_sweep(bh_edge.inflight);
        next_sweep = ngx_current_msec + every;
    }
}

uint32_t
bh_edge_inflight(const struct bh_edge_ctx *ctx)
{
    if (bh_edge.inflight == NULL || ctx->counters == NULL || ctx->counters != bh_edge.counters) {
        return 0;
    }
    return bh_inflight_count(bh_edge.inflight, bh_inflight_index(ctx->counters, ctx->slot));
}

static void
count(struct bh_edge_ctx *ctx)
{
    ctx->in_flight = NULL;
    bh_edge_counters_follow(ctx);
    if (bh_edge.inflight != NULL && ctx->counters == bh_edge.counters) {
        ctx->in_flight =
            bh_inflight_enter(bh_edge.inflight, bh_inflight_index(ctx->counters, ctx->slot));
    }
}

enum bh_code
bh_edge_inflight_enter(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    if (ctx->in_flight != NULL) {
        return BH_OK;
    }
    count(ctx);
    if (ctx->in_flight == NULL) {
        *ret_reason = "the edge cannot count the tenant's requests";
        return BH_E_NOT_READY;
    }
    sweep(SWEEP_MS);
    if (ctx->observed || bh_edge_inflight(ctx) <= conf->in_flight) {
        return BH_OK;
    }
    static const ngx_str_t second = ngx_string("1");
    bh_edge_inflight_leave(ctx);
    (void)bh_edge_header_out(r, "Retry-After", second);
    *ret_reason = "too many requests of the tenant run at once: its application is slow or hangs";
    return BH_E_NOT_READY;
}

void
bh_edge_inflight_leave(struct bh_edge_ctx *ctx)
{
    bh_inflight_leave(ctx->in_flight);
    ctx->in_flight = NULL;
}

void
bh_edge_inflight_follow(struct bh_edge_ctx *ctx)
{
    if (ctx->in_flight != NULL) {
        bh_edge_inflight_leave(ctx);
        count(ctx);
    }
}
