/* A line of the feed: what is right is read whole, what is wrong anywhere is refused whole. */
#include "tests/unit/core/test.h"

#include <stdio.h>

#include "agent/record.h"

#define UID "0193e1b2-0000-7000-8000-000000000001"
#define HEAD "{\"incarnation\":\"" UID "\",\"seq\":12,\"no\":42,\"version\":3,\"record\":"
#define RECORD                                                                                     \
    "{\"id\":\"acme\",\"uid\":\"" UID "\",\"epoch\":1,\"state\":\"active\",\"tier\":\"standard\"," \
    "\"rate\":100,\"burst\":200,\"share\":1000,\"server\":\"main\",\"database\":\"shared1\","      \
    "\"endpoints\":[\"127.0.0.1:7090\",\"[::1]:80\",\"unix:/run/x\"],\"cell\":\"main\"}"

static enum bh_code
parse(const char *text, struct bh_feed_line *ret_line, struct bh_chunks *chunks)
{
    struct bh_error err = {.code = BH_OK};
    bh_chunks_init(chunks);
    char *copy = exact_copy(text, strlen(text));
    enum bh_code code =
        bh_feed_line_parse((struct bh_str){copy, strlen(text)}, &chunks->arena, ret_line, &err);
    if (code != BH_OK)
        assert_string_not_equal(err.detail, "");
    free(copy);
    return code;
}

static void
refuse(const char *text)
{
    struct bh_feed_line line = {.seq = 777};
    struct bh_chunks chunks;
    enum bh_code code = parse(text, &line, &chunks);
    bh_chunks_fini(&chunks);
    if (code != BH_E_INVALID && code != BH_E_BAD_REQUEST && code != BH_E_CONFIG)
        fail_msg("%s: %s", text, bh_code_slug(code));
    assert_int_equal(line.seq, 777); /* nothing was written */
}

static void
reads_a_document(void **state)
{
    (void)state;
    static const char text[] =
        "{\"incarnation\":\"" UID "\",\"seq\":12,\"document\":\"policy/gold\",\"version\":3,"
        "\"body\":\"{\\\"auth\\\":\\\"app\\\"}\"}";
    struct bh_feed_line line;
    struct bh_chunks chunks;
    assert_code(parse(text, &line, &chunks), BH_OK);
    assert_int_equal(line.kind, BH_LINE_DOCUMENT);
    assert_int_equal(line.version, 3);
    assert_str(line.name, "policy/gold");
    assert_str(line.body, "{\"auth\":\"app\"}");
    bh_chunks_fini(&chunks);
    assert_code(
        parse("{\"seq\":1,\"document\":\"a\",\"version\":1,\"body\":null}", &line, &chunks), BH_OK);
    assert_null(line.body.data);
    bh_chunks_fini(&chunks);
    refuse("{\"seq\":1,\"document\":\"\",\"version\":1,\"body\":null}");
    refuse("{\"seq\":1,\"document\":\"a\",\"version\":0,\"body\":null}");
    refuse("{\"seq\":1,\"document\":\"a\",\"version\":1}");
    refuse("{\"seq\":1,\"document\":\"a\",\"version\":1,\"body\":{}}");
}

static void
reads_a_record(void **state)
{
    (void)state;
    struct bh_feed_line line;
    struct bh_chunks chunks;
    assert_code(parse(HEAD RECORD "}", &line, &chunks), BH_OK);
    assert_int_equal(line.kind, BH_LINE_RECORD);
    assert_true(line.has_incarnation);
    assert_int_equal(line.seq, 12);
    assert_int_equal(line.no, 42);
    assert_int_equal(line.version, 3);
    assert_int_equal(line.facts.no, 42);
    assert_int_equal(line.facts.version, 3);
    assert_str(line.facts.id, "acme");
    assert_int_equal(line.facts.state, BH_TENANT_ACTIVE);
    assert_int_equal(line.facts.epoch, 1);
    assert_int_equal(line.facts.rate, 100);
    assert_int_equal(line.facts.burst, 200);
    assert_int_equal(line.facts.share, 1000);
    assert_str(line.facts.names[BH_NAME_ENDPOINTS], "127.0.0.1:7090 [::1]:80 unix:/run/x");
    assert_str(line.facts.names[BH_NAME_DATABASE], "shared1");
    assert_str(line.facts.names[BH_NAME_SERVER], "main");
    assert_str(line.facts.names[BH_NAME_CELL], "main");
    assert_str(line.facts.names[BH_NAME_TIER], "standard");
    bh_chunks_fini(&chunks);
}

static void
reads_the_other_lines(void **state)
{
    (void)state;
    struct bh_feed_line line;
    struct bh_chunks chunks;
    assert_code(parse(HEAD "null}", &line, &chunks), BH_OK);
    assert_int_equal(line.kind, BH_LINE_TOMBSTONE);
    assert_int_equal(line.no, 42);
    bh_chunks_fini(&chunks);
    assert_code(parse("{\"head\":13}", &line, &chunks), BH_OK);
    assert_int_equal(line.kind, BH_LINE_HEAD);
    assert_int_equal(line.seq, 13);
    bh_chunks_fini(&chunks);
    assert_code(
        parse("{\"format\":1,\"incarnation\":\"" UID "\",\"seq\":9}", &line, &chunks), BH_OK);
    assert_int_equal(line.kind, BH_LINE_START);
    assert_int_equal(line.seq, 9);
    bh_chunks_fini(&chunks);
    /* A member of a later version changes nothing; a snapshot's row has no incarnation. */
    assert_code(
        parse("{\"seq\":1,\"no\":1,\"version\":1,\"later\":[],\"record\":null}", &line, &chunks),
        BH_OK);
    assert_false(line.has_incarnation);
    bh_chunks_fini(&chunks);
}

/* Each member of the record in turn: gone, of another type, out of range. */
static void
refuses_each_wrong_member(void **state)
{
    (void)state;
    static const char *const members[][4] = {
        {"\"id\":\"acme\"", "\"id\":7", "\"id\":\"Acme\"", "\"id\":\"../x\""},
        {"\"uid\":\"" UID "\"", "\"uid\":1", "\"uid\":\"x\"", "\"uid\":null"},
        {"\"epoch\":1", "\"epoch\":-1", "\"epoch\":1.5", "\"epoch\":4294967296"},
        {"\"state\":\"active\"", "\"state\":1", "\"state\":\"ACTIVE\"", "\"state\":\"\""},
        {"\"tier\":\"standard\"", "\"tier\":\"\"", "\"tier\":\"a b\"", "\"tier\":[]"},
        {"\"rate\":100", "\"rate\":0", "\"rate\":1000001", "\"rate\":\"100\""},
        {"\"burst\":200", "\"burst\":0", "\"burst\":2e2", "\"burst\":true"},
        {"\"share\":1000", "\"share\":0", "\"share\":1001", "\"share\":-0"},
        {"\"server\":\"main\"", "\"server\":\"a/b\"", "\"server\":\"\\n\"", "\"server\":{}"},
        {"\"database\":\"shared1\"", "\"database\":\"a'b\"", "\"database\":\"\"", "\"database\":1"},
        {"\"cell\":\"main\"", "\"cell\":\" \"", "\"cell\":null", "\"cell\":0"},
        {"\"endpoints\":[\"127.0.0.1:7090\",\"[::1]:80\",\"unix:/run/x\"]",
            "\"endpoints\":[\"127.0.0.1\"]", "\"endpoints\":[\"unix:x\"]",
            "\"endpoints\":[\"1.2.3.4:1 1.2.3.4:2\"]"},
        {"\"endpoints\":[\"127.0.0.1:7090\",\"[::1]:80\",\"unix:/run/x\"]",
            "\"endpoints\":[\"1.2.3.4:1;weight=0\"]", "\"endpoints\":[\"1.2.3.4:1;backup;backup\"]",
            "\"endpoints\":[\"1.2.3.4:1;color=blue\"]"},
    };
    const char *whole = HEAD RECORD "}";
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const char *at = strstr(whole, members[i][0]);
        assert_non_null(at);
        for (int j = 0; j < 4; j++) {
            char text[1024];
            int front = (int)(at - whole);
            snprintf(text, sizeof(text), "%.*s%s%s", front, whole, j ? members[i][j] : "\"x\":0",
                at + strlen(members[i][0]));
            refuse(text);
        }
    }
}

static void
refuses_hostile_lines(void **state)
{
    (void)state;
    static const char *const lines[] = {"", " ", "{}", "[]", "null", "7", "\"x\"", "{",
        "{\"head\":-1}", "{\"head\":\"1\"}", "{\"head\":9223372036854775808}",
        "{\"head\":1}{\"head\":2}", "{\"head\":1,\"head\":2}", "{\"head\":1} x", HEAD "null",
        HEAD "[]}", HEAD "\"null\"}", HEAD "{}}", "{\"seq\":1,\"version\":1,\"record\":null}",
        "{\"seq\":1,\"no\":1,\"record\":null}", "{\"no\":1,\"version\":1,\"record\":null}",
        "{\"seq\":1,\"no\":0,\"version\":1,\"record\":null}",
        "{\"seq\":1,\"no\":2147483648,\"version\":1,\"record\":null}",
        "{\"seq\":1,\"no\":1,\"version\":0,\"record\":null}",
        "{\"incarnation\":\"x\",\"seq\":1,\"no\":1,\"version\":1,\"record\":null}",
        "{\"incarnation\":null,\"head\":1}", "{\"format\":1,\"seq\":9}",
        "{\"format\":2,\"incarnation\":\"" UID "\",\"seq\":9}",
        "{\"format\":1,\"incarnation\":\"" UID "\"}", HEAD "{\"id\":\"acme\",\"id\":\"globex\"}}",
        "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", "{\"head\":\xff}",
        "{\"head\":1,\"x\":\"\\ud800\"}"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        refuse(lines[i]);
}

static void
refuses_too_many_endpoints(void **state)
{
    (void)state;
    char text[4096], list[2048] = "\"endpoints\":[";
    struct bh_feed_line line;
    struct bh_chunks chunks;
    for (int count = 64; count <= 65; count++) {
        size_t len = strlen("\"endpoints\":[");
        for (int i = 0; i < count; i++)
            len += (size_t)snprintf(
                list + len, sizeof(list) - len, "%s\"10.0.0.%d:80\"", i ? "," : "", i);
        snprintf(list + len, sizeof(list) - len, "]");
        const char *whole = HEAD RECORD "}";
        const char *at = strstr(whole, "\"endpoints\"");
        snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - whole), whole, list,
            strstr(at, ",\"cell\""));
        if (count == 64) {
            assert_code(parse(text, &line, &chunks), BH_OK);
            bh_chunks_fini(&chunks);
        } else {
            refuse(text);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_record),
        cmocka_unit_test(reads_a_document),
        cmocka_unit_test(reads_the_other_lines),
        cmocka_unit_test(refuses_each_wrong_member),
        cmocka_unit_test(refuses_hostile_lines),
        cmocka_unit_test(refuses_too_many_endpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
