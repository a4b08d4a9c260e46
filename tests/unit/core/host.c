/* The table of host names is tests/golden/host.json; here is what a table cannot say. */
#include "tests/unit/core/test.h"

#include "core/host.h"

static void
on_failure_nothing_is_written(void **state)
{
    (void)state;
    char id[BH_TENANT_ID_MAX + 1] = "untouched";
    size_t len = 99;
    struct bh_error err;
    assert_code(bh_host_tenant(BH_STR("www.localhost"), BH_STR("localhost"), id, &len, &err),
        BH_E_TENANT_UNKNOWN);
    assert_code(bh_host_tenant(BH_STR("10.0.0.1"), BH_STR("localhost"), id, &len, &err),
        BH_E_TENANT_MISSING);
    assert_string_equal(id, "untouched");
    assert_int_equal(len, 99);
    assert_code(bh_host_tenant(BH_STR("A.localhost"), BH_STR("localhost"), id, &len, &err), BH_OK);
    assert_string_equal(id, "a");
    assert_int_equal(len, 1);
}

static void
every_byte_that_is_no_letter_makes_the_host_unknown(void **state)
{
    (void)state;
    int known = 0;
    for (int c = 0; c < 256; c++) {
        char host[] = "aXb.localhost", id[BH_TENANT_ID_MAX + 1];
        size_t len;
        host[1] = (char)c;
        enum bh_code code = bh_host_tenant(
            (struct bh_str){host, sizeof(host) - 1}, BH_STR("localhost"), id, &len, NULL);
        if (code == BH_OK)
            known++;
        else
            assert_code(code, BH_E_TENANT_UNKNOWN);
    }
    assert_int_equal(known, 26 + 26 + 10 + 1);
}

static void
a_host_of_a_megabyte_is_unknown(void **state)
{
    (void)state;
    size_t size = 1 << 20, len;
    char *host = malloc(size), id[BH_TENANT_ID_MAX + 1];
    assert_non_null(host);
    memset(host, 'a', size);
    memcpy(host + size - 10, ".localhost", 10);
    assert_code(bh_host_tenant((struct bh_str){host, size}, BH_STR("localhost"), id, &len, NULL),
        BH_E_TENANT_UNKNOWN);
    assert_code(
        bh_host_tenant((struct bh_str){host + size - 20, 20}, BH_STR("localhost"), id, &len, NULL),
        BH_OK);
    free(host);
}

static void
a_custom_domain_is_a_name_of_two_labels_outside_the_base_domain(void **state)
{
    (void)state;
    static const struct {
        const char *host, *domain; /* NULL: none */
    } cases[] = {
        {"shop.example", "shop.example"},
        {"SHOP.Example.:443", "shop.example"},
        {"xn--mnchen-3ya.example", "xn--mnchen-3ya.example"},
        {"1.a-b.c2", "1.a-b.c2"},
        {"notlocalhost.example", "notlocalhost.example"},
        {"localhost.example", "localhost.example"},
        {"localhost", NULL},
        {"acme.localhost", NULL},
        {"a.b.localhost", NULL},
        {"shop", NULL},
        {"", NULL},
        {".", NULL},
        {"shop.example..", NULL},
        {".shop.example", NULL},
        {"shop..example", NULL},
        {"-shop.example", NULL},
        {"shop-.example", NULL},
        {"ab--cd.example", NULL},
        {"sh_op.example", NULL},
        {"*.example", NULL},
        {"1.2.3.4", NULL},
        {"shop.1example", NULL},
        {"[::1]", NULL},
        {"m\xc3\xbcnchen.example", NULL},
        {"shop.example:80:80", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char domain[BH_DOMAIN_MAX + 1];
        size_t len;
        bool is = bh_host_domain(bh_str_of(cases[i].host), BH_STR("localhost"), domain, &len);
        assert_int_equal(is, cases[i].domain != NULL);
        if (is) {
            assert_string_equal(domain, cases[i].domain);
            assert_int_equal(len, strlen(domain));
        }
    }
}

static void
a_domain_has_labels_of_63_and_253_bytes_at_most(void **state)
{
    (void)state;
    char text[300];
    struct bh_error err;
    memset(text, 'a', sizeof(text));
    text[63] = text[127] = text[191] = '.';
    assert_code(bh_domain_check((struct bh_str){text, 253}, &err), BH_OK);
    assert_code(bh_domain_check((struct bh_str){text, 254}, &err), BH_E_INVALID);
    text[63] = 'a';
    text[64] = '.';
    assert_code(bh_domain_check((struct bh_str){text, 130}, &err), BH_E_INVALID);
    assert_code(bh_domain_check(BH_STR("Shop.example"), &err), BH_E_INVALID);
    assert_code(bh_domain_check(BH_STR("shop.example."), &err), BH_E_INVALID);
    assert_code(bh_domain_check(BH_STR("shop.example"), &err), BH_OK);
}

static void
two_spellings_of_a_host_are_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"acme.localhost", "ACME.localhost.:7080", true},
        {"acme.localhost:80", "acme.localhost:7080", true},
        {"[::1]:7080", "[::1]", true},
        {"[::1]", "[::2]", false},
        {"acme.localhost", "acme.localhost..", false},
        {"acme.localhost", "globex.localhost", false},
        {"", "acme.localhost", false},
        {"", "", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(bh_host_same(bh_str_of(cases[i].a), bh_str_of(cases[i].b)), cases[i].same);
        assert_int_equal(bh_host_same(bh_str_of(cases[i].b), bh_str_of(cases[i].a)), cases[i].same);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_failure_nothing_is_written),
        cmocka_unit_test(every_byte_that_is_no_letter_makes_the_host_unknown),
        cmocka_unit_test(a_host_of_a_megabyte_is_unknown),
        cmocka_unit_test(a_custom_domain_is_a_name_of_two_labels_outside_the_base_domain),
        cmocka_unit_test(a_domain_has_labels_of_63_and_253_bytes_at_most),
        cmocka_unit_test(two_spellings_of_a_host_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
