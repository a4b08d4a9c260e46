/* Placeholders are replaced, everything else is text, and no value can leave its place. */
#include "tests/unit/core/test.h"

#include "agent/render.h"

static const struct bh_var vars[] = {
    {"port", "7080"}, {"path", "/var/lib/bulkhead"}, {"bad", "a b"}, {"empty", ""}};

static enum bh_code
render(const char *template, char ret_text[256], struct bh_error *err)
{
    struct bh_buf out;
    char *copy = exact_copy(template, strlen(template));
    bh_buf_init(&out, ret_text, 256);
    enum bh_code code = bh_render((struct bh_str){copy, strlen(template)}, vars, 4, &out, err);
    free(copy);
    return code;
}

static void
replaces(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"${port}", "7080"},
        {"a${port}b${port}c", "a7080b7080c"},
        {"$host $1 $$ ${port} $", "$host $1 $$ 7080 $"},
        {"'${path}:$libdir'", "'/var/lib/bulkhead:$libdir'"},
        {"$${port}", "$7080"},
        {"{port}", "{port}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        struct bh_error err;
        assert_code(render(cases[i][0], text, &err), BH_OK);
        assert_string_equal(text, cases[i][1]);
    }
}

static void
refuses(void **state)
{
    (void)state;
    static const char *const cases[] = {"${nosuch}", "${}", "${port", "${ port}", "${PORT}",
        "x\ny\n${bad}", "${empty}", "${${port}}"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        struct bh_error err = {.code = BH_OK};
        assert_code(render(cases[i], text, &err), BH_E_CONFIG);
        assert_non_null(strstr(err.detail, i == 5 ? "line 3" : "line 1"));
    }
}

static void
refuses_what_does_not_fit(void **state)
{
    (void)state;
    char text[256], template[300];
    struct bh_error err;
    memset(template, 'x', sizeof(template) - 1);
    template[sizeof(template) - 1] = '\0';
    assert_code(render(template, text, &err), BH_E_TOO_LARGE);
}

/* Every byte that could end a word, a string or a line anywhere is refused. */
static void
knows_safe_values(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char value[] = {'a', (char)c, 'b', '\0'};
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("._/:@+=~-", c) != NULL;
        if (bh_render_value_valid(value) != plain)
            fail_msg("byte %d is taken for %s", c, plain ? "bad" : "good");
    }
    assert_false(bh_render_value_valid(""));
    assert_false(bh_render_value_valid(NULL));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(knows_safe_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
