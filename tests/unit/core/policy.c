/* A policy: its defaults, all that it can say, every way to be refused, and which route counts. */
#include "core/path.h"
#include "core/policy.h"

#include "tests/unit/core/test.h"

#include <stdio.h>

struct fixture {
    struct bh_chunks chunks;
    struct bh_policy policy;
    struct bh_error err;
};

static enum bh_code
parse(struct fixture *f, const char *text)
{
    bh_chunks_init(&f->chunks);
    f->err = (struct bh_error){.code = BH_OK};
    return bh_policy_parse(bh_str_of(text), &f->chunks.arena, &f->policy, &f->err);
}

static void
says_nothing(void **state)
{
    struct fixture f;
    (void)state;
    assert_code(parse(&f, "{}"), BH_OK);
    assert_int_equal(f.policy.auth, BH_AUTH_EDGE);
    assert_str(f.policy.app_scope, "anonymous");
    assert_true(f.policy.user_tokens && f.policy.api_keys);
    assert_false(f.policy.unlisted_denied || f.policy.encoded_paths || f.policy.x_ratelimit);
    assert_false(f.policy.maintenance);
    assert_int_equal(f.policy.issuers.count + f.policy.limit_count + f.policy.route_count, 0);
    assert_int_equal(f.policy.everywhere, 0);
    assert_null(bh_policy_route(&f.policy, BH_STR("GET"), BH_STR("/")));
    bh_chunks_fini(&f.chunks);
}

static const char all[] =
    "{\"auth\":\"app\",\"app_scope\":\"orders.read orders.write\",\"user_tokens\":false,"
    "\"api_keys\":false,\"issuers\":[\"corp\",\"partner\"],\"quota_policies\":["
    "{\"name\":\"reads\",\"per\":\"subject\",\"requests_per_second\":10,\"burst\":20},"
    "{\"name\":\"daily\",\"quota\":1000},"
    "{\"name\":\"traffic\",\"quota\":5000000,\"unit\":\"bytes\",\"window\":\"month\","
    "\"when_lost\":\"continue\"},"
    "{\"name\":\"parallel\",\"per\":\"address\",\"concurrent\":4}],"
    "\"limits\":[\"daily\",\"parallel\"],\"unlisted\":\"deny\",\"encoded_paths\":true,"
    "\"x_ratelimit_headers\":true,\"maintenance\":{\"message\":\"Back \xc3\xa0 8\","
    "\"retry_after_seconds\":600},\"routes\":["
    "{\"path\":\"/\",\"anonymous\":true},"
    "{\"name\":\"read-orders\",\"path\":\"/orders/*\",\"methods\":[\"GET\",\"HEAD\"],"
    "\"scopes\":[\"orders.read\"],\"limits\":[\"reads\",\"traffic\"]},"
    "{\"path\":\"/orders/**\",\"roles\":[\"admin\",\"ops\"],\"max_body_bytes\":4096,"
    "\"timeout_ms\":2500}]}";

static void
says_all(void **state)
{
    struct fixture f;
    (void)state;
    assert_code(parse(&f, all), BH_OK);
    const struct bh_policy *p = &f.policy;
    assert_int_equal(p->auth, BH_AUTH_APP);
    assert_str(p->app_scope, "orders.read orders.write");
    assert_false(p->user_tokens || p->api_keys);
    assert_int_equal(p->issuers.count, 2);
    assert_str(p->issuers.items[1], "partner");
    assert_int_equal(p->limit_count, 4);
    assert_int_equal(p->limits[0].kind, BH_LIMIT_RATE);
    assert_int_equal(p->limits[0].per, BH_PER_SUBJECT);
    assert_int_equal(p->limits[0].rate, 10);
    assert_int_equal(p->limits[0].amount, 20);
    assert_int_equal(p->limits[1].kind, BH_LIMIT_QUOTA);
    assert_int_equal(p->limits[1].window, BH_WINDOW_DAY);
    assert_int_equal(p->limits[1].unit, BH_UNIT_REQUESTS);
    assert_false(p->limits[1].continue_when_lost);
    assert_int_equal(p->limits[2].window, BH_WINDOW_MONTH);
    assert_int_equal(p->limits[2].unit, BH_UNIT_BYTES);
    assert_true(p->limits[2].continue_when_lost);
    assert_int_equal(p->limits[3].kind, BH_LIMIT_CONCURRENT);
    assert_int_equal(p->limits[3].amount, 4);
    assert_int_equal(p->everywhere, 2 | 8);
    assert_true(p->unlisted_denied && p->encoded_paths && p->x_ratelimit && p->maintenance);
    assert_str(p->maintenance_message, "Back \xc3\xa0 8");
    assert_int_equal(p->maintenance_retry_s, 600);
    assert_int_equal(p->route_count, 3);
    assert_str(p->routes[0].name, "/");
    assert_true(p->routes[0].anonymous);
    assert_int_equal(p->routes[1].limits, 1 | 4);
    assert_int_equal(p->routes[2].max_body_bytes, 4096);
    assert_int_equal(p->routes[2].timeout_ms, 2500);
    bh_chunks_fini(&f.chunks);
}

static const char *
route_of(const struct fixture *f, const char *method, const char *path)
{
    const struct bh_route *route = bh_policy_route(&f->policy, bh_str_of(method), bh_str_of(path));
    static char name[64];
    if (route == NULL)
        return "none";
    snprintf(name, sizeof(name), "%.*s", (int)route->name.len, route->name.data);
    return name;
}

static void
first_match_counts(void **state)
{
    struct fixture f;
    (void)state;
    assert_code(parse(&f, all), BH_OK);
    assert_string_equal(route_of(&f, "GET", "/"), "/");
    assert_string_equal(route_of(&f, "GET", "/orders/7"), "read-orders");
    assert_string_equal(route_of(&f, "HEAD", "/orders/7"), "read-orders");
    assert_string_equal(route_of(&f, "POST", "/orders/7"), "/orders/**");
    assert_string_equal(route_of(&f, "get", "/orders/7"), "/orders/**");
    assert_string_equal(route_of(&f, "GET", "/orders"), "/orders/**");
    assert_string_equal(route_of(&f, "GET", "/orders/"), "/orders/**");
    assert_string_equal(route_of(&f, "GET", "/orders/7/lines"), "/orders/**");
    assert_string_equal(route_of(&f, "GET", "/ordersx"), "none");
    assert_string_equal(route_of(&f, "GET", "/Orders/7"), "none");
    assert_string_equal(route_of(&f, "GET", ""), "none");
    assert_string_equal(route_of(&f, "OPTIONS", "*"), "none");
    bh_chunks_fini(&f.chunks);
    assert_code(
        parse(&f, "{\"routes\":[{\"path\":\"/a\",\"methods\":[\"POST\"],\"name\":\"write\"},"
                  "{\"path\":\"/a\",\"methods\":[\"GET\"],\"name\":\"read\"}]}"),
        BH_OK);
    assert_string_equal(route_of(&f, "GET", "/a"), "read");
    assert_string_equal(route_of(&f, "HEAD", "/a"), "read");
    assert_string_equal(route_of(&f, "DELETE", "/a"), "none");
    bh_chunks_fini(&f.chunks);
}

static void
patterns_match_segments(void **state)
{
    static const struct {
        const char *pattern, *match, *other;
    } table[] = {
        {"/a", "/a", "/ab"},
        {"/a", "/a", "/a/"},
        {"/a/", "/a/", "/a"},
        {"/a*", "/a*", "/ab"}, /* a name: * counts alone */
        {"/a/*", "/a/b", "/a/"},
        {"/a/*/c", "/a/b/c", "/a/b/d"},
        {"/a/*/**", "/a/b", "/a"},
        {"/a/**", "/a", "/ab"},
        {"/a/b*/**", "/a/b*/c", "/a/bx/c"},
        {"/**", "/", "none"},
        {"/**", "/x/y", "x"},
        {"/*", "/x", "/"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct fixture f;
        char text[80];
        snprintf(text, sizeof(text), "{\"routes\":[{\"path\":\"%s\"}]}", table[i].pattern);
        assert_code(parse(&f, text), BH_OK);
        assert_string_equal(route_of(&f, "GET", table[i].match), table[i].pattern);
        assert_string_equal(route_of(&f, "GET", table[i].other), "none");
        bh_chunks_fini(&f.chunks);
    }
}

static const struct {
    const char *text, *pointer;
} refused[] = {
    {"[]", ""},
    {"{\"auht\":\"app\"}", "/auht"},
    {"{\"auth\":\"both\"}", "/auth"},
    {"{\"auth\":1}", "/auth"},
    {"{\"user_tokens\":1}", "/user_tokens"},
    {"{\"app_scope\":\"a  b\"}", "/app_scope"},
    {"{\"app_scope\":\"\"}", "/app_scope"},
    {"{\"issuers\":\"corp\"}", "/issuers"},
    {"{\"issuers\":[\"corp\",7]}", "/issuers/1"},
    {"{\"issuers\":[\"Corp\"]}", "/issuers/0"},
    {"{\"limits\":[\"daily\"]}", "/limits"},
    {"{\"unlisted\":\"maybe\"}", "/unlisted"},
    {"{\"maintenance\":true}", "/maintenance"},
    {"{\"maintenance\":{\"mesage\":\"x\"}}", "/maintenance/mesage"},
    {"{\"maintenance\":{\"message\":\"a\\u0007\"}}", "/maintenance/message"},
    {"{\"quota_policies\":[{\"quota\":1}]}", "/quota_policies/0/name"},
    {"{\"quota_policies\":[{\"name\":\"a\"}]}", "/quota_policies/0"},
    {"{\"quota_policies\":[{\"name\":\"default\",\"quota\":1}]}", "/quota_policies/0"},
    {"{\"quota_policies\":[{\"name\":\"a\",\"quota\":1},{\"name\":\"a\",\"quota\":1}]}",
        "/quota_policies/1"},
    {"{\"quota_policies\":[{\"name\":\"a\",\"quota\":1,\"concurrent\":1}]}", "/quota_policies/0"},
    {"{\"quota_policies\":[{\"name\":\"a\",\"quota\":1,\"burst\":1}]}", "/quota_policies/0"},
    {"{\"quota_policies\":[{\"name\":\"a\",\"quota\":1,\"per\":\"subject\"}]}",
        "/quota_policies/0"},
    {"{\"quota_policies\":[{\"name\":\"a\",\"concurrent\":1,\"window\":\"day\"}]}",
        "/quota_policies/0"},
    {"{\"quota_policies\":[{\"name\":\"a\",\"quota\":0}]}", "/quota_policies/0/quota"},
    {"{\"quota_policies\":[{\"name\":\"a\",\"quota\":1,\"per\":\"user\"}]}",
        "/quota_policies/0/per"},
    {"{\"routes\":[{}]}", "/routes/0/path"},
    {"{\"routes\":[{\"path\":\"orders\"}]}", "/routes/0/path"},
    {"{\"routes\":[{\"path\":\"/a//b\"}]}", "/routes/0/path"},
    {"{\"routes\":[{\"path\":\"/a/../b\"}]}", "/routes/0/path"},
    {"{\"routes\":[{\"path\":\"/a/**/b\"}]}", "/routes/0/path"},
    {"{\"routes\":[{\"path\":\"/a%2fb\"}]}", "/routes/0/path"},
    {"{\"routes\":[{\"path\":\"/a?b\"}]}", "/routes/0/path"},
    {"{\"routes\":[{\"path\":\"/a\",\"methods\":[\"get\"]}]}", "/routes/0/methods/0"},
    {"{\"routes\":[{\"path\":\"/a\",\"scopes\":[\"a b\"]}]}", "/routes/0/scopes/0"},
    {"{\"routes\":[{\"path\":\"/a\",\"limits\":[\"b\"]}]}", "/routes/0/limits"},
    {"{\"routes\":[{\"path\":\"/a\",\"anonymous\":true,\"roles\":[\"b\"]}]}", "/routes/0"},
    {"{\"routes\":[{\"path\":\"/a\",\"timeout_ms\":0}]}", "/routes/0/timeout_ms"},
};

static void
refuses(void **state)
{
    struct fixture f;
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        enum bh_code code = parse(&f, refused[i].text);
        if (code != BH_E_INVALID || strcmp(f.err.pointer, refused[i].pointer) != 0)
            fail_msg("%s: %s at %s", refused[i].text, bh_code_slug(code), f.err.pointer);
        bh_chunks_fini(&f.chunks);
    }
    assert_code(parse(&f, "{"), BH_E_BAD_REQUEST);
    bh_chunks_fini(&f.chunks);
}

static void
plain_paths(void **state)
{
    static const char *const plain[] = {"/", "/a/b", "/a.b/..c", "/%41", "/a?b=//c%2f", "/%c3%a4",
        "/a%20b", "/%7e", "/...", "/.a/a.", "/a?b=/../;#", ""};
    static const char *const odd[] = {"//", "/a//b", "/a%2fb", "/a%2Fb", "/%2e%2e/", "/a%5cb",
        "/a\\b", "/a%252f", "/a%00", "/a%1", "/a%", "/a/../b", "/..", "/a/.", "/./a", "/a/..?b",
        "/a;b", "/a%3Bb", "/a#b"};
    (void)state;
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        assert_true(bh_path_plain(bh_str_of(plain[i])));
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        assert_false(bh_path_plain(bh_str_of(odd[i])));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_nothing),
        cmocka_unit_test(says_all),
        cmocka_unit_test(first_match_counts),
        cmocka_unit_test(patterns_match_segments),
        cmocka_unit_test(refuses),
        cmocka_unit_test(plain_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
