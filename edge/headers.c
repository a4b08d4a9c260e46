/*
 * What a client may not say to the application, and what the edge says instead.
 *
 * nginx's header list cannot be edited in place: r->headers_in.host and others
 * point into it, and the proxy ignores `hash = 0`.  So parts are split around
 * what goes, and what comes lies in a part of its own at the end.
 */
#include "edge/edge.h"

/* ---- what goes ---- */

static const struct rule {
    ngx_str_t name; /* lower case; '-' stands for '_' too */
    bool prefix;
} rules[] = {
    {ngx_string("x-tenant-"), true},
    {ngx_string("x-bulkhead-"), true},
    {ngx_string("x-original-"), true},
    {ngx_string("x-rewrite-"), true},
    {ngx_string("x-forwarded-"), true}, /* also -ssl, -scheme …: frameworks believe them */
    {ngx_string("x-scope-orgid"), false},
    {ngx_string("x-request-id"), false},
    {ngx_string("forwarded"), false},
};

struct scan {
    bool doomed;     /* something must go */
    bool drop_trace; /* no usable traceparent: what there is of it goes */
    unsigned traceparents;
    ngx_table_elt_t *traceparent;
};

static bool
rule_matches(const struct rule *rule, const ngx_table_elt_t *header)
{
    size_t len = rule->name.len;
    if (header->key.len < len || (!rule->prefix && header->key.len != len)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        u_char c = header->lowcase_key[i];
        if ((c == '_' ? '-' : c) != rule->name.data[i]) {
            return false;
        }
    }
    return true;
}

static bool
is_forbidden(const ngx_table_elt_t *header)
{
    u_char first = header->key.len > 0 ? header->lowcase_key[0] : 0;
    if (first != 'x' && first != 'f') {
        return false;
    }
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rule_matches(&rules[i], header)) {
            return true;
        }
    }
    return false;
}

static bool
is_named(const ngx_table_elt_t *header, const char *name, size_t len)
{
    return header->key.len == len && ngx_memcmp(header->lowcase_key, name, len) == 0;
}
#define IS(header, literal) is_named(header, literal, sizeof(literal) - 1)

static bool
is_doomed(const ngx_table_elt_t *header, const struct scan *scan)
{
    if (scan == NULL) {
        return IS(header, "authorization");
    }
    return is_forbidden(header) ||
           (scan->drop_trace && (IS(header, "traceparent") || IS(header, "tracestate")));
}

/* Split ${part} at its first doomed header; returns the part to look at next. */
static ngx_list_part_t *
cut(ngx_http_request_t *r, ngx_list_part_t *part, ngx_list_part_t *prev, ngx_uint_t at)
{
    ngx_list_t *list = &r->headers_in.headers;
    ngx_table_elt_t *headers = part->elts;
    if (at + 1 < part->nelts) {
        ngx_list_part_t *rest = ngx_palloc(r->pool, sizeof(*rest));
        if (rest == NULL) {
            return NULL;
        }
        *rest = (ngx_list_part_t){
            .elts = headers + at + 1, .nelts = part->nelts - at - 1, .next = part->next};
        part->next = rest;
        list->last = list->last == part ? rest : list->last;
    }
    part->nelts = at;
    if (at == 0 && prev != NULL) { /* nginx's loops trip over an empty part behind the first */
        prev->next = part->next;
        list->last = list->last == part ? prev : list->last;
        return prev;
    }
    return part;
}

static bool
remove_headers(ngx_http_request_t *r, const struct scan *scan)
{
    ngx_list_part_t *prev = NULL;
    ngx_list_part_t *part = &r->headers_in.headers.part;
    while (part != NULL) {
        ngx_table_elt_t *headers = part->elts;
        ngx_uint_t i = 0;
        while (i < part->nelts && !is_doomed(&headers[i], scan)) {
            i++;
        }
        if (i < part->nelts) {
            part = cut(r, part, prev, i);
            if (part == NULL) {
                return false;
            }
        }
        prev = part;
        part = part->next;
    }
    return true;
}

static void
look_at(const ngx_table_elt_t *header, struct scan *scan, struct bh_edge_ctx *ctx)
{
    if (IS(header, "authorization")) {
        ctx->authorizations = ctx->authorizations == 0 ? 1 : 2;
    } else if (IS(header, "traceparent")) {
        scan->traceparents++;
        scan->traceparent = (ngx_table_elt_t *)(uintptr_t)header;
    } else if (is_forbidden(header)) {
        scan->doomed = true;
    }
}

/* ---- what comes ---- */

enum name {
    TENANT_ID,
    TENANT_TIER,
    SCOPE_ORG_ID,
    TOKEN,
    DATABASE,
    TRACEPARENT,
    REQUEST_ID,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    FORWARDED_PORT,
    FORWARDED_PREFIX,
    NAME_COUNT
};

static struct {
    ngx_str_t name;
    ngx_str_t lowcase;
    ngx_uint_t hash;
} injected[NAME_COUNT] = {
    [TENANT_ID] = {ngx_string("X-Tenant-ID"), ngx_string("x-tenant-id"), 0},
    [TENANT_TIER] = {ngx_string("X-Tenant-Tier"), ngx_string("x-tenant-tier"), 0},
    [SCOPE_ORG_ID] = {ngx_string("X-Scope-OrgID"), ngx_string("x-scope-orgid"), 0},
    [TOKEN] = {ngx_string("X-Bulkhead-Token"), ngx_string("x-bulkhead-token"), 0},
    [DATABASE] = {ngx_string("X-Bulkhead-Database"), ngx_string("x-bulkhead-database"), 0},
    [TRACEPARENT] = {ngx_string("traceparent"), ngx_string("traceparent"), 0},
    [REQUEST_ID] = {ngx_string("X-Request-Id"), ngx_string("x-request-id"), 0},
    [FORWARDED_FOR] = {ngx_string("X-Forwarded-For"), ngx_string("x-forwarded-for"), 0},
    [FORWARDED_PROTO] = {ngx_string("X-Forwarded-Proto"), ngx_string("x-forwarded-proto"), 0},
    [FORWARDED_HOST] = {ngx_string("X-Forwarded-Host"), ngx_string("x-forwarded-host"), 0},
    [FORWARDED_PORT] = {ngx_string("X-Forwarded-Port"), ngx_string("x-forwarded-port"), 0},
    [FORWARDED_PREFIX] = {ngx_string("X-Forwarded-Prefix"), ngx_string("x-forwarded-prefix"), 0},
};

void
bh_edge_headers_setup(void)
{
    for (size_t i = 0; i < NAME_COUNT; i++) {
        injected[i].hash = ngx_hash_key(injected[i].lowcase.data, injected[i].lowcase.len);
    }
}

static bool
add(ngx_http_request_t *r, enum name name, ngx_str_t value)
{
    ngx_table_elt_t *header = ngx_list_push(&r->headers_in.headers);
    if (header == NULL || value.data == NULL) {
        return false;
    }
    *header = (ngx_table_elt_t){.key = injected[name].name,
        .lowcase_key = injected[name].lowcase.data,
        .hash = injected[name].hash,
        .value = value};
    return true;
}

/* A part of our own with room for all that is injected, so that no push touches the client's. */
static bool
add_part(ngx_http_request_t *r)
{
    ngx_list_t *list = &r->headers_in.headers;
    ngx_list_part_t *part =
        ngx_palloc(r->pool, sizeof(*part) + NAME_COUNT * sizeof(ngx_table_elt_t));
    if (part == NULL) {
        return false;
    }
    *part = (ngx_list_part_t){.elts = part + 1, .nelts = 0, .next = NULL};
    list->last->next = part;
    list->last = part;
    list->nalloc = NAME_COUNT;
    return true;
}

/* W3C trace context, version 00; a later version would be passed on as this one anyway. */
static bool
trace_valid(ngx_str_t value)
{
    static const char shape[] = "00-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
    bool trace = false;
    bool span = false;
    if (value.len != sizeof(shape) - 1) {
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        u_char c = value.data[i];
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        if (shape[i] == 'h' ? !hex : c != (u_char)shape[i]) {
            return false;
        }
        trace = trace || (i >= 3 && i < 35 && c != '0');
        span = span || (i >= 36 && i < 52 && c != '0');
    }
    return trace && span;
}

static bool
add_trace(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    ngx_str_t value = {55, ngx_palloc(r->pool, 55)};
    uint8_t span[8];
    if (value.data == NULL || !bh_edge_random(span, sizeof(span))) {
        return false;
    }
    u_char *p = ngx_cpymem(value.data, "00-", 3);
    p = ngx_cpymem(p, ctx->request_id, sizeof(ctx->request_id));
    *p++ = '-';
    p = ngx_hex_dump(p, span, sizeof(span));
    ngx_memcpy(p, "-01", 3);
    return add(r, TRACEPARENT, value);
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

/* The host as we understood it, with the client's port; also what $http_host says from now on. */
static bool
canonical_host(ngx_http_request_t *r, struct bh_edge_ctx *ctx, ngx_str_t *ret_host)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    ngx_table_elt_t *header = r->headers_in.host; /* HTTP/1.0 need not send one */
    ngx_str_t port = {0, NULL};
    ngx_str_t host;
    if (header != NULL) {
        port = port_of(header->value);
    }
    host.data = ngx_pnalloc(
        r->pool, ctx->domain.len + ctx->tenant.id_len + conf->base_domain.len + port.len + 2);
    if (host.data == NULL) {
        return false;
    }
    u_char *p = host_name(host.data, ctx, conf->base_domain);
    r->headers_in.server = (ngx_str_t){(size_t)(p - host.data), host.data};
    if (port.len > 0) {
        *p++ = ':';
        p = ngx_cpymem(p, port.data, port.len);
    }
    host.len = (size_t)(p - host.data);
    if (header != NULL) {
        header->value = host;
    }
    *ret_host = host;
    return true;
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

static ngx_str_t
local_port(ngx_http_request_t *r)
{
    ngx_str_t text = {0, ngx_pnalloc(r->pool, sizeof("65535") - 1)};
    if (text.data != NULL) {
        uint32_t port = ngx_inet_get_port(r->connection->local_sockaddr);
        text.len = (size_t)(bh_edge_digits(text.data, port) - text.data);
    }
    return text;
}

bool
bh_edge_headers_clean(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    struct scan scan = {.doomed = false};
    for (ngx_list_part_t *part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        ngx_table_elt_t *headers = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            look_at(&headers[i], &scan, ctx);
        }
    }
    scan.drop_trace = scan.traceparents != 1 || !trace_valid(scan.traceparent->value);
    if (!scan.drop_trace) {
        ctx->trace_id = (ngx_str_t){sizeof(ctx->request_id), scan.traceparent->value.data + 3};
    } else if (!ctx->observed) {
        ctx->trace_id = (ngx_str_t){sizeof(ctx->request_id), ctx->request_id};
    }
    if (ctx->observed) {
        return true;
    }
    if ((scan.doomed || scan.drop_trace) && !remove_headers(r, &scan)) {
        return false;
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
    ngx_str_t host;
    ngx_str_t id = {sizeof(ctx->request_id), ctx->request_id};
    return add_part(r) && add(r, REQUEST_ID, id) &&
           add(r, FORWARDED_FOR, r->connection->addr_text) &&
           add(r, FORWARDED_PROTO, scheme_of(r)) && canonical_host(r, ctx, &host) &&
           add(r, FORWARDED_HOST, host) && add(r, FORWARDED_PORT, local_port(r)) &&
           (ctx->prefix.len == 0 || add(r, FORWARDED_PREFIX, ctx->prefix)) &&
           (!scan.drop_trace || add_trace(r, ctx));
}

static ngx_str_t
from(struct bh_str text)
{
    return (ngx_str_t){text.len, (u_char *)(uintptr_t)text.data};
}

bool
bh_edge_headers_inject(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str token)
{
    if (ctx->authorizations > 0) {
        if (!remove_headers(r, NULL)) {
            return false;
        }
        r->headers_in.authorization = NULL;
    }
    ngx_str_t id = {ctx->tenant.id_len, (u_char *)ctx->tenant.id};
    return add(r, TENANT_ID, id) && add(r, TENANT_TIER, from(ctx->tenant.tier)) &&
           add(r, SCOPE_ORG_ID, id) && add(r, TOKEN, from(token)) &&
           add(r, DATABASE, from(ctx->tenant.database));
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
