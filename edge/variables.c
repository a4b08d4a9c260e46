/* $bulkhead_*: what the edge knows of a request, for logs and cache keys.  doc/contract/edge.md. */
#include "edge/edge.h"

typedef ngx_str_t value_getter(ngx_http_request_t *r, struct bh_edge_ctx *ctx);

static ngx_str_t
text_of(struct bh_str text)
{
    return (ngx_str_t){text.len, (u_char *)(uintptr_t)text.data};
}

static ngx_str_t
number_of(ngx_http_request_t *r, uint32_t number)
{
    ngx_str_t text = {0, ngx_pnalloc(r->pool, NGX_INT32_LEN)};
    if (text.data != NULL) {
        text.len = (size_t)(bh_edge_digits(text.data, number) - text.data);
    }
    return text;
}

static ngx_str_t
get_tenant(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    (void)r;
    return (ngx_str_t){ctx->tenant.id_len, (u_char *)ctx->tenant.id};
}

static ngx_str_t
get_tenant_no(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    return ctx->tenant.id_len == 0 ? (ngx_str_t){0, NULL}
                                   : number_of(r, (uint32_t)ctx->tenant.record.no);
}

static ngx_str_t
get_tier(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    (void)r;
    return text_of(ctx->tenant.tier);
}

static ngx_str_t
get_subject(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    (void)r;
    return ctx->subject;
}

static ngx_str_t
get_request_id(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    (void)r;
    return (ngx_str_t){sizeof(ctx->request_id), ctx->request_id};
}

static ngx_str_t
get_trace_id(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    (void)r;
    return ctx->trace_id;
}

static ngx_str_t
get_code(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    (void)r;
    return text_of(bh_str_of(ctx->code == BH_OK ? "" : bh_code_slug(ctx->code)));
}

static ngx_str_t
get_status(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    (void)ctx;
    return number_of(r, (uint32_t)bh_edge_status(r));
}

/* For `access_log … if=`: a map of $status would cost each request more than the rest of its log
 * phase. */
static ngx_str_t
get_failed(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    static u_char digits[] = "01";
    (void)ctx;
    return (ngx_str_t){1, digits + (bh_edge_status(r) >= 400)};
}

/* As the client sent it, so that it is not the path of an internal redirect; a query may hold
 * secrets. */
static ngx_str_t
get_path(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    ngx_str_t path = {0, r->unparsed_uri.data};
    (void)ctx;
    while (path.len < r->unparsed_uri.len && path.data[path.len] != '?' &&
           path.data[path.len] != '#') {
        path.len++;
    }
    return path;
}

static const struct {
    ngx_str_t name;
    value_getter *get;
    bool always; /* also of a request that the edge never saw */
} table[] = {
    {ngx_string("bulkhead_tenant"), get_tenant, false},
    {ngx_string("bulkhead_tenant_no"), get_tenant_no, false},
    {ngx_string("bulkhead_tier"), get_tier, false},
    {ngx_string("bulkhead_subject"), get_subject, false},
    {ngx_string("bulkhead_request_id"), get_request_id, false},
    {ngx_string("bulkhead_trace_id"), get_trace_id, false},
    {ngx_string("bulkhead_code"), get_code, false},
    {ngx_string("bulkhead_status"), get_status, true},
    {ngx_string("bulkhead_failed"), get_failed, true},
    {ngx_string("bulkhead_path"), get_path, true},
};

static ngx_int_t
get_variable(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data)
{
    struct bh_edge_ctx *ctx = bh_edge_ctx_get(r);
    ngx_str_t text = {0, NULL};
    if (ctx != NULL || table[data].always) {
        text = table[data].get(r, ctx);
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
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        ngx_str_t name = table[i].name;
        ngx_http_variable_t *var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
        if (var == NULL) {
            return NGX_ERROR;
        }
        var->get_handler = get_variable;
        var->data = i;
    }
    return NGX_OK;
}
