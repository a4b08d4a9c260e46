/*
 * nginx's cache knows no tenants, and its default key names none.  Configuration
 * cannot be asked for the key, so the key itself is: it must begin with the
 * tenant's number and a byte that is no digit, which no other tenant's does.
 */
#include "edge/edge.h"

#if (NGX_HTTP_CACHE)

static bool
begins_with(ngx_str_t key, int32_t no)
{
    u_char number[NGX_INT32_LEN];
    size_t len = (size_t)(ngx_sprintf(number, "%D", no) - number);
    return key.len > len && ngx_memcmp(key.data, number, len) == 0 &&
           (key.data[len] < '0' || key.data[len] > '9');
}

bool
bh_edge_cache_apart(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    /* Once refused, what comes under it is nginx's own words. */
    if (r->cache == NULL || r->cache == ctx->refused) {
        return true;
    }
    ngx_str_t *keys = r->cache->keys.elts;
    if (r->cache->keys.nelts > 0 && begins_with(keys[0], ctx->tenant.record.no)) {
        return true;
    }
    ctx->refused = r->cache;
    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
        "bulkhead: an answer of tenant %*s is in a cache that others share: begin proxy_cache_key "
        "with \"$bulkhead_tenant_no:\"",
        ctx->tenant.id_len, ctx->tenant.id);
    return false;
}

#else

bool
bh_edge_cache_apart(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    (void)r;
    (void)ctx;
    return true;
}

#endif
