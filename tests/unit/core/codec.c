#include "tests/unit/core/test.h"

#include "core/buf.h"
#include "core/codec.h"

static bool
decodes(const char *text, size_t size)
{
    uint8_t out[64];
    size_t len = 0;
    char *copy = exact_copy(text, strlen(text));
    bool ok = bh_base64url_decode((struct bh_str){copy, strlen(text)}, out, size, &len);
    free(copy);
    return ok;
}

static void
what_was_encoded_is_decoded_to_the_same_bytes(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (size_t len = 0; len < 100; len++) {
        uint8_t data[100], back[100];
        char room[256];
        struct bh_buf buf;
        size_t back_len = 0;
        for (size_t i = 0; i < len; i++)
            data[i] = (uint8_t)next_random(&seed);
        bh_buf_init(&buf, room, sizeof(room));
        bh_buf_base64url(&buf, data, len);
        assert_true(bh_base64url_decode(bh_buf_str(&buf), back, len, &back_len));
        assert_int_equal(back_len, len);
        if (len > 0)
            assert_memory_equal(back, data, len);
    }
}

static void
base64url_that_is_not_canonical_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"A", "AAAAA", "Zg==", "Zm8=", "Zh", "Zm9", "Zm+/", "Zm/v",
        "Z g", "Zg\n", " Zg", "Zm9v\r\n", "Z\xc3\xa4", "Zm9v.", "~~~~", "Zm9vYg=", "===="};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (decodes(bad[i], 64))
            fail_msg("%s was decoded", bad[i]);
    }
    assert_true(decodes("Zg", 64));
    assert_true(decodes("Zm8", 64));
    assert_true(decodes("Zm9v", 64));
}

static void
of_every_last_digit_only_those_without_unused_bits_are_decoded(void **state)
{
    (void)state;
    int two = 0, three = 0;
    for (int c = 1; c < 256; c++) {
        char text[] = {'A', (char)c, '\0'}, more[] = {'A', 'A', (char)c, '\0'};
        two += decodes(text, 64);
        three += decodes(more, 64);
    }
    assert_int_equal(two, 4);
    assert_int_equal(three, 16);
}

static void
what_does_not_fit_is_refused(void **state)
{
    (void)state;
    assert_true(decodes("Zm9vYmFy", 6));
    assert_false(decodes("Zm9vYmFy", 5));
    assert_false(decodes("Zg", 0));
    assert_true(decodes("", 0));
}

static void
hex_of_either_case_and_exact_length_is_decoded(void **state)
{
    (void)state;
    uint8_t out[4];
    assert_true(bh_hex_decode(BH_STR("00ffAbcD"), out, 4));
    assert_memory_equal(out, "\x00\xff\xab\xcd", 4);
    assert_false(bh_hex_decode(BH_STR("00ffAbc"), out, 4));
    assert_false(bh_hex_decode(BH_STR("00ffAbcD0"), out, 4));
    assert_false(bh_hex_decode(BH_STR("00ffAb"), out, 4));
    assert_false(bh_hex_decode(BH_STR("0x00ffAb"), out, 4));
    assert_false(bh_hex_decode(BH_STR("00 fAbcD"), out, 4));
    assert_false(bh_hex_decode(BH_STR("00fgAbcD"), out, 4));
    assert_true(bh_hex_decode(BH_STR(""), out, 0));
}

static void
bytes_are_compared_whole_and_wiped_whole(void **state)
{
    (void)state;
    char a[101] = "0123456789abcdef", b[101] = "0123456789abcdef";
    for (size_t len = 0; len <= sizeof(a); len++) { /* more than one of its steps, and a rest */
        assert_true(bh_equal_ct(a, b, len));
        for (size_t bit = 0; bit < sizeof(a) * 8; bit++) {
            b[bit / 8] ^= (char)(1 << bit % 8);
            assert_int_equal(bh_equal_ct(a, b, len), bit / 8 >= len);
            b[bit / 8] ^= (char)(1 << bit % 8);
        }
    }
    bh_wipe(a, 8);
    assert_memory_equal(a,
        "\0\0\0\0\0\0\0\0"
        "89abcdef",
        16);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded_is_decoded_to_the_same_bytes),
        cmocka_unit_test(base64url_that_is_not_canonical_is_refused),
        cmocka_unit_test(of_every_last_digit_only_those_without_unused_bits_are_decoded),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(hex_of_either_case_and_exact_length_is_decoded),
        cmocka_unit_test(bytes_are_compared_whole_and_wiped_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
