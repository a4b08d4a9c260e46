/* What the edge says to the application, in place of what its client may not say (strip.c). */
#include "edge/edge.h"

enum name {
    TENANT_ID,
    TENANT_TIER,
    SCOPE_ORG_ID,
    TOKEN,
    DATABASE,
    REQUEST_ID,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    FORWARDED_PORT,
    FORWARDED_PREFIX,
    TRACEPARENT,
    NAME_COUNT
};

#define INJECTED(text, lower)                                                                      \
    {                                                                                              \
        .key = ngx_string(text), .lowcase_key = (u_char *)(lower)                                  \
    }

static ngx_table_elt_t injected[NAME_COUNT] = {
    [TENANT_ID] = INJECTED("X-Tenant-ID", "x-tenant-id"),
    [TENANT_TIER] = INJECTED("X-Tenant-Tier", "x-tenant-tier"),
    [SCOPE_ORG_ID] = INJECTED("X-Scope-OrgID", "x-scope-orgid"),
    [TOKEN] = INJECTED("X-Bulkhead-Token", "x-bulkhead-token"),
    [DATABASE] = INJECTED("X-Bulkhead-Database", "x-bulkhead-database"),
    [TRACEPARENT] = INJECTED("traceparent", "traceparent"),
    [REQUEST_ID] = INJECTED("X-Request-Id", "x-request-id"),
    [FORWARDED_FOR] = INJECTED("X-Forwarded-For", "x-forwarded-for"),
    [FORWARDED_PROTO] = INJECTED("X-Forwarded-Proto", "x-forwarded-proto"),
    [FORWARDED_HOST] = INJECTED("X-Forwarded-Host", "x-forwarded-host"),
    [FORWARDED_PORT] = INJECTED("X-Forwarded-Port", "x-forwarded-port"),
    [FORWARDED_PREFIX] = INJECTED("X-Forwarded-Prefix", "x-forwarded-prefix"),
};

static u_char pairs[256][2]; /* of hexadecimal digits */

void
bh_edge_headers_setup(void)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < NAME_COUNT; i++) {
        injected[i].hash = ngx_hash_key(injected[i].lowcase_key, injected[i].key.len);
    }
    for (size_t i = 0; i < 256; i++) {
        pairs[i][0] = (u_char)digits[i >> 4];
        pairs[i][1] = (u_char)digits[i & 15];
    }
}

/*
 * Say ${count} names from ${first}.  strip.c left room for each of them; what
 * another module pushed may have taken some.
 */
static bool
say(ngx_http_request_t *r, enum name first, const ngx_str_t *values, size_t count)
{
    ngx_list_t *list = &r->headers_in.headers;
    for (size_t i = 0; i < count; i++) {
        enum name name = first + (enum name)i;
        if (values[i].data == NULL && (name == FORWARDED_PREFIX || name == TRACEPARENT)) {
            continue;
        }
        ngx_list_part_t *last = list->last;
        ngx_table_elt_t *header = last->nelts < list->nalloc
                                      ? (ngx_table_elt_t *)last->elts + last->nelts++
                                      : ngx_list_push(list);
        if (header == NULL || values[i].data == NULL) {
            return false;
        }
        *header = injected[name];
        header->value = values[i];
    }
    return true;
}

u_char *
bh_edge_hex(u_char *to, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        to = ngx_cpymem(to, pairs[data[i]], 2);
    }
    return to;
}

#define TRACE_LEN 55

/* A traceparent of our own, written to ${to}. */
static ngx_str_t
new_trace(const struct bh_edge_ctx *ctx, u_char *to)
{
    uint8_t span[8];
    if (!bh_edge_random(span, sizeof(span))) {
        return (ngx_str_t){0, NULL};
    }
    u_char *p = ngx_cpymem(to, "00-", 3);
    p = ngx_cpymem(p, ctx->request_id, sizeof(ctx->request_id));
    *p++ = '-';
    p = bh_edge_hex(p, span, sizeof(span));
    ngx_memcpy(p, "-01", 3);
    return (ngx_str_t){TRACE_LEN, to};
}

/* The digits after the colon of a Host header, where they are a port. */
static ngx_str_t
port_of(ngx_str_t host)
{
    size_t start = host.len;
    while (start > 0 && host.data[start - 1] >= '0' && host.data[start - 1] <= '9') {
        start--;
    }
    ngx_str_t port = {host.len - start, host.data + start};
    ngx_int_t value = port.len > 0 && port.len <= 5 ? ngx_atoi(port.data, port.len) : 0;
    if (start == 0 || host.data[start - 1] != ':' || value < 1 || value > 65535) {
        port.len = 0;
    }
    return port;
}

/* `<id>.<base domain>`, a custom domain, or the base domain where the host named no tenant. */
static u_char *
host_name(u_char *p, const struct bh_edge_ctx *ctx, ngx_str_t base_domain)
{
    if (ctx->domain.len > 0) {
        return ngx_cpymem(p, ctx->domain.data, ctx->domain.len);
    }
    if (ctx->by_host) {
        p = ngx_cpymem(p, ctx->tenant.id, ctx->tenant.id_len);
        *p++ = '.';
    }
    return ngx_cpymem(p, base_domain.data, base_domain.len);
}

/*
 * The host as we understood it, with the client's port; also what $http_host says
 * from now on.  Written to ${to}.
 */
static ngx_str_t
canonical_host(ngx_http_request_t *r, struct bh_edge_ctx *ctx, ngx_str_t base_domain, u_char *to)
{
    ngx_table_elt_t *header = r->headers_in.host; /* HTTP/1.0 need not send one */
    ngx_str_t port = {0, NULL};
    if (header != NULL) {
        port = port_of(header->value);
    }
    u_char *p = host_name(to, ctx, base_domain);
    r->headers_in.server = (ngx_str_t){(size_t)(p - to), to};
    if (port.len > 0) {
        *p++ = ':';
        p = ngx_cpymem(p, port.data, port.len);
    }
    ngx_str_t host = {(size_t)(p - to), to};
    if (header != NULL) {
        header->value = host;
    }
    return host;
}

static ngx_str_t
scheme_of(ngx_http_request_t *r)
{
#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        return (ngx_str_t)ngx_string("https");
    }
#endif
    (void)r;
    return (ngx_str_t)ngx_string("http");
}

#define PORT_LEN 5 /* at most */

static ngx_str_t
local_port(ngx_http_request_t *r, u_char *to)
{
    u_char *end = bh_edge_digits(to, ngx_inet_get_port(r->connection->local_sockaddr));
    return (ngx_str_t){(size_t)(end - to), to};
}

/* What the edge knows of the connection and of the request. */
static bool
say_connection(ngx_http_request_t *r, struct bh_edge_ctx *ctx, bool traced)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    size_t host_room = ctx->domain.len + ctx->tenant.id_len + conf->base_domain.len + PORT_LEN + 2;
    u_char *text = ngx_pnalloc(r->pool, TRACE_LEN + PORT_LEN + host_room);
    if (text == NULL) {
        return false;
    }
    ngx_str_t trace = {0, NULL};
    if (!traced) {
        trace = new_trace(ctx, text);
        if (trace.data == NULL) {
            return false;
        }
    }
    ngx_str_t host = canonical_host(r, ctx, conf->base_domain, text + TRACE_LEN + PORT_LEN);
    ngx_str_t values[] = {
        [REQUEST_ID - REQUEST_ID] = {sizeof(ctx->request_id), ctx->request_id},
        [FORWARDED_FOR - REQUEST_ID] = r->connection->addr_text,
        [FORWARDED_PROTO - REQUEST_ID] = scheme_of(r),
        [FORWARDED_HOST - REQUEST_ID] = host,
        [FORWARDED_PORT - REQUEST_ID] = local_port(r, text + TRACE_LEN),
        [FORWARDED_PREFIX - REQUEST_ID] = ctx->prefix,
        [TRACEPARENT - REQUEST_ID] = trace,
    };
    return say(r, REQUEST_ID, values, sizeof(values) / sizeof(values[0]));
}

bool
bh_edge_headers_clean(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    ngx_str_t trace;
    if (!bh_edge_strip(r, ctx, NAME_COUNT, &trace)) {
        return false;
    }
    if (trace.len > 0) {
        ctx->trace_id = (ngx_str_t){sizeof(ctx->request_id), trace.data + 3};
    } else if (!ctx->observed) {
        ctx->trace_id = (ngx_str_t){sizeof(ctx->request_id), ctx->request_id};
    }
    if (ctx->observed) {
        return true;
    }
    /*
     * The proxy does not pass Upgrade on, but it believes an application that
     * says 101 all the same: what came through that tunnel would pass us unseen.
     */
    struct bh_edge_server *conf = ngx_http_get_module_srv_conf(r, ngx_http_bulkhead_module);
    ctx->websocket = conf->websocket.len > 0 && bh_edge_websocket_asked(r);
    if (!ctx->websocket) {
        r->headers_in.upgrade = NULL;
    }
#if (NGX_HTTP_X_FORWARDED_FOR)
#if (nginx_version < 1023000)
    r->headers_in.x_forwarded_for.nelts = 0;
#else
    r->headers_in.x_forwarded_for = NULL;
#endif
#endif
    return say_connection(r, ctx, trace.len > 0);
}

static ngx_str_t
from(struct bh_str text)
{
    return (ngx_str_t){text.len, (u_char *)(uintptr_t)text.data};
}

bool
bh_edge_headers_inject(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str token)
{
    ngx_str_t id = {ctx->tenant.id_len, (u_char *)ctx->tenant.id};
    bool ours = ctx->tenant.policy->policy.auth == BH_AUTH_EDGE;
    if (ours && (ctx->by_key || ctx->authorizations > 0) &&
        !bh_edge_strip_credential(r, ctx->by_key)) {
        return false;
    }
    ngx_str_t values[] = {
        [TENANT_ID] = id,
        [TENANT_TIER] = from(ctx->tenant.tier),
        [SCOPE_ORG_ID] = id,
        [TOKEN] = from(token),
        [DATABASE] = from(ctx->tenant.database),
    };
    return say(r, TENANT_ID, values, sizeof(values) / sizeof(values[0]));
}

ngx_str_t
bh_edge_header_only(ngx_list_t *list, const char *name, ngx_uint_t *ret_count)
{
    ngx_str_t value = {0, NULL};
    *ret_count = 0;
    for (ngx_list_part_t *part = &list->part; part != NULL; part = part->next) {
        ngx_table_elt_t *headers = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (bh_edge_header_is(&headers[i], name)) {
                value = headers[i].value;
                ++*ret_count;
            }
        }
    }
    return *ret_count == 1 ? value : (ngx_str_t){0, NULL};
}

ngx_table_elt_t *
bh_edge_header_out(ngx_http_request_t *r, const char *name, ngx_str_t value)
{
    ngx_table_elt_t *header = ngx_list_push(&r->headers_out.headers);
    if (header != NULL) {
        ngx_memzero(header, sizeof(*header));
        header->hash = 1;
        header->key = (ngx_str_t){ngx_strlen(name), (u_char *)(uintptr_t)name};
        header->value = value;
    }
    return header;
}
