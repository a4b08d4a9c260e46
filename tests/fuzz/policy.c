/*
 * A policy that is accepted is within its limits, and every request finds the first route that
 * matches by the rules as they are written, or none; one that is refused says where.
 */
#include "tests/fuzz/fuzz.h"

#include "core/path.h"
#include "core/policy.h"

static void
check_limits(const struct bh_policy *policy)
{
    MUST(
        policy->limit_count <= BH_POLICY_LIMITS_MAX && policy->route_count <= BH_POLICY_ROUTES_MAX);
    MUST(policy->everywhere >> policy->limit_count == 0);
    for (size_t i = 0; i < policy->limit_count; i++) {
        const struct bh_limit *limit = &policy->limits[i];
        MUST(limit->amount >= 1 && (limit->rate >= 1) == (limit->kind == BH_LIMIT_RATE));
        MUST(limit->kind != BH_LIMIT_QUOTA || limit->per == BH_PER_TENANT);
        for (size_t j = 0; j < i; j++)
            MUST(!bh_str_eq(limit->name, policy->limits[j].name));
    }
}

/* A pattern's own path, its stars made words, is matched by it or by one before it. */
static void
check_routes(const struct bh_policy *policy)
{
    for (size_t i = 0; i < policy->route_count; i++) {
        const struct bh_route *route = &policy->routes[i];
        MUST(route->path.len >= 1 && route->path.data[0] == '/' && route->path.len <= 2048);
        MUST(!route->anonymous || route->scopes.count + route->roles.count == 0);
        MUST(route->limits >> policy->limit_count == 0);
        struct bh_str method = route->methods.count > 0 ? route->methods.items[0] : BH_STR("GET");
        const struct bh_route *found = bh_policy_route(policy, method, route->path);
        MUST(found != NULL && found <= route);
        MUST(bh_policy_route(policy, method, BH_STR("orders")) == NULL);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_chunks chunks;
    struct bh_policy policy;
    struct bh_error err = {.code = BH_OK};
    bh_chunks_init(&chunks);
    (void)bh_path_plain((struct bh_str){(const char *)data, size});
    if (bh_policy_parse((struct bh_str){(const char *)data, size}, &chunks.arena, &policy, &err) ==
        BH_OK) {
        check_limits(&policy);
        check_routes(&policy);
    } else {
        MUST(err.detail[0] != '\0');
    }
    bh_chunks_fini(&chunks);
    return 0;
}
