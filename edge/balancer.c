/*
 * One upstream for all tenants: the address comes from the tenant's record, and
 * whether it is spoken to with TLS, and under which name, with it.  nginx's own
 * keepalive sits on top and pools connections by the bytes of the address.
 */
#include "edge/endpoints.h"

struct peer {
    struct bh_edge_choice choice;
    ngx_http_request_t *request;
    struct bh_edge_address *current;
    struct bh_edge_channel *channel; /* NULL: none that remembers sessions */
    ngx_sockaddr_t sockaddr;         /* with the channel's mark */
};

/* ---- which group ---- */

/* FNV-1a with the finish of MurmurHash3, so that near inputs lie far apart. */
static uint32_t
hash_of(ngx_str_t text)
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < text.len; i++) {
        hash = (hash ^ text.data[i]) * 16777619U;
    }
    hash = (hash ^ hash >> 16) * 0x85ebca6bU;
    hash = (hash ^ hash >> 13) * 0xc2b2ae35U;
    return hash ^ hash >> 16;
}

/* One user keeps a version: by the subject, where nobody was named by the client's address. */
static uint32_t
user_hash(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    bool loopback;
    return hash_of(
        ctx->believed ? ctx->subject : bh_edge_address_of(r->connection->sockaddr, &loopback));
}

/* ---- TLS ---- */

/* What the location lacks for a connection whose other end is verified; NULL: nothing. */
static const char *
tls_lack(const ngx_http_upstream_t *u)
{
#if (NGX_HTTP_SSL)
    const ngx_http_upstream_conf_t *conf = u->conf;
    bool encrypts =
        conf->ssl != NULL && conf->ssl->ctx != NULL; /* a newer nginx has an empty one */
    return !encrypts                ? "proxy_pass https://… (or grpc_pass grpcs://…)"
           : !conf->ssl_verify      ? "proxy_ssl_verify on with proxy_ssl_trusted_certificate"
           : !conf->ssl_server_name ? "proxy_ssl_server_name on"
           : conf->ssl_name != NULL ? "no proxy_ssl_name: the record names the certificate"
                                    : NULL;
#else
    (void)u;
    return "nginx with TLS";
#endif
}

/* Never unverified, so not at all. */
static void
refuse_address(struct peer *peer, struct bh_edge_address *address, const char *lack)
{
    const struct bh_edge_ctx *ctx = bh_edge_ctx_get(peer->request);
    if (!bh_edge_address_failed(address) || ctx == NULL) {
        return;
    }
    ngx_log_error(NGX_LOG_ERR, peer->request->connection->log, 0,
        "bulkhead: tenant %*s: endpoint %V with tls=%V is not used: its location needs %s",
        ctx->tenant.id_len, ctx->tenant.id, &address->name, &address->tls, lack);
}

static struct bh_edge_address *
next_address(struct peer *peer)
{
    const char *lack = tls_lack(peer->request->upstream);
    for (;;) {
        struct bh_edge_address *address = bh_edge_endpoints_next(&peer->choice);
        if (address == NULL || address->tls.len == 0 || lack == NULL) {
            return address;
        }
        refuse_address(peer, address, lack);
    }
}

/* ---- the load-balancing method ---- */

/* A plain HTTP connection has no mark: whoever names that address may use it. */
static void
set_address(ngx_peer_connection_t *pc, struct peer *peer)
{
    struct bh_edge_address *address = peer->current;
    ngx_http_upstream_t *u = peer->request->upstream;
    const void *ssl = NULL;
    pc->sockaddr = &address->sockaddr.sockaddr;
    pc->socklen = address->socklen;
    pc->name = &address->name;
    peer->channel = NULL;
#if (NGX_HTTP_SSL)
    u->ssl = address->tls.len > 0;
    if (u->ssl) {
        u->ssl_name = address->tls;
        ssl = u->conf->ssl;
    }
#endif
    if (ssl == NULL && !address->grpc) {
        return;
    }
    peer->channel = bh_edge_address_channel(address, ssl);
    uint32_t number = peer->channel != NULL ? peer->channel->number : bh_edge_channel_number();
    pc->socklen = bh_edge_address_mark(address, number, &peer->sockaddr);
    pc->sockaddr = &peer->sockaddr.sockaddr;
}

static ngx_int_t
get_peer(ngx_peer_connection_t *pc, void *data)
{
    struct peer *peer = data;
    pc->cached = 0;
    pc->connection = NULL;
    peer->current = next_address(peer);
    if (peer->current == NULL) {
        pc->name = &peer->request->upstream->upstream->host;
        return NGX_BUSY; /* nginx answers 502 */
    }
    set_address(pc, peer);
    return NGX_OK;
}

/* An application may close a connection while it is idle: that says nothing of its health. */
static bool
was_stale(const ngx_peer_connection_t *pc)
{
    const ngx_connection_t *c = pc->connection;
    return pc->cached && c != NULL && !c->read->timedout && !c->write->timedout;
}

/* May the application have acted on it, so that a second time would be another one? */
static bool
must_not_repeat(ngx_http_request_t *r)
{
    static const ngx_uint_t idempotent = NGX_HTTP_GET | NGX_HTTP_HEAD | NGX_HTTP_OPTIONS |
                                         NGX_HTTP_TRACE | NGX_HTTP_PUT | NGX_HTTP_DELETE |
                                         NGX_HTTP_PROPFIND | NGX_HTTP_PROPPATCH;
    return r->upstream->request_sent && (r->method & idempotent) == 0 &&
           (r->upstream->conf->next_upstream & NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT) == 0;
}

/*
 * The application has done its part: a drain does not wait for a client that
 * reads slowly, or for nginx that waits for its end (lingering_close).
 */
static void
end_flight(ngx_http_request_t *r)
{
    struct bh_edge_ctx *ctx = bh_edge_ctx_get(r);
    if (ctx != NULL) {
        bh_edge_inflight_leave(ctx);
    }
}

/* What the try says of the address; a client that left before there was an answer says nothing. */
static void
note_health(struct peer *peer, const ngx_peer_connection_t *pc, bool failed)
{
    struct bh_edge_address *address = peer->current;
    peer->current = NULL;
    if (address == NULL) {
        return;
    }
    if (failed && was_stale(pc)) {
        bh_edge_endpoints_untry(&peer->choice, address);
    } else if (failed) {
        (void)bh_edge_address_failed(address);
    } else if (peer->request->upstream->headers_in.status_n > 0) {
        bh_edge_address_works(address);
    }
}

static void
free_peer(ngx_peer_connection_t *pc, void *data, ngx_uint_t state)
{
    struct peer *peer = data;
    bool failed = (state & NGX_PEER_FAILED) != 0;
    note_health(peer, pc, failed);
    if (failed && must_not_repeat(peer->request)) {
        pc->tries = 0;
        pc->cached = 0; /* else nginx adds a try for a connection that was idle */
    } else if (pc->tries > 0) {
        pc->tries--;
    }
    if (state == 0 || pc->tries == 0) {
        end_flight(peer->request);
    }
}

#if (NGX_HTTP_SSL)
static ngx_int_t
set_session(ngx_peer_connection_t *pc, void *data)
{
    struct peer *peer = data;
    return peer->channel == NULL ? NGX_OK
                                 : ngx_ssl_set_session(pc->connection, peer->channel->session);
}

static void
save_session(ngx_peer_connection_t *pc, void *data)
{
    struct peer *peer = data;
    ngx_ssl_session_t *fresh = peer->channel == NULL ? NULL : ngx_ssl_get_session(pc->connection);
    if (fresh == NULL) {
        return;
    }
    if (peer->channel->session != NULL) {
        ngx_ssl_free_session(peer->channel->session);
    }
    peer->channel->session = fresh;
}
#endif

static bool
is_grpc(const ngx_http_upstream_t *u)
{
    return u->conf->module.len == 4 && ngx_strncmp(u->conf->module.data, "grpc", 4) == 0;
}

static ngx_int_t
init_peer(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *upstream)
{
    (void)upstream;
    struct bh_edge_ctx *ctx = bh_edge_ctx_get(r);
    ngx_http_upstream_t *u = r->upstream;
    if (ctx == NULL || !ctx->admitted || ctx->tenant.endpoints == NULL) {
        return NGX_ERROR; /* nobody gets to an application past the gate */
    }
    const char *reason; /* it was in flight already, unless an application answered it before */
    struct peer *peer = ngx_pcalloc(r->pool, sizeof(*peer));
    if (peer == NULL || !bh_edge_timeout(r, ctx) ||
        bh_edge_inflight_enter(r, ctx, &reason) != BH_OK) {
        return NGX_ERROR;
    }
    struct bh_edge_endpoints *set = ctx->tenant.endpoints;
    peer->request = r;
    bh_edge_endpoints_begin(
        &peer->choice, set, is_grpc(u), set->groups > 1 ? user_hash(r, ctx) : 0);
    u->peer.data = peer;
    u->peer.get = get_peer;
    u->peer.free = free_peer;
    u->peer.tries = bh_edge_endpoints_usable(&peer->choice);
#if (NGX_HTTP_SSL)
    u->peer.set_session = set_session;
    u->peer.save_session = save_session;
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
    struct bh_edge_server *own = ngx_http_conf_get_module_srv_conf(cf, ngx_http_bulkhead_module);
    own->balances = true;
    upstream->peer.init_upstream = init_upstream;
    upstream->flags = NGX_HTTP_UPSTREAM_CREATE;
    return NGX_CONF_OK;
}
