/*
 * TLS: the certificate follows the name that the client asks for (SNI), and so does everything
 * that a session may do.
 *
 * ClientHello  an unknown foreign name is refused before any certificate is shown, and sessions are
 *              bound to the name and the version of its certificate
 * certificate  of the document where there is one, else the configured one
 * request      its tenant must be the one of the name that the connection was opened for
 */
#include "edge/edge.h"

#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

#include "core/sni.h"

/* What one SSL context is for; lives as long as the configuration. */
struct context {
    struct bh_edge_main *main;
    bool certificates; /* of the snapshot */
    uint32_t number;   /* of the server block */
};

/* ---- the name ---- */

/* False where the client asked for something that can be no name. */
static bool
read_hello(SSL *ssl, struct bh_sni *ret_sni)
{
    const unsigned char *data;
    size_t len;
    ret_sni->len = 0;
    return SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &len) != 1 ||
           bh_sni_extension(data, len, ret_sni);
}

/* After the ClientHello; a resumed session of TLS 1.2 has the name that it began with. */
static bool
read_name(SSL *ssl, struct bh_sni *ret_sni)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    ret_sni->len = 0;
    return name == NULL || bh_sni_name(bh_str_of(name), ret_sni);
}

static struct bh_str
text_of(const struct bh_sni *sni)
{
    return (struct bh_str){sni->text, sni->len};
}

static struct bh_str
base_of(const struct bh_edge_main *conf)
{
    return (struct bh_str){(const char *)conf->base_domain.data, conf->base_domain.len};
}

/* ---- handshake ---- */

enum answer {
    CONFIGURED, /* show the certificate of the configuration */
    STORED,     /* of the snapshot */
    UNKNOWN,    /* nobody's name */
    UNUSABLE    /* somebody's name, and its certificate cannot be shown now */
};

/* Foreign names need a certificate of their own; those under the base domain may have one. */
static enum answer
look_up(const struct context *context, const struct bh_sni *sni, ngx_log_t *log,
    const struct bh_edge_certificate **ret_certificate)
{
    const char *reason;
    struct bh_error err;
    bool ours = sni->len == 0 || bh_host_under(text_of(sni), base_of(context->main));
    if (sni->len == 0) {
        return CONFIGURED;
    }
    if (!bh_edge_ready(context->main, log, &reason) ||
        bh_snapshot_begin(bh_edge.snapshot, &err) != BH_OK) {
        return ours ? CONFIGURED : UNUSABLE;
    }
    bh_edge_look(context->main, log);
    /* A tenant's domain may be a sibling of the base domain, and its wildcard cover both. */
    bool base = bh_str_eq(text_of(sni), base_of(context->main));
    const struct bh_edge_certificate *found = bh_edge_certificate_find(text_of(sni), !base, log);
    bh_snapshot_end(bh_edge.snapshot);
    if (found == NULL) {
        return ours ? CONFIGURED : UNKNOWN;
    }
    *ret_certificate = found;
    return found->usable ? STORED : UNUSABLE;
}

/*
 * OpenSSL resumes a session under whatever name the client asks for next.  With a context of its
 * own a session ends with its name, and with the certificate that the client judged.
 */
static bool
bind_sessions(SSL *ssl, const struct context *context, const struct bh_sni *sni, uint64_t version)
{
    struct {
        uint64_t version;
        uint32_t number;
        char name[BH_DOMAIN_MAX + 1];
    } bound;
    unsigned char digest[SHA256_DIGEST_LENGTH];
    ngx_memzero(&bound, sizeof(bound));
    bound.version = version;
    bound.number = context->number;
    ngx_memcpy(bound.name, sni->text, sni->len);
    return SHA256((const unsigned char *)&bound, sizeof(bound), digest) != NULL &&
           SSL_set_session_id_context(ssl, digest, sizeof(digest)) == 1;
}

/*
 * Which server block nginx will choose for the name, as far as it stands in a server_name without a
 * regular expression; else that of the listener.  Names of blocks beside ours are not our business.
 */
static bool
is_ours(ngx_connection_t *c, const struct context *context, const struct bh_sni *sni)
{
    ngx_http_connection_t *hc = c->data;
    ngx_http_virtual_names_t *names = hc->addr_conf->virtual_names;
    u_char *name = (u_char *)(uintptr_t)sni->text;
    if (names == NULL || sni->len == 0) {
        return context->certificates;
    }
    ngx_http_core_srv_conf_t *server =
        ngx_hash_find_combined(&names->names, ngx_hash_key(name, sni->len), name, sni->len);
    if (server == NULL) {
        return context->certificates;
    }
    struct bh_edge_server *conf = server->ctx->srv_conf[ngx_http_bulkhead_module.ctx_index];
    return conf->certificates;
}

static int
refuse(int *alert, int what)
{
    *alert = what;
    return SSL_CLIENT_HELLO_ERROR;
}

static int
client_hello(SSL *ssl, int *alert, void *arg)
{
    const struct context *context = arg;
    const struct bh_edge_certificate *certificate = NULL;
    struct bh_sni sni;
    ngx_connection_t *c = ngx_ssl_get_connection(ssl);
    bool named = read_hello(ssl, &sni);
    if (is_ours(c, context, &sni)) {
        enum answer answer = named ? look_up(context, &sni, c->log, &certificate) : UNKNOWN;
        if (answer == UNKNOWN) {
            return refuse(alert, SSL_AD_UNRECOGNIZED_NAME);
        }
        if (answer == UNUSABLE) {
            return refuse(alert, SSL_AD_INTERNAL_ERROR);
        }
    }
    if (!bind_sessions(ssl, context, &sni, certificate == NULL ? 0 : certificate->version)) {
        return refuse(alert, SSL_AD_INTERNAL_ERROR);
    }
#if (nginx_version >= 1029002)
    return ngx_ssl_client_hello_callback(ssl, alert, arg); /* whose place we took */
#else
    return SSL_CLIENT_HELLO_SUCCESS;
#endif
}

static int
choose_certificate(SSL *ssl, void *arg)
{
    const struct context *context = arg;
    const struct bh_edge_certificate *certificate = NULL;
    struct bh_sni sni;
    ngx_connection_t *c = ngx_ssl_get_connection(ssl);
    if (!read_name(ssl, &sni)) {
        return 0;
    }
    enum answer answer = look_up(context, &sni, c->log, &certificate);
    if (answer != STORED) {
        return answer == CONFIGURED;
    }
    SSL_certs_clear(ssl); /* the configured ones, also those of another kind of key */
    if (SSL_use_cert_and_key(ssl, certificate->leaf, certificate->key, certificate->chain, 1) ==
        1) {
        return 1;
    }
    ngx_ssl_error(NGX_LOG_ERR, c->log, 0, (char *)"bulkhead: %s cannot be used", certificate->name);
    return 0;
}

/* ---- configuration ---- */

static ngx_int_t
set_up(ngx_conf_t *cf, ngx_http_core_srv_conf_t *server, uint32_t number)
{
    ngx_http_ssl_srv_conf_t *ssl = server->ctx->srv_conf[ngx_http_ssl_module.ctx_index];
    struct bh_edge_server *conf = server->ctx->srv_conf[ngx_http_bulkhead_module.ctx_index];
    if (ssl->ssl.ctx == NULL) {
        return NGX_OK;
    }
    if (conf->certificates && ssl->certificate_values != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
            "\"bulkhead_certificates\" cannot stand beside an \"ssl_certificate\" with variables: "
            "both choose by name");
        return NGX_ERROR;
    }
    struct context *context = ngx_palloc(cf->pool, sizeof(*context));
    if (context == NULL) {
        return NGX_ERROR;
    }
    *context =
        (struct context){.main = ngx_http_conf_get_module_main_conf(cf, ngx_http_bulkhead_module),
            .certificates = conf->certificates,
            .number = number};
    SSL_CTX_set_client_hello_cb(ssl->ssl.ctx, client_hello, context);
    if (conf->certificates) {
        SSL_CTX_set_cert_cb(ssl->ssl.ctx, choose_certificate, context);
    }
    return NGX_OK;
}

ngx_int_t
bh_edge_tls_setup(ngx_conf_t *cf)
{
    ngx_http_core_main_conf_t *core = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ngx_http_core_srv_conf_t **servers = core->servers.elts;
    bool wanted = false;
    for (ngx_uint_t i = 0; i < core->servers.nelts; i++) {
        struct bh_edge_server *conf = servers[i]->ctx->srv_conf[ngx_http_bulkhead_module.ctx_index];
        wanted = wanted || conf->mode != BH_EDGE_OFF || conf->certificates;
    }
    for (ngx_uint_t i = 0; wanted && i < core->servers.nelts; i++) {
        if (set_up(cf, servers[i], (uint32_t)i) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

/* ---- request ---- */

/* Whose domain it is now: that may change while a connection is open. */
static bool
is_domain_of(const struct bh_sni *sni, const struct bh_edge_ctx *ctx)
{
    char id[BH_TENANT_ID_MAX + 1];
    struct bh_error err;
    size_t len;
    bool known = bh_edge_domain_again(text_of(sni), id, &len);
    if (!known && bh_snapshot_begin(bh_edge.snapshot, &err) == BH_OK) {
        known = bh_edge_domain(text_of(sni), id, &len);
        bh_snapshot_end(bh_edge.snapshot);
    }
    return known && len == ctx->tenant.id_len && memcmp(id, ctx->tenant.id, len) == 0;
}

bool
bh_edge_tls_agrees(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    struct bh_edge_server *server = ngx_http_get_module_srv_conf(r, ngx_http_bulkhead_module);
    char id[BH_TENANT_ID_MAX + 1];
    struct bh_sni sni;
    size_t len;
    if (r->connection->ssl == NULL || !server->sni) {
        return true;
    }
    if (!read_name(r->connection->ssl->connection, &sni)) {
        return false;
    }
    if (sni.len == 0) { /* the configured certificate was shown, which knows no custom domain */
        return ctx->domain.len == 0;
    }
    if (sni.len == ctx->domain.len && memcmp(sni.text, ctx->domain.data, sni.len) == 0) {
        return true;
    }
    enum bh_code code = bh_host_tenant(text_of(&sni), base_of(conf), id, &len, NULL);
    if (code == BH_OK) {
        return len == ctx->tenant.id_len && memcmp(id, ctx->tenant.id, len) == 0;
    }
    return code == BH_E_TENANT_MISSING ? !ctx->by_host /* the base domain itself */
                                       : is_domain_of(&sni, ctx);
}
