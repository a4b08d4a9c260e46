/* Cookies of a tenant's application stay with that tenant. */
#include "edge/edge.h"

#include "core/buf.h"
#include "core/cookie.h"
#include "core/host.h"

static bool
confine(ngx_http_request_t *r, ngx_str_t *value, struct bh_str host, struct bh_str prefix)
{
    /* Each attribute may be a Path, and each gets the prefix. */
    size_t paths = 1;
    for (size_t i = 0; i < value->len; i++) {
        paths += value->data[i] == ';';
    }
    size_t room = value->len + paths * (prefix.len + 8) + 16;
    struct bh_buf out;
    char *text = ngx_pnalloc(r->pool, room);
    if (text == NULL) {
        return false;
    }
    bh_buf_init(&out, text, room);
    struct bh_str cookie = {(const char *)value->data, value->len};
    if (bh_cookie_confine(cookie, host, prefix, &out)) {
        *value = (ngx_str_t){out.len, (u_char *)text};
    }
    return bh_buf_ok(&out);
}

/*
 * The host that cookies may have as their Domain, which takes in all names below it; empty: none.
 * Below `<id>.<base domain>` is nobody else.  Below a custom domain another tenant may have its
 * own, or the base domain itself may lie there.
 */
static struct bh_str
own_host(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    struct bh_str base = {(const char *)conf->base_domain.data, conf->base_domain.len};
    struct bh_str host = {(const char *)r->headers_in.server.data, r->headers_in.server.len};
    return ctx->by_host && bh_host_under(host, base) ? host : BH_STR("");
}

bool
bh_edge_cookies(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    struct bh_str prefix = {(const char *)ctx->prefix.data, ctx->prefix.len};
    struct bh_str host = own_host(r, ctx);
    for (ngx_list_part_t *part = &r->headers_out.headers.part; part != NULL; part = part->next) {
        ngx_table_elt_t *headers = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (bh_edge_header_is(&headers[i], "set-cookie") &&
                !confine(r, &headers[i].value, host, prefix)) {
                return false;
            }
        }
    }
    return true;
}
