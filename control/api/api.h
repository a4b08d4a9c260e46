/*
 * The REST interface of the control plane: its start and stop, and what its
 * files share.  doc/contract/rest.md is the contract.
 *
 * A request is read by the HTTP thread, run by a worker thread, and answered by
 * the HTTP thread again, so a slow registry never delays another answer or a
 * stream.  Everything that belongs to a request lives in its arena.
 */
#ifndef BH_CONTROL_API_API_H
#define BH_CONTROL_API_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/api/query.h"
#include "control/db.h"
#include "control/registry/registry.h"
#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/key.h"
#include "core/str.h"
#include "core/tenant.h"

#define BH_BODY_MAX 65536

/* What the interface needs of the world; strings are borrowed until bh_api_stop. */
struct bh_api_config {
    const char *listen;          /* "127.0.0.1:7070" or "[::1]:7070" */
    const char *registry;        /* conninfo: the feed's watcher has a connection of its own */
    struct bh_db_pool *pool;     /* registry; at least ${workers} connections */
    const struct bh_key *master; /* to derive keys and sign tokens */
    const char *base_domain;     /* of tenants' URLs */
    unsigned edge_port;
    const char *state_dir; /* large answers are spooled here, unlinked */
    unsigned workers;
};

struct bh_api;

/** bh_api_start(config, ret_api, err): listen and serve.  BH_E_CONFIG where the address cannot be
 * had. */
enum bh_code bh_api_start(
    const struct bh_api_config *config, struct bh_api **ret_api, struct bh_error *err) BH_MUSTCHECK;

/** bh_api_stop(api): take no more, finish what runs, end the streams, free. */
void bh_api_stop(struct bh_api *api);

/* ---- what the files of this folder share ---- */

struct bh_hub;
struct bh_stream;

struct bh_header {
    const char *name;
    const char *value;
};

/* What goes back; handlers fill it in. */
struct bh_reply {
    int status;
    const char *content_type;
    struct bh_buf body;
    struct bh_header headers[6];
    size_t header_count;
    bool secret;              /* wipe the body when it was sent */
    int fd;                   /* ≥ 0: the body is this file, owned */
    struct bh_stream *stream; /* not NULL: the body is this stream, owned */
};

/* One request on its way through a worker. */
struct bh_request {
    struct bh_arena *arena;
    const struct bh_api_config *config;
    struct bh_hub *hub;      /* of the feed's streams */
    struct bh_db *db;        /* borrowed from the pool; NULL for routes that need none */
    char id[BH_ULID_TEXT];   /* X-Request-Id */
    const char *method;      /* as sent */
    bool head;               /* HEAD: no stream is opened */
    struct bh_str path;      /* as sent, without the query */
    struct bh_str params[2]; /* of the path, decoded */
    struct bh_query query;
    struct bh_str raw_query;
    struct bh_str body;
    const struct bh_json *json; /* of a route with a body */
    const char *if_match;       /* header, or NULL */
    const char *if_none_match;  /* header, or NULL */
    const char *feed;           /* header Bulkhead-Feed, or NULL */
    const char *authorization;  /* header, or NULL */
    bool authorization_twice;
    bool too_large;                /* the body exceeds BH_BODY_MAX */
    struct bh_principal principal; /* id NULL where nobody needs to be known */
    struct bh_issues issues;       /* what is wrong in the input, for `errors` */
};

typedef enum bh_code (*bh_handler)(
    struct bh_request *request, struct bh_reply *reply, struct bh_error *err);

/* Who may: one column of the route table.  ITSELF: the agent that {} names. */
enum bh_who { BH_WHO_ANYONE, BH_WHO_OPERATOR, BH_WHO_AGENT, BH_WHO_AGENT_ITSELF };

#define BH_ROUTE_PARAMS 8

/* A row of the route table (route.c). */
struct bh_api_route {
    const char *method;
    const char *pattern; /* "/v1/tenants/{}": {} is one non-empty segment */
    enum bh_who who;
    bool has_body; /* a JSON body is required and parsed */
    bool inline_;  /* needs no registry: answered by the HTTP thread */
    bh_handler handler;
    const char *query[BH_ROUTE_PARAMS]; /* the parameters that it knows */
};

/**
 * bh_route_run(request, reply, err):
 * Credential, path, method, permission, query, body; then the route's handler.
 * ${reply} gets its headers also where it fails (Allow, WWW-Authenticate).
 */
enum bh_code bh_route_run(
    struct bh_request *request, struct bh_reply *reply, struct bh_error *err) BH_MUSTCHECK;

/** bh_route_inline(path): may the HTTP thread itself answer requests for ${path}? */
bool bh_route_inline(struct bh_str path);

/** bh_reply_header(reply, name, value): one more header; both are borrowed for the request's life.
 */
void bh_reply_header(struct bh_reply *reply, const char *name, const char *value);

/**
 * bh_body_read(request, fields, target, err):
 * Check the request's JSON body against ${fields} into ${target}, as
 * bh_fields_read does; BH_E_INVALID with request->issues filled.
 */
enum bh_code bh_body_read(struct bh_request *request, const struct bh_fields *fields, void *target,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_body_parse(request, err): request->body as strict JSON into request->json. */
enum bh_code bh_body_parse(struct bh_request *request, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_request_db(request, err):
 * Borrow a registry connection for the request, if it has none yet; the server
 * gives it back.  Its statements are waited for at most 5 s.
 */
enum bh_code bh_request_db(struct bh_request *request, struct bh_error *err) BH_MUSTCHECK;

/** bh_auth_check(request, err): who asks?  Fills request->principal; BH_E_UNAUTHENTICATED. */
enum bh_code bh_auth_check(struct bh_request *request, struct bh_error *err) BH_MUSTCHECK;

/** bh_text(request, s): ${s} NUL-terminated in the request's arena, or NULL. */
const char *bh_text(struct bh_request *request, struct bh_str s);

/**
 * bh_json_text_of(request, value, absent):
 * ${value} as JSON text in the request's arena, ${absent} where it is NULL; NULL: no memory.
 */
const char *bh_json_text_of(
    struct bh_request *request, const struct bh_json *value, const char *absent);

/* Handlers, one file per resource. */
#define BH_HANDLER(name)                                                                           \
    enum bh_code name(struct bh_request *request, struct bh_reply *reply, struct bh_error *err)
BH_HANDLER(bh_health_live);
BH_HANDLER(bh_health_ready);
BH_HANDLER(bh_tenants_list);
BH_HANDLER(bh_tenants_get);
BH_HANDLER(bh_tenants_put);
BH_HANDLER(bh_tenants_delete);
BH_HANDLER(bh_tenant_edge_get);
BH_HANDLER(bh_tiers_list);
BH_HANDLER(bh_tiers_get);
BH_HANDLER(bh_tiers_put);
BH_HANDLER(bh_certificates_list);
BH_HANDLER(bh_certificates_get);
BH_HANDLER(bh_certificates_put);
BH_HANDLER(bh_certificates_delete);
BH_HANDLER(bh_operations_list);
BH_HANDLER(bh_operations_get);
BH_HANDLER(bh_operations_resume);
BH_HANDLER(bh_tokens_post);
BH_HANDLER(bh_feed_get);
BH_HANDLER(bh_feed_snapshot_get);
BH_HANDLER(bh_keyring_get);
BH_HANDLER(bh_usage_get);
BH_HANDLER(bh_usage_post_all);
BH_HANDLER(bh_leases_post);
BH_HANDLER(bh_agents_put);
BH_HANDLER(bh_audit_get);
BH_HANDLER(bh_servers_list);
BH_HANDLER(bh_selfcheck_get);
BH_HANDLER(bh_selfcheck_post);
BH_HANDLER(bh_issuers_list);
BH_HANDLER(bh_issuers_get);
BH_HANDLER(bh_issuers_put);
BH_HANDLER(bh_issuers_delete);
BH_HANDLER(bh_issuers_refresh);
BH_HANDLER(bh_apikeys_post);
BH_HANDLER(bh_apikeys_list);
BH_HANDLER(bh_apikeys_delete);

#endif
