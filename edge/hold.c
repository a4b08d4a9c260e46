/*
 * Requests of a tenant that is being moved wait for the end of the move, for a
 * bounded time and a bounded number of them.  Nothing of their bodies was read
 * yet.  One timer looks at the snapshot for all of them.
 */
#include "edge/edge.h"

#define TICK_MS 10 /* between two looks; a look is one read of the snapshot's number */

/* A tenant with requests that wait. */
struct bh_edge_waiting {
    ngx_queue_t link;
    int32_t no;
    ngx_uint_t count;
    ngx_queue_t requests; /* by the time until which they wait */
};

static ngx_queue_t tenants;
static ngx_uint_t total;
static ngx_event_t tick;
static uint64_t seen_txn; /* of the snapshot at the last look */
static uint64_t seen_generation;

static struct bh_edge_waiting *
find(int32_t no)
{
    for (ngx_queue_t *at = ngx_queue_head(&tenants); at != ngx_queue_sentinel(&tenants);
         at = ngx_queue_next(at)) {
        struct bh_edge_waiting *waiting = ngx_queue_data(at, struct bh_edge_waiting, link);
        if (waiting->no == no) {
            return waiting;
        }
    }
    struct bh_edge_waiting *waiting = bh_edge_keep(sizeof(*waiting));
    if (waiting != NULL) {
        waiting->no = no;
        ngx_queue_init(&waiting->requests);
        ngx_queue_insert_tail(&tenants, &waiting->link);
    }
    return waiting;
}

static void
drop_if_empty(struct bh_edge_waiting *waiting)
{
    if (waiting->count == 0) {
        ngx_queue_remove(&waiting->link);
        ngx_free(waiting);
    }
}

static void
take_out(struct bh_edge_ctx *ctx)
{
    ngx_queue_remove(&ctx->hold);
    ctx->waiting->count--;
    ctx->waiting = NULL;
    total--;
}

void
bh_edge_hold_end(struct bh_edge_ctx *ctx)
{
    struct bh_edge_waiting *waiting = ctx->waiting;
    if (waiting != NULL) {
        take_out(ctx);
        drop_if_empty(waiting);
    }
}

/* ---- going on ---- */

static void
go_on(ngx_http_request_t *r)
{
    struct bh_edge_ctx *ctx = bh_edge_ctx_get(r);
    if (ctx == NULL || ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }
    if (ctx->waiting != NULL) { /* the connection can be written to: nothing that we wait for */
        if (ngx_handle_write_event(r->connection->write, 0) != NGX_OK) {
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        }
        return;
    }
    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}

/* Runs later in the same turn, so that no request runs, and may end, while we walk the queues. */
static void
wake(struct bh_edge_ctx *ctx, ngx_http_request_t *r)
{
    take_out(ctx);
    ngx_post_event(r->connection->write, &ngx_posted_events);
}

static void
wake_all(struct bh_edge_waiting *waiting)
{
    while (!ngx_queue_empty(&waiting->requests)) {
        struct bh_edge_ctx *ctx =
            ngx_queue_data(ngx_queue_head(&waiting->requests), struct bh_edge_ctx, hold);
        wake(ctx, ctx->held);
    }
}

static void
wake_late(struct bh_edge_waiting *waiting)
{
    while (!ngx_queue_empty(&waiting->requests)) {
        struct bh_edge_ctx *ctx =
            ngx_queue_data(ngx_queue_head(&waiting->requests), struct bh_edge_ctx, hold);
        if ((ngx_msec_int_t)(ngx_current_msec - ctx->hold_until) < 0) {
            return;
        }
        wake(ctx, ctx->held);
    }
}

/* ---- looking ---- */

static ngx_http_request_t *
anybody(void)
{
    struct bh_edge_waiting *waiting =
        ngx_queue_data(ngx_queue_head(&tenants), struct bh_edge_waiting, link);
    struct bh_edge_ctx *ctx =
        ngx_queue_data(ngx_queue_head(&waiting->requests), struct bh_edge_ctx, hold);
    return ctx->held;
}

static bool
is_moving(int32_t no)
{
    struct bh_record record;
    return bh_snapshot_find(bh_edge.snapshot, no, &record) && record.state == BH_TENANT_MOVING;
}

/* Where the snapshot cannot be read nobody is woken before time. */
static void
look(ngx_log_t *log)
{
    const char *reason;
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(anybody(), ngx_http_bulkhead_module);
    if (!bh_edge_ready(conf, log, &reason) || bh_snapshot_begin(bh_edge.snapshot, NULL) != BH_OK) {
        return;
    }
    uint64_t txn = bh_snapshot_txn(bh_edge.snapshot);
    bool news = txn != seen_txn || bh_edge.generation != seen_generation;
    seen_txn = txn;
    seen_generation = bh_edge.generation;
    for (ngx_queue_t *at = ngx_queue_head(&tenants); news && at != ngx_queue_sentinel(&tenants);
         at = ngx_queue_next(at)) {
        struct bh_edge_waiting *waiting = ngx_queue_data(at, struct bh_edge_waiting, link);
        if (!is_moving(waiting->no)) {
            wake_all(waiting);
        }
    }
    bh_snapshot_end(bh_edge.snapshot);
}

static void
on_tick(ngx_event_t *event)
{
    if (total > 0) {
        look(event->log);
    }
    for (ngx_queue_t *at = ngx_queue_head(&tenants); at != ngx_queue_sentinel(&tenants);) {
        struct bh_edge_waiting *waiting = ngx_queue_data(at, struct bh_edge_waiting, link);
        at = ngx_queue_next(at);
        wake_late(waiting);
        drop_if_empty(waiting);
    }
    if (total > 0) {
        ngx_add_timer(event, TICK_MS);
    }
}

/* ---- waiting ---- */

static void
set_up(void)
{
    if (tick.handler == NULL) {
        ngx_queue_init(&tenants);
        tick.handler = on_tick;
        tick.log = ngx_cycle->log;
        tick.data = &tenants;
    }
}

static enum bh_code
refuse(ngx_http_request_t *r, const struct bh_edge_main *conf, const char *reason,
    const char **ret_reason)
{
    u_char *text = ngx_pnalloc(r->pool, NGX_INT32_LEN);
    if (text != NULL) {
        uint32_t seconds = (uint32_t)((conf->hold_ms + 999) / 1000);
        ngx_str_t wait = {(size_t)(bh_edge_digits(text, seconds > 0 ? seconds : 1) - text), text};
        (void)bh_edge_header_out(r, "Retry-After", wait);
    }
    *ret_reason = reason;
    return BH_E_NOT_READY;
}

enum bh_code
bh_edge_hold(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    static const char too_long[] = "the tenant is being moved, and that takes longer than usual";
    static const char too_many[] = "the tenant is being moved, and too many requests wait already";
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    if (ctx->held == NULL) {
        ctx->held = r;
        ctx->hold_until = ngx_current_msec + conf->hold_ms;
    }
    if ((ngx_msec_int_t)(ngx_current_msec - ctx->hold_until) >= 0) {
        return refuse(r, conf, too_long, ret_reason);
    }
    set_up();
    if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        return BH_E_INTERNAL;
    }
    struct bh_edge_waiting *waiting = find(ctx->tenant.record.no);
    if (waiting == NULL) {
        return BH_E_NO_MEMORY;
    }
    if (waiting->count >= conf->hold_max || total >= ngx_cycle->connection_n / 2) {
        drop_if_empty(waiting);
        return refuse(r, conf, too_many, ret_reason);
    }
    ngx_queue_insert_tail(&waiting->requests, &ctx->hold);
    ctx->waiting = waiting;
    waiting->count++;
    total++;
    seen_txn = 0; /* it saw the snapshot before we looked last, perhaps */
    r->read_event_handler = ngx_http_test_reading; /* notices a client that leaves */
    r->write_event_handler = go_on;
    if (!tick.timer_set) {
        ngx_add_timer(&tick, TICK_MS);
    }
    return BH_OK;
}

/* ---- configuration ---- */

static char bad_hold[] = "must be <time> <number of requests, 1 to 100000>";
static char duplicate[] = "is duplicate";

char *
bh_edge_hold_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    struct bh_edge_main *main = conf;
    ngx_str_t *words = cf->args->elts;
    (void)cmd;
    if (main->hold_ms != NGX_CONF_UNSET_MSEC) {
        return duplicate;
    }
    ngx_int_t time_ms = ngx_parse_time(&words[1], 0);
    ngx_int_t most = ngx_atoi(words[2].data, words[2].len);
    if (time_ms == NGX_ERROR || most < 1 || most > 100000) {
        return bad_hold;
    }
    main->hold_ms = (ngx_msec_t)time_ms;
    main->hold_max = (ngx_uint_t)most;
    return NGX_CONF_OK;
}
