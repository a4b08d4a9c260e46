/* What handshakes do with it is tests/system/test_hostile_tls.py. */
#include "core/sni.h"

#include "tests/unit/core/test.h"

static void
names_are_lower_case_without_their_last_dot(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text; /* NULL: none */
    } cases[] = {
        {"shop.example", "shop.example"},
        {"SHOP.Example.", "shop.example"},
        {"localhost", "localhost"},
        {"xn--mnchen-3ya.example", "xn--mnchen-3ya.example"},
        {"127.0.0.1", "127.0.0.1"}, /* no certificate has such a name */
        {"a..", "a."},
        {"", NULL},
        {".", NULL},
        {"::1", NULL},
        {"shop.example:443", NULL},
        {"*.example", NULL},
        {"shop_.example", NULL},
        {"shop/example", NULL},
        {"m\xc3\xbcnchen.example", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bh_sni sni;
        assert_int_equal(bh_sni_name(bh_str_of(cases[i].name), &sni), cases[i].text != NULL);
        assert_string_equal(sni.text, cases[i].text == NULL ? "" : cases[i].text);
        assert_int_equal(sni.len, strlen(sni.text));
    }
}

static void
the_longest_name_is_taken_and_a_longer_one_is_not(void **state)
{
    (void)state;
    char text[BH_DOMAIN_MAX + 2];
    struct bh_sni sni;
    memset(text, 'a', sizeof(text));
    assert_true(bh_sni_name((struct bh_str){text, BH_DOMAIN_MAX}, &sni));
    assert_int_equal(sni.len, BH_DOMAIN_MAX);
    assert_false(bh_sni_name((struct bh_str){text, BH_DOMAIN_MAX + 1}, &sni));
    text[BH_DOMAIN_MAX] = '.';
    assert_true(bh_sni_name((struct bh_str){text, BH_DOMAIN_MAX + 1}, &sni));
    assert_false(bh_sni_name((struct bh_str){"shop\0.example", 13}, &sni));
}

static void
an_extension_holds_one_name_and_nothing_else(void **state)
{
    (void)state;
    static const uint8_t good[] = {0, 7, 0, 0, 4, 'a', '.', 'b', 'c'};
    struct bh_sni sni;
    assert_true(bh_sni_extension(good, sizeof(good), &sni));
    assert_string_equal(sni.text, "a.bc");
    for (size_t len = 0; len < sizeof(good); len++) {
        assert_false(bh_sni_extension(good, len, &sni));
        assert_int_equal(sni.len, 0);
    }
    for (size_t at = 0; at < 5; at++) { /* every byte of both lengths and the type */
        uint8_t bad[sizeof(good)];
        memcpy(bad, good, sizeof(good));
        bad[at]++;
        assert_false(bh_sni_extension(bad, sizeof(bad), &sni));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_lower_case_without_their_last_dot),
        cmocka_unit_test(the_longest_name_is_taken_and_a_longer_one_is_not),
        cmocka_unit_test(an_extension_holds_one_name_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
