/* Tables, configuration and phases of ngx_http_bulkhead_module. */
#include "edge/edge.h"

#include <sys/prctl.h>

#define VISIBLE __attribute__((visibility("default")))

static void *
create_main(ngx_conf_t *cf)
{
    struct bh_edge_main *conf = ngx_pcalloc(cf->pool, sizeof(*conf));
    if (conf != NULL) {
        conf->in_flight = NGX_CONF_UNSET_UINT;
        conf->cards_size = NGX_CONF_UNSET_SIZE;
        conf->hold_ms = NGX_CONF_UNSET_MSEC;
        conf->hold_max = NGX_CONF_UNSET_UINT;
    }
    return conf;
}

static char *
init_main(ngx_conf_t *cf, void *data)
{
    struct bh_edge_main *conf = data;
    (void)cf;
    ngx_conf_init_uint_value(conf->in_flight, 1024);
    ngx_conf_init_msec_value(conf->hold_ms, 5000);
    ngx_conf_init_uint_value(conf->hold_max, 1000);
    return NGX_CONF_OK;
}

static void *
create_server(ngx_conf_t *cf)
{
    struct bh_edge_server *conf = ngx_pcalloc(cf->pool, sizeof(*conf));
    if (conf != NULL) {
        conf->mode = NGX_CONF_UNSET_UINT;
        conf->certificates = NGX_CONF_UNSET;
        conf->sni = NGX_CONF_UNSET;
        conf->anonymous_paths = NGX_CONF_UNSET_PTR;
    }
    return conf;
}

static char *
merge_server(ngx_conf_t *cf, void *parent, void *child)
{
    struct bh_edge_server *prev = parent;
    struct bh_edge_server *conf = child;
    ngx_conf_merge_uint_value(conf->mode, prev->mode, BH_EDGE_OFF);
    ngx_conf_merge_bitmask_value(
        conf->resolve, prev->resolve, NGX_CONF_BITMASK_SET | BH_EDGE_BY_HOST | BH_EDGE_BY_DOMAIN);
    ngx_conf_merge_ptr_value(conf->anonymous_paths, prev->anonymous_paths, NULL);
    ngx_conf_merge_value(conf->certificates, prev->certificates, 0);
    ngx_conf_merge_value(conf->sni, prev->sni, 1);
    ngx_conf_merge_str_value(conf->websocket, prev->websocket, "");
    ngx_conf_merge_str_value(conf->grpc, prev->grpc, "");
    if (conf->failures == NULL) {
        conf->failures = prev->failures;
        conf->failure_rate = prev->failure_rate;
        conf->failure_burst = prev->failure_burst;
        conf->failure_loopback = prev->failure_loopback;
    }
    struct bh_edge_main *main = ngx_http_conf_get_module_main_conf(cf, ngx_http_bulkhead_module);
    bool wanted = conf->mode != BH_EDGE_OFF || conf->certificates;
    if (wanted && (main->snapshot.len == 0 || main->keyring.len == 0 || main->counters.len == 0 ||
                      main->base_domain.len == 0)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
            "\"bulkhead\" needs bulkhead_snapshot, bulkhead_keyring, bulkhead_counters and "
            "bulkhead_base_domain");
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

/* nginx wants its messages and names writable. */
static char duplicate[] = "is duplicate";
static char bad_domain[] = "must be a domain without dots at its ends";
static char bad_location[] = "must be a named location (@name)";
static char module_name[] = "ngx_http_bulkhead_module";
static char range_filter_name[] = "ngx_http_range_header_filter_module";

static char *
set_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t *field = (ngx_str_t *)(void *)((char *)conf + cmd->offset);
    if (field->len != 0) {
        return duplicate;
    }
    *field = ((ngx_str_t *)cf->args->elts)[1];
    if (ngx_conf_full_name(cf->cycle, field, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

static char *
set_base_domain(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    struct bh_edge_main *main = conf;
    (void)cmd;
    if (main->base_domain.len != 0) {
        return duplicate;
    }
    main->base_domain = ((ngx_str_t *)cf->args->elts)[1];
    ngx_strlow(main->base_domain.data, main->base_domain.data, main->base_domain.len);
    if (main->base_domain.len == 0 || main->base_domain.data[0] == '.' ||
        main->base_domain.data[main->base_domain.len - 1] == '.') {
        return bad_domain;
    }
    return NGX_CONF_OK;
}

static char *
set_named(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t *name = &((ngx_str_t *)cf->args->elts)[1];
    return name->data[0] == '@' ? ngx_conf_set_str_slot(cf, cmd, conf) : bad_location;
}

static char *
set_problem(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    (void)cmd;
    (void)conf;
    ngx_http_core_loc_conf_t *location =
        ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    location->handler = bh_edge_problem_handler;
    return NGX_CONF_OK;
}

static ngx_conf_enum_t modes[] = {
    {ngx_string("off"), BH_EDGE_OFF},
    {ngx_string("observe"), BH_EDGE_OBSERVE},
    {ngx_string("on"), BH_EDGE_ON},
    {ngx_null_string, 0},
};

static ngx_conf_bitmask_t sources[] = {
    {ngx_string("host"), BH_EDGE_BY_HOST},
    {ngx_string("path"), BH_EDGE_BY_PATH},
    {ngx_string("header"), BH_EDGE_BY_HEADER},
    {ngx_string("domain"), BH_EDGE_BY_DOMAIN},
    {ngx_null_string, 0},
};

static ngx_conf_num_bounds_t in_flight_bounds = {ngx_conf_check_num_bounds, 1, 1000000};

static ngx_command_t commands[] = {
    {ngx_string("bulkhead"), NGX_HTTP_UPS_CONF | NGX_CONF_NOARGS, bh_edge_upstream, 0, 0, NULL},
    {ngx_string("bulkhead"), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_TAKE1,
        ngx_conf_set_enum_slot, NGX_HTTP_SRV_CONF_OFFSET, offsetof(struct bh_edge_server, mode),
        modes},
    {ngx_string("bulkhead_resolve"), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_1MORE,
        ngx_conf_set_bitmask_slot, NGX_HTTP_SRV_CONF_OFFSET,
        offsetof(struct bh_edge_server, resolve), sources},
    {ngx_string("bulkhead_anonymous_path"), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_TAKE1,
        ngx_conf_set_str_array_slot, NGX_HTTP_SRV_CONF_OFFSET,
        offsetof(struct bh_edge_server, anonymous_paths), NULL},
    {ngx_string("bulkhead_failed_credentials"),
        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_TAKE23, bh_edge_failures_set,
        NGX_HTTP_SRV_CONF_OFFSET, 0, NULL},
    {ngx_string("bulkhead_websocket"), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_TAKE1,
        set_named, NGX_HTTP_SRV_CONF_OFFSET, offsetof(struct bh_edge_server, websocket), NULL},
    {ngx_string("bulkhead_grpc"), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_TAKE1,
        set_named, NGX_HTTP_SRV_CONF_OFFSET, offsetof(struct bh_edge_server, grpc), NULL},
    {ngx_string("bulkhead_certificates"), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, NGX_HTTP_SRV_CONF_OFFSET,
        offsetof(struct bh_edge_server, certificates), NULL},
    {ngx_string("bulkhead_sni"), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, NGX_HTTP_SRV_CONF_OFFSET, offsetof(struct bh_edge_server, sni),
        NULL},
    {ngx_string("bulkhead_snapshot"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, set_path,
        NGX_HTTP_MAIN_CONF_OFFSET, offsetof(struct bh_edge_main, snapshot), NULL},
    {ngx_string("bulkhead_keyring"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, set_path,
        NGX_HTTP_MAIN_CONF_OFFSET, offsetof(struct bh_edge_main, keyring), NULL},
    {ngx_string("bulkhead_counters"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, set_path,
        NGX_HTTP_MAIN_CONF_OFFSET, offsetof(struct bh_edge_main, counters), NULL},
    {ngx_string("bulkhead_cell"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, ngx_conf_set_str_slot,
        NGX_HTTP_MAIN_CONF_OFFSET, offsetof(struct bh_edge_main, cell), NULL},
    {ngx_string("bulkhead_base_domain"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, set_base_domain,
        NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL},
    {ngx_string("bulkhead_hold"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE2, bh_edge_hold_set,
        NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL},
    {ngx_string("bulkhead_in_flight"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, ngx_conf_set_num_slot,
        NGX_HTTP_MAIN_CONF_OFFSET, offsetof(struct bh_edge_main, in_flight), &in_flight_bounds},
    {ngx_string("bulkhead_credential_cache"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1,
        bh_edge_cards_set, NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL},
    {ngx_string("bulkhead_problem"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set_problem, 0, 0, NULL},
    ngx_null_command,
};

static void *
arena_alloc(void *host, size_t size)
{
    u_char *data = ngx_palloc(host, size + 15);
    return data == NULL ? NULL : ngx_align_ptr(data, 16);
}

struct bh_arena
bh_edge_arena(ngx_http_request_t *r)
{
    return (struct bh_arena){.alloc = arena_alloc, .host = r->pool};
}

/* Its address also marks our entry in the list of pool cleanups. */
static void
ctx_marker(void *data)
{
    struct bh_edge_ctx *ctx = data;
    bh_edge_limits_settle(NULL, ctx);
    bh_edge_policy_drop(ctx->tenant.policy);
}

struct bh_edge_ctx *
bh_edge_ctx_get(ngx_http_request_t *r)
{
    struct bh_edge_ctx *ctx = ngx_http_get_module_ctx(r, ngx_http_bulkhead_module);
    if (ctx != NULL || !(r->internal || r != r->main || r->filter_finalize)) {
        return ctx;
    }
    /* An internal redirect forgets the contexts of all modules, but not the pool. */
    for (ngx_pool_cleanup_t *entry = r->pool->cleanup; entry != NULL; entry = entry->next) {
        if (entry->handler == ctx_marker) {
            ngx_http_set_ctx(r, entry->data, ngx_http_bulkhead_module);
            return entry->data;
        }
    }
    return NULL;
}

struct bh_edge_ctx *
bh_edge_ctx_make(ngx_http_request_t *r)
{
    struct bh_edge_ctx *ctx = bh_edge_ctx_get(r);
    if (ctx != NULL) {
        return ctx;
    }
    uint8_t id[sizeof(ctx->request_id) / 2];
    ngx_pool_cleanup_t *marker =
        bh_edge_random(id, sizeof(id)) ? ngx_pool_cleanup_add(r->pool, sizeof(*ctx)) : NULL;
    if (marker == NULL) {
        return NULL;
    }
    ctx = marker->data;
    ngx_memzero(ctx, sizeof(*ctx));
    (void)bh_edge_hex(ctx->request_id, id, sizeof(id));
    ctx->begun_ns = bh_edge_monotonic_ns();
    marker->handler = ctx_marker;
    ngx_http_set_ctx(r, ctx, ngx_http_bulkhead_module);
    return ctx;
}

/* Where it only observes, a request that it would refuse goes on as it came. */
static ngx_int_t
refuse(ngx_http_request_t *r, struct bh_edge_ctx *ctx, enum bh_code code, const char *reason)
{
    if (ctx->observed) {
        ctx->code = code;
        return NGX_DECLINED;
    }
    return bh_edge_problem(r, ctx, code, reason);
}

static ngx_int_t
post_read(ngx_http_request_t *r)
{
    struct bh_edge_server *conf = ngx_http_get_module_srv_conf(r, ngx_http_bulkhead_module);
    if (conf->mode == BH_EDGE_OFF || r != r->main) {
        return NGX_DECLINED;
    }
    bh_edge_tenant_ahead(r);
    bh_edge_token_ahead(r);
    struct bh_edge_ctx *ctx = bh_edge_ctx_make(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ctx->observed = conf->mode == BH_EDGE_OBSERVE;
    const char *reason = NULL;
    enum bh_code code = bh_edge_resolve(r, ctx, &reason);
    if (code != BH_OK) {
        return refuse(r, ctx, code, reason);
    }
    bh_edge_token_next(r);
    code = bh_edge_route(r, ctx, conf, &reason);
    if (code != BH_OK) {
        return refuse(r, ctx, code, reason);
    }
    if (!bh_edge_headers_clean(r, ctx)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return NGX_DECLINED;
}

/* Verify a credential, and remember the address that showed a wrong one. */
static enum bh_code
authenticate(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str *ret_token,
    const char **ret_reason)
{
    struct bh_str credential = BH_STR("");
    enum bh_code code = bh_edge_credential(r, ctx, &credential, ret_reason);
    if (code == BH_OK) {
        code = bh_edge_token(r, ctx, credential, ret_token, ret_reason);
    }
    if (code == BH_E_TOKEN_INVALID || code == BH_E_TOKEN_EXPIRED ||
        code == BH_E_TOKEN_TENANT_MISMATCH) {
        bh_edge_failures_count(r);
    }
    ctx->believed = code == BH_OK && credential.len > 0;
    return code;
}

static enum bh_code
admit(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    struct bh_str token;
    BH_TRY(authenticate(r, ctx, &token, ret_reason));
    BH_TRY(bh_edge_permit(r, ctx, ret_reason));
    /* After the credential: a flood of bad ones must not drain the tenant's bucket. */
    BH_TRY(bh_edge_limit(r, ctx, ret_reason));
    return ctx->observed || bh_edge_headers_inject(r, ctx, token) ? BH_OK : BH_E_NO_MEMORY;
}

/* Only who may come in waits, and comes by here again: what it was let in with is made anew. */
static enum bh_code
wait_for_move(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    struct bh_str token;
    BH_TRY(authenticate(r, ctx, &token, ret_reason));
    BH_TRY(bh_edge_permit(r, ctx, ret_reason));
    return bh_edge_hold(r, ctx, ret_reason);
}

/*
 * Counted first, looked at afterwards: who moves a tenant commits the state and
 * then reads the count, and so misses nobody that saw the old one.
 */
static enum bh_code
enter(ngx_http_request_t *r, struct bh_edge_ctx *ctx, bool *ret_waits, const char **ret_reason)
{
    BH_TRY(bh_edge_inflight_enter(r, ctx, ret_reason));
    BH_TRY(bh_edge_resolve_again(r, ctx, ret_reason));
    if (ctx->observed || ctx->tenant.record.state != BH_TENANT_MOVING) {
        return admit(r, ctx, ret_reason);
    }
    bh_edge_inflight_leave(ctx);
    BH_TRY(wait_for_move(r, ctx, ret_reason));
    *ret_waits = true;
    return BH_OK;
}

/* What speaks another protocol with its application goes to a location of its own. */
static ngx_str_t *
own_location(ngx_http_request_t *r, const struct bh_edge_ctx *ctx, struct bh_edge_server *conf)
{
    if (ctx->websocket) {
        return &conf->websocket;
    }
    bool grpc = conf->grpc.len > 0 && !ctx->observed && bh_edge_grpc_asked(r);
    return grpc ? &conf->grpc : NULL;
}

static ngx_int_t
gate(ngx_http_request_t *r)
{
    struct bh_edge_server *conf = ngx_http_get_module_srv_conf(r, ngx_http_bulkhead_module);
    ngx_http_core_loc_conf_t *location = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    if (conf->mode == BH_EDGE_OFF || r != r->main || location->handler == bh_edge_problem_handler) {
        return NGX_DECLINED;
    }
    struct bh_edge_ctx *ctx = bh_edge_ctx_get(r);
    if (ctx != NULL && (ctx->admitted || (ctx->observed && ctx->code != BH_OK))) {
        return NGX_DECLINED;
    }
    if (ctx == NULL || ctx->tenant.id_len == 0) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR; /* post_read did not see it: no way past us */
    }
    const char *reason = NULL;
    bool waits = false;
    enum bh_code code = enter(r, ctx, &waits, &reason);
    if (code != BH_OK) {
        bh_edge_inflight_leave(ctx);
        return refuse(r, ctx, code, reason);
    }
    if (waits) {
        return NGX_AGAIN;
    }
    ctx->admitted = 1;
    bh_edge_stream_begin(r, ctx);
    ngx_str_t *elsewhere = own_location(r, ctx, conf);
    if (elsewhere == NULL) {
        return NGX_DECLINED;
    }
    /* It begins there anew, and comes by here admitted. */
    (void)ngx_http_named_location(r, elsewhere);
    ngx_http_finalize_request(r, NGX_DONE);
    return NGX_DONE;
}

static ngx_int_t
add_phase(ngx_http_core_main_conf_t *core, ngx_http_phases phase, ngx_http_handler_pt handler)
{
    ngx_http_handler_pt *slot = ngx_array_push(&core->phases[phase].handlers);
    if (slot == NULL) {
        return NGX_ERROR;
    }
    *slot = handler;
    return NGX_OK;
}

static ngx_int_t
set_phases(ngx_conf_t *cf)
{
    ngx_http_core_main_conf_t *core = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    struct bh_edge_main *conf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bulkhead_module);
    bh_edge_headers_setup();
    bh_edge_meter_setup();
    bh_edge_body_setup();
    if (bh_edge_check(cf) != NGX_OK || bh_edge_cards_setup(cf, conf) != NGX_OK ||
        add_phase(core, NGX_HTTP_POST_READ_PHASE, post_read) != NGX_OK ||
        add_phase(core, NGX_HTTP_PREACCESS_PHASE, gate) != NGX_OK ||
        add_phase(core, NGX_HTTP_LOG_PHASE, bh_edge_meter) != NGX_OK) {
        return NGX_ERROR;
    }
    return bh_edge_tls_setup(cf);
}

/* Keys will be in this memory: no core dump, no look at it by others of our user. */
static ngx_int_t
init_process(ngx_cycle_t *cycle)
{
    if (prctl(PR_SET_DUMPABLE, 0) != 0) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno, "prctl(PR_SET_DUMPABLE) failed");
        return NGX_ERROR;
    }
    return NGX_OK;
}

static void
exit_process(ngx_cycle_t *cycle)
{
    (void)cycle;
    bh_edge_tokens_wipe();
    bh_edge_cards_close();
    bh_edge_certificates_wipe();
    bh_edge_limits_close();
    bh_edge_state_close();
}

static ngx_http_module_t module_ctx = {
    .preconfiguration = bh_edge_variables,
    .postconfiguration = set_phases,
    .create_main_conf = create_main,
    .init_main_conf = init_main,
    .create_srv_conf = create_server,
    .merge_srv_conf = merge_server,
};

/* Workers open their state at the first request: nothing happens at `nginx -t` or in the master. */
VISIBLE ngx_module_t ngx_http_bulkhead_module = {
    NGX_MODULE_V1,
    .ctx = &module_ctx,
    .commands = commands,
    .type = NGX_HTTP_MODULE,
    .init_process = init_process,
    .exit_process = exit_process,
};

/* For `bulkhead doctor`, which reads it from the file. */
VISIBLE const char bh_edge_build[] __attribute__((used)) = "bulkhead edge for nginx/" NGINX_VERSION;

/*
 * What nginx looks for in a dynamic module; its own build writes the same.  The
 * order puts our header filter below those that may still change the status
 * (not modified, range) and above those that write it (HTTP/2, HTTP/1).
 */
VISIBLE extern char *ngx_module_order[];
VISIBLE ngx_module_t *ngx_modules[] = {&ngx_http_bulkhead_module, NULL};
VISIBLE char *ngx_module_names[] = {module_name, NULL};
VISIBLE char *ngx_module_order[] = {module_name, range_filter_name, NULL};
