/*
 * One upstream for all tenants: the address comes from the tenant's record.
 * nginx's own keepalive sits on top and pools connections by address.
 */
#include "edge/edge.h"

#define NUMBERS_MAX (1 << 24)
#define DOWN_MS 10000 /* as nginx: max_fails=1 fail_timeout=10s */

struct address {
    struct sockaddr_storage sockaddr;
    socklen_t socklen;
    ngx_str_t name;
    bool failed;
    ngx_msec_t up_at; /* avoid it until then, where ${failed} */
};

struct bh_edge_endpoints {
    ngx_uint_t count;
    ngx_uint_t turn; /* round robin */
    struct address addresses[];
};

/* Sets by number; names are immutable, so a parsed set is kept for the worker's life. */
static struct {
    uint64_t generation; /* numbers mean something in this snapshot only */
    struct bh_edge_endpoints **sets;
    size_t count;
} known;

static bool
parse_unix(struct bh_str text, struct address *address)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&address->sockaddr;
    size_t len = text.len - 5;
    if (len == 0 || len >= sizeof(un->sun_path)) {
        return false;
    }
    un->sun_family = AF_UNIX;
    ngx_memcpy(un->sun_path, text.data + 5, len);
    address->socklen = (socklen_t)sizeof(*un);
    return true;
}

static bool
parse_inet(struct bh_str text, struct address *address, ngx_pool_t *pool)
{
    ngx_addr_t parsed;
    if (ngx_parse_addr_port(pool, &parsed, (u_char *)(uintptr_t)text.data, text.len) != NGX_OK ||
        ngx_inet_get_port(parsed.sockaddr) == 0) {
        return false;
    }
    ngx_memcpy(&address->sockaddr, parsed.sockaddr, parsed.socklen);
    address->socklen = parsed.socklen;
    return true;
}

static bool
parse(struct bh_str text, struct address *address, ngx_pool_t *pool)
{
    address->name = (ngx_str_t){text.len, (u_char *)(uintptr_t)text.data};
    return bh_str_starts(text, "unix:") ? parse_unix(text, address)
                                        : parse_inet(text, address, pool);
}

static struct bh_edge_endpoints *
parse_set(struct bh_str text, ngx_log_t *log)
{
    ngx_uint_t count = text.len > 0 ? 1 : 0;
    for (size_t i = 0; i < text.len; i++) {
        count += text.data[i] == ' ';
    }
    struct bh_edge_endpoints *set = bh_edge_keep(sizeof(*set) + count * sizeof(struct address));
    ngx_pool_t *pool = ngx_create_pool(1024, log);
    bool ok = set != NULL && pool != NULL && count > 0;
    for (struct bh_str rest = text; ok && set->count < count;) {
        struct bh_str one = rest;
        if (!bh_str_cut(rest, ' ', &one, &rest)) {
            one = rest;
        }
        ok = parse(one, &set->addresses[set->count++], pool);
    }
    if (pool != NULL) {
        ngx_destroy_pool(pool);
    }
    if (!ok && set != NULL) {
        ngx_free(set);
        set = NULL;
    }
    return set;
}

static bool
reserve(uint32_t number)
{
    if (known.generation != bh_edge.generation) { /* requests in flight may hold the old sets */
        ngx_memzero(&known, sizeof(known));
        known.generation = bh_edge.generation;
    }
    if (number < known.count) {
        return true;
    }
    size_t count = known.count == 0 ? 64 : known.count;
    while (count <= number) {
        count *= 2;
    }
    struct bh_edge_endpoints **sets = bh_edge_keep(count * sizeof(struct bh_edge_endpoints *));
    if (sets == NULL) {
        return false;
    }
    if (known.count > 0) {
        ngx_memcpy(sets, known.sets, known.count * sizeof(struct bh_edge_endpoints *));
    }
    ngx_free(known.sets);
    known.sets = sets;
    known.count = count;
    return true;
}

struct bh_edge_endpoints *
bh_edge_endpoints(uint32_t number, ngx_log_t *log)
{
    if (number == 0 || number >= NUMBERS_MAX || !reserve(number)) {
        return NULL;
    }
    if (known.sets[number] == NULL) {
        struct bh_str text = bh_edge_name(BH_NAME_ENDPOINTS, number);
        known.sets[number] = parse_set(text, log);
        if (known.sets[number] == NULL) {
            ngx_log_error(NGX_LOG_ERR, log, 0, "bulkhead: no usable endpoints in \"%*s\"", text.len,
                text.data);
        }
    }
    return known.sets[number];
}

/* ---- the load-balancing method ---- */

struct peer {
    struct bh_edge_endpoints *set;
    ngx_uint_t next;
    struct address *current;
};

static struct address *
choose(struct peer *peer)
{
    struct bh_edge_endpoints *set = peer->set;
    for (ngx_uint_t i = 0; i < set->count; i++) {
        struct address *address = &set->addresses[peer->next++ % set->count];
        if (!address->failed || (ngx_msec_int_t)(ngx_current_msec - address->up_at) >= 0) {
            return address;
        }
    }
    return &set->addresses[peer->next++ % set->count]; /* all failed lately: try one all the same */
}

static ngx_int_t
get_peer(ngx_peer_connection_t *pc, void *data)
{
    struct peer *peer = data;
    peer->current = choose(peer);
    pc->cached = 0;
    pc->connection = NULL;
    pc->sockaddr = (struct sockaddr *)&peer->current->sockaddr;
    pc->socklen = peer->current->socklen;
    pc->name = &peer->current->name;
    return NGX_OK;
}

static void
free_peer(ngx_peer_connection_t *pc, void *data, ngx_uint_t state)
{
    struct peer *peer = data;
    if (peer->current != NULL) {
        peer->current->failed = (state & NGX_PEER_FAILED) != 0;
        peer->current->up_at = ngx_current_msec + DOWN_MS;
        peer->current = NULL;
    }
    if (pc->tries > 0) {
        pc->tries--;
    }
}

#if (NGX_HTTP_SSL)
static ngx_int_t
set_session(ngx_peer_connection_t *pc, void *data)
{
    (void)pc;
    (void)data;
    return NGX_OK;
}

static void
save_session(ngx_peer_connection_t *pc, void *data)
{
    (void)pc;
    (void)data;
}
#endif

static ngx_int_t
init_peer(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *upstream)
{
    (void)upstream;
    struct bh_edge_ctx *ctx = bh_edge_ctx_get(r);
    if (ctx == NULL || !ctx->admitted || ctx->tenant.endpoints == NULL) {
        return NGX_ERROR; /* nobody gets to an application past the gate */
    }
    struct peer *peer = ngx_pcalloc(r->pool, sizeof(*peer));
    if (peer == NULL || !bh_edge_timeout(r, ctx)) {
        return NGX_ERROR;
    }
    peer->set = ctx->tenant.endpoints;
    peer->next = ctx->tenant.endpoints->turn++;
    r->upstream->peer.data = peer;
    r->upstream->peer.get = get_peer;
    r->upstream->peer.free = free_peer;
    r->upstream->peer.tries = ctx->tenant.endpoints->count;
#if (NGX_HTTP_SSL)
    r->upstream->peer.set_session = set_session;
    r->upstream->peer.save_session = save_session;
#endif
    return NGX_OK;
}

static ngx_int_t
init_upstream(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *upstream)
{
    (void)cf;
    upstream->peer.init = init_peer;
    return NGX_OK;
}

char *
bh_edge_upstream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    (void)cmd;
    (void)conf;
    ngx_http_upstream_srv_conf_t *upstream =
        ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);
    if (upstream->peer.init_upstream != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
            "\"bulkhead\" must stand before other load-balancing methods and \"keepalive\"");
        return NGX_CONF_ERROR;
    }
    upstream->peer.init_upstream = init_upstream;
    upstream->flags = NGX_HTTP_UPSTREAM_CREATE;
    return NGX_CONF_OK;
}
