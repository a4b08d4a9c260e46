/* Quoting, and what a server that is not there means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/postgres/sql.h"

static void
names_and_literals_are_closed(void **state)
{
    static const struct {
        const char *text;
        const char *name;
        const char *literal;
    } rows[] = {
        {"t42", "\"t42\"", "'t42'"},
        {"", "\"\"", "''"},
        {"a\"b", "\"a\"\"b\"", "'a\"b'"},
        {"a'b", "\"a'b\"", "'a''b'"},
        {"\"; DROP", "\"\"\"; DROP\"", "'\"; DROP'"},
        {"back\\slash", "\"back\\slash\"", "'back\\slash'"},
        {"'''", "\"'''\"", "''''''''"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char storage[64];
        struct bh_buf out;
        bh_buf_init(&out, storage, sizeof(storage));
        bh_sql_name(&out, rows[i].text);
        assert_string_equal(storage, rows[i].name);
        bh_buf_reset(&out);
        bh_sql_literal(&out, rows[i].text);
        assert_string_equal(storage, rows[i].literal);
    }
}

static void
what_does_not_fit_is_remembered(void **state)
{
    char storage[4];
    struct bh_buf out;
    (void)state;
    bh_buf_init(&out, storage, sizeof(storage));
    bh_sql_name(&out, "abc");
    assert_false(bh_buf_ok(&out));
}

static void
no_server_is_unavailable(void **state)
{
    struct bh_error err;
    PGconn *conn = NULL;
    (void)state;
    assert_int_equal(
        bh_sql_connect("host=127.0.0.1 port=1 user=nobody", "x", 2, &conn, &err), BH_E_UNAVAILABLE);
    assert_null(conn);
    assert_non_null(strstr(err.detail, "cannot connect to PostgreSQL"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_literals_are_closed),
        cmocka_unit_test(what_does_not_fit_is_remembered),
        cmocka_unit_test(no_server_is_unavailable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
