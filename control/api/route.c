/* The route table, and the order in which a request is checked against it. */
#include <string.h>

#include "control/api/api.h"

#define PATIENCE_MS 5000
#define PAGE_PARAMS "limit", "page_token"

static const struct bh_api_route routes[] = {
    {"GET", "/livez", BH_WHO_ANYONE, false, true, bh_health_live, {NULL}},
    {"GET", "/readyz", BH_WHO_ANYONE, false, false, bh_health_ready, {NULL}},
    {"GET", "/v1/tenants", BH_WHO_OPERATOR, false, false, bh_tenants_list,
        {PAGE_PARAMS, "state", "q", NULL}},
    {"GET", "/v1/tenants/{}", BH_WHO_OPERATOR, false, false, bh_tenants_get, {NULL}},
    {"PUT", "/v1/tenants/{}", BH_WHO_OPERATOR, true, false, bh_tenants_put, {NULL}},
    {"DELETE", "/v1/tenants/{}", BH_WHO_OPERATOR, false, false, bh_tenants_delete, {"now", NULL}},
    {"GET", "/v1/tenants/{}/edge", BH_WHO_OPERATOR, false, false, bh_tenant_edge_get,
        {"method", "path", NULL}},
    {"GET", "/v1/tiers", BH_WHO_OPERATOR, false, false, bh_tiers_list, {PAGE_PARAMS, NULL}},
    {"GET", "/v1/tiers/{}", BH_WHO_OPERATOR, false, false, bh_tiers_get, {NULL}},
    {"PUT", "/v1/tiers/{}", BH_WHO_OPERATOR, true, false, bh_tiers_put, {NULL}},
    {"GET", "/v1/tenants/{}/certificates", BH_WHO_OPERATOR, false, false, bh_certificates_list,
        {PAGE_PARAMS, NULL}},
    {"GET", "/v1/tenants/{}/certificates/{}", BH_WHO_OPERATOR, false, false, bh_certificates_get,
        {NULL}},
    {"PUT", "/v1/tenants/{}/certificates/{}", BH_WHO_OPERATOR, true, false, bh_certificates_put,
        {NULL}},
    {"DELETE", "/v1/tenants/{}/certificates/{}", BH_WHO_OPERATOR, false, false,
        bh_certificates_delete, {NULL}},
    {"GET", "/v1/operations", BH_WHO_OPERATOR, false, false, bh_operations_list,
        {PAGE_PARAMS, "state", "q", "tenant", NULL}},
    {"GET", "/v1/operations/{}", BH_WHO_OPERATOR, false, false, bh_operations_get, {NULL}},
    {"POST", "/v1/operations/{}/resume", BH_WHO_OPERATOR, false, false, bh_operations_resume,
        {NULL}},
    {"POST", "/v1/tokens", BH_WHO_OPERATOR, true, false, bh_tokens_post, {NULL}},
    {"GET", "/v1/usage", BH_WHO_OPERATOR, false, false, bh_usage_get,
        {PAGE_PARAMS, "tenant", "meter", "from", "to", NULL}},
    {"POST", "/v1/usage", BH_WHO_AGENT, true, false, bh_usage_post_all, {NULL}},
    {"GET", "/v1/audit", BH_WHO_OPERATOR, false, false, bh_audit_get,
        {PAGE_PARAMS, "tenant", "from", "to", "code", NULL}},
    {"GET", "/v1/servers", BH_WHO_OPERATOR, false, false, bh_servers_list, {PAGE_PARAMS, NULL}},
    {"GET", "/v1/selfcheck", BH_WHO_OPERATOR, false, false, bh_selfcheck_get,
        {PAGE_PARAMS, "server", "database", NULL}},
    {"POST", "/v1/selfcheck", BH_WHO_OPERATOR, false, false, bh_selfcheck_post, {NULL}},
    {"GET", "/v1/issuers", BH_WHO_OPERATOR, false, false, bh_issuers_list, {PAGE_PARAMS, NULL}},
    {"GET", "/v1/issuers/{}", BH_WHO_OPERATOR, false, false, bh_issuers_get, {NULL}},
    {"PUT", "/v1/issuers/{}", BH_WHO_OPERATOR, true, false, bh_issuers_put, {NULL}},
    {"DELETE", "/v1/issuers/{}", BH_WHO_OPERATOR, false, false, bh_issuers_delete, {NULL}},
    {"POST", "/v1/issuers/{}/refresh", BH_WHO_OPERATOR, false, false, bh_issuers_refresh, {NULL}},
    {"GET", "/v1/tenants/{}/api-keys", BH_WHO_OPERATOR, false, false, bh_apikeys_list,
        {PAGE_PARAMS, NULL}},
    {"POST", "/v1/tenants/{}/api-keys", BH_WHO_OPERATOR, true, false, bh_apikeys_post, {NULL}},
    {"DELETE", "/v1/tenants/{}/api-keys/{}", BH_WHO_OPERATOR, false, false, bh_apikeys_delete,
        {NULL}},
    {"GET", "/v1/feed", BH_WHO_AGENT, false, false, bh_feed_get, {"after", NULL}},
    {"GET", "/v1/feed/snapshot", BH_WHO_AGENT, false, false, bh_feed_snapshot_get, {NULL}},
    {"GET", "/v1/keyring", BH_WHO_AGENT, false, false, bh_keyring_get, {NULL}},
    {"POST", "/v1/leases", BH_WHO_AGENT, true, false, bh_leases_post, {NULL}},
    {"PUT", "/v1/agents/{}", BH_WHO_AGENT_ITSELF, true, false, bh_agents_put, {NULL}},
};
#define ROUTE_COUNT (sizeof(routes) / sizeof(routes[0]))

/* Cut the first segment of ${path}, which begins with a slash. */
static struct bh_str
segment(struct bh_str *path)
{
    struct bh_str head = {path->data + 1, path->len - 1};
    const char *slash = memchr(head.data, '/', head.len);

    if (slash != NULL)
        head.len = (size_t)(slash - head.data);
    path->data += head.len + 1;
    path->len -= head.len + 1;
    return head;
}

/* Does ${path} fit ${pattern}?  ${params} (may be NULL) gets the segments at {}, still encoded. */
static bool
fits(const char *pattern, struct bh_str path, struct bh_str *params)
{
    struct bh_str rest = bh_str_of(pattern);
    size_t count = 0;

    while (rest.len > 0) {
        struct bh_str want;
        struct bh_str have;

        if (path.len == 0 || path.data[0] != '/')
            return false;
        want = segment(&rest);
        have = segment(&path);
        if (!bh_str_is(want, "{}") ? !bh_str_eq(want, have) : have.len == 0)
            return false;
        if (bh_str_is(want, "{}") && params != NULL)
            params[count++] = have;
    }
    return path.len == 0;
}

bool
bh_route_inline(struct bh_str path)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        if (routes[i].inline_ && fits(routes[i].pattern, path, NULL))
            return true;
    return false;
}

void
bh_reply_header(struct bh_reply *reply, const char *name, const char *value)
{
    if (reply->header_count < sizeof(reply->headers) / sizeof(reply->headers[0]) && value != NULL)
        reply->headers[reply->header_count++] = (struct bh_header){name, value};
}

static bool
same_method(const struct bh_api_route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

/* Any row of this path, or NULL. */
static const struct bh_api_route *
find_path(struct bh_str path)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        if (fits(routes[i].pattern, path, NULL))
            return &routes[i];
    return NULL;
}

static const struct bh_api_route *
find_method(const struct bh_request *request)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        if (fits(routes[i].pattern, request->path, NULL) &&
            same_method(&routes[i], request->method))
            return &routes[i];
    return NULL;
}

static enum bh_code
refuse_method(struct bh_request *request, struct bh_reply *reply, struct bh_error *err)
{
    struct bh_buf allow;

    bh_buf_init_arena(&allow, request->arena, 128);
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        if (fits(routes[i].pattern, request->path, NULL))
            bh_buf_printf(&allow, "%s%s%s", allow.len == 0 ? "" : ", ", routes[i].method,
                strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "");
    bh_reply_header(reply, "Allow", allow.data);
    return bh_fail(err, BH_E_METHOD_NOT_ALLOWED, "%s is not allowed here", request->method);
}

/* Path parameters; one that cannot be decoded stays as it came: it names nothing that exists. */
static void
take_params(const struct bh_api_route *route, struct bh_request *request)
{
    struct bh_str text;

    (void)fits(route->pattern, request->path, request->params);
    for (size_t i = 0; i < sizeof(request->params) / sizeof(request->params[0]); i++)
        if (request->params[i].data != NULL &&
            bh_percent_decode(request->params[i], false, request->arena, &text))
            request->params[i] = text;
}

static enum bh_code
check_permission(
    const struct bh_api_route *route, const struct bh_request *request, struct bh_error *err)
{
    static const char *const kinds[] = {
        [BH_WHO_OPERATOR] = "operator",
        [BH_WHO_AGENT] = "agent",
        [BH_WHO_AGENT_ITSELF] = "agent",
    };

    if (route->who == BH_WHO_ANYONE)
        return BH_OK;
    if (strcmp(request->principal.kind, kinds[route->who]) == 0) {
        if (route->who != BH_WHO_AGENT_ITSELF ||
            bh_str_is(request->params[0], request->principal.id))
            return BH_OK;
        return bh_fail(
            err, BH_E_NOT_PERMITTED, "agent %s may speak for itself only", request->principal.id);
    }
    (void)bh_fail(err, BH_E_NOT_PERMITTED, "principal %s is an %s; this needs an %s",
        request->principal.id, request->principal.kind, kinds[route->who]);
    return bh_hint(err, "use the credential of an %s", kinds[route->who]);
}

/* Size and syntax of the body, and the parameters after `?`; the handler checks values. */
static enum bh_code
check_input(const struct bh_api_route *route, struct bh_request *request, struct bh_error *err)
{
    if (request->too_large)
        return bh_fail(err, BH_E_TOO_LARGE, "the body is larger than %d bytes", BH_BODY_MAX);
    if (route->has_body)
        BH_TRY(bh_body_parse(request, err));
    bh_query_parse(request->raw_query, route->query, &request->issues, &request->query);
    if (request->issues.first != NULL && !route->has_body && route->query[0] == NULL)
        return bh_issues_code(&request->issues, err);
    return BH_OK;
}

enum bh_code
bh_request_db(struct bh_request *request, struct bh_error *err)
{
    if (request->db != NULL)
        return BH_OK;
    BH_TRY(bh_db_take(request->config->pool, &request->db, err));
    bh_db_patience(request->db, PATIENCE_MS);
    return BH_OK;
}

enum bh_code
bh_route_run(struct bh_request *request, struct bh_reply *reply, struct bh_error *err)
{
    const struct bh_api_route *route = find_path(request->path);
    bool open = route != NULL && route->who == BH_WHO_ANYONE;
    enum bh_code code;

    if (!open) {
        code = bh_auth_check(request, err);
        if (code == BH_E_UNAUTHENTICATED)
            bh_reply_header(reply, "WWW-Authenticate", "Bearer");
        BH_TRY(code);
    }
    if (route == NULL)
        return bh_fail(err, BH_E_NOT_FOUND, "there is no such path");
    route = find_method(request);
    if (route == NULL)
        return refuse_method(request, reply, err);
    take_params(route, request);
    BH_TRY(check_permission(route, request, err));
    BH_TRY(check_input(route, request, err));
    if (!route->inline_)
        BH_TRY(bh_request_db(request, err));
    return route->handler(request, reply, err);
}
