#include "tests/unit/core/test.h"

#include <stdio.h>

#include "core/json.h"

static enum bh_code
parse(struct bh_chunks *chunks, struct bh_str text, struct bh_json **ret_value)
{
    struct bh_error err;
    char *copy = exact_copy(text.data, text.len);
    bh_chunks_init(chunks);
    enum bh_code code = bh_json_parse(
        (struct bh_str){copy, text.len}, BH_JSON_DEPTH, &chunks->arena, ret_value, &err);
    free(copy); /* the tree must not need it */
    return code;
}

static bool
accepts(struct bh_str text)
{
    struct bh_chunks chunks;
    struct bh_json *value = NULL;
    enum bh_code code = parse(&chunks, text, &value);
    bh_chunks_fini(&chunks);
    if (code != BH_OK)
        assert_code(code, BH_E_BAD_REQUEST);
    return code == BH_OK;
}

static void
a_tree_has_its_members_in_order(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_json *root;
    int64_t number;
    struct bh_str text =
        BH_STR(" {\"b\":[1,true,false,null],\"a\":\"x\",\n\"c\":{\"d\":-0.5e+3}}\t\r\n");
    assert_code(parse(&chunks, text, &root), BH_OK);
    assert_int_equal(root->kind, BH_JSON_OBJECT);
    const struct bh_json *b = root->first;
    assert_str(b->name, "b");
    assert_int_equal(b->kind, BH_JSON_ARRAY);
    assert_true(bh_json_int(b->first, &number));
    assert_int_equal(number, 1);
    assert_int_equal(b->first->next->kind, BH_JSON_TRUE);
    assert_int_equal(b->first->next->next->kind, BH_JSON_FALSE);
    assert_int_equal(b->first->next->next->next->kind, BH_JSON_NULL);
    assert_null(b->first->next->next->next->next);
    assert_str(b->next->name, "a");
    assert_str(b->next->text, "x");
    const struct bh_json *d = bh_json_get(bh_json_get(root, "c"), "d");
    assert_int_equal(d->kind, BH_JSON_NUMBER);
    assert_str(d->text, "-0.5e+3");
    assert_null(b->next->next->next);
    bh_chunks_fini(&chunks);
}

static void
a_member_is_found_by_its_name_only(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_json *root;
    assert_code(parse(&chunks, BH_STR("{\"ab\":1,\"\\u0061\":2,\"\":3}"), &root), BH_OK);
    assert_str(bh_json_get(root, "ab")->text, "1");
    assert_str(bh_json_get(root, "a")->text, "2");
    assert_str(bh_json_get(root, "")->text, "3");
    assert_null(bh_json_get(root, "b"));
    assert_null(bh_json_get(NULL, "a"));
    assert_null(bh_json_get(root->first, "a"));
    bh_chunks_fini(&chunks);
}

static void
escapes_are_resolved(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_json *root;
    struct bh_str text =
        BH_STR("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\u20AC\\ud83d\\ude00\\u0001\"");
    assert_code(parse(&chunks, text, &root), BH_OK);
    assert_str(root->text, "\"\\/\b\f\n\r\tA\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\x01");
    bh_chunks_fini(&chunks);
}

static void
what_json_allows_is_accepted(void **state)
{
    (void)state;
    static const char *const good[] = {"0", "-0", "1.0", "1e5", "1E-5", "0.1e+2", "\"\"", "[]",
        "{}", "[ ]", "{ }", "true", "null", "false", " 1 ", "[1 , 2]", "{\"a\" : 1 , \"b\" : 2}",
        "[[[[]]]]", "\"\x7f\"", "\"\xf4\x8f\xbf\xbf\"", "123456789012345678901234567890",
        "{\"a\":1,\"A\":2,\"aa\":3}", "[1,1]", "[{\"a\":1},{\"a\":1}]", "\"\xef\xbb\xbf\""};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!accepts(bh_str_of(good[i])))
            fail_msg("%s was refused", good[i]);
    }
}

static void
what_json_does_not_know_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", " ", "nul", "nulll", "True", "tru", "truefalse", "NaN",
        "Infinity", "-Infinity", "+1", "-", "--1", "01", "-01", "00", "1.", ".5", "1.e1", "1e",
        "1e+", "0x10", "1_000", "1 2", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1,,2]", "[1 2]",
        "{", "}", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}", "{\"a\"}",
        "{\"a\",1}", "{a:1}", "{'a':1}", "{1:1}", "{\"a\":1 \"b\":2}", "{\"a\"::1}", "[}", "{]",
        "\"", "\"a", "'a'", "\"\\\"", "\"\\x41\"", "\"\\u\"", "\"\\u00\"", "\"\\u004g\"",
        "\"\\U0041\"", "\"a\nb\"", "\"a\tb\"", "\"\x01\"", "\"\x1f\"", "{}x", "{} {}", "[]]",
        "\xef\xbb\xbf{}", "/**/1", "1//", "# 1", "[1]\v", "\f1", "\xc2\xa0[1]", "{\"a\":undefined}",
        "\\u0031"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (accepts(bh_str_of(bad[i])))
            fail_msg("%s was accepted", bad[i]);
    }
}

static void
nul_surrogates_and_broken_utf8_are_refused(void **state)
{
    (void)state;
    static const struct bh_str bad[] = {{"\"\0\"", 3}, {"1\0", 2}, {"\0", 1}, {"[\0]", 3},
        {"{}\0", 3}, {"\"\\\0\"", 4}, {"\"\\u0000\"", 8}, {"{\"\\u0000\":1}", 12},
        {"\"\\ud800\"", 8}, {"\"\\udc00\"", 8}, {"\"\\ud800\\ud800\"", 14},
        {"\"\\ud83d\\u0041\"", 14}, {"\"\\udc00\\ud800\"", 14}, {"\"\\ud800x\"", 9},
        {"\"\\ud800\\n\"", 10}, {"\"\xff\"", 3}, {"\"\xc3\"", 3}, {"\"\xc0\x80\"", 4},
        {"\"\xe0\x80\x80\"", 5}, {"\"\xed\xa0\x80\"", 5}, {"\"\xf4\x90\x80\x80\"", 6},
        {"\"\xf8\x88\x80\x80\x80\"", 7}, {"\x80", 1}, {"\"\xe2\x82", 3}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (accepts(bad[i]))
            fail_msg("text %zu was accepted", i);
    }
    assert_true(accepts(BH_STR("\"\\ud83d\\ude00\"")));
}

static void
duplicate_members_are_refused_also_when_escaped(void **state)
{
    (void)state;
    assert_false(accepts(BH_STR("{\"a\":1,\"a\":1}")));
    assert_false(accepts(BH_STR("{\"a\":1,\"b\":2,\"a\":3}")));
    assert_false(accepts(BH_STR("{\"a\":1,\"\\u0061\":1}")));
    assert_false(accepts(BH_STR("{\"\":1,\"\":1}")));
    assert_false(accepts(BH_STR("{\"x\":{\"\xc3\xa4\":1,\"\\u00e4\":1}}")));
    assert_false(accepts(BH_STR("[{\"/\":1,\"\\/\":2}]")));
    assert_true(accepts(BH_STR("{\"a\":{\"a\":{\"a\":1}}}")));
}

/* One duplicate among many, wherever it stands; and none. */
static void
a_duplicate_among_many_members_is_found(void **state)
{
    (void)state;
    uint64_t seed = 3;
    char text[4096];
    for (int run = 0; run < 200; run++) {
        int count = 2 + (int)(next_random(&seed) % 60), len = 0;
        int copy = (int)(next_random(&seed) % (unsigned)count),
            of = run % 2 ? copy : (copy + 1) % count;
        unsigned salt = (unsigned)(next_random(&seed) % 9973);
        len += snprintf(text, sizeof(text), "{");
        for (int i = 0; i < count; i++) {
            unsigned name = (unsigned)(i == copy ? of : i);
            len += snprintf(text + len, sizeof(text) - (size_t)len, "%s\"%u\":%d", i ? "," : "",
                (name + 1) * 7919 % 9973 + salt, i);
        }
        snprintf(text + len, sizeof(text) - (size_t)len, "}");
        assert_int_equal(accepts(bh_str_of(text)), run % 2);
    }
}

static void
levels_are_counted_from_the_outermost_value(void **state)
{
    (void)state;
    char text[64];
    for (size_t levels = 1; levels < 20; levels++) {
        memset(text, '[', levels);
        memset(text + levels, ']', levels);
        assert_int_equal(accepts((struct bh_str){text, 2 * levels}), levels <= BH_JSON_DEPTH);
    }
    assert_true(accepts(BH_STR("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]")));
    assert_true(accepts(BH_STR("[[[[]],[[]]],[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]")));
    assert_false(accepts(BH_STR(
        "{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{}]}]}]}]}]}]}]}]}")));
}

static void
ten_thousand_levels_and_a_hundred_thousand_members_are_survived(void **state)
{
    (void)state;
    size_t size = 1 << 21, len = 1;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, '[', 10000);
    memset(text + 10000, ']', 10000);
    assert_false(accepts((struct bh_str){text, 20000}));
    text[0] = '{';
    for (int i = 0; i < 100000; i++)
        len += (size_t)snprintf(text + len, size - len, "%s\"%06d\":1", i ? "," : "", i);
    text[len++] = '}';
    assert_true(accepts((struct bh_str){text, len}));
    free(text);
}

static void
every_truncation_of_a_document_is_refused(void **state)
{
    (void)state;
    struct bh_str text =
        BH_STR("{\"a\":[1,-2.5e3,\"x\\u00e4\\n\xc3\xa4\"],\"b\":{\"c\":null,\"d\":true}}");
    assert_true(accepts(text));
    for (size_t len = 0; len < text.len; len++)
        assert_false(accepts((struct bh_str){text.data, len}));
}

static void
integers_are_read_only_where_they_are_written_as_such(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is;
        int64_t number;
    } rows[] = {{"0", true, 0}, {"-0", true, 0}, {"42", true, 42}, {"-1", true, -1},
        {"9223372036854775807", true, INT64_MAX}, {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0}, {"-9223372036854775809", false, 0},
        {"18446744073709551616", false, 0}, {"1.0", false, 0}, {"1e2", false, 0},
        {"\"1\"", false, 0}, {"true", false, 0}, {"null", false, 0}, {"[1]", false, 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bh_chunks chunks;
        struct bh_json *value;
        int64_t number = 0;
        assert_code(parse(&chunks, bh_str_of(rows[i].text), &value), BH_OK);
        assert_int_equal(bh_json_int(value, &number), rows[i].is);
        assert_true(number == rows[i].number);
        bh_chunks_fini(&chunks);
    }
    int64_t number;
    assert_false(bh_json_int(NULL, &number));
}

/* A host that has memory for the first ${left} blocks only. */
struct scarce {
    struct bh_arena arena;
    struct bh_chunks chunks;
    int left;
};

static void *
scarce_alloc(void *host, size_t size)
{
    struct scarce *scarce = host;
    return scarce->left-- > 0 ? bh_arena_alloc(&scarce->chunks.arena, size) : NULL;
}

static void
a_lack_of_memory_is_told_wherever_it_comes(void **state)
{
    (void)state;
    struct scarce scarce = {.arena = {scarce_alloc, &scarce}};
    struct bh_str text = BH_STR("{\"a\":[1,2],\"b\":\"x\",\"c\":{\"d\":1,\"e\":2}}");
    struct bh_json *value;
    int blocks = 0;
    enum bh_code code;
    do {
        bh_chunks_init(&scarce.chunks);
        scarce.left = blocks;
        code = bh_json_parse(text, BH_JSON_DEPTH, &scarce.arena, &value, NULL);
        if (code != BH_OK)
            assert_code(code, BH_E_NO_MEMORY);
        bh_chunks_fini(&scarce.chunks);
    } while (code != BH_OK && ++blocks < 100);
    assert_in_range(blocks, 10, 20);
}

static void
an_error_says_where_and_what_was_expected(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_error err;
    struct bh_json *value;
    bh_chunks_init(&chunks);
    assert_code(
        bh_json_parse(BH_STR("{\"a\":1,}"), 16, &chunks.arena, &value, &err), BH_E_BAD_REQUEST);
    assert_string_equal(err.detail, "JSON, byte 7: expected a member's name");
    bh_chunks_fini(&chunks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_has_its_members_in_order),
        cmocka_unit_test(a_member_is_found_by_its_name_only),
        cmocka_unit_test(escapes_are_resolved),
        cmocka_unit_test(what_json_allows_is_accepted),
        cmocka_unit_test(what_json_does_not_know_is_refused),
        cmocka_unit_test(nul_surrogates_and_broken_utf8_are_refused),
        cmocka_unit_test(duplicate_members_are_refused_also_when_escaped),
        cmocka_unit_test(a_duplicate_among_many_members_is_found),
        cmocka_unit_test(levels_are_counted_from_the_outermost_value),
        cmocka_unit_test(ten_thousand_levels_and_a_hundred_thousand_members_are_survived),
        cmocka_unit_test(every_truncation_of_a_document_is_refused),
        cmocka_unit_test(integers_are_read_only_where_they_are_written_as_such),
        cmocka_unit_test(a_lack_of_memory_is_told_wherever_it_comes),
        cmocka_unit_test(an_error_says_where_and_what_was_expected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
