/* A stream in pieces of every size gives the same lines; no line grows over the limit. */
#include "tests/unit/core/test.h"

#include "agent/lines.h"

struct seen {
    size_t count;
    size_t lengths[16];
    char text[64];
};

static enum bh_code
see(void *arg, struct bh_str line, struct bh_error *err)
{
    struct seen *seen = arg;
    if (line.len == 4 && memcmp(line.data, "stop", 4) == 0)
        return bh_fail(err, BH_E_INVALID, "told to stop");
    seen->lengths[seen->count++] = line.len;
    size_t at = strlen(seen->text);
    if (at + line.len + 2 < sizeof(seen->text)) {
        memcpy(seen->text + at, line.data, line.len);
        memcpy(seen->text + at + line.len, ";", 2);
    }
    return BH_OK;
}

static struct bh_lines *
fresh(void)
{
    struct bh_lines *lines = malloc(sizeof(*lines));
    assert_non_null(lines);
    lines->len = 0;
    return lines;
}

static void
cuts_at_any_place(void **state)
{
    (void)state;
    static const char stream[] = "one\n\ntwo words\nthree\nrest";
    for (size_t piece = 1; piece < sizeof(stream); piece++) {
        struct bh_lines *lines = fresh();
        struct seen seen = {0};
        struct bh_error err;
        size_t len = sizeof(stream) - 1;
        for (size_t at = 0; at < len; at += piece) {
            size_t part = len - at < piece ? len - at : piece;
            char *copy = exact_copy(stream + at, part);
            assert_code(bh_lines_feed(lines, copy, part, see, &seen, &err), BH_OK);
            free(copy);
        }
        assert_string_equal(seen.text, "one;;two words;three;");
        assert_int_equal(lines->len, 4);
        free(lines);
    }
}

static void
refuses_a_long_line(void **state)
{
    (void)state;
    char *data = malloc(BH_LINE_MAX + 2);
    assert_non_null(data);
    memset(data, 'x', BH_LINE_MAX + 1);
    struct bh_error err;
    struct seen seen = {0};
    struct bh_lines *lines = fresh();
    data[BH_LINE_MAX] = '\n';
    assert_code(bh_lines_feed(lines, data, BH_LINE_MAX + 1, see, &seen, &err), BH_OK);
    assert_int_equal(seen.lengths[0], BH_LINE_MAX); /* the longest that fits does */
    data[BH_LINE_MAX] = 'x';
    data[BH_LINE_MAX + 1] = '\n';
    assert_code(bh_lines_feed(lines, data, BH_LINE_MAX + 2, see, &seen, &err), BH_E_TOO_LARGE);
    lines->len = 0;
    assert_code(bh_lines_feed(lines, data, 1, see, &seen, &err), BH_OK);
    assert_code(bh_lines_feed(lines, data, BH_LINE_MAX, see, &seen, &err), BH_E_TOO_LARGE);
    assert_int_equal(seen.count, 1);
    free(lines);
    free(data);
}

static void
stops_where_told(void **state)
{
    (void)state;
    struct bh_lines *lines = fresh();
    struct seen seen = {0};
    struct bh_error err;
    static const char stream[] = "a\nstop\nb\n";
    assert_code(bh_lines_feed(lines, stream, sizeof(stream) - 1, see, &seen, &err), BH_E_INVALID);
    assert_string_equal(seen.text, "a;");
    free(lines);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_at_any_place),
        cmocka_unit_test(refuses_a_long_line),
        cmocka_unit_test(stops_where_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
