#include "core/cookie.h"

#include "tests/unit/core/test.h"

static void
check(const char *cookie, const char *prefix, const char *expected)
{
    char text[512];
    struct bh_buf out;
    bh_buf_init(&out, text, sizeof(text));
    bool changed =
        bh_cookie_confine(bh_str_of(cookie), BH_STR("acme.example.com"), bh_str_of(prefix), &out);
    assert_true(bh_buf_ok(&out));
    assert_string_equal(text, expected);
    assert_int_equal(changed, strcmp(cookie, expected) != 0);
}

static void
a_domain_wider_than_the_host_goes(void **state)
{
    (void)state;
    check("s=1", "", "s=1");
    check("s=1; Domain=example.com; Secure", "", "s=1; Secure");
    check("s=1;domain = .example.com ;Path=/x", "", "s=1;Path=/x");
    check("s=1; DOMAIN=com", "", "s=1");
    check("s=1; Domain=globex.example.com", "", "s=1");
    check("s=1; Domain=", "", "s=1");
    check("s=1; Domain", "", "s=1");
    check("s=1; Domain=\x0e"
          "acme.example.com",
        "", "s=1");
    check("s=1; \x0b"
          "Domain\x7f=example.com",
        "", "s=1");
    check("s=1; Domain=example.com; Domain=acme.example.com", "", "s=1; Domain=acme.example.com");
    check("s=1; Domain=acme.example.com", "", "s=1; Domain=acme.example.com");
    check("s=1; Domain=.ACME.example.com; HttpOnly", "", "s=1; Domain=.ACME.example.com; HttpOnly");
    check("domain=example.com; Secure", "", "domain=example.com; Secure");
    check("", "", "");
    check(";;", "", ";;");
}

static void
below_a_prefix_the_path_is_the_tenants(void **state)
{
    (void)state;
    check("s=1", "/t/acme", "s=1; Path=/t/acme/");
    check("s=1; Path=/", "/t/acme", "s=1; Path=/t/acme/");
    check("s=1; path=/a/b ; Secure", "/t/acme", "s=1; Path=/t/acme/a/b; Secure");
    check("s=1; Path", "/t/acme", "s=1; Path=/t/acme/");
    check("s=1; Path=x", "/t/acme", "s=1; Path=/t/acme/");
    check("s=1; Path=/../globex", "/t/acme", "s=1; Path=/t/acme/");
    check("s=1; Path=/a/..", "/t/acme", "s=1; Path=/t/acme/");
    check("s=1; Path=/..a", "/t/acme", "s=1; Path=/t/acme/..a");
    check("s=1; Path=/a; Path=/b", "/t/acme", "s=1; Path=/t/acme/a; Path=/t/acme/b");
    check("s=1; Domain=example.com; Path=/a", "/t/acme", "s=1; Path=/t/acme/a");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_domain_wider_than_the_host_goes),
        cmocka_unit_test(below_a_prefix_the_path_is_the_tenants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
