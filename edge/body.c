/* Bounds of a route on one request: the size of its body, the time of its application. */
#include "edge/edge.h"

static ngx_http_request_body_filter_pt next_filter;

/* Bodies whose size nobody told before: chunked ones and those of HTTP/2. */
static ngx_int_t
body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    struct bh_edge_ctx *ctx = r == r->main ? bh_edge_ctx_get(r) : NULL;
    if (ctx == NULL || ctx->observed || ctx->route == NULL || ctx->route->max_body_bytes == 0) {
        return next_filter(r, in);
    }
    for (ngx_chain_t *link = in; link != NULL; link = link->next) {
        ctx->body_bytes += ngx_buf_size(link->buf);
    }
    if (ctx->body_bytes > ctx->route->max_body_bytes) {
        ctx->too_large = 1;
        return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    }
    return next_filter(r, in);
}

void
bh_edge_body_setup(void)
{
    next_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = body_filter;
}

bool
bh_edge_timeout(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    ngx_msec_t timeout = ctx->route == NULL ? 0 : (ngx_msec_t)ctx->route->timeout_ms;
    if (timeout == 0 || ctx->websocket) {
        return true;
    }
    /* The location's configuration is everybody's, and nginx only reads it: a copy is ours. */
    ngx_http_upstream_conf_t *conf = ngx_palloc(r->pool, sizeof(*conf));
    if (conf == NULL) {
        return false;
    }
    *conf = *r->upstream->conf;
    conf->connect_timeout = ngx_min(conf->connect_timeout, timeout);
    conf->send_timeout = timeout;
    conf->read_timeout = timeout;
    conf->next_upstream_timeout = timeout; /* no second try when it is over */
    r->upstream->conf = conf;
    return true;
}
