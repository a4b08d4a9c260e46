/* Counting what was served, and naming it in the log. */
#include "edge/edge.h"

/* The status that the access log shows; 499 where the client left before there was one. */
static ngx_uint_t
final_status(ngx_http_request_t *r)
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
    bh_slot_add(ctx->slot, class_of(final_status(r)), 1);
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
    return NGX_OK;
}

enum variable { VAR_TENANT, VAR_TENANT_NO, VAR_REQUEST_ID, VAR_CODE, VAR_FAILED };

/* For `access_log … if=`: a map of $status would cost each request more than the rest of its log
 * phase. */
static ngx_str_t
failed(ngx_http_request_t *r)
{
    static u_char digits[] = "01";
    return (ngx_str_t){1, digits + (final_status(r) >= 400)};
}

static ngx_str_t
value_of(ngx_http_request_t *r, struct bh_edge_ctx *ctx, enum variable variable)
{
    ngx_str_t text = {0, NULL};
    const char *slug;
    switch (variable) {
    case VAR_TENANT:
        text = (ngx_str_t){ctx->tenant.id_len, (u_char *)ctx->tenant.id};
        break;
    case VAR_TENANT_NO:
        text.data = ctx->tenant.id_len == 0 ? NULL : ngx_pnalloc(r->pool, NGX_INT32_LEN);
        if (text.data != NULL) {
            text.len = (size_t)(ngx_sprintf(text.data, "%D", ctx->tenant.record.no) - text.data);
        }
        break;
    case VAR_REQUEST_ID:
        text = (ngx_str_t){sizeof(ctx->request_id), ctx->request_id};
        break;
    case VAR_CODE:
        slug = ctx->code == BH_OK ? "" : bh_code_slug(ctx->code);
        text = (ngx_str_t){ngx_strlen(slug), (u_char *)(uintptr_t)slug};
        break;
    case VAR_FAILED:
        text = failed(r);
        break;
    }
    return text;
}

static ngx_int_t
get_variable(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data)
{
    struct bh_edge_ctx *ctx = bh_edge_ctx_get(r);
    ngx_str_t text = {0, NULL};
    if (ctx != NULL || data == VAR_FAILED) {
        text = value_of(r, ctx, (enum variable)data);
    }
    value->not_found = text.len == 0;
    value->valid = text.len != 0;
    value->no_cacheable = 1;
    value->len = (unsigned)text.len & 0xfffffff;
    value->data = text.data;
    return NGX_OK;
}

ngx_int_t
bh_edge_variables(ngx_conf_t *cf)
{
    static const struct {
        ngx_str_t name;
        enum variable variable;
    } table[] = {
        {ngx_string("bulkhead_tenant"), VAR_TENANT},
        {ngx_string("bulkhead_tenant_no"), VAR_TENANT_NO},
        {ngx_string("bulkhead_request_id"), VAR_REQUEST_ID},
        {ngx_string("bulkhead_code"), VAR_CODE},
        {ngx_string("bulkhead_failed"), VAR_FAILED},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        ngx_str_t name = table[i].name;
        ngx_http_variable_t *var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
        if (var == NULL) {
            return NGX_ERROR;
        }
        var->get_handler = get_variable;
        var->data = (uintptr_t)table[i].variable;
    }
    return NGX_OK;
}
