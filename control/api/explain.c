/*
 * GET /v1/tenants/{id}/edge: what the edges do for a tenant, and who said so; of one request which
 * route counts, why others do not, what it needs and which limits count it.  Decided by the policy
 * that the edges have (core/policy.h), not by what they are asked.
 */
#include <string.h>
#include <time.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"
#include "control/registry/quota.h"
#include "core/path.h"
#include "core/path.h"
#include "core/policy.h"
#include "core/quota.h"

struct asked {
    struct bh_str method; /* data NULL: no request was asked about */
    struct bh_str raw;    /* the path as it would be sent */
    struct bh_str path;   /* without query, decoded */
};

/* A tenant's policy and the layers that it was made of. */
struct layers {
    struct bh_tenant tenant;
    const struct bh_json *tier;
    const struct bh_json *own;
    const struct bh_json *merged;
    struct bh_policy policy;
    struct bh_budget_state *budgets;
    size_t budget_count;
};

/* ---- reading ---- */

static enum bh_code
parse(struct bh_request *request, const char *text, const struct bh_json **ret_value,
    struct bh_error *err)
{
    struct bh_json *value;
    BH_TRY(bh_json_parse(bh_str_of(text), BH_JSON_DEPTH, request->arena, &value, err));
    *ret_value = value;
    return BH_OK;
}

static enum bh_code
read_layers(struct bh_request *request, const char *id, struct layers *layers, struct bh_error *err)
{
    const char *merged;
    struct bh_tier tier;
    BH_TRY(bh_tenant_get(request->db, request->arena, id, &layers->tenant, err));
    BH_TRY(bh_tier_get(request->db, request->arena, layers->tenant.tier, &tier, err));
    BH_TRY(bh_tenant_policy(request->db, request->arena, layers->tenant.no, &merged, err));
    BH_TRY(parse(request, tier.edge, &layers->tier, err));
    BH_TRY(parse(request, layers->tenant.edge, &layers->own, err));
    BH_TRY(parse(request, merged, &layers->merged, err));
    BH_TRY(bh_policy_parse(bh_str_of(merged), request->arena, &layers->policy, err));
    return bh_budget_list(request->db, request->arena, layers->tenant.no, &layers->budgets,
        &layers->budget_count, err);
}

static bool
is_method(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return len >= 1 && len <= 20 && text[len] == '\0';
}

static void
read_asked(struct bh_request *request, struct asked *asked)
{
    const char *method = bh_query_get(&request->query, "method");
    const char *path = bh_query_get(&request->query, "path");
    struct bh_str head;
    *asked = (struct asked){.method = {NULL, 0}};
    if (method != NULL && !is_method(method))
        bh_param_bad(request, "method", "must be a method in capital letters");
    if (method != NULL && path == NULL)
        bh_param_bad(request, "path", "is required with a method");
    if (path == NULL)
        return;
    asked->method = method == NULL ? BH_STR("GET") : bh_str_of(method);
    asked->raw = bh_str_of(path);
    head = asked->raw;
    (void)bh_str_cut(asked->raw, '?', &head, &(struct bh_str){NULL, 0});
    if (path[0] != '/' || !bh_percent_decode(head, false, request->arena, &asked->path))
        bh_param_bad(request, "path", "must be a path that begins with /");
}

/* ---- members ---- */

static const struct {
    const char *name;
    const char *otherwise;
} members[] = {
    {"auth", "\"edge\""},
    {"app_scope", "\"anonymous\""},
    {"user_tokens", "true"},
    {"api_keys", "true"},
    {"issuers", "[]"},
    {"quota_policies", "[]"},
    {"limits", "[]"},
    {"routes", "[]"},
    {"unlisted", "\"allow\""},
    {"encoded_paths", "false"},
    {"x_ratelimit_headers", "false"},
    {"maintenance", "null"},
};

static const char *
layer_of(const struct layers *layers, const char *name)
{
    return bh_json_get(layers->own, name) != NULL    ? "tenant"
           : bh_json_get(layers->tier, name) != NULL ? "tier"
                                                     : "default";
}

static void
write_members(struct bh_request *request, struct bh_writer *w, const struct layers *layers)
{
    bh_write_open(w, "members", '[');
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const struct bh_json *value = bh_json_get(layers->merged, members[i].name);
        bh_write_open(w, NULL, '{');
        bh_write_text(w, "name", members[i].name);
        bh_write_raw(w, "value", bh_json_text_of(request, value, members[i].otherwise));
        bh_write_text(w, "from", layer_of(layers, members[i].name));
        bh_write_close(w, '}');
    }
    bh_write_close(w, ']');
}

/* ---- one request ---- */

struct verdict {
    const char *decision; /* allowed, credential, refused */
    enum bh_code code;    /* of a refusal */
    int status;
    const char *because;
};

/* Who is served at all. */
static bool
judge_tenant(const struct layers *layers, struct verdict *ret)
{
    enum bh_tenant_state state = BH_TENANT_PENDING;
    (void)bh_tenant_state_find(bh_str_of(layers->tenant.state), &state);
    if (state == BH_TENANT_ACTIVE && !layers->policy.maintenance)
        return false;
    *ret = (struct verdict){"refused", BH_E_MAINTENANCE, 503, "the tenant is in maintenance"};
    if (state == BH_TENANT_SUSPENDED)
        *ret = (struct verdict){"refused", BH_E_TENANT_SUSPENDED, 423, "the tenant is suspended"};
    else if (state == BH_TENANT_MOVING && !layers->policy.maintenance)
        *ret = (struct verdict){"refused", BH_E_NOT_READY, 503,
            "the tenant is being moved: requests wait for that, and are refused where it takes too "
            "long"};
    else if (state != BH_TENANT_ACTIVE && state != BH_TENANT_MOVING)
        *ret = (struct verdict){
            "refused", BH_E_TENANT_UNKNOWN, 404, "the tenant is not served in its state"};
    return true;
}

/* In the order in which the edge looks: path, credential, route, scopes and roles. */
static struct verdict
judge(const struct layers *layers, const struct asked *asked, const struct bh_route *route)
{
    const struct bh_policy *policy = &layers->policy;
    bool plain = bh_path_plain(asked->raw);
    struct verdict verdict;
    if (judge_tenant(layers, &verdict))
        return verdict;
    if (policy->route_count > 0 && !policy->encoded_paths && !plain)
        return (struct verdict){"refused", BH_E_BAD_REQUEST, 400,
            "the path can be read in two ways, and there are routes"};
    if (route == NULL && policy->unlisted_denied)
        return (struct verdict){
            "refused", BH_E_NOT_PERMITTED, 403, "no route matches, and what is unlisted is denied"};
    if (policy->auth == BH_AUTH_APP)
        return (struct verdict){"allowed", BH_OK, 0, "the application checks credentials itself"};
    if (route != NULL && route->anonymous && plain)
        return (struct verdict){"allowed", BH_OK, 0, "the route needs no credential"};
    if (!policy->user_tokens && !policy->api_keys && policy->issuers.count == 0)
        return (struct verdict){"refused", BH_E_CREDENTIAL_MISSING, 401,
            "a credential is needed, and the policy accepts none"};
    return (struct verdict){"credential", BH_OK, 0,
        route == NULL
            ? "no route matches: any credential of the tenant will do, and none where the "
              "edge's configuration says so (bulkhead_anonymous_path)"
            : "the route needs a credential"};
}

static void
write_words(struct bh_writer *w, const char *name, const struct bh_words *words)
{
    bh_write_open(w, name, '[');
    for (size_t i = 0; words != NULL && i < words->count; i++)
        bh_write_str(w, NULL, words->items[i]);
    bh_write_close(w, ']');
}

static void
write_number(struct bh_writer *w, const char *name, int64_t value)
{
    if (value > 0)
        bh_write_int(w, name, value);
    else
        bh_write_raw(w, name, NULL);
}

static void
write_route(struct bh_writer *w, const struct layers *layers, const struct bh_route *route)
{
    if (route == NULL) {
        bh_write_raw(w, "route", NULL);
        return;
    }
    bh_write_open(w, "route", '{');
    bh_write_int(w, "index", route - layers->policy.routes);
    bh_write_str(w, "name", route->name);
    bh_write_str(w, "path", route->path);
    write_words(w, "methods", &route->methods);
    bh_write_text(w, "from", layer_of(layers, "routes"));
    bh_write_close(w, '}');
}

/* Routes before the one that matches (all, where none does), and why they do not. */
static void
write_passed(struct bh_writer *w, const struct layers *layers, const struct asked *asked,
    const struct bh_route *match)
{
    const struct bh_policy *policy = &layers->policy;
    bh_write_open(w, "passed_over", '[');
    for (size_t i = 0; i < policy->route_count && &policy->routes[i] != match; i++) {
        struct bh_policy one = {.routes = &policy->routes[i], .route_count = 1};
        struct bh_route any = policy->routes[i];
        any.methods.count = 0;
        one.routes = &any;
        bool fits = bh_policy_route(&one, asked->method, asked->path) != NULL;
        bh_write_open(w, NULL, '{');
        bh_write_int(w, "index", (int64_t)i);
        bh_write_str(w, "name", policy->routes[i].name);
        bh_write_str(w, "path", policy->routes[i].path);
        bh_write_text(
            w, "because", fits ? "its methods do not have this one" : "its path is another");
        bh_write_close(w, '}');
    }
    bh_write_close(w, ']');
}

static void
write_credentials(struct bh_writer *w, const struct bh_policy *policy)
{
    bool edge = policy->auth == BH_AUTH_EDGE;
    bh_write_open(w, "credentials", '{');
    bh_write_text(w, "checked_by", edge ? "edge" : "app");
    bh_write_bool(w, "user_tokens", edge && policy->user_tokens);
    bh_write_bool(w, "api_keys", edge && policy->api_keys);
    write_words(w, "issuers", edge ? &policy->issuers : NULL);
    bh_write_close(w, '}');
}

static void
write_request(struct bh_writer *w, const struct layers *layers, const struct asked *asked,
    const struct bh_route *route)
{
    struct verdict verdict = judge(layers, asked, route);
    bh_write_open(w, "request", '{');
    bh_write_str(w, "method", asked->method);
    bh_write_str(w, "path", asked->raw);
    bh_write_text(w, "decision", verdict.decision);
    write_number(w, "status", verdict.status);
    bh_write_text(w, "code", verdict.status == 0 ? NULL : bh_code_slug(verdict.code));
    bh_write_text(w, "because", verdict.because);
    write_route(w, layers, route);
    write_passed(w, layers, asked, route);
    write_credentials(w, &layers->policy);
    write_words(w, "scopes", route == NULL ? NULL : &route->scopes);
    write_words(w, "roles", route == NULL ? NULL : &route->roles);
    write_number(w, "max_body_bytes", route == NULL ? 0 : route->max_body_bytes);
    write_number(w, "timeout_ms", route == NULL ? 0 : route->timeout_ms);
    bh_write_close(w, '}');
}

/* ---- limits ---- */

static const char *const pers[] = {
    [BH_PER_TENANT] = "tenant", [BH_PER_SUBJECT] = "subject", [BH_PER_ADDRESS] = "address"};
static const char *const windows[] = {
    [BH_WINDOW_HOUR] = "hour", [BH_WINDOW_DAY] = "day", [BH_WINDOW_MONTH] = "month"};

static void
write_rate(struct bh_writer *w, int64_t rate, int64_t burst)
{
    bh_write_int(w, "requests_per_second", rate);
    bh_write_int(w, "burst", burst);
}

static void
write_quota(struct bh_writer *w, const struct layers *layers, const struct bh_limit *limit)
{
    struct bh_budget_state none = {.used = 0};
    const struct bh_budget_state *state = &none;
    int64_t begins_s, ends_s;
    bh_quota_window(limit->window, (int64_t)time(NULL), &begins_s, &ends_s);
    for (size_t i = 0; i < layers->budget_count; i++)
        if (bh_str_is(limit->name, layers->budgets[i].limit) &&
            layers->budgets[i].begins_s == begins_s)
            state = &layers->budgets[i];
    bh_write_int(w, "quota", limit->amount);
    bh_write_text(w, "window", windows[limit->window]);
    bh_write_text(w, "unit", limit->unit == BH_UNIT_BYTES ? "bytes" : "requests");
    bh_write_text(w, "when_lost", limit->continue_when_lost ? "continue" : "refuse");
    bh_write_time(w, "window_start", begins_s * 1000000);
    bh_write_time(w, "window_end", ends_s * 1000000);
    bh_write_int(w, "used", state->used);
    bh_write_int(w, "granted", state->granted);
}

static void
write_figures(struct bh_writer *w, const struct layers *layers, const struct bh_limit *limit)
{
    static const char *const kinds[] = {
        [BH_LIMIT_RATE] = "rate", [BH_LIMIT_QUOTA] = "quota", [BH_LIMIT_CONCURRENT] = "concurrent"};
    bh_write_text(w, "kind", kinds[limit->kind]);
    bh_write_text(w, "per", pers[limit->per]);
    if (limit->kind == BH_LIMIT_RATE)
        write_rate(w, limit->rate, limit->amount);
    else if (limit->kind == BH_LIMIT_QUOTA)
        write_quota(w, layers, limit);
    else
        bh_write_int(w, "concurrent", limit->amount);
}

/* For which requests it counts: all, those of routes (their names), of the one that was asked
 * about. */
static void
write_counts(struct bh_writer *w, const struct bh_policy *policy, size_t index,
    const struct asked *asked, const struct bh_route *route)
{
    uint32_t bit = UINT32_C(1) << index;
    bool everywhere = (policy->everywhere & bit) != 0;
    bh_write_bool(w, "every_request", everywhere);
    bh_write_open(w, "routes", '[');
    for (size_t i = 0; i < policy->route_count; i++)
        if ((policy->routes[i].limits & bit) != 0)
            bh_write_str(w, NULL, policy->routes[i].name);
    bh_write_close(w, ']');
    if (asked->method.data != NULL)
        bh_write_bool(w, "counts", everywhere || (route != NULL && (route->limits & bit) != 0));
}

static void
write_limits(struct bh_writer *w, const struct layers *layers, const struct asked *asked,
    const struct bh_route *route)
{
    const struct bh_policy *policy = &layers->policy;
    bh_write_open(w, "limits", '[');
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "name", "default");
    bh_write_text(w, "from", "tenant");
    bh_write_text(w, "kind", "rate");
    bh_write_text(w, "per", "tenant");
    write_rate(w, layers->tenant.limits.rate, layers->tenant.limits.burst);
    bh_write_bool(w, "every_request", true);
    bh_write_raw(w, "routes", "[]");
    if (asked->method.data != NULL)
        bh_write_bool(w, "counts", true);
    bh_write_close(w, '}');
    for (size_t i = 0; i < policy->limit_count; i++) {
        bh_write_open(w, NULL, '{');
        bh_write_str(w, "name", policy->limits[i].name);
        bh_write_text(w, "from", layer_of(layers, "quota_policies"));
        write_figures(w, layers, &policy->limits[i]);
        write_counts(w, policy, i, asked, route);
        bh_write_close(w, '}');
    }
    bh_write_close(w, ']');
}

BH_HANDLER(bh_tenant_edge_get)
{
    struct bh_writer w = {.buf = &reply->body};
    const char *id = bh_text(request, request->params[0]);
    const struct bh_route *route = NULL;
    struct layers layers = {.tier = NULL};
    struct asked asked;

    read_asked(request, &asked);
    BH_TRY(bh_issues_code(&request->issues, err));
    if (id == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (bh_tenant_id_check(request->params[0], NULL) != BH_OK)
        return bh_fail(err, BH_E_NOT_FOUND, "there is no tenant of this id");
    BH_TRY(read_layers(request, id, &layers, err));
    if (asked.method.data != NULL)
        route = bh_policy_route(&layers.policy, asked.method, asked.path);
    bh_write_open(&w, NULL, '{');
    bh_write_text(&w, "tenant", layers.tenant.id);
    bh_write_text(&w, "tier", layers.tenant.tier);
    bh_write_text(&w, "state", layers.tenant.state);
    bh_write_text(&w, "policy",
        layers.own->first == NULL ? layers.tenant.tier
                                  : bh_arena_printf(request->arena, "t%d", (int)layers.tenant.no));
    write_members(request, &w, &layers);
    if (asked.method.data != NULL)
        write_request(&w, &layers, &asked, route);
    else
        bh_write_raw(&w, "request", NULL);
    write_limits(&w, &layers, &asked, route);
    bh_write_close(&w, '}');
    return BH_OK;
}
