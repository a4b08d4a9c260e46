#include "tests/unit/core/test.h"

#include "core/str.h"

static void
texts_are_equal_where_every_byte_is(void **state)
{
    (void)state;
    assert_true(bh_str_eq(BH_STR("ab"), BH_STR("ab")));
    assert_false(bh_str_eq(BH_STR("ab"), BH_STR("aB")));
    assert_false(bh_str_eq(BH_STR("ab"), BH_STR("abc")));
    assert_true(bh_str_eq((struct bh_str){NULL, 0}, BH_STR("")));
    assert_false(bh_str_is(BH_STR("a\0b"), "a"));
    assert_true(bh_str_is(bh_str_of(NULL), ""));
    assert_true(bh_str_starts(BH_STR("abc"), "ab"));
    assert_true(bh_str_starts(BH_STR("abc"), ""));
    assert_false(bh_str_starts(BH_STR("ab"), "abc"));
}

static void
a_text_is_cut_at_the_first_separator(void **state)
{
    (void)state;
    struct bh_str head = BH_STR("h"), tail = BH_STR("t");
    assert_false(bh_str_cut(BH_STR("abc"), '.', &head, &tail));
    assert_false(bh_str_cut((struct bh_str){NULL, 0}, '.', &head, &tail));
    assert_str(head, "h");
    assert_str(tail, "t");
    assert_true(bh_str_cut(BH_STR("a.b.c"), '.', &head, &tail));
    assert_str(head, "a");
    assert_str(tail, "b.c");
    assert_true(bh_str_cut(tail, '.', &head, &tail));
    assert_str(head, "b");
    assert_str(tail, "c");
    assert_true(bh_str_cut(BH_STR("."), '.', &head, &tail));
    assert_str(head, "");
    assert_str(tail, "");
}

static void
unsigned_numbers_are_plain_digits_up_to_a_maximum(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "01", "00", "1.0", "1e3", "0x1",
        "18446744073709551616", "99999999999999999999999", "1a", "\xd9\xa1"};
    uint64_t value = 7;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(bh_str_uint(bh_str_of(bad[i]), UINT64_MAX, &value));
    assert_false(bh_str_uint(BH_STR("256"), 255, &value));
    assert_false(bh_str_uint(BH_STR("1\0"), 255, &value));
    assert_true(value == 7);
    assert_true(bh_str_uint(BH_STR("255"), 255, &value));
    assert_true(value == 255);
    assert_true(bh_str_uint(BH_STR("0"), 255, &value));
    assert_true(value == 0);
    assert_true(bh_str_uint(BH_STR("18446744073709551615"), UINT64_MAX, &value));
    assert_true(value == UINT64_MAX);
}

/* What RFC 3629 says of a code point, encoded with ${len} bytes whether that is right or not. */
static size_t
encode(uint32_t c, size_t len, char *out)
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[len] | c);
    return len;
}

static void
every_code_point_is_well_formed_in_its_shortest_form_only(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x200000; c++) {
        char bytes[4];
        size_t shortest = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        bool scalar = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
        for (size_t len = shortest; len <= 4; len++) {
            encode(c, len, bytes);
            if (bh_utf8_valid((struct bh_str){bytes, len}) != (scalar && len == shortest))
                fail_msg("U+%04X in %zu bytes", c, len);
        }
    }
}

static void
the_well_formed_prefix_ends_before_a_broken_sequence(void **state)
{
    (void)state;
    assert_int_equal(bh_utf8_prefix(BH_STR("")), 0);
    assert_int_equal(bh_utf8_prefix(BH_STR("ab\xff")), 2);
    assert_int_equal(bh_utf8_prefix(BH_STR("\xc3\xa4\xc3")), 2);
    assert_int_equal(bh_utf8_prefix(BH_STR("\x80")), 0);
    assert_int_equal(bh_utf8_prefix(BH_STR("a\xe2\x82")), 1);
    assert_int_equal(bh_utf8_prefix(BH_STR("a\xe2\x82\xac")), 4);
}

static void
the_distance_counts_edits_and_swaps(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        size_t distance;
    } rows[] = {{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1},
        {"abc", "acb", 1}, {"limits", "limtis", 1}, {"limits", "limit", 1},
        {"kitten", "sitting", 3}, {"ca", "abc", 2}, {"burst", "brust", 1}, {"abcd", "dcba", 3},
        {"a", "b", 1}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(bh_distance(rows[i].a, rows[i].b), rows[i].distance);
        assert_int_equal(bh_distance(rows[i].b, rows[i].a), rows[i].distance);
    }
    char longest[65];
    memset(longest, 'x', sizeof(longest));
    longest[63] = '\0';
    assert_int_equal(bh_distance(longest, ""), 63);
    assert_int_equal(bh_distance(longest, longest), 0);
    longest[63] = 'x';
    longest[64] = '\0';
    assert_int_equal(bh_distance(longest, longest), 64);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_equal_where_every_byte_is),
        cmocka_unit_test(a_text_is_cut_at_the_first_separator),
        cmocka_unit_test(unsigned_numbers_are_plain_digits_up_to_a_maximum),
        cmocka_unit_test(every_code_point_is_well_formed_in_its_shortest_form_only),
        cmocka_unit_test(the_well_formed_prefix_ends_before_a_broken_sequence),
        cmocka_unit_test(the_distance_counts_edits_and_swaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
