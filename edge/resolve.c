/* Which tenant a request names. */
#include "edge/edge.h"

#include "core/host.h"

/* Lower case, without port and trailing dot: what two spellings of a host must share. */
static struct bh_str
bare_host(struct bh_str host)
{
    for (size_t i = host.len; i > 0; i--) {
        if (host.data[i - 1] == ']') {
            break;
        }
        if (host.data[i - 1] == ':') {
            host.len = i - 1;
            break;
        }
    }
    if (host.len > 0 && host.data[host.len - 1] == '.') {
        host.len--;
    }
    return host;
}

static struct bh_str
host_header(ngx_http_request_t *r)
{
    ngx_table_elt_t *host = r->headers_in.host;
    return host == NULL ? BH_STR("")
                        : (struct bh_str){(const char *)host->value.data, host->value.len};
}

/* A request line in absolute form names a host itself, and nginx believes it rather than Host. */
static bool
conflicts(ngx_http_request_t *r, struct bh_str host)
{
    if (r->schema_end == NULL || r->host_start == NULL || r->host_end == NULL || host.len == 0) {
        return false;
    }
    struct bh_str line = bare_host(
        (struct bh_str){(const char *)r->host_start, (size_t)(r->host_end - r->host_start)});
    struct bh_str header = bare_host(host);
    return line.len != header.len || ngx_strncasecmp((u_char *)(uintptr_t)line.data,
                                         (u_char *)(uintptr_t)header.data, line.len) != 0;
}

static enum bh_code
read_host(ngx_http_request_t *r, struct bh_edge_main *conf, struct bh_edge_ctx *ctx)
{
    struct bh_str host = host_header(r);
    if (conflicts(r, host)) {
        return BH_E_TENANT_CONFLICT;
    }
    struct bh_str base = {(const char *)conf->base_domain.data, conf->base_domain.len};
    size_t len;
    enum bh_code code = bh_host_tenant(host, base, ctx->id, &len, NULL);
    if (code == BH_OK) {
        ctx->id_len = len;
    }
    return code;
}

static enum bh_code
read_record(ngx_http_request_t *r, struct bh_edge_main *conf, struct bh_edge_ctx *ctx)
{
    ngx_log_t *log = r->connection->log;
    bh_edge_look(conf, log);
    if (!bh_snapshot_get(bh_edge.snapshot, (struct bh_str){ctx->id, ctx->id_len}, &ctx->record)) {
        return BH_E_TENANT_UNKNOWN;
    }
    const uint32_t *numbers = ctx->record.names;
    ctx->tier = bh_edge_name(BH_NAME_TIER, numbers[BH_NAME_TIER]);
    ctx->server = bh_edge_name(BH_NAME_SERVER, numbers[BH_NAME_SERVER]);
    ctx->database = bh_edge_name(BH_NAME_DATABASE, numbers[BH_NAME_DATABASE]);
    ctx->endpoints = bh_edge_endpoints(numbers[BH_NAME_ENDPOINTS], log);
    return BH_OK;
}

/* Facts of the record that stop a request whoever sends it. */
static enum bh_code
check_record(struct bh_edge_ctx *ctx, const char **ret_reason)
{
    if (ctx->slot == NULL) {
        *ret_reason = "the edge's counters file is full";
        return BH_E_NOT_READY;
    }
    if (ctx->record.state != BH_TENANT_ACTIVE) {
        *ret_reason = "the tenant is not active";
        return BH_E_NOT_READY;
    }
    if (ctx->endpoints == NULL || ctx->server.len == 0 || ctx->database.len == 0) {
        *ret_reason = "the tenant has no place to serve it yet";
        return BH_E_NOT_READY;
    }
    return BH_OK;
}

enum bh_code
bh_edge_resolve(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    BH_TRY(read_host(r, conf, ctx));
    enum bh_code code = BH_E_NOT_READY;
    if (bh_edge_ready(conf, r->connection->log, ret_reason)) {
        struct bh_error err;
        code = bh_snapshot_begin(bh_edge.snapshot, &err);
        if (code == BH_OK) {
            code = read_record(r, conf, ctx);
            bh_snapshot_end(bh_edge.snapshot);
        } else {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "bulkhead: %s", err.detail);
            *ret_reason = "the edge cannot read its snapshot";
            code = BH_E_NOT_READY;
        }
    }
    if (code != BH_OK) {
        ctx->id_len = 0;
        return code;
    }
    ctx->slot = bh_slot_claim(bh_edge.counters, ctx->record.no);
    return check_record(ctx, ret_reason);
}
