#include "tests/unit/core/test.h"

#include <stdio.h>

#include "core/tenant.h"

static bool
allowed(const char *id)
{
    char *copy = exact_copy(id, strlen(id));
    struct bh_error err = {0};
    enum bh_code code = bh_tenant_id_check((struct bh_str){copy, strlen(id)}, &err);
    free(copy);
    if (code != BH_OK) {
        assert_code(code, BH_E_INVALID);
        assert_string_equal(err.pointer, "/id");
        assert_string_not_equal(err.detail, "");
    }
    return code == BH_OK;
}

static void
a_tenant_id_is_a_short_dns_label_that_begins_with_a_letter(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "z9", "acme", "a-b", "a-b-c", "a1-2", "t1", "wwww",
        "ap", "abcdefghijklmnopqrstuvwxyz-0123456789-abcdefghij"};
    static const char *const bad[] = {"", "-", "-a", "a-", "a--b", "1", "1a", "A", "aB", "a_b",
        "a.b", "a b", " a", "a ", "a/b", "\xc3\xa4", "a\n", "xn--a", "a'b", "a\"b", "a;b",
        "abcdefghijklmnopqrstuvwxyz-0123456789-abcdefghijk"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(allowed(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(allowed(bad[i]));
    assert_code(bh_tenant_id_check(BH_STR("a\0b"), NULL), BH_E_INVALID);
}

static void
reserved_words_are_no_tenant_ids(void **state)
{
    (void)state;
    static const char *const words[] = {"www", "api", "admin", "app", "t", "default", "bulkhead"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        char longer[32];
        snprintf(longer, sizeof(longer), "%sx", words[i]);
        assert_false(allowed(words[i]));
        assert_true(allowed(longer));
    }
}

static void
states_are_found_by_their_names(void **state)
{
    (void)state;
    enum bh_tenant_state found;
    for (unsigned i = 0; i < BH_TENANT_STATE_COUNT; i++) {
        const char *name = bh_tenant_state_name((enum bh_tenant_state)i);
        assert_true(bh_tenant_state_find(bh_str_of(name), &found));
        assert_int_equal(found, i);
    }
    assert_string_equal(bh_tenant_state_name(BH_TENANT_OFFBOARDING), "offboarding");
    assert_false(bh_tenant_state_find(BH_STR("Active"), &found));
    assert_false(bh_tenant_state_find(BH_STR(""), &found));
}

static void
a_uid_is_read_and_written_in_canonical_form(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "01890a5dac96774bbcceb302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a805", "01890a5d-ac96-774b-bcce-b302099a80577",
        "{1890a5d-ac96-774b-bcce-b302099a805}", "01890a5d_ac96-774b-bcce-b302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a805g", "01890a5-dac96-774b-bcce-b302099a8057",
        " 1890a5d-ac96-774b-bcce-b302099a8057"};
    struct bh_uid uid;
    char text[BH_UID_TEXT];
    assert_true(bh_uid_parse(BH_STR("01890A5D-ac96-774b-bcce-b302099a8057"), &uid));
    bh_uid_format(&uid, text);
    assert_string_equal(text, "01890a5d-ac96-774b-bcce-b302099a8057");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(bh_uid_parse(bh_str_of(bad[i]), &uid));
}

static void
a_uid_holds_time_version_and_variant(void **state)
{
    (void)state;
    uint8_t random[10];
    struct bh_uid uid;
    char text[BH_UID_TEXT];
    memset(random, 0xff, sizeof(random));
    bh_uid_make(INT64_C(0x017F22E279B0), random, &uid); /* the time of RFC 9562, A.6 */
    bh_uid_format(&uid, text);
    assert_string_equal(text, "017f22e2-79b0-7fff-bfff-ffffffffffff");
    memset(random, 0, sizeof(random));
    bh_uid_make(0, random, &uid);
    bh_uid_format(&uid, text);
    assert_string_equal(text, "00000000-0000-7000-8000-000000000000");
}

static void
a_ulid_is_crockford_base_32_and_sorts_by_time(void **state)
{
    (void)state;
    uint8_t random[10];
    char text[BH_ULID_TEXT], later[BH_ULID_TEXT];
    memset(random, 0xff, sizeof(random));
    bh_ulid_make((INT64_C(1) << 48) - 1, random, text);
    assert_string_equal(text, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    bh_ulid_make(INT64_C(1469918176385), random, text); /* the example of the ULID specification */
    assert_memory_equal(text, "01ARYZ6S41", 10);
    memset(random, 0, sizeof(random));
    bh_ulid_make(0, random, text);
    assert_string_equal(text, "00000000000000000000000000");
    bh_ulid_make(1, random, later);
    assert_true(strcmp(text, later) < 0);
}

static void
names_inside_postgresql_are_made_of_the_number(void **state)
{
    (void)state;
    char name[BH_PGNAME];
    bh_tenant_owner_role(42, name);
    assert_string_equal(name, "bh_o42");
    bh_tenant_user_role(1, name);
    assert_string_equal(name, "bh_t1");
    bh_tenant_schema(INT32_MAX, name);
    assert_string_equal(name, "t2147483647");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tenant_id_is_a_short_dns_label_that_begins_with_a_letter),
        cmocka_unit_test(reserved_words_are_no_tenant_ids),
        cmocka_unit_test(states_are_found_by_their_names),
        cmocka_unit_test(a_uid_is_read_and_written_in_canonical_form),
        cmocka_unit_test(a_uid_holds_time_version_and_variant),
        cmocka_unit_test(a_ulid_is_crockford_base_32_and_sorts_by_time),
        cmocka_unit_test(names_inside_postgresql_are_made_of_the_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
