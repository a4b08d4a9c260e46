#include "core/policy.h"

#include <stddef.h>
#include <string.h>

#include "core/buf.h"
#include "core/path.h"

/* ---- words ---- */

/* RFC 6749 scope-token without what the tenant token cannot carry; also names of roles. */
static bool
is_word(struct bh_str text, size_t max)
{
    bool ok = text.len >= 1 && text.len <= max;
    for (size_t i = 0; ok && i < text.len; i++) {
        char c = text.data[i];
        ok = c > ' ' && c <= '~' && c != '"' && c != '\\';
    }
    return ok;
}

static enum bh_code
check_word(struct bh_str text, struct bh_error *err)
{
    return is_word(text, 64) ? BH_OK
                             : bh_fail(err, BH_E_INVALID,
                                   "must be 1 to 64 printable characters without space, \" and \\");
}

static enum bh_code
check_name(struct bh_str text, struct bh_error *err)
{
    bool ok = text.len >= 1 && text.len <= 40;
    for (size_t i = 0; ok && i < text.len; i++) {
        char c = text.data[i];
        ok = (c >= 'a' && c <= 'z') || (i > 0 && ((c >= '0' && c <= '9') || c == '-' || c == '_'));
    }
    return ok ? BH_OK
              : bh_fail(
                    err, BH_E_INVALID, "must be 1 to 40 of a-z 0-9 - _, and begin with a letter");
}

static enum bh_code
check_scope(struct bh_str text, struct bh_error *err)
{
    struct bh_str head, tail = text;
    bool ok = text.len >= 1 && text.len <= 255;
    while (ok && bh_str_cut(tail, ' ', &head, &tail))
        ok = is_word(head, 255);
    return ok && is_word(tail, 255)
               ? BH_OK
               : bh_fail(err, BH_E_INVALID, "must be words parted by single spaces");
}

static enum bh_code
check_method(struct bh_str text, struct bh_error *err)
{
    bool ok = text.len >= 1 && text.len <= 20;
    for (size_t i = 0; ok && i < text.len; i++)
        ok = text.data[i] >= 'A' && text.data[i] <= 'Z';
    return ok ? BH_OK : bh_fail(err, BH_E_INVALID, "must be a method in capital letters");
}

/* Shown to people who ask for the tenant. */
static enum bh_code
check_message(struct bh_str text, struct bh_error *err)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return bh_fail(err, BH_E_INVALID, "must not contain control characters");
    return bh_utf8_valid(text) ? BH_OK : bh_fail(err, BH_E_INVALID, "must be UTF-8");
}

/* ---- named values ---- */

struct choice {
    const char *word;
    int value;
};

static const struct choice auths[] = {{"edge", BH_AUTH_EDGE}, {"app", BH_AUTH_APP}, {NULL, 0}};
static const struct choice pers[] = {
    {"tenant", BH_PER_TENANT}, {"subject", BH_PER_SUBJECT}, {"address", BH_PER_ADDRESS}, {NULL, 0}};
static const struct choice windows[] = {
    {"hour", BH_WINDOW_HOUR}, {"day", BH_WINDOW_DAY}, {"month", BH_WINDOW_MONTH}, {NULL, 0}};
static const struct choice units[] = {
    {"requests", BH_UNIT_REQUESTS}, {"bytes", BH_UNIT_BYTES}, {NULL, 0}};
static const struct choice losses[] = {{"refuse", false}, {"continue", true}, {NULL, 0}};
static const struct choice defaults[] = {{"allow", false}, {"deny", true}, {NULL, 0}};

static enum bh_code
choose(const struct choice *choices, struct bh_str text, int *ret_value, struct bh_error *err)
{
    char known[64];
    struct bh_buf list;
    bh_buf_init(&list, known, sizeof(known));
    for (const struct choice *c = choices; c->word != NULL; c++) {
        if (bh_str_is(text, c->word)) {
            *ret_value = c->value;
            return BH_OK;
        }
        bh_buf_puts(&list, c == choices ? "" : ", ");
        bh_buf_puts(&list, c->word);
    }
    return bh_fail(err, BH_E_INVALID, "must be one of %s", known);
}

#define CHOICE(name, table)                                                                        \
    static enum bh_code name(struct bh_str text, struct bh_error *err)                             \
    {                                                                                              \
        int value;                                                                                 \
        return choose(table, text, &value, err);                                                   \
    }
CHOICE(check_auth, auths)
CHOICE(check_per, pers)
CHOICE(check_window, windows)
CHOICE(check_unit, units)
CHOICE(check_lost, losses)
CHOICE(check_unlisted, defaults)

/* What was checked already. */
static int
chosen(const struct choice *choices, struct bh_str text)
{
    int value = choices[0].value;
    (void)choose(choices, text, &value, NULL);
    return value;
}

/* ---- the document's members ---- */

struct text {
    struct bh_str auth, app_scope, unlisted, message;
    bool user_tokens, api_keys, encoded_paths, x_ratelimit;
    const struct bh_json *issuers, *limits, *quota_policies, *routes, *maintenance;
    int64_t retry_s;
};

struct limit_text {
    struct bh_str name, per, window, unit, lost;
    int64_t rate, burst, quota, concurrent; /* 0: absent */
};

struct route_text {
    struct bh_str name, path;
    const struct bh_json *methods, *scopes, *roles, *limits;
    bool anonymous;
    int64_t max_body_bytes, timeout_ms;
};

#define FIELD(type, member, text, field_kind, ...)                                                 \
    {                                                                                              \
        .name = (text), .kind = (field_kind), .offset = offsetof(struct type, member), __VA_ARGS__ \
    }
#define TABLE(rows)                                                                                \
    {                                                                                              \
        rows, sizeof(rows) / sizeof((rows)[0])                                                     \
    }

static const struct bh_field limit_rows[] = {
    FIELD(
        limit_text, name, "name", BH_FIELD_STRING, .max = 40, .rule = check_name, .required = true),
    FIELD(limit_text, per, "per", BH_FIELD_STRING, .max = 40, .rule = check_per),
    FIELD(limit_text, rate, "requests_per_second", BH_FIELD_INT, .min = 1, .max = 1000000),
    FIELD(limit_text, burst, "burst", BH_FIELD_INT, .min = 1, .max = 1000000),
    FIELD(limit_text, concurrent, "concurrent", BH_FIELD_INT, .min = 1, .max = 100000),
    FIELD(limit_text, quota, "quota", BH_FIELD_INT, .min = 1, .max = INT64_C(1) << 50),
    FIELD(limit_text, window, "window", BH_FIELD_STRING, .max = 40, .rule = check_window),
    FIELD(limit_text, unit, "unit", BH_FIELD_STRING, .max = 40, .rule = check_unit),
    FIELD(limit_text, lost, "when_lost", BH_FIELD_STRING, .max = 40, .rule = check_lost),
};
static const struct bh_fields limit_fields = TABLE(limit_rows);

static const struct bh_field route_rows[] = {
    FIELD(route_text, name, "name", BH_FIELD_STRING, .max = 40, .rule = check_name),
    FIELD(route_text, path, "path", BH_FIELD_STRING, .max = 512, .rule = bh_path_pattern_check,
        .required = true),
    FIELD(route_text, methods, "methods", BH_FIELD_WORDS, .max = 16, .rule = check_method),
    FIELD(route_text, scopes, "scopes", BH_FIELD_WORDS, .max = 16, .rule = check_word),
    FIELD(route_text, roles, "roles", BH_FIELD_WORDS, .max = 16, .rule = check_word),
    FIELD(route_text, limits, "limits", BH_FIELD_WORDS, .max = BH_POLICY_LIMITS_MAX,
        .rule = check_name),
    FIELD(route_text, anonymous, "anonymous", BH_FIELD_BOOL),
    FIELD(route_text, max_body_bytes, "max_body_bytes", BH_FIELD_INT, .min = 1,
        .max = INT64_C(1) << 40),
    FIELD(route_text, timeout_ms, "timeout_ms", BH_FIELD_INT, .min = 1, .max = 86400000),
};
static const struct bh_fields route_fields = TABLE(route_rows);

static const struct bh_field maintenance_rows[] = {
    FIELD(text, message, "message", BH_FIELD_STRING, .max = 1000, .rule = check_message),
    FIELD(text, retry_s, "retry_after_seconds", BH_FIELD_INT, .min = 1, .max = 2592000),
};
static const struct bh_fields maintenance_fields = TABLE(maintenance_rows);

static const struct bh_field rows[] = {
    FIELD(text, auth, "auth", BH_FIELD_STRING, .max = 40, .rule = check_auth),
    FIELD(text, app_scope, "app_scope", BH_FIELD_STRING, .max = 255, .rule = check_scope),
    FIELD(text, user_tokens, "user_tokens", BH_FIELD_BOOL),
    FIELD(text, api_keys, "api_keys", BH_FIELD_BOOL),
    FIELD(text, issuers, "issuers", BH_FIELD_WORDS, .max = BH_POLICY_WORDS_MAX, .rule = check_name),
    FIELD(text, quota_policies, "quota_policies", BH_FIELD_LIST, .max = BH_POLICY_LIMITS_MAX,
        .fields = &limit_fields),
    FIELD(text, limits, "limits", BH_FIELD_WORDS, .max = BH_POLICY_LIMITS_MAX, .rule = check_name),
    FIELD(text, routes, "routes", BH_FIELD_LIST, .max = BH_POLICY_ROUTES_MAX,
        .fields = &route_fields),
    FIELD(text, unlisted, "unlisted", BH_FIELD_STRING, .max = 40, .rule = check_unlisted),
    FIELD(text, encoded_paths, "encoded_paths", BH_FIELD_BOOL),
    FIELD(text, x_ratelimit, "x_ratelimit_headers", BH_FIELD_BOOL),
    FIELD(text, maintenance, "maintenance", BH_FIELD_TREE),
};
static const struct bh_fields fields = TABLE(rows);

/* ---- building ---- */

struct build {
    struct bh_arena *arena;
    struct bh_issues *issues;
    const char *at;
    struct bh_policy *policy;
    bool open; /* names of quota policies may be those of the layer below */
};

/* ${place} is below build->at; NULL: there was no memory for it. */
static void
report(const struct build *build, const struct bh_json *item, const char *place, const char *detail)
{
    const char *pointer =
        place == NULL ? NULL : bh_arena_printf(build->arena, "%s%s", build->at, place);
    if (pointer == NULL)
        build->issues->failed = true;
    else
        (void)bh_issues_add(build->issues, BH_ISSUE_VALUE, item, pointer, detail);
}

static size_t
count(const struct bh_json *array)
{
    size_t n = 0;
    for (const struct bh_json *item = array == NULL ? NULL : array->first; item != NULL;
         item = item->next)
        n++;
    return n;
}

static void *
room(const struct build *build, size_t items, size_t size)
{
    void *data = bh_arena_zalloc(build->arena, (items + 1) * size);
    if (data == NULL)
        build->issues->failed = true;
    return data;
}

static struct bh_words
words_of(const struct build *build, const struct bh_json *array)
{
    struct bh_words words = bh_words_of(array, build->arena);
    if (words.count == 0 && count(array) > 0)
        build->issues->failed = true;
    return words;
}

static void
check_limit(const struct build *build, const struct bh_json *item, const struct limit_text *text,
    size_t index)
{
    int kinds = (text->rate > 0) + (text->quota > 0) + (text->concurrent > 0);
    bool quota_only = text->window.len > 0 || text->unit.len > 0 || text->lost.len > 0;
    const char *detail = NULL;
    if (kinds != 1)
        detail = "must have one of requests_per_second, quota and concurrent";
    else if (text->burst > 0 && text->rate == 0)
        detail = "burst goes with requests_per_second";
    else if (quota_only && text->quota == 0)
        detail = "window, unit and when_lost go with quota";
    else if (text->quota > 0 && text->per.len > 0 && !bh_str_is(text->per, "tenant"))
        detail = "a quota is per tenant"; /* its budget is leased to edges tenant by tenant */
    else if (bh_str_is(text->name, "default"))
        detail = "default is the name of the tenant's own limit";
    for (size_t i = 0; detail == NULL && i < build->policy->limit_count; i++)
        if (bh_str_eq(build->policy->limits[i].name, text->name))
            detail = "has the name of another one";
    if (detail != NULL)
        report(build, item, bh_arena_printf(build->arena, "/quota_policies/%zu", index), detail);
}

static void
build_limits(const struct build *build, const struct bh_json *array)
{
    struct bh_policy *policy = build->policy;
    policy->limits = room(build, count(array), sizeof(*policy->limits));
    for (const struct bh_json *item = policy->limits == NULL || array == NULL ? NULL : array->first;
         item != NULL; item = item->next) {
        struct limit_text text = {.rate = 0};
        bh_fields_take(&limit_fields, item, &text);
        check_limit(build, item, &text, policy->limit_count);
        struct bh_limit *limit = &policy->limits[policy->limit_count++];
        *limit = (struct bh_limit){
            .name = text.name,
            .kind = text.rate > 0    ? BH_LIMIT_RATE
                    : text.quota > 0 ? BH_LIMIT_QUOTA
                                     : BH_LIMIT_CONCURRENT,
            .per = (enum bh_limit_per)chosen(pers, text.per),
            .window = text.window.len == 0 ? BH_WINDOW_DAY
                                           : (enum bh_limit_window)chosen(windows, text.window),
            .unit = (enum bh_limit_unit)chosen(units, text.unit),
            .continue_when_lost = chosen(losses, text.lost) != 0,
            .rate = text.rate,
            .amount = text.quota + text.concurrent,
        };
        if (text.rate > 0)
            limit->amount = text.burst > 0 ? text.burst : text.rate;
    }
}

/* Names of limits as bits. */
static uint32_t
limits_of(const struct build *build, const struct bh_json *array, const char *place)
{
    const struct bh_policy *policy = build->policy;
    uint32_t bits = 0;
    for (const struct bh_json *item = array == NULL ? NULL : array->first; item != NULL;
         item = item->next) {
        size_t i = 0;
        while (i < policy->limit_count && !bh_str_eq(policy->limits[i].name, item->text))
            i++;
        if (i < policy->limit_count)
            bits |= UINT32_C(1) << i;
        else if (!build->open)
            report(build, array, place, "names no quota policy");
    }
    return bits;
}

static void
check_route(const struct build *build, const struct bh_json *item, const struct bh_route *route,
    size_t index)
{
    const char *detail = NULL;
    if (route->anonymous && route->scopes.count + route->roles.count > 0)
        detail = "an anonymous route can need no scopes or roles";
    if (detail != NULL)
        report(build, item, bh_arena_printf(build->arena, "/routes/%zu", index), detail);
}

static void
build_routes(const struct build *build, const struct bh_json *array)
{
    struct bh_policy *policy = build->policy;
    policy->routes = room(build, count(array), sizeof(*policy->routes));
    for (const struct bh_json *item = policy->routes == NULL || array == NULL ? NULL : array->first;
         item != NULL; item = item->next) {
        struct route_text text = {.anonymous = false};
        bh_fields_take(&route_fields, item, &text);
        struct bh_route *route = &policy->routes[policy->route_count];
        *route = (struct bh_route){
            .name = text.name.len > 0 ? text.name : text.path,
            .path = text.path,
            .literal = bh_path_literal(text.path),
            .methods = words_of(build, text.methods),
            .scopes = words_of(build, text.scopes),
            .roles = words_of(build, text.roles),
            .anonymous = text.anonymous,
            .limits = limits_of(build, text.limits,
                bh_arena_printf(build->arena, "/routes/%zu/limits", policy->route_count)),
            .max_body_bytes = text.max_body_bytes,
            .timeout_ms = text.timeout_ms,
        };
        check_route(build, item, route, policy->route_count++);
    }
}

static void
build_policy(const struct build *build, const struct text *text)
{
    *build->policy = (struct bh_policy){
        .auth = (enum bh_policy_auth)chosen(auths, text->auth),
        .app_scope = text->app_scope,
        .user_tokens = text->user_tokens,
        .api_keys = text->api_keys,
        .issuers = words_of(build, text->issuers),
        .unlisted_denied = chosen(defaults, text->unlisted) != 0,
        .encoded_paths = text->encoded_paths,
        .x_ratelimit = text->x_ratelimit,
        .maintenance = text->maintenance != NULL,
        .maintenance_message = text->message,
        .maintenance_retry_s = text->retry_s,
    };
    build_limits(build, text->quota_policies);
    build->policy->everywhere = limits_of(build, text->limits, "/limits");
    build_routes(build, text->routes);
}

static void
read_policy(struct build *build, const struct bh_json *value)
{
    struct text text = {.app_scope = BH_STR("anonymous"), .user_tokens = true, .api_keys = true};
    struct bh_issues *issues = build->issues;
    const char *at = build->at;
    size_t before = issues->count;
    bh_fields_read_at(&fields, value, at, &text, issues);
    if (text.maintenance != NULL) {
        const char *place = bh_arena_printf(build->arena, "%s/maintenance", at);
        bh_fields_read_at(
            &maintenance_fields, text.maintenance, place == NULL ? at : place, &text, issues);
    }
    /* Only what has the right types can be put together. */
    build->open = build->open && text.quota_policies == NULL;
    if (issues->count == before)
        build_policy(build, &text);
}

void
bh_policy_read(const struct bh_json *value, const char *at, struct bh_arena *arena,
    struct bh_issues *issues, struct bh_policy *ret_policy)
{
    struct build build = {arena, issues, at, ret_policy, false};
    read_policy(&build, value);
}

void
bh_policy_read_layer(
    const struct bh_json *value, const char *at, struct bh_arena *arena, struct bh_issues *issues)
{
    struct bh_policy policy;
    struct build build = {arena, issues, at, &policy, true};
    read_policy(&build, value);
}

enum bh_code
bh_policy_parse(
    struct bh_str text, struct bh_arena *arena, struct bh_policy *ret_policy, struct bh_error *err)
{
    struct bh_json *value;
    struct bh_issues issues;
    BH_TRY(bh_json_parse(text, BH_JSON_DEPTH, arena, &value, err));
    bh_issues_init(&issues, arena);
    bh_policy_read(value, "", arena, &issues, ret_policy);
    return bh_issues_code(&issues, err);
}

/* ---- asking ---- */

/* Who may GET may HEAD: applications answer both alike, and a rule that left HEAD out would be a
 * hole. */
static bool
method_matches(const struct bh_words *methods, struct bh_str method)
{
    return methods->count == 0 || bh_words_have(methods, method) ||
           (bh_str_is(method, "HEAD") && bh_words_have(methods, BH_STR("GET")));
}

static bool
route_matches(const struct bh_route *route, struct bh_str method, struct bh_str path)
{
    return path.len >= route->literal && memcmp(path.data, route->path.data, route->literal) == 0 &&
           method_matches(&route->methods, method) && bh_path_matches(route->path, path);
}

const struct bh_route *
bh_policy_route(const struct bh_policy *policy, struct bh_str method, struct bh_str path)
{
    size_t count = path.len > 0 && path.data[0] == '/' ? policy->route_count : 0;
    for (size_t i = 0; i < count; i++) {
        if (route_matches(&policy->routes[i], method, path))
            return &policy->routes[i];
    }
    return NULL;
}
