#include "tests/unit/core/test.h"

#include <stdio.h>

#include "core/codec.h"
#include "core/key.h"

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F"

static void
the_mac_is_hmac_sha256_and_runs_again_and_again(void **state)
{
    (void)state;
    /* RFC 4231, case 1: a key of 20 bytes is the same as one that zeros fill up to 32. */
    struct bh_key key = {{0}};
    uint8_t wanted[32], got[32];
    struct bh_mac *mac;
    memset(key.bytes, 0x0b, 20);
    assert_true(bh_hex_decode(
        BH_STR("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"), wanted, 32));
    assert_code(bh_mac_new(&key, &mac, NULL), BH_OK);
    for (int i = 0; i < 3; i++) {
        assert_code(bh_mac_run(mac, BH_STR("Hi There"), got, NULL), BH_OK);
        assert_memory_equal(got, wanted, 32);
        assert_code(bh_mac_run(mac, BH_STR("other"), got, NULL), BH_OK);
        assert_memory_not_equal(got, wanted, 32);
    }
    bh_mac_free(mac);
    bh_mac_free(NULL);
}

static void
another_key_gives_another_mac_until_the_first_is_back(void **state)
{
    (void)state;
    struct bh_key a = {{1}}, b = {{2}};
    uint8_t first[32], second[32], third[32];
    struct bh_mac *mac;
    assert_code(bh_mac_new(&a, &mac, NULL), BH_OK);
    assert_code(bh_mac_run(mac, BH_STR("x"), first, NULL), BH_OK);
    assert_code(bh_mac_rekey(mac, &b, NULL), BH_OK);
    assert_code(bh_mac_run(mac, BH_STR("x"), second, NULL), BH_OK);
    assert_code(bh_mac_rekey(mac, &a, NULL), BH_OK);
    assert_code(bh_mac_run(mac, BH_STR("x"), third, NULL), BH_OK);
    assert_memory_not_equal(first, second, 32);
    assert_memory_equal(first, third, 32);
    bh_mac_free(mac);
}

static void
every_input_of_a_derivation_changes_the_key(void **state)
{
    (void)state;
    struct bh_key master = {{1}}, other = {{2}}, keys[6];
    struct bh_uid install = {{1}}, server = {{2}};
    assert_code(bh_key_server(&master, &install, &server, 1, &keys[0], NULL), BH_OK);
    assert_code(bh_key_server(&other, &install, &server, 1, &keys[1], NULL), BH_OK);
    assert_code(bh_key_server(&master, &server, &server, 1, &keys[2], NULL), BH_OK);
    assert_code(bh_key_server(&master, &install, &install, 1, &keys[3], NULL), BH_OK);
    assert_code(bh_key_server(&master, &install, &server, 2, &keys[4], NULL), BH_OK);
    assert_code(bh_key_cell_user(&master, &install, &server, 1, &keys[5], NULL), BH_OK);
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(keys[i].bytes, keys[j].bytes, BH_KEY_BYTES);
    }
}

static enum bh_code
parse(const char *text, struct bh_key_row rows[BH_KEY_ROWS_MAX], size_t *ret_count,
    struct bh_error *err)
{
    char *copy = exact_copy(text, strlen(text));
    enum bh_code code =
        bh_key_file_parse((struct bh_str){copy, strlen(text)}, rows, ret_count, err);
    free(copy);
    return code;
}

static void
rows_of_a_key_file_are_read(void **state)
{
    (void)state;
    struct bh_key_row rows[BH_KEY_ROWS_MAX];
    size_t count = 99;
    assert_code(parse("", rows, &count, NULL), BH_OK);
    assert_int_equal(count, 0);
    assert_code(
        parse("main.1 " HEX " 5 7\nmain.2 " HEX " 0 9223372036854775807", rows, &count, NULL),
        BH_OK);
    assert_int_equal(count, 2);
    assert_string_equal(rows[0].kid, "main.1");
    assert_int_equal(rows[0].not_before_s, 5);
    assert_int_equal(rows[0].not_after_s, 7);
    assert_string_equal(rows[1].kid, "main.2");
    assert_true(rows[1].not_after_s == INT64_MAX);
    for (int i = 0; i < 32; i++)
        assert_int_equal(rows[1].key.bytes[i], i);
    assert_code(parse("a.1 " HEX " 1 2\na.2 " HEX " 1 2\na.3 " HEX " 1 2\na.4 " HEX " 1 2\n", rows,
                    &count, NULL),
        BH_OK);
    assert_int_equal(count, 4);
}

static void
a_key_file_of_any_other_form_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"\n", " ", "main.1", "main.1 " HEX, "main.1 " HEX " 1",
        "main.1 " HEX " 1 2 3", "main.1  " HEX " 1 2", "main.1 " HEX "  1 2", " main.1 " HEX " 1 2",
        "main.1 " HEX " 1 2 ", "main.1 " HEX " 1 2\r\n", "main.1\t" HEX " 1 2",
        "main.1 " HEX "0 1 2", "main.1 00 1 2", "main.1 " HEX " -1 2", "main.1 " HEX " 01 2",
        "main.1 " HEX " 1 x", "main.1 " HEX " 2 2", "main.1 " HEX " 3 2",
        "main.1 " HEX " 1 9223372036854775808", "main " HEX " 1 2", "main. " HEX " 1 2",
        ".1 " HEX " 1 2", "main.01 " HEX " 1 2", "main.4294967296 " HEX " 1 2", "a/b.1 " HEX " 1 2",
        "main.1 " HEX " 1 2\n\n", "# comment\nmain.1 " HEX " 1 2",
        "main.1 " HEX " 1 2\nmain.1 " HEX " 3 4",
        "a.1 " HEX " 1 2\na.2 " HEX " 1 2\na.3 " HEX " 1 2\na.4 " HEX " 1 2\na.5 " HEX " 1 2\n"};
    struct bh_key_row rows[BH_KEY_ROWS_MAX];
    struct bh_error err;
    size_t count = 99;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (parse(bad[i], rows, &count, &err) != BH_E_CONFIG)
            fail_msg("%s was read", bad[i]);
        assert_int_equal(count, 99);
        assert_null(strstr(err.detail, "0102"));
        assert_non_null(strstr(err.detail, "line "));
    }
    assert_code(parse("main.1 " HEX " 1 2\nmain.2 x 1 2\n", rows, &count, &err), BH_E_CONFIG);
    assert_non_null(strstr(err.detail, "line 2:"));
}

static void
a_nul_in_a_key_file_is_refused(void **state)
{
    (void)state;
    struct bh_key_row rows[BH_KEY_ROWS_MAX];
    size_t count;
    char text[] = "main.1 " HEX " 1 2\n";
    struct bh_str whole = {text, sizeof(text) - 1};
    assert_code(bh_key_file_parse(whole, rows, &count, NULL), BH_OK);
    for (size_t i = 0; i < whole.len; i++) {
        char kept = text[i];
        text[i] = '\0';
        assert_code(bh_key_file_parse(whole, rows, &count, NULL), BH_E_CONFIG);
        text[i] = kept;
    }
}

static void
a_kid_is_a_server_and_an_epoch(void **state)
{
    (void)state;
    static const char *const good[] = {"main.1", "a.b.1", "m.0", "m.4294967295", "MAIN_2-x.7"};
    static const char *const bad[] = {"", ".", "main", "main.", ".1", "main.01", "main.-1", "a b.1",
        "a/b.1", "\"a.1", "main.4294967296", "../../dev/null", "main.1 "};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(bh_kid_valid(bh_str_of(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(bh_kid_valid(bh_str_of(bad[i])));
    char longest[BH_KID_MAX + 1];
    memset(longest, 'm', sizeof(longest));
    memcpy(longest + 61, ".1", 3);
    assert_true(bh_kid_valid((struct bh_str){longest, 63}));
    memcpy(longest + 61, "m.1", 4);
    assert_false(bh_kid_valid((struct bh_str){longest, 64}));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mac_is_hmac_sha256_and_runs_again_and_again),
        cmocka_unit_test(another_key_gives_another_mac_until_the_first_is_back),
        cmocka_unit_test(every_input_of_a_derivation_changes_the_key),
        cmocka_unit_test(rows_of_a_key_file_are_read),
        cmocka_unit_test(a_key_file_of_any_other_form_is_refused),
        cmocka_unit_test(a_nul_in_a_key_file_is_refused),
        cmocka_unit_test(a_kid_is_a_server_and_an_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
