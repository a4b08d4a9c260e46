#include "tests/unit/core/test.h"

#include <ctype.h>

#include "core/error.h"

static void
a_failure_records_code_and_detail_and_clears_the_rest(void **state)
{
    (void)state;
    struct bh_error err;
    memset(&err, 'x', sizeof(err));
    assert_code(bh_fail(&err, BH_E_CONFLICT, "%s is %d", "acme", 7), BH_E_CONFLICT);
    assert_code(err.code, BH_E_CONFLICT);
    assert_string_equal(err.detail, "acme is 7");
    assert_string_equal(err.hint, "");
    assert_string_equal(err.pointer, "");
}

static void
a_failure_at_a_place_keeps_it_and_a_hint_keeps_the_failure(void **state)
{
    (void)state;
    struct bh_error err;
    assert_code(bh_fail_at(&err, BH_E_INVALID, "/limits/burst", "must be positive"), BH_E_INVALID);
    assert_string_equal(err.pointer, "/limits/burst");
    assert_code(bh_hint(&err, "try %d", 1), BH_E_INVALID);
    assert_string_equal(err.hint, "try 1");
    assert_string_equal(err.detail, "must be positive");
}

static void
without_a_place_for_it_the_code_still_passes(void **state)
{
    (void)state;
    assert_code(bh_fail(NULL, BH_E_GONE, "x"), BH_E_GONE);
    assert_code(bh_fail_at(NULL, BH_E_GONE, "/x", "x"), BH_E_GONE);
    assert_code(bh_hint(NULL, "x"), BH_E_INTERNAL);
}

static void
long_texts_are_cut_between_characters(void **state)
{
    (void)state;
    char text[2000] = "x";
    for (size_t i = 1; i + 2 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa4", 3);
    struct bh_error err;
    (void)bh_fail_at(&err, BH_E_INVALID, text, "%s", text);
    (void)bh_hint(&err, "%s", text);
    assert_int_equal(strlen(err.detail), BH_DETAIL_MAX - 1);
    assert_int_equal(strlen(err.hint), BH_HINT_MAX - 1);
    assert_int_equal(strlen(err.pointer), BH_POINTER_MAX - 1);
    (void)bh_fail(&err, BH_E_INVALID, "y%s", text);
    assert_int_equal(strlen(err.detail), BH_DETAIL_MAX - 2);
    assert_true(bh_utf8_valid(bh_str_of(err.detail)));
}

static void
an_error_may_be_made_of_its_own_text(void **state)
{
    (void)state;
    struct bh_error err;
    (void)bh_fail_at(&err, BH_E_INVALID, "/a", "inner");
    (void)bh_fail_at(&err, BH_E_CONFIG, err.pointer, "outer: %s at %s", err.detail, err.pointer);
    assert_string_equal(err.detail, "outer: inner at /a");
    assert_string_equal(err.pointer, "/a");
}

static void
every_code_has_all_facts_and_its_own_slug(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BH_CODE_COUNT; i++) {
        enum bh_code code = (enum bh_code)i;
        const char *sqlstate = bh_code_sqlstate(code);
        assert_code(bh_code_find(bh_code_slug(code)), code);
        assert_in_range(bh_code_http(code), 200, 599);
        assert_in_range(bh_code_exit(code), code == BH_OK ? 0 : 1, 78);
        assert_int_equal(strlen(sqlstate), 5);
        for (int c = 0; c < 5; c++)
            assert_true(isupper(sqlstate[c]) || isdigit(sqlstate[c]));
        assert_in_range(strlen(bh_code_title(code)), 2, 60);
    }
    assert_code(bh_code_find("rate-limited"), BH_E_RATE_LIMITED);
    assert_int_equal(bh_code_http(BH_E_RATE_LIMITED), 429);
    assert_string_equal(bh_code_sqlstate(BH_E_NO_TENANT_BOUND), "TN001");
    assert_int_equal(bh_code_exit(BH_E_TIMEOUT), 75);
}

static void
an_unknown_code_or_slug_is_an_internal_error(void **state)
{
    (void)state;
    assert_code(bh_code_find("no-such-slug"), BH_E_INTERNAL);
    assert_int_equal(bh_code_http((enum bh_code)9999), 500);
    assert_string_equal(bh_code_sqlstate((enum bh_code)9999), "XX000");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_records_code_and_detail_and_clears_the_rest),
        cmocka_unit_test(a_failure_at_a_place_keeps_it_and_a_hint_keeps_the_failure),
        cmocka_unit_test(without_a_place_for_it_the_code_still_passes),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(an_error_may_be_made_of_its_own_text),
        cmocka_unit_test(every_code_has_all_facts_and_its_own_slug),
        cmocka_unit_test(an_unknown_code_or_slug_is_an_internal_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
