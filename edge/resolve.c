/*
 * Which tenant a request names: by its host (a label or a custom domain), by the path prefix
 * /t/<id>/, by the header X-Tenant-ID, as far as the server block lets each of them speak.  All
 * that speak must agree; a credential never does.
 */
#include "edge/edge.h"

#include "core/host.h"

/* What was found so far. */
struct name {
    char id[BH_TENANT_ID_MAX + 1];
    size_t len; /* 0: nothing names a tenant yet */
    const char *reason;
};

static struct bh_str
text_of(ngx_str_t text)
{
    return (struct bh_str){(const char *)text.data, text.len};
}

/* See the newest snapshot, until bh_snapshot_end. */
static enum bh_code
begin(struct bh_edge_main *conf, ngx_log_t *log, const char **ret_reason)
{
    struct bh_error err;
    if (!bh_edge_ready(conf, log, ret_reason)) {
        return BH_E_NOT_READY;
    }
    if (bh_snapshot_begin(bh_edge.snapshot, &err) != BH_OK) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "bulkhead: %s", err.detail);
        *ret_reason = "the edge cannot read its snapshot";
        return BH_E_NOT_READY;
    }
    bh_edge_look(conf, log);
    return BH_OK;
}

/* ---- by host ---- */

/* A request line in absolute form names a host itself, and nginx believes it rather than Host. */
static bool
two_hosts(ngx_http_request_t *r, struct bh_str host)
{
    if (r->schema_end == NULL || r->host_start == NULL || r->host_end == NULL || host.len == 0) {
        return false;
    }
    struct bh_str line = {(const char *)r->host_start, (size_t)(r->host_end - r->host_start)};
    return !bh_host_same(line, host);
}

/* Asked only of a host outside the base domain. */
static enum bh_code
by_domain(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str host, struct name *name)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    char text[BH_DOMAIN_MAX + 1];
    size_t len;
    if (!bh_host_domain(host, text_of(conf->base_domain), text, &len)) {
        return BH_E_TENANT_UNKNOWN;
    }
    struct bh_str domain = {text, len};
    bool known = bh_edge_ready(conf, r->connection->log, &name->reason) &&
                 bh_edge_domain_again(domain, name->id, &name->len);
    if (!known) {
        BH_TRY(begin(conf, r->connection->log, &name->reason));
        known = bh_edge_domain(domain, name->id, &name->len);
        bh_snapshot_end(bh_edge.snapshot);
    }
    if (!known) {
        return BH_E_TENANT_UNKNOWN;
    }
    ctx->domain = (ngx_str_t){len, ngx_pnalloc(r->pool, len)};
    if (ctx->domain.data == NULL) {
        return BH_E_NO_MEMORY;
    }
    ngx_memcpy(ctx->domain.data, text, len);
    return BH_OK;
}

static enum bh_code
by_host(ngx_http_request_t *r, struct bh_edge_ctx *ctx, ngx_uint_t sources, struct name *name)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    ngx_table_elt_t *header = r->headers_in.host;
    struct bh_str host = header == NULL ? BH_STR("") : text_of(header->value);
    if (two_hosts(r, host)) {
        return BH_E_TENANT_CONFLICT;
    }
    enum bh_code code =
        bh_host_tenant(host, text_of(conf->base_domain), name->id, &name->len, NULL);
    if (code == BH_OK && (sources & BH_EDGE_BY_HOST) == 0) {
        name->len = 0;
    }
    if (code == BH_E_TENANT_UNKNOWN && (sources & BH_EDGE_BY_DOMAIN) != 0) {
        code = by_domain(r, ctx, host, name);
    }
    return code == BH_E_TENANT_MISSING ? BH_OK : code; /* another source may name it */
}

/* ---- by path ---- */

#define PREFIX "/t/"
#define PREFIX_LEN (sizeof(PREFIX) - 1)

/* The label behind /t/ in ${path}, ended by a slash or the end; data is NULL where it has none. */
static struct bh_str
label_of(ngx_str_t path)
{
    struct bh_str none = {NULL, 0};
    if (path.len < PREFIX_LEN || ngx_memcmp(path.data, PREFIX, PREFIX_LEN) != 0) {
        return none;
    }
    struct bh_str label = {(const char *)path.data + PREFIX_LEN, 0};
    size_t most = path.len - PREFIX_LEN;
    while (label.len < most && label.data[label.len] != '/' && label.data[label.len] != '?') {
        label.len++;
    }
    return label;
}

/*
 * nginx routes by the normalised path and an application may read the raw one:
 * where the two name different tenants nobody can say which one was meant.
 */
static enum bh_code
by_path(ngx_http_request_t *r, struct bh_str *ret_label)
{
    struct bh_str normal = label_of(r->uri);
    struct bh_str raw = label_of(r->unparsed_uri);
    *ret_label = normal;
    if ((normal.data == NULL) != (raw.data == NULL) || normal.len != raw.len ||
        (normal.data != NULL && memcmp(normal.data, raw.data, raw.len) != 0)) {
        return BH_E_TENANT_CONFLICT;
    }
    return BH_OK;
}

/* What is routed and forwarded from here on is the path behind the prefix, as nginx normalised it.
 */
static void
strip_prefix(ngx_http_request_t *r, struct bh_edge_ctx *ctx, size_t label_len)
{
    static u_char root[] = "/";
    size_t len = PREFIX_LEN + label_len;
    ctx->path = (ngx_str_t){r->uri.len - len, r->uri.data + len};
    if (ctx->path.len == 0) {
        ctx->path = (ngx_str_t){1, root};
    }
    if (ctx->observed) {
        return;
    }
    ctx->prefix = (ngx_str_t){len, r->uri.data};
    r->uri = ctx->path;
    r->valid_unparsed_uri = 0;
    r->valid_location = 0;
}

/* ---- by header ---- */

static enum bh_code
by_header(ngx_http_request_t *r, struct bh_str *ret_label)
{
    ngx_uint_t count;
    *ret_label = text_of(bh_edge_header_only(&r->headers_in.headers, "X-Tenant-ID", &count));
    return count > 1 ? BH_E_TENANT_CONFLICT : BH_OK;
}

/* ---- together ---- */

/* A label that can be no id names no tenant that we know. */
static enum bh_code
agree(struct name *name, struct bh_str label)
{
    if (label.data == NULL) {
        return BH_OK;
    }
    if (bh_tenant_id_check(label, NULL) != BH_OK) {
        return BH_E_TENANT_UNKNOWN;
    }
    if (name->len > 0 && !bh_str_eq((struct bh_str){name->id, name->len}, label)) {
        return BH_E_TENANT_CONFLICT;
    }
    memcpy(name->id, label.data, label.len);
    name->id[label.len] = '\0';
    name->len = label.len;
    return BH_OK;
}

static enum bh_code
name_tenant(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct name *name)
{
    struct bh_edge_server *server = ngx_http_get_module_srv_conf(r, ngx_http_bulkhead_module);
    struct bh_str label;
    ctx->path = r->uri;
    BH_TRY(by_host(r, ctx, server->resolve, name));
    ctx->by_host = name->len > 0;
    if ((server->resolve & BH_EDGE_BY_HEADER) != 0) {
        BH_TRY(by_header(r, &label));
        BH_TRY(agree(name, label));
    }
    if ((server->resolve & BH_EDGE_BY_PATH) != 0) {
        BH_TRY(by_path(r, &label));
        BH_TRY(agree(name, label));
        if (label.data != NULL) {
            strip_prefix(r, ctx, label.len);
        }
    }
    return name->len > 0 ? BH_OK : BH_E_TENANT_MISSING;
}

/* The right place is no secret: DNS says it too. */
static enum bh_code
check_cell(ngx_http_request_t *r, const struct bh_edge_ctx *ctx, const char **ret_reason)
{
    static const char where[] = "the tenant is served in cell ";
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    struct bh_str cell = ctx->tenant.cell;
    if (conf->cell.len == 0 || bh_str_eq(cell, text_of(conf->cell))) {
        return BH_OK;
    }
    u_char *text = ngx_pnalloc(r->pool, sizeof(where) + cell.len);
    if (text != NULL) {
        *ngx_cpymem(ngx_cpymem(text, where, sizeof(where) - 1), cell.data, cell.len) = '\0';
        *ret_reason = (const char *)text;
    }
    return BH_E_WRONG_CELL;
}

/* Facts of the record that stop a request whoever sends it. */
static enum bh_code
check_tenant(struct bh_edge_ctx *ctx, const char **ret_reason)
{
    if (ctx->slot == NULL) {
        *ret_reason = "the edge's counters file is full";
        return BH_E_NOT_READY;
    }
    if (ctx->tenant.record.state == BH_TENANT_SUSPENDED) {
        return BH_E_TENANT_SUSPENDED;
    }
    if (ctx->tenant.record.state != BH_TENANT_ACTIVE &&
        ctx->tenant.record.state != BH_TENANT_MOVING) {
        *ret_reason = "the tenant is not active";
        return BH_E_NOT_READY;
    }
    if (ctx->tenant.policy == NULL) {
        *ret_reason = "the tenant's policy is missing or cannot be read";
        return BH_E_NOT_READY;
    }
    if (ctx->tenant.policy->policy.maintenance) {
        return BH_E_MAINTENANCE;
    }
    if (ctx->tenant.endpoints == NULL || ctx->tenant.server.len == 0 ||
        ctx->tenant.database.len == 0) {
        *ret_reason = "the tenant has no place to serve it yet";
        return BH_E_NOT_READY;
    }
    return BH_OK;
}

static enum bh_code
look_up(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct name *name)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    ngx_log_t *log = r->connection->log;
    struct bh_str id = {name->id, name->len};
    if (bh_edge_ready(conf, log, &name->reason) && bh_edge_tenant_again(id, &ctx->tenant)) {
        ctx->txn = bh_edge.txn;
        ctx->generation = bh_edge.generation;
        return BH_OK;
    }
    BH_TRY(begin(conf, log, &name->reason));
    bool known = bh_edge_tenant(id, &ctx->tenant, log);
    ctx->txn = bh_snapshot_txn(bh_edge.snapshot);
    ctx->generation = bh_edge.generation;
    bh_snapshot_end(bh_edge.snapshot);
    return known ? BH_OK : BH_E_TENANT_UNKNOWN;
}

static enum bh_code
find_tenant(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    struct name name = {.len = 0};
    enum bh_code code = name_tenant(r, ctx, &name);
    if (code == BH_OK) {
        code = look_up(r, ctx, &name);
    }
    *ret_reason = name.reason;
    return code;
}

enum bh_code
bh_edge_resolve(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    /* nginx makes no header list for HTTP/0.9: there is nothing that we could strip or say in. */
    if (r->http_version < NGX_HTTP_VERSION_10) {
        *ret_reason = "the edge does not speak this version of HTTP";
        return BH_E_BAD_REQUEST;
    }
    BH_TRY(find_tenant(r, ctx, ret_reason));
    ctx->slot = bh_slot_claim(bh_edge.counters, ctx->tenant.record.no);
    bh_slot_ahead(ctx->slot);
    ctx->counters = bh_edge.counters;
    if (!bh_edge_tls_agrees(r, ctx)) {
        return BH_E_MISDIRECTED;
    }
    BH_TRY(check_cell(r, ctx, ret_reason));
    return check_tenant(ctx, ret_reason);
}

/* The tenant as it is now in ${ret_now}; without an id where nothing was committed since. */
static enum bh_code
look_again(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct name *name,
    struct bh_edge_tenant *ret_now)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    ngx_log_t *log = r->connection->log;
    ret_now->id_len = 0;
    if (bh_edge_ready(conf, log, &name->reason) && bh_edge.generation == ctx->generation &&
        bh_snapshot_newest(bh_edge.snapshot) == ctx->txn) {
        return BH_OK;
    }
    BH_TRY(begin(conf, log, &name->reason));
    bool known = bh_edge_tenant((struct bh_str){ctx->tenant.id, ctx->tenant.id_len}, ret_now, log);
    ctx->txn = bh_snapshot_txn(bh_edge.snapshot);
    ctx->generation = bh_edge.generation;
    bh_snapshot_end(bh_edge.snapshot);
    return known ? BH_OK : BH_E_TENANT_UNKNOWN;
}

enum bh_code
bh_edge_resolve_again(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    struct bh_edge_server *conf = ngx_http_get_module_srv_conf(r, ngx_http_bulkhead_module);
    struct name name = {.len = 0};
    struct bh_edge_tenant now;
    enum bh_code code = look_again(r, ctx, &name, &now);
    *ret_reason = name.reason;
    if (code != BH_OK || now.id_len == 0) {
        return code;
    }
    bool same = now.record.no == ctx->tenant.record.no;
    bh_edge_policy_drop(ctx->tenant.policy);
    ctx->tenant = now;
    ctx->route = NULL; /* it was the old policy's */
    if (!same) {
        *ret_reason = "the tenant was replaced by another one of its name";
        return BH_E_NOT_READY;
    }
    BH_TRY(check_cell(r, ctx, ret_reason));
    BH_TRY(check_tenant(ctx, ret_reason));
    return bh_edge_route(r, ctx, conf, ret_reason);
}
