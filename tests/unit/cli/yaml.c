/* The YAML reader's pure parts: places, plain scalars, pointers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cli/yaml.h"
#include "cli/yamltext.h"

static void
places_count_characters(void **state)
{
    const struct bh_str text = BH_STR("a\r\n\xc3\xa4\xe2\x82\xac"
                                      "b\rc\n");
    static const struct {
        size_t offset;
        unsigned line;
        unsigned column;
    } rows[] = {
        {0, 1, 1}, {1, 1, 2}, {3, 2, 1}, {5, 2, 2}, {8, 2, 3}, {10, 3, 1}, {12, 4, 1}, {99, 4, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bh_yaml_mark mark = bh_yaml_mark_at(text, rows[i].offset);
        assert_int_equal(mark.line, rows[i].line);
        assert_int_equal(mark.column, rows[i].column);
    }
    assert_true(bh_str_is(bh_yaml_line(text, 2), "\xc3\xa4\xe2\x82\xac"
                                                 "b"));
    assert_true(bh_str_is(bh_yaml_line(text, 3), "c"));
    assert_true(bh_str_is(bh_yaml_line(text, 9), ""));
}

static void
plain_scalars_by_the_core_schema(void **state)
{
    static const struct {
        const char *text;
        enum bh_json_kind kind;
    } rows[] = {{"", BH_JSON_NULL}, {"~", BH_JSON_NULL}, {"Null", BH_JSON_NULL},
        {"nUll", BH_JSON_STRING}, {"true", BH_JSON_TRUE}, {"FALSE", BH_JSON_FALSE},
        {"yes", BH_JSON_STRING}, {"on", BH_JSON_STRING}, {"12", BH_JSON_NUMBER},
        {"-12", BH_JSON_NUMBER}, {"+1", BH_JSON_NUMBER}, {"012", BH_JSON_NUMBER},
        {"0o17", BH_JSON_NUMBER}, {"0o18", BH_JSON_STRING}, {"0xfF", BH_JSON_NUMBER},
        {"0x", BH_JSON_STRING}, {"1_000", BH_JSON_STRING}, {"1.", BH_JSON_NUMBER},
        {".5", BH_JSON_NUMBER}, {".", BH_JSON_STRING}, {"1e3", BH_JSON_NUMBER},
        {"1e", BH_JSON_STRING}, {"-.inf", BH_JSON_NUMBER}, {".NaN", BH_JSON_NUMBER},
        {"1.2.3", BH_JSON_STRING}, {"12:30", BH_JSON_STRING}, {"-", BH_JSON_STRING}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(bh_yaml_resolve(bh_str_of(rows[i].text)), rows[i].kind);
}

static void
nodes_know_their_places(void **state)
{
    const struct bh_str text = BH_STR("id: x\nlimits:\n  burst: 5\n\"a/b~\": [1, {c: 'd'}]\n");
    struct bh_chunks chunks;
    struct bh_yaml_node *root;
    struct bh_yaml_mark mark;
    struct bh_error err;

    (void)state;
    bh_chunks_init(&chunks);
    assert_int_equal(bh_yaml_parse(text, &chunks.arena, &root, &mark, &err), BH_OK);
    const struct bh_yaml_node *burst = bh_yaml_find(root, "/limits/burst");
    assert_non_null(burst);
    assert_int_equal(burst->key.line, 3);
    assert_int_equal(burst->key.column, 3);
    assert_int_equal(burst->value.column, 10);
    assert_int_equal(burst->json.kind, BH_JSON_NUMBER);
    const struct bh_yaml_node *d = bh_yaml_find(root, "/a~1b~0/1/c");
    assert_non_null(d);
    assert_true(bh_str_is(d->json.text, "d"));
    assert_int_equal(d->value.line, 4);
    assert_int_equal(d->value.column, 17);
    assert_ptr_equal(bh_yaml_find(root, ""), root);
    assert_null(bh_yaml_find(root, "/a~1b~0/2"));
    assert_null(bh_yaml_find(root, "/none"));
    assert_null(bh_yaml_find(root, "limits"));
    assert_ptr_equal(bh_yaml_node_of(bh_json_get(&root->json, "id")), bh_yaml_find(root, "/id"));
    bh_chunks_fini(&chunks);
}

static void
failures_say_where(void **state)
{
    struct bh_chunks chunks;
    struct bh_yaml_node *root = NULL;
    struct bh_yaml_mark mark;
    struct bh_error err;

    (void)state;
    bh_chunks_init(&chunks);
    assert_int_equal(bh_yaml_parse(BH_STR("a: 1\nb: 2\na: 3\n"), &chunks.arena, &root, &mark, &err),
        BH_E_INVALID);
    assert_null(root);
    assert_int_equal(mark.line, 3);
    assert_int_equal(mark.column, 1);
    assert_non_null(strstr(err.detail, "\"a\""));
    bh_chunks_fini(&chunks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_count_characters),
        cmocka_unit_test(plain_scalars_by_the_core_schema),
        cmocka_unit_test(nodes_know_their_places),
        cmocka_unit_test(failures_say_where),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
