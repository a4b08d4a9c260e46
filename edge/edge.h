/*
 * The edge: nginx's part of Bulkhead.  doc/contract/edge.md says what it
 * promises; this header is how its files see each other.
 *
 *   post_read  resolve.c  which tenant; strip.c takes, headers.c says headers
 *   preaccess  token.c    credential (credential.c), then limit.c, then headers.c injects
 *   balancer   balancer.c an address of the tenant's endpoints
 *   header     meter.c    counts the request, before a client can know that it was served
 *   log        meter.c    counts its bytes
 *
 * The gate stands in the preaccess phase because `satisfy any` can let a
 * request pass the access phase without us.
 */
#ifndef BH_EDGE_EDGE_H
#define BH_EDGE_EDGE_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <ngx_http_ssl_module.h>

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/bucket.h"
#include "core/error.h"
#include "core/issuer.h"
#include "core/key.h"
#include "core/meter.h"
#include "core/policy.h"
#include "core/str.h"
#include "core/tenant.h"
#include "snapshot/inflight.h"
#include "snapshot/keyring.h"
#include "snapshot/snapshot.h"

extern ngx_module_t ngx_http_bulkhead_module;

/* ---- configuration ---- */

struct bh_edge_main {
    ngx_str_t snapshot;    /* directory */
    ngx_str_t keyring;     /* file */
    ngx_str_t counters;    /* file on tmpfs */
    ngx_str_t cell;        /* whose tenants are served here; empty: of all */
    ngx_str_t base_domain; /* lower case, no dots at the ends */
    size_t cards_size;     /* of the memory that workers share for credentials; 0: none */
    ngx_shm_zone_t *cards;
    ngx_uint_t in_flight; /* requests of one tenant at once, all workers together */
    ngx_msec_t hold_ms;   /* how long requests of a tenant wait that is being moved */
    ngx_uint_t hold_max;  /* how many of one tenant, in each worker */
};

enum bh_edge_mode { BH_EDGE_OFF, BH_EDGE_OBSERVE, BH_EDGE_ON };

/* What may name the tenant; bits. */
enum bh_edge_source {
    BH_EDGE_BY_HOST = 2,
    BH_EDGE_BY_PATH = 4,
    BH_EDGE_BY_HEADER = 8,
    BH_EDGE_BY_DOMAIN = 16
};

struct bh_edge_server {
    ngx_uint_t mode;              /* enum bh_edge_mode */
    ngx_uint_t resolve;           /* enum bh_edge_source */
    ngx_array_t *anonymous_paths; /* of ngx_str_t; NULL: none */
    ngx_shm_zone_t *failures;     /* NULL: wrong credentials are not limited */
    ngx_uint_t failure_rate;      /* a second */
    ngx_uint_t failure_burst;
    bool failure_loopback;   /* clients of this machine too */
    ngx_flag_t certificates; /* of custom domains, from the snapshot */
    ngx_flag_t sni;          /* the name of the TLS handshake must be the tenant's */
    bool balances;           /* of an upstream block: it has the directive `bulkhead` */
    ngx_str_t websocket;     /* named location that proxies tunnels; empty: there are none */
    ngx_str_t grpc;          /* named location that passes gRPC; empty: it goes where others go */
};

/* ---- what is known of one request ---- */

struct bh_edge_endpoints;
struct bh_limit_use;

/* A policy that was read; made and freed by policy.c. */
struct bh_edge_policy {
    struct bh_policy policy;
    uint32_t number; /* of its name */
    uint64_t version;
    uint64_t generation; /* of the snapshot file */
    uint64_t print;      /* of its document */
    unsigned holders;
    bool usable;
    struct bh_chunks chunks; /* where it lives */
};

/* A tenant's record and what it names. */
struct bh_edge_tenant {
    struct bh_record record;
    char id[BH_TENANT_ID_MAX + 1];
    size_t id_len;      /* 0: no tenant */
    struct bh_str tier; /* interned texts live as long as the worker */
    struct bh_str server;
    struct bh_str database;
    struct bh_str cell;
    struct bh_edge_endpoints *endpoints; /* NULL: none that can be used */
    struct bh_edge_policy *policy;       /* held; NULL: missing or unusable */
    uint32_t rate;                       /* of this edge: the record's by its share */
    uint32_t burst;
    char rate_policy[40]; /* what RateLimit-Policy says */
    size_t rate_policy_len;
};

struct bh_edge_ctx {
    struct bh_edge_tenant tenant;
    const struct bh_route *route; /* of the tenant's policy that the request matches, or NULL */
    struct bh_slot *slot;
    const struct bh_counters *counters; /* where the slot lies */
    _Atomic uint32_t *in_flight;        /* where it is counted as running; NULL: it is not */
    u_char request_id[32]; /* hexadecimal digits; also the trace id of a trace begun here */
    enum bh_code code;     /* how the edge itself answered; BH_OK: it did not */
    ngx_str_t trace_id;    /* of the traceparent that the application gets; empty: not yet */
    ngx_str_t subject;     /* whom the accepted credential names; empty: none was accepted */
    struct bh_str scope; /* what the credential grants, space separated; set before the route is */
    struct bh_str roles; /* looked at where the route needs any; live in the request's pool */
    ngx_str_t path;      /* normalised, behind any prefix: what routes are compared with */
    struct bh_limit_use *uses; /* of limits beside `default`, taken; in the request's pool */
    size_t use_count;
    struct bh_str violated; /* names of the limits that refused it, a JSON array; empty: none */
    off_t body_bytes;       /* of the request that were read, where the route bounds them */
    uint64_t begun_ns;      /* CLOCK_MONOTONIC; its header was complete */
    uint64_t txn;           /* of the snapshot that the tenant was read from */
    uint64_t generation;    /* of the snapshot file */
    /* while its tenant is being moved: hold.c */
    struct bh_edge_waiting *waiting; /* in whose queue it is; NULL: it does not wait */
    ngx_queue_t hold;
    ngx_http_request_t *held; /* NULL: it never waited */
    ngx_msec_t hold_until;
    /* while it runs: stream.c */
    ngx_queue_t stream;
    ngx_http_request_t *request; /* NULL: not in the queue */
    ngx_msec_t since;
    uint64_t counted_in; /* bytes */
    uint64_t counted_out;
    off_t sent_before;               /* by us to the application, before the tunnel opened */
    const ngx_http_cache_t *refused; /* a cache whose key could be another tenant's */
    ngx_str_t prefix;                /* "/t/<id>" where the path named the tenant, else empty */
    ngx_str_t domain;  /* the custom domain that named the tenant, canonical; else empty */
    ngx_str_t api_key; /* value of the first X-API-Key that is a key of ours by its form */
    unsigned authorizations : 8;
    unsigned api_keys : 8;       /* X-API-Key headers */
    unsigned api_key_marked : 1; /* one of them is a key of ours by its form */
    unsigned by_key : 1;         /* X-API-Key is the credential */
    unsigned overridden : 1;     /* a header says that it has another method */
    unsigned websocket : 1;      /* the client asked for one, in order */
    unsigned upgraded : 1;       /* the application agreed */
    unsigned closed : 1;         /* its tenant is served no more */
    unsigned observed : 1;       /* the edge says what it would do, and does nothing */
    unsigned by_host : 1;        /* the host named the tenant: its label or a custom domain */
    unsigned anonymous : 1;      /* the path needs no credential */
    unsigned admitted : 1;       /* credential and limit were passed */
    unsigned believed : 1;       /* a credential was shown and accepted */
    unsigned too_large : 1;      /* its body is more than the route takes */
    unsigned counted : 1;        /* its status was */
};

/** bh_edge_ctx_make(r): the request's context, made where it has none; NULL without memory. */
struct bh_edge_ctx *bh_edge_ctx_make(ngx_http_request_t *r);

/** bh_edge_ctx_get(r): the context, found again after an internal redirect; NULL where it has none.
 */
struct bh_edge_ctx *bh_edge_ctx_get(ngx_http_request_t *r);

/** bh_edge_arena(r): an arena on the request's pool. */
struct bh_arena bh_edge_arena(ngx_http_request_t *r);

/* ---- state.c: what one worker holds ---- */

struct bh_edge_state {
    struct bh_snapshot *snapshot;
    struct bh_counters *counters;
    struct bh_inflight *inflight; /* belongs to the counters */
    struct bh_keyring *keyring;   /* NULL until the file was read */
    uint64_t keyring_seen;        /* the snapshot's keyring number that it answers to */
    uint64_t keyring_generation;  /* rises with each file that was read */
    uint64_t keyring_print;       /* differs where the file differs */
    uint64_t txn;                 /* of the snapshot when it was looked at last */
    uint64_t generation; /* rises when another snapshot file was opened, or the feed began anew:
                          * numbers of names and versions are void */
    struct bh_mac *mac;  /* scratch; rekeyed by each user */
    char install[BH_UID_TEXT]; /* the audience of user tokens */
};

extern struct bh_edge_state bh_edge;

/**
 * bh_edge_ready(conf, log, ret_reason):
 * Is all there that a request needs?  Opens what is missing, at most five
 * times a second.  Where it is not, ${ret_reason} says what is missing.
 */
bool bh_edge_ready(struct bh_edge_main *conf, ngx_log_t *log, const char **ret_reason);

/**
 * bh_edge_look(conf, log):
 * To be called between bh_snapshot_begin and end: notice a new keyring.
 */
void bh_edge_look(struct bh_edge_main *conf, ngx_log_t *log);

/** bh_edge_hash(text): for places of a worker's memory; not against who chooses the texts. */
static inline uint32_t
bh_edge_hash(struct bh_str text)
{
    uint64_t hash = text.len;
    for (size_t at = 0; at < text.len; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t left = text.len - at;
        memcpy(&word, text.data + at, left < sizeof(word) ? left : sizeof(word));
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return (uint32_t)hash;
}

/** bh_edge_name(kind, number): interned text, kept for the worker's life; between begin and end. */
struct bh_str bh_edge_name(enum bh_name_kind kind, uint32_t number);

/** bh_edge_random(data, len): fill with at most 64 random bytes; false where there are none. */
bool bh_edge_random(uint8_t *data, size_t len);

/** bh_edge_state_close(): give everything back, wipe secrets. */
void bh_edge_state_close(void);

/** bh_edge_keep(size): zeroed memory for the worker's life, or NULL. */
void *bh_edge_keep(size_t size);

/* ---- resolve.c ---- */

/**
 * bh_edge_resolve(r, ctx, ret_reason):
 * Find the tenant that the request names, as far as the server block lets its
 * host, path and header speak, and copy what is known of it to ${ctx}; takes the
 * prefix off a path that named it.
 * BH_E_NOT_READY with a reason, BH_E_TENANT_*, BH_E_BAD_REQUEST.
 */
enum bh_code bh_edge_resolve(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason);

/**
 * bh_edge_resolve_again(r, ctx, ret_reason):
 * Look at the tenant once more, where anything was committed since; its route
 * too.  Fails as bh_edge_resolve and bh_edge_route do.
 */
enum bh_code bh_edge_resolve_again(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason);

/* ---- tenant.c ---- */

/**
 * bh_edge_tenant(id, ret_tenant, log):
 * Tenant ${id} as the snapshot shows it, from the worker's memory where nothing
 * was committed since; between begin and end.  False where there is none.  ${ret_tenant} holds its
 * policy: the request's context gives it back when it ends.
 */
bool bh_edge_tenant(struct bh_str id, struct bh_edge_tenant *ret_tenant, ngx_log_t *log);

/** bh_edge_tenant_ahead(r): have the processor fetch what the worker's memory holds of the tenant
 * that the host names. */
void bh_edge_tenant_ahead(ngx_http_request_t *r);

/**
 * bh_edge_tenant_again(id, ret_tenant):
 * The same from the worker's memory alone, outside begin and end; false where
 * it is not there, or something was committed since.
 */
bool bh_edge_tenant_again(struct bh_str id, struct bh_edge_tenant *ret_tenant);

/**
 * bh_edge_domain(domain, ret_id, ret_len) / bh_edge_domain_again(domain, ret_id, ret_len):
 * Id of the tenant of a custom domain (canonical: core/host.h), from the worker's memory where
 * nothing was committed since; between begin and end.  False where it is nobody's.  again needs
 * no transaction and answers from that memory only, once the edge is ready.
 */
bool bh_edge_domain_again(struct bh_str domain, char ret_id[BH_TENANT_ID_MAX + 1], size_t *ret_len);
bool bh_edge_domain(struct bh_str domain, char ret_id[BH_TENANT_ID_MAX + 1], size_t *ret_len);

/* ---- policy.c ---- */

/**
 * bh_edge_policy_find(number, log):
 * The policy whose name has that interned number (0: all defaults), as the snapshot has it now;
 * between begin and end.  NULL where its document is missing or cannot be read (logged).  Hold it
 * to keep it.
 */
struct bh_edge_policy *bh_edge_policy_find(uint32_t number, ngx_log_t *log);

/** bh_edge_policy_hold(policy) / bh_edge_policy_drop(policy): NULL is fine; hold returns it. */
struct bh_edge_policy *bh_edge_policy_hold(struct bh_edge_policy *policy);
void bh_edge_policy_drop(struct bh_edge_policy *policy);

/* ---- strip.c ---- */

/**
 * bh_edge_strip(r, ctx, room, ret_trace):
 * Give the request a list of headers without those that outsiders may not say,
 * with room for ${room} more, and count its credentials.  ${ret_trace} is the
 * client's traceparent where it is in order, else empty: then it goes, and
 * tracestate with it.  A request that is only observed keeps its list.  False
 * without memory.
 */
bool bh_edge_strip(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, ngx_uint_t room, ngx_str_t *ret_trace);

/** bh_edge_strip_credential(r, by_key): take the accepted Authorization away, or X-API-Key where
 * that is it; false where it is not in
 * its place. */
bool bh_edge_strip_credential(ngx_http_request_t *r, bool by_key);

/* ---- certificate.c ---- */

#define BH_EDGE_CERTIFICATE "certificate/" /* kind of their documents */

struct bh_edge_certificate {
    uint64_t version;            /* of the document */
    uint64_t generation;         /* of the snapshot file */
    uint64_t keyring_generation; /* that its key was opened with */
    X509 *leaf;
    STACK_OF(X509) * chain; /* without the leaf */
    EVP_PKEY *key;
    bool usable;
    size_t name_len;
    char name[]; /* of the document */
};

/**
 * bh_edge_certificate_find(name, wildcards, log):
 * The certificate for the host ${name} (lower case), of its own document or, with ${wildcards}, of
 * the wildcard one level up; between begin and end.  NULL where there is none; not usable where its
 * document is broken (logged once).  Borrowed until the next call.
 */
const struct bh_edge_certificate *bh_edge_certificate_find(
    struct bh_str name, bool wildcards, ngx_log_t *log);

/** bh_edge_certificates_wipe(): forget all, with their private keys. */
void bh_edge_certificates_wipe(void);

/* ---- tls.c ---- */

/** bh_edge_tls_setup(cf): put our callbacks into the SSL contexts of the servers; once they are
 * made. */
ngx_int_t bh_edge_tls_setup(ngx_conf_t *cf);

/**
 * bh_edge_tls_agrees(r, ctx):
 * Is the request's tenant the one that the connection's TLS handshake named?  Without TLS: true.
 * Without a name only custom domains disagree; a handshake for the base domain itself agrees where
 * path or header named the tenant.  Once the tenant is known; not between begin and end.
 */
bool bh_edge_tls_agrees(ngx_http_request_t *r, const struct bh_edge_ctx *ctx);

/* ---- headers.c ---- */

/** bh_edge_hex(to, data, len): ${len} bytes as lower-case hexadecimal digits; returns where they
 * end.
 */
u_char *bh_edge_hex(u_char *to, const uint8_t *data, size_t len);

/** bh_edge_headers_setup(): hash the names that are injected; once, before the workers. */
void bh_edge_headers_setup(void);

/**
 * bh_edge_headers_clean(r, ctx):
 * Remove what outsiders may not say and say what the edge knows of the
 * connection: X-Forwarded-*, X-Request-Id, traceparent.  A request that is only
 * observed stays as it is.  False without memory.
 */
bool bh_edge_headers_clean(ngx_http_request_t *r, struct bh_edge_ctx *ctx);

/**
 * bh_edge_headers_inject(r, ctx, token):
 * Take the accepted Authorization away, add the tenant's headers.
 */
bool bh_edge_headers_inject(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str token);

/** bh_edge_header_is(header, name): has it that name, in whatever case?  Inline: asked of every
 * header of every answer. */
static inline bool
bh_edge_header_is(const ngx_table_elt_t *header, const char *name)
{
    size_t len = ngx_strlen(name);
    return header->hash != 0 && header->key.len == len &&
           ngx_strncasecmp(header->key.data, (u_char *)(uintptr_t)name, len) == 0;
}

/**
 * bh_edge_header_only(list, name, ret_count):
 * The value of the header of that name, borrowed, and how many there are; data is
 * NULL unless there is exactly one.
 */
ngx_str_t bh_edge_header_only(ngx_list_t *list, const char *name, ngx_uint_t *ret_count);

/** bh_edge_header_out(r, name, value): add a response header; ${value} must outlive the request. */
ngx_table_elt_t *bh_edge_header_out(ngx_http_request_t *r, const char *name, ngx_str_t value);

/* ---- stream.c ---- */

/**
 * bh_edge_stream_begin(r, ctx) / bh_edge_stream_end(ctx):
 * An admitted request runs until its log phase.  Once it has run for two
 * seconds its bytes are counted every two seconds, and it is closed where its
 * tenant is not active or has another epoch.
 */
void bh_edge_stream_begin(ngx_http_request_t *r, struct bh_edge_ctx *ctx);
void bh_edge_stream_end(struct bh_edge_ctx *ctx);

/** bh_edge_counters_follow(ctx): where the counters file was replaced: count it in the new one. */
void bh_edge_counters_follow(struct bh_edge_ctx *ctx);

/** bh_edge_streams_follow(): new files are open: what runs is counted in them from here on. */
void bh_edge_streams_follow(void);

/** bh_edge_stream_count(r, ctx): count the bytes that passed since the last call. */
void bh_edge_stream_count(ngx_http_request_t *r, struct bh_edge_ctx *ctx);

/* ---- hold.c ---- */

/**
 * bh_edge_hold(r, ctx, ret_reason):
 * Let the request wait until its tenant is moving no more; then the phases go
 * on with the handler that called.  BH_OK: it waits, return NGX_AGAIN.
 * BH_E_NOT_READY with a reason and a Retry-After where it waited long enough, or
 * too many do.
 */
enum bh_code bh_edge_hold(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason);

/** bh_edge_hold_end(ctx): it waits no more; nothing where it does not. */
void bh_edge_hold_end(struct bh_edge_ctx *ctx);

/** bh_edge_hold_set(cf, cmd, conf): the directive `bulkhead_hold <time> <requests>`. */
char *bh_edge_hold_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* ---- inflight.c ---- */

/** bh_edge_inflight_open(conf, err): map the file beside the counters and get this worker's column
 * (snapshot/inflight.h). */
enum bh_code bh_edge_inflight_open(struct bh_edge_main *conf, struct bh_error *err);

/**
 * bh_edge_inflight_enter(r, ctx, ret_reason):
 * From here on the request is in flight; nothing where it is already.
 * BH_E_NOT_READY with a reason where its tenant has as many as
 * bulkhead_in_flight allows: then it is not counted.
 */
enum bh_code bh_edge_inflight_enter(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason);

/** bh_edge_inflight_leave(ctx): it runs no more; nothing where it does not. */
void bh_edge_inflight_leave(struct bh_edge_ctx *ctx);

/** bh_edge_inflight_follow(ctx): the counters file was replaced: count it in the new one. */
void bh_edge_inflight_follow(struct bh_edge_ctx *ctx);

/** bh_edge_inflight(ctx): requests of its tenant that are in flight on this edge, in all workers.
 */
uint32_t bh_edge_inflight(const struct bh_edge_ctx *ctx);

/* ---- check.c ---- */

/** bh_edge_check(cf): refuse a configuration that cannot keep tenants apart; says where and why. */
ngx_int_t bh_edge_check(ngx_conf_t *cf);

/* ---- grpc.c ---- */

/** bh_edge_grpc_asked(r): is it a call of gRPC: HTTP/2, POST, one Content-Type application/grpc? */
bool bh_edge_grpc_asked(ngx_http_request_t *r);

/* ---- websocket.c ---- */

/** bh_edge_websocket_asked(r): is this a client's handshake of RFC 6455, complete and in order? */
bool bh_edge_websocket_asked(ngx_http_request_t *r);

/**
 * bh_edge_websocket_opens(r, ctx):
 * Is the application's 101 the answer to this client's handshake?  Notes in
 * ${ctx} that a tunnel opens; logs where not.
 */
bool bh_edge_websocket_opens(ngx_http_request_t *r, struct bh_edge_ctx *ctx);

/* ---- cookies.c ---- */

/**
 * bh_edge_cookies(r, ctx):
 * Confine every Set-Cookie of the answer to the host and the path prefix that
 * named the tenant (core/cookie.h).  False without memory.
 */
bool bh_edge_cookies(ngx_http_request_t *r, const struct bh_edge_ctx *ctx);

/* ---- cache.c ---- */

/**
 * bh_edge_cache_apart(r, ctx):
 * Can no other tenant have this answer's key in nginx's cache?  True where the
 * answer has to do with none; logs where not, once for each.
 */
bool bh_edge_cache_apart(ngx_http_request_t *r, struct bh_edge_ctx *ctx);

/* ---- credential.c ---- */

#define BH_EDGE_CREDENTIAL_MAX BH_JWT_MAX
#define BH_EDGE_ROLES_MAX 1024
#define BH_EDGE_SOURCE_MAX 79

struct bh_edge_verdict {
    struct bh_str sub;
    struct bh_str scope;  /* words parted by single spaces; may be empty */
    struct bh_str roles;  /* those that routes of the policy ask for, in the same way */
    struct bh_str source; /* the document that vouches: "issuer/…", "key/…"; empty: none does */
    uint64_t source_print; /* of it */
    int64_t until_s;       /* the credential counts before this second */
};

/**
 * bh_edge_verify(r, ctx, credential, ret_verdict, ret_reason):
 * Verify a user token, a token of an issuer or an API key for the request's
 * tenant, as its policy allows.  Strings live in the request's pool or in
 * ${credential}; ${ret_reason} says what is wrong.
 */
enum bh_code bh_edge_verify(ngx_http_request_t *r, const struct bh_edge_ctx *ctx,
    struct bh_str credential, struct bh_edge_verdict *ret_verdict, const char **ret_reason);

/** bh_edge_is_anonymous(r, ctx, conf): does the path as the client sent it need no credential? */
bool bh_edge_is_anonymous(
    ngx_http_request_t *r, const struct bh_edge_ctx *ctx, const struct bh_edge_server *conf);

/**
 * bh_edge_credential(r, ctx, ret_credential, ret_reason):
 * The one credential that the request shows; empty where it shows none and the
 * path needs none, or where the application asks for it itself.
 */
enum bh_code bh_edge_credential(ngx_http_request_t *r, struct bh_edge_ctx *ctx,
    struct bh_str *ret_credential, const char **ret_reason);

/* ---- issuer.c ---- */

/**
 * bh_edge_issuer(document, ret_print, log):
 * The issuer that the document of that name states, with the print of the document;
 * between begin and end, and borrowed until the next call.  NULL where there is
 * none or it cannot be read (logged).
 */
const struct bh_issuer *bh_edge_issuer(struct bh_str document, uint64_t *ret_print, ngx_log_t *log);

/**
 * bh_edge_source_print(document):
 * The print of an issuer's or API key's document as it is now, read or not; 0 where there is none.
 * Asked of every credential after every commit: it parses nothing.
 */
uint64_t bh_edge_source_print(struct bh_str document);

/** bh_edge_print(body): 64 bits that differ where the text differs; never 0. */
uint64_t bh_edge_print(struct bh_str body);

/* ---- cards.c ---- */

struct bh_edge_card {
    struct bh_edge_verdict verdict;
    struct bh_str token; /* the tenant token minted for it */
    int64_t token_exp_s;
};

union bh_edge_card_room {
    uint64_t words[512];
    char bytes[4096];
};

/** bh_edge_cards_set(cf, cmd, conf): the directive `bulkhead_credential_cache`. */
char *bh_edge_cards_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/** bh_edge_cards_setup(cf, conf): ask for the shared memory; once, after the configuration. */
ngx_int_t bh_edge_cards_setup(ngx_conf_t *cf, struct bh_edge_main *conf);

/**
 * bh_edge_card_find(ctx, credential, room, ret_card):
 * What some worker found out about the credential at this tenant, under the
 * same keyring and policy; its texts lie in ${room}.  The caller asks whether
 * the document that vouches is still the same.
 */
bool bh_edge_card_find(const struct bh_edge_ctx *ctx, struct bh_str credential,
    union bh_edge_card_room *room, struct bh_edge_card *ret_card);

/** bh_edge_card_keep(ctx, credential, card): tell the other workers, and those to come. */
void bh_edge_card_keep(
    const struct bh_edge_ctx *ctx, struct bh_str credential, const struct bh_edge_card *what);

/**
 * bh_edge_refused_before(ctx, credential) / bh_edge_refused_remember(ctx, credential):
 * Was it refused in the last two seconds, with nothing committed since?  Saves
 * verifying the signature of the same junk again and again.
 */
bool bh_edge_refused_before(const struct bh_edge_ctx *ctx, struct bh_str credential);
void bh_edge_refused_remember(const struct bh_edge_ctx *ctx, struct bh_str credential);

/** bh_edge_cards_close(): wipe this worker's keys of it. */
void bh_edge_cards_close(void);

/* ---- failures.c ---- */

/**
 * bh_edge_address_of(sockaddr, ret_loopback):
 * What one client can hold: the bytes of an IPv4 address, or of an IPv6 network
 * of 64 bits; borrowed, empty for a unix socket.
 */
ngx_str_t bh_edge_address_of(struct sockaddr *sockaddr, bool *ret_loopback);

/** bh_edge_failures_set(cf, cmd, conf): the directive `bulkhead_failed_credentials`. */
char *bh_edge_failures_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/**
 * bh_edge_failures_check(r, ctx, ret_reason):
 * May this client have another credential verified?  BH_E_RATE_LIMITED with a
 * reason, and a Retry-After in the answer, where it showed too many wrong ones.
 */
enum bh_code bh_edge_failures_check(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason);

/** bh_edge_failures_count(r): this client showed a wrong credential. */
void bh_edge_failures_count(ngx_http_request_t *r);

/* ---- token.c ---- */

/**
 * bh_edge_token(r, ctx, credential, ret_token, ret_reason):
 * The tenant token that stands for ${credential} (empty: anonymous), from the
 * worker's cache or verified and minted now; it lives in the request's pool.
 */
enum bh_code bh_edge_token(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str credential,
    struct bh_str *ret_token, const char **ret_reason);

/**
 * bh_edge_token_ahead(r) / bh_edge_token_next(r):
 * Have the processor fetch where the request's credential hangs, and a little
 * later its entry; bh_edge_token() then need not wait for memory.
 */
void bh_edge_token_ahead(ngx_http_request_t *r);
void bh_edge_token_next(ngx_http_request_t *r);

/** bh_edge_tokens_wipe(): forget and overwrite every cached credential and token. */
void bh_edge_tokens_wipe(void);

/* ---- access.c ---- */

/**
 * bh_edge_route(r, ctx, conf, ret_reason):
 * Find the route of the tenant's policy that the request matches, and whether it needs no
 * credential.  BH_E_BAD_REQUEST with a reason for a path that could be read in two ways.
 */
enum bh_code bh_edge_route(ngx_http_request_t *r, struct bh_edge_ctx *ctx,
    const struct bh_edge_server *conf, const char **ret_reason);

/**
 * bh_edge_permit(r, ctx, ret_reason):
 * May this credential make this request?  BH_E_NOT_PERMITTED with a reason,
 * BH_E_CREDENTIAL_MISSING where there is none, BH_E_TOO_LARGE for a body beyond the route's bound.
 */
enum bh_code bh_edge_permit(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason);

/* ---- body.c ---- */

/** bh_edge_body_setup(): put the filter that bounds bodies into nginx's chain. */
void bh_edge_body_setup(void);

/**
 * bh_edge_timeout(r, ctx):
 * Give the request's upstream the timeout of its route; once its configuration is set.  False
 * without memory.
 */
bool bh_edge_timeout(ngx_http_request_t *r, const struct bh_edge_ctx *ctx);

/* ---- limit.c ---- */

/**
 * bh_edge_limit(r, ctx, ret_reason):
 * Take one request from the tenant's bucket and from every limit that its policy or the route
 * adds, from all of them or from none, and say so in headers unless the request is only observed.
 * BH_E_RATE_LIMITED, BH_E_QUOTA_EXCEEDED, BH_E_NOT_READY with a reason.
 */
enum bh_code bh_edge_limit(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason);

/** bh_edge_limit_take(ctx): take one request from the tenant's bucket, if it has one. */
struct bh_bucket_answer bh_edge_limit_take(struct bh_edge_ctx *ctx);

/** bh_edge_monotonic_ns(): nanoseconds of CLOCK_MONOTONIC. */
uint64_t bh_edge_monotonic_ns(void);

/** bh_edge_digits(to, value): at most ten decimal digits; returns where they end. */
u_char *bh_edge_digits(u_char *to, uint32_t value);

/* ---- limits.c ---- */

/** bh_edge_limits(r, ctx, mask, ret_reason): bh_edge_limit with the limits of ${mask}, bits of the
 * tenant's policy. */
enum bh_code bh_edge_limits(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, uint32_t mask, const char **ret_reason);

/**
 * bh_edge_limits_settle(r, ctx):
 * The request is over: it runs no more, and its bytes are known, if ${r} is not NULL.
 */
void bh_edge_limits_settle(ngx_http_request_t *r, struct bh_edge_ctx *ctx);

/** bh_edge_limits_alone(r, ctx): where the edge says X-RateLimit-* headers the application's go. */
void bh_edge_limits_alone(ngx_http_request_t *r, const struct bh_edge_ctx *ctx);

/** bh_edge_limits_close(): give this worker's part of the file back. */
void bh_edge_limits_close(void);

/* ---- endpoints.c, balancer.c ---- */

/** bh_edge_endpoints(number, log): the parsed set of that number, kept; NULL where it is unusable.
 */
struct bh_edge_endpoints *bh_edge_endpoints(uint32_t number, ngx_log_t *log);

/** bh_edge_upstream(cf, cmd, conf): the directive `bulkhead;` of an upstream block. */
char *bh_edge_upstream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* ---- problem.c ---- */

/**
 * bh_edge_problem(r, ctx, code, reason):
 * Answer with a problem document and finish the request; ${reason} (may be
 * NULL) replaces the usual detail.  Returns what a phase handler returns.
 */
ngx_int_t bh_edge_problem(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, enum bh_code code, const char *reason);

/** bh_edge_problem_handler(r): content handler that words the errors of nginx itself. */
ngx_int_t bh_edge_problem_handler(ngx_http_request_t *r);

/* ---- maintenance.c ---- */

/** bh_edge_maintenance_message(r, ctx): the message of the tenant's policy, in the request's pool;
 * NULL where it has none. */
const char *bh_edge_maintenance_message(ngx_http_request_t *r, const struct bh_edge_ctx *ctx);

/** bh_edge_maintenance_retry(r, ctx): say Retry-After where the policy knows it; false without
 * memory. */
bool bh_edge_maintenance_retry(ngx_http_request_t *r, const struct bh_edge_ctx *ctx);

/** bh_edge_accepts_html(r): does the client's Accept name text/html? */
bool bh_edge_accepts_html(ngx_http_request_t *r);

/** bh_edge_maintenance_page(r, title, message): a page that says it, ${message} escaped; NULL
 * without memory. */
ngx_buf_t *bh_edge_maintenance_page(ngx_http_request_t *r, const char *title, const char *message);

/* ---- meter.c ---- */

/**
 * bh_edge_meter(r) / bh_edge_meter_setup():
 * Log phase handler; put the header filter into nginx's chain.
 */
ngx_int_t bh_edge_meter(ngx_http_request_t *r);
void bh_edge_meter_setup(void);

/** bh_edge_status(r): the status that the client saw, or was to see; 499 where it left before. */
ngx_uint_t bh_edge_status(ngx_http_request_t *r);

/* ---- variables.c ---- */

/** bh_edge_variables(cf): register $bulkhead_*. */
ngx_int_t bh_edge_variables(ngx_conf_t *cf);

#endif
