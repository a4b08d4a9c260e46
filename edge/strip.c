/*
 * What a client may not say to the application.
 *
 * nginx's header list cannot be edited in place: r->headers_in.host and others
 * point into it, and the proxy ignores `hash = 0`.  So the request gets a list of
 * its own in one piece, walked and written once.  Credentials stand first,
 * because the accepted one goes; at the end is room for what the edge says.
 */
#include "edge/edge.h"

#include "core/apikey.h"

/* ---- which ---- */

static const struct rule {
    ngx_str_t name; /* lower case, at least three bytes; '-' stands for '_' too */
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
    if (header->key.len < 3) {
        return false;
    }
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        /* The third byte tells most of them apart, and is a letter in each. */
        if (header->lowcase_key[2] == rules[i].name.data[2] && rule_matches(&rules[i], header)) {
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

static const struct rule api_key = {ngx_string("x-api-key"), false};

/* By which a request says that it has another method than nginx sees. */
static const struct rule overrides[] = {
    {ngx_string("x-http-method-override"), false},
    {ngx_string("x-http-method"), false},
    {ngx_string("x-method-override"), false},
};

static bool
is_override(const ngx_table_elt_t *header)
{
    bool found = false;
    for (size_t i = 0; i < sizeof(overrides) / sizeof(overrides[0]) && !found; i++) {
        found = rule_matches(&overrides[i], header);
    }
    return found;
}

enum kind { ORDINARY, FORBIDDEN, AUTHORIZATION, API_KEY, METHOD, TRACEPARENT, TRACESTATE };

static enum kind
kind_of(const ngx_table_elt_t *header)
{
    switch (header->key.len > 0 ? header->lowcase_key[0] : 0) {
    case 'a':
        return IS(header, "authorization") ? AUTHORIZATION : ORDINARY;
    case 't':
        return IS(header, "traceparent")  ? TRACEPARENT
               : IS(header, "tracestate") ? TRACESTATE
                                          : ORDINARY;
    case 'f':
    case 'x':
        return is_forbidden(header)             ? FORBIDDEN
               : rule_matches(&api_key, header) ? API_KEY
               : is_override(header)            ? METHOD
                                                : ORDINARY;
    default:
        return ORDINARY;
    }
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

/* ---- the walk ---- */

#define FRONT 2 /* credentials before the others: one of each kind is all that can be right */

struct walk {
    ngx_table_elt_t *to; /* ${FRONT} places, then what stays; NULL: only look */
    ngx_uint_t count;    /* behind the front */
    ngx_uint_t front;    /* before it */
    ngx_uint_t authorizations;
    ngx_uint_t api_keys;
    const ngx_table_elt_t *api_key; /* one that is a key of ours by its form */
    ngx_uint_t traceparents;
    ngx_uint_t tracestates;
    ngx_table_elt_t *traceparent;
    bool overridden; /* its method, by a header */
};

static void
keep(ngx_http_request_t *r, struct walk *walk, ngx_table_elt_t *header)
{
    if (walk->to == NULL) {
        return;
    }
    ngx_table_elt_t *copy = &walk->to[FRONT + walk->count++];
    *copy = *header;
    if (header == r->headers_in.host) {
        r->headers_in.host = copy; /* it is rewritten, and forwarded from here */
    }
}

static void
keep_credential(ngx_http_request_t *r, struct walk *walk, ngx_table_elt_t *header, bool first)
{
    if (!first) {
        keep(r, walk, header);
    } else if (walk->to != NULL) {
        walk->to[FRONT - ++walk->front] = *header;
    }
}

static bool
is_marked(const ngx_table_elt_t *header)
{
    return bh_str_starts(
        (struct bh_str){(const char *)header->value.data, header->value.len}, BH_APIKEY_MARK);
}

static void
take(ngx_http_request_t *r, struct walk *walk, ngx_table_elt_t *header)
{
    switch (kind_of(header)) {
    case ORDINARY:
        keep(r, walk, header);
        break;
    case FORBIDDEN:
        break;
    case AUTHORIZATION:
        keep_credential(r, walk, header, walk->authorizations++ == 0);
        break;
    case API_KEY:
        if (walk->api_key == NULL && is_marked(header)) {
            walk->api_key = header;
        }
        keep_credential(r, walk, header, walk->api_keys++ == 0);
        break;
    case METHOD:
        walk->overridden = true;
        keep(r, walk, header);
        break;
    case TRACEPARENT:
        walk->traceparents++;
        walk->traceparent = header;
        break;
    case TRACESTATE:
        walk->tracestates++;
        break;
    }
}

static ngx_uint_t
count_of(const ngx_list_part_t *part)
{
    ngx_uint_t count = 0;
    for (; part != NULL; part = part->next) {
        count += part->nelts;
    }
    return count;
}

/* The client's trace goes on where it is in order; what belongs to none goes. */
static void
take_trace(ngx_http_request_t *r, struct walk *walk)
{
    keep(r, walk, walk->traceparent);
    for (ngx_list_part_t *part = &r->headers_in.headers.part; part != NULL && walk->tracestates > 0;
         part = part->next) {
        ngx_table_elt_t *headers = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (kind_of(&headers[i]) == TRACESTATE) {
                keep(r, walk, &headers[i]);
                walk->tracestates--;
            }
        }
    }
}

static void
put_list(ngx_http_request_t *r, const struct walk *walk, ngx_uint_t room)
{
    ngx_list_t *list = &r->headers_in.headers;
    ngx_uint_t count = walk->front + walk->count;
    list->part =
        (ngx_list_part_t){.elts = walk->to + FRONT - walk->front, .nelts = count, .next = NULL};
    list->last = &list->part;
    list->nalloc = count + room;
}

/* Take the credential of that kind from the front; false where none stands there. */
static bool
strip_front(ngx_http_request_t *r, enum kind kind)
{
    ngx_list_t *list = &r->headers_in.headers;
    ngx_table_elt_t *headers = list->part.elts;
    ngx_uint_t most = ngx_min(FRONT, list->part.nelts);
    ngx_uint_t i = 0;
    while (i < most && kind_of(&headers[i]) != kind) {
        i++;
    }
    if (i == most) {
        return false;
    }
    headers[i] = headers[0];
    list->part.elts = headers + 1;
    list->part.nelts--;
    list->nalloc--;
    return true;
}

bool
bh_edge_strip(ngx_http_request_t *r, struct bh_edge_ctx *ctx, ngx_uint_t room, ngx_str_t *ret_trace)
{
    struct walk walk = {.to = NULL};
    if (!ctx->observed) {
        ngx_uint_t most = FRONT + count_of(&r->headers_in.headers.part) + room;
        walk.to = ngx_palloc(r->pool, most * sizeof(ngx_table_elt_t));
        if (walk.to == NULL) {
            return false;
        }
    }
    for (ngx_list_part_t *part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        ngx_table_elt_t *headers = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            take(r, &walk, &headers[i]);
        }
    }
    ctx->authorizations = walk.authorizations > 1 ? 2 : walk.authorizations & 1;
    ctx->api_keys = walk.api_keys > 1 ? 2 : walk.api_keys & 1;
    if (walk.api_key != NULL) {
        ctx->api_key_marked = 1;
        ctx->api_key = walk.api_key->value;
    }
    ctx->overridden = walk.overridden;
    ngx_str_null(ret_trace);
    if (walk.traceparents == 1 && trace_valid(walk.traceparent->value)) {
        *ret_trace = walk.traceparent->value;
        take_trace(r, &walk);
    }
    if (walk.to != NULL) {
        put_list(r, &walk, room);
    }
    return true;
}

bool
bh_edge_strip_credential(ngx_http_request_t *r, bool by_key)
{
    if (by_key) {
        return strip_front(r, API_KEY);
    }
    r->headers_in.authorization = NULL;
    return strip_front(r, AUTHORIZATION);
}
