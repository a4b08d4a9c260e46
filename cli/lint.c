/* bulkhead lint: the holes of a database, by the rules of bulkhead.lint() also where there is no
 * extension. */
#include <string.h>

#include "cli/database.h"
#include "cli/out.h"
#include "cli/sql.h"
#include "engine/postgres/sql.h"

static const char *const columns[] = {"severity", "object", "problem", "fix"};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static enum bh_code
find(PGconn *conn, PGresult **ret_rows, struct bh_error *err)
{
    PGresult *known;
    bool extension;
    bool hidden;

    BH_TRY(bh_sql_exec(conn,
        "SELECT t.oid IS NOT NULL, t.oid IS NOT NULL AND NOT has_table_privilege(t.oid, 'SELECT')"
        " FROM to_regclass('bulkhead.tenant') t(oid)",
        0, NULL, &known, err));
    extension = PQgetvalue(known, 0, 0)[0] == 't';
    hidden = PQgetvalue(known, 0, 1)[0] == 't';
    PQclear(known);
    if (hidden) {
        bh_fail(err, BH_E_NOT_PERMITTED, "this login may not read bulkhead.tenant");
        return bh_hint(err, "connect as superuser: --database 'user=postgres ...'");
    }
    return bh_sql_exec(
        conn, extension ? bh_sql_lint_extension : bh_sql_lint_plain, 0, NULL, ret_rows, err);
}

static int
print_json(const PGresult *rows)
{
    json_t *items = json_array();

    for (int i = 0; i < PQntuples(rows); i++) {
        json_t *item = json_object();
        for (int j = 0; j < (int)COLUMNS; j++)
            (void)json_object_set_new(item, columns[j], json_string(PQgetvalue(rows, i, j)));
        (void)json_array_append_new(items, item);
    }
    return bh_out_json(json_pack("{s:o}", "items", items));
}

static int
print_table(const PGresult *rows)
{
    struct bh_table *table = bh_table_new("*SEVERITY|OBJECT|PROBLEM|FIX");

    for (int i = 0; i < PQntuples(rows); i++) {
        const char *cells[COLUMNS];
        for (int j = 0; j < (int)COLUMNS; j++)
            cells[j] = PQgetvalue(rows, i, j);
        bh_table_row(table, cells, COLUMNS);
    }
    return bh_table_print(table);
}

static bool
has_errors(const PGresult *rows)
{
    for (int i = 0; i < PQntuples(rows); i++)
        if (strcmp(PQgetvalue(rows, i, 0), "error") == 0)
            return true;
    return false;
}

int
bh_cmd_lint(struct bh_cli *cli)
{
    const char *dsn;
    struct bh_error err;
    PGconn *conn = NULL;
    PGresult *rows = NULL;
    int code = bh_database_dsn(cli, true, &dsn);

    if (code != 0)
        return code;
    if (bh_database_read(dsn, &conn, &err) != BH_OK || find(conn, &rows, &err) != BH_OK) {
        PQfinish(conn);
        return bh_cli_report(&err);
    }
    if (bh_cli_json(cli))
        code = print_json(rows);
    else if (PQntuples(rows) > 0)
        code = print_table(rows);
    else
        bh_out_message(stderr, "no hole found");
    if (code == BH_EXIT_OK && has_errors(rows))
        code = BH_EXIT_NEGATIVE;
    PQclear(rows);
    PQfinish(conn);
    return code;
}
