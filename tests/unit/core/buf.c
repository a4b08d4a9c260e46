#include "tests/unit/core/test.h"

#include <stdio.h>

#include "core/buf.h"
#include "core/codec.h"

static void
text_is_appended_and_terminated(void **state)
{
    (void)state;
    char room[64];
    struct bh_buf buf;
    bh_buf_init(&buf, room, sizeof(room));
    assert_string_equal(buf.data, "");
    bh_buf_puts(&buf, "ab");
    bh_buf_putc(&buf, 'c');
    bh_buf_str_add(&buf, BH_STR("de"));
    bh_buf_printf(&buf, "-%d-%s", 7, "x");
    bh_buf_add(&buf, NULL, 0);
    assert_true(bh_buf_ok(&buf));
    assert_string_equal(buf.data, "abcde-7-x");
    assert_str(bh_buf_str(&buf), "abcde-7-x");
}

static void
a_text_that_fills_the_storage_fits_and_one_byte_more_does_not(void **state)
{
    (void)state;
    char room[5];
    struct bh_buf buf;
    bh_buf_init(&buf, room, sizeof(room));
    bh_buf_puts(&buf, "abcd");
    assert_true(bh_buf_ok(&buf));
    assert_string_equal(room, "abcd");
    bh_buf_putc(&buf, 'e');
    assert_false(bh_buf_ok(&buf));
    assert_string_equal(room, "abcd");
}

static void
after_a_failure_nothing_is_appended_until_reset(void **state)
{
    (void)state;
    char room[5];
    struct bh_buf buf;
    bh_buf_init(&buf, room, sizeof(room));
    bh_buf_puts(&buf, "ab");
    bh_buf_puts(&buf, "too long");
    bh_buf_putc(&buf, 'c');
    bh_buf_printf(&buf, "d");
    bh_buf_int(&buf, 1);
    assert_false(bh_buf_ok(&buf));
    assert_string_equal(room, "ab");
    bh_buf_reset(&buf);
    assert_true(bh_buf_ok(&buf));
    bh_buf_puts(&buf, "xyz");
    assert_string_equal(room, "xyz");
}

static void
a_buffer_grows_in_its_arena_up_to_its_limit(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_buf buf;
    bh_chunks_init(&chunks);
    bh_buf_init_arena(&buf, &chunks.arena, 1001);
    assert_str(bh_buf_str(&buf), "");
    assert_string_equal(buf.data, "");
    bh_buf_reset(&buf);
    for (int i = 0; i < 1000; i++)
        bh_buf_putc(&buf, (char)('a' + i % 26));
    assert_true(bh_buf_ok(&buf));
    assert_int_equal(buf.len, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buf.data[i], 'a' + i % 26);
    bh_buf_putc(&buf, 'x');
    assert_false(bh_buf_ok(&buf));
    assert_int_equal(strlen(buf.data), 1000);
    bh_chunks_fini(&chunks);
}

static void
a_limit_of_zero_or_a_huge_length_fails(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_buf buf;
    bh_chunks_init(&chunks);
    bh_buf_init_arena(&buf, &chunks.arena, 0);
    bh_buf_puts(&buf, "");
    assert_false(bh_buf_ok(&buf));
    bh_buf_init_arena(&buf, &chunks.arena, 100);
    bh_buf_puts(&buf, "abc");
    bh_buf_add(&buf, "x", SIZE_MAX);
    assert_false(bh_buf_ok(&buf));
    assert_string_equal(buf.data, "abc");
    bh_buf_reset(&buf);
    bh_buf_hex(&buf, (const uint8_t *)"x", SIZE_MAX / 2 + 1);
    assert_false(bh_buf_ok(&buf));
    bh_buf_reset(&buf);
    bh_buf_base64url(&buf, (const uint8_t *)"x", SIZE_MAX);
    assert_false(bh_buf_ok(&buf));
    bh_chunks_fini(&chunks);
}

static void
integers_are_written_like_printf_writes_them(void **state)
{
    (void)state;
    static const int64_t numbers[] = {0, 1, -1, 9, 10, 99, 100, INT32_MAX, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        char room[32], wanted[32];
        struct bh_buf buf;
        bh_buf_init(&buf, room, sizeof(room));
        bh_buf_int(&buf, numbers[i]);
        snprintf(wanted, sizeof(wanted), "%lld", (long long)numbers[i]);
        assert_string_equal(room, wanted);
    }
}

static void
bytes_become_hex_and_base64url(void **state)
{
    (void)state;
    /* RFC 4648 section 10, without padding, and the two digits that differ from base64. */
    static const struct {
        const char *data, *text;
    } rows[] = {{"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"foob", "Zm9vYg"},
        {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xbf", "-_-_"}};
    char room[64];
    struct bh_buf buf;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bh_buf_init(&buf, room, sizeof(room));
        bh_buf_base64url(&buf, (const uint8_t *)rows[i].data, strlen(rows[i].data));
        assert_string_equal(room, rows[i].text);
    }
    bh_buf_init(&buf, room, sizeof(room));
    bh_buf_hex(&buf, (const uint8_t *)"\x00\x09\xaf\xff", 4);
    assert_string_equal(room, "0009afff");
}

static void
json_strings_are_escaped(void **state)
{
    (void)state;
    static const struct {
        struct bh_str text;
        const char *json;
    } rows[] = {
        {{"", 0}, "\"\""},
        {{"plain", 5}, "\"plain\""},
        {{"a\"b\\c/", 6}, "\"a\\\"b\\\\c/\""},
        {{"\b\f\n\r\t", 5}, "\"\\b\\f\\n\\r\\t\""},
        {{"\0\x1f\x7f", 3}, "\"\\u0000\\u001f\x7f\""},
        {{"\xc3\xa4\xf0\x9f\x98\x80", 6}, "\"\xc3\xa4\xf0\x9f\x98\x80\""},
        {{"a\xff\xfe"
          "b",
             4},
            "\"a\xef\xbf\xbd\xef\xbf\xbd"
            "b\""},
        {{"\xed\xa0\x80", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xc3", 1}, "\"\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char room[128];
        struct bh_buf buf;
        bh_buf_init(&buf, room, sizeof(room));
        bh_buf_json(&buf, rows[i].text);
        assert_true(bh_buf_ok(&buf));
        assert_string_equal(room, rows[i].json);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_appended_and_terminated),
        cmocka_unit_test(a_text_that_fills_the_storage_fits_and_one_byte_more_does_not),
        cmocka_unit_test(after_a_failure_nothing_is_appended_until_reset),
        cmocka_unit_test(a_buffer_grows_in_its_arena_up_to_its_limit),
        cmocka_unit_test(a_limit_of_zero_or_a_huge_length_fails),
        cmocka_unit_test(integers_are_written_like_printf_writes_them),
        cmocka_unit_test(bytes_become_hex_and_base64url),
        cmocka_unit_test(json_strings_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
