/* API keys: their form, how they are made, what names their documents, what those say. */
#include "core/apikey.h"

#include "tests/unit/core/test.h"

#include <stdio.h>

#define SECRET32 "0123456789abcdefghijABCDEFGHIJ01"

static void
form(void **state)
{
    (void)state;
    assert_true(bh_apikey_valid(BH_STR("bhk_abcdefgh_" SECRET32)));
    assert_true(bh_apikey_valid(BH_STR("bhk_abcdefgh12_" SECRET32 "xyz")));
    assert_str(bh_apikey_prefix(BH_STR("bhk_abcdefgh_" SECRET32)), "bhk_abcdefgh");
    static const char *const bad[] = {"", "bhk_", "bhk_abcdefgh", "bhk_abcdefgh_",
        "bhk_abcdefg_" SECRET32, "bhk_abcdefgh_0123456789abcdefghijABCDEFGHIJ0",
        "BHK_abcdefgh_" SECRET32, "bhk_abcdefgh_" SECRET32 "_x", "bhk_abcdefgh_" SECRET32 " ",
        "bhk_abcd-fgh_" SECRET32, "bhk_abcdefgh_" SECRET32 "\xc3\xa4",
        "bhk_abcdefgh_" SECRET32 SECRET32 SECRET32 "1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (bh_apikey_valid(bh_str_of(bad[i])))
            fail_msg("accepted %s", bad[i]);
}

static void
made(void **state)
{
    (void)state;
    uint8_t random[128];
    char key[BH_APIKEY_MADE], again[BH_APIKEY_MADE];
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof(random); i++)
        random[i] = (uint8_t)(next_random(&seed) >> 56);
    assert_code(bh_apikey_make(random, sizeof(random), key), BH_OK);
    assert_int_equal(strlen(key), BH_APIKEY_MADE - 1);
    assert_true(bh_apikey_valid(bh_str_of(key)));
    assert_code(bh_apikey_make(random + 1, sizeof(random) - 1, again), BH_OK);
    assert_string_not_equal(key, again);
    assert_code(bh_apikey_make(random, 40, key), BH_E_INVALID);
    memset(random, 255, sizeof(random)); /* none of them may be used */
    assert_code(bh_apikey_make(random, sizeof(random), key), BH_E_INVALID);
}

static void
documents(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_apikey key;
    struct bh_error err = {.code = BH_OK};
    bh_chunks_init(&chunks);
    assert_code(
        bh_apikey_parse(BH_STR("{\"no\":7,\"sub\":\"ci\"}"), &chunks.arena, &key, &err), BH_OK);
    assert_int_equal(key.no, 7);
    assert_str(key.sub, "ci");
    assert_int_equal(key.scope.len + key.roles.count, 0);
    assert_int_equal(key.not_after_s, 0);
    assert_int_equal(key.epoch, -1);
    assert_code(
        bh_apikey_parse(BH_STR("{\"no\":7,\"sub\":\"ci\",\"scope\":\"a b\",\"roles\":[\"x\",\"y\"],"
                               "\"not_after\":1790000000,\"epoch\":3}"),
            &chunks.arena, &key, &err),
        BH_OK);
    assert_str(key.scope, "a b");
    assert_int_equal(key.roles.count, 2);
    assert_int_equal(key.not_after_s, 1790000000);
    assert_int_equal(key.epoch, 3);
    static const char *const bad[] = {"{}", "[]", "{\"no\":7}", "{\"sub\":\"ci\"}",
        "{\"no\":0,\"sub\":\"ci\"}", "{\"no\":2147483648,\"sub\":\"ci\"}",
        "{\"no\":7,\"sub\":\"c i\"}", "{\"no\":7,\"sub\":\"\"}",
        "{\"no\":7,\"sub\":\"ci\",\"scope\":\"a  b\"}", "{\"no\":7,\"sub\":\"ci\",\"roles\":\"x\"}",
        "{\"no\":7,\"sub\":\"ci\",\"epoch\":-1}", "{\"no\":7,\"sub\":\"ci\",\"admin\":true}",
        "{\"no\":7,\"no\":8,\"sub\":\"ci\"}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (bh_apikey_parse(bh_str_of(bad[i]), &chunks.arena, &key, &err) == BH_OK)
            fail_msg("accepted %s", bad[i]);
    bh_chunks_fini(&chunks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(form), cmocka_unit_test(made), cmocka_unit_test(documents)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
