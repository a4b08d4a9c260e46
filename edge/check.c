/*
 * What a configuration may not say: found once all of it was read, and refused at
 * start, where nginx lets us see it.  The rest is for `bulkhead doctor`.
 */
#include "edge/edge.h"

/* Modules that pass requests on; the configuration of each begins with its upstream's. */
static const char *const passing[] = {"ngx_http_proxy_module", "ngx_http_grpc_module",
    "ngx_http_fastcgi_module", "ngx_http_uwsgi_module", "ngx_http_scgi_module"};

#define PASSING (sizeof(passing) / sizeof(passing[0]))

struct check {
    ngx_conf_t *cf;
    ngx_uint_t indexes[PASSING]; /* of those that this nginx has */
    size_t count;
    const ngx_http_core_srv_conf_t *server;
    const struct bh_edge_server *conf;
    bool failed;
};

static void
find_modules(struct check *check)
{
    for (ngx_uint_t i = 0; check->cf->cycle->modules[i] != NULL; i++) {
        ngx_module_t *module = check->cf->cycle->modules[i];
        for (size_t j = 0; j < PASSING; j++) {
            if (module->name != NULL && ngx_strcmp(module->name, passing[j]) == 0) {
                check->indexes[check->count++] = module->ctx_index;
            }
        }
    }
}

static void
refuse(struct check *check, const ngx_str_t *location, const char *what)
{
    check->failed = true;
    ngx_log_error(NGX_LOG_EMERG, check->cf->log, 0,
        "bulkhead: location \"%V\" of the server in %s:%ui %s", location, check->server->file_name,
        check->server->line, what);
}

static bool
leads_to_tenants(const ngx_http_upstream_srv_conf_t *upstream)
{
    if (upstream == NULL || upstream->srv_conf == NULL) {
        return false; /* nowhere, or an address without a block of its own */
    }
    const struct bh_edge_server *conf = upstream->srv_conf[ngx_http_bulkhead_module.ctx_index];
    return conf->balances;
}

static void
check_location(struct check *check, const ngx_http_core_loc_conf_t *location)
{
    for (size_t i = 0; i < check->count; i++) {
        const ngx_http_upstream_conf_t *upstream = location->loc_conf[check->indexes[i]];
        if (check->conf->mode == BH_EDGE_OFF && leads_to_tenants(upstream->upstream)) {
            refuse(check, &location->name,
                "passes requests to an upstream with \"bulkhead\", and has the edge off: write "
                "\"bulkhead on\" into the server block");
        }
        if (check->conf->mode == BH_EDGE_ON && location->handler != NULL && upstream->store > 0) {
            refuse(check, &location->name,
                "stores answers of all tenants under one name: take \"proxy_store\" (or its like) "
                "out");
        }
    }
}

static void check_inside(struct check *check, const ngx_http_core_loc_conf_t *location);

static void
check_tree(struct check *check, const ngx_http_location_tree_node_t *node)
{
    if (node == NULL) {
        return;
    }
    const ngx_http_core_loc_conf_t *found[] = {node->exact, node->inclusive};
    for (size_t i = 0; i < 2; i++) {
        if (found[i] != NULL) {
            check_location(check, found[i]);
            check_inside(check, found[i]);
        }
    }
    check_tree(check, node->left);
    check_tree(check, node->right);
    check_tree(check, node->tree);
}

/* The locations inside of one, or of a server. */
static void
check_inside(struct check *check, const ngx_http_core_loc_conf_t *location)
{
    check_tree(check, location->static_locations);
#if (NGX_PCRE)
    ngx_http_core_loc_conf_t **regex = location->regex_locations;
    for (; regex != NULL && *regex != NULL; regex++) {
        check_location(check, *regex);
        check_inside(check, *regex);
    }
#endif
}

static bool
is_there(const struct check *check, const ngx_str_t *name)
{
    ngx_http_core_loc_conf_t **named = check->server->named_locations;
    for (; named != NULL && *named != NULL; named++) {
        if ((*named)->name.len == name->len &&
            ngx_strncmp((*named)->name.data, name->data, name->len) == 0) {
            return true;
        }
    }
    return name->len == 0;
}

static void
check_named(struct check *check)
{
    ngx_http_core_loc_conf_t **named = check->server->named_locations;
    for (; named != NULL && *named != NULL; named++) {
        check_location(check, *named);
        check_inside(check, *named);
    }
    if (check->conf->mode == BH_EDGE_ON && !is_there(check, &check->conf->websocket)) {
        refuse(check, &check->conf->websocket,
            "is what \"bulkhead_websocket\" names, and is not there");
    }
    if (check->conf->mode == BH_EDGE_ON && !is_there(check, &check->conf->grpc)) {
        refuse(check, &check->conf->grpc, "is what \"bulkhead_grpc\" names, and is not there");
    }
}

ngx_int_t
bh_edge_check(ngx_conf_t *cf)
{
    ngx_http_core_main_conf_t *core = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ngx_http_core_srv_conf_t **servers = core->servers.elts;
    struct check check = {.cf = cf};
    find_modules(&check);
    for (ngx_uint_t i = 0; i < core->servers.nelts; i++) {
        const ngx_http_conf_ctx_t *ctx = servers[i]->ctx;
        check.server = servers[i];
        check.conf = ctx->srv_conf[ngx_http_bulkhead_module.ctx_index];
        check_inside(&check, ctx->loc_conf[ngx_http_core_module.ctx_index]);
        check_named(&check);
    }
    return check.failed ? NGX_ERROR : NGX_OK;
}
