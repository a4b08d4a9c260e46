/* bulkhead adopt: look at an existing database, and write the SQL that brings it under Bulkhead. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/database.h"
#include "cli/out.h"
#include "cli/sql.h"
#include "engine/postgres/sql.h"

/* ---- what was found ---- */

static const char *
number(const struct bh_cli *cli, const json_t *item, const char *name)
{
    const json_t *value = json_object_get(item, name);

    if (!json_is_integer(value))
        return NULL;
    return bh_arena_printf(cli->arena, "%lld", (long long)json_integer_value(value));
}

static int
print_tables(const struct bh_cli *cli, const json_t *report)
{
    struct bh_table *table = bh_table_new("TABLE|KIND|TENANT FROM|>ROWS|>FOREIGN KEYS|OWNER");
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(report, "items"), i, item)
    {
        const char *cells[] = {bh_json_text(item, "table"), bh_json_text(item, "kind"),
            bh_json_text(item, "tenant_from"), number(cli, item, "rows_estimate"),
            number(cli, item, "foreign_keys"), bh_json_text(item, "owner")};
        bh_table_row(table, cells, 6);
    }
    return bh_table_print(table);
}

static int
print_advice(const json_t *report)
{
    struct bh_table *table = bh_table_new("MODE|FITS|BECAUSE");
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(report, "advice"), i, item)
    {
        const char *cells[] = {bh_json_text(item, "mode"),
            json_is_true(json_object_get(item, "fits")) ? "best" : "",
            bh_json_text(item, "reason")};
        bh_table_row(table, cells, 3);
    }
    return bh_table_print(table);
}

static int
print_problems(const json_t *report)
{
    struct bh_table *table = bh_table_new("OBJECT|PROBLEM|WHAT TO DO");
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(report, "problems"), i, item)
    {
        const char *cells[] = {
            bh_json_text(item, "object"), bh_json_text(item, "problem"), bh_json_text(item, "fix")};
        bh_table_row(table, cells, 3);
    }
    return bh_table_print(table);
}

static int
print_report(const struct bh_cli *cli, const json_t *report)
{
    int code = print_tables(cli, report);

    (void)putchar('\n');
    if (code == BH_EXIT_OK)
        code = print_advice(report);
    if (code == BH_EXIT_OK && json_array_size(json_object_get(report, "problems")) > 0) {
        (void)putchar('\n');
        code = print_problems(report);
    }
    return code;
}

/* ---- adopt.sql ---- */

/* A comment must stay one: names in it come from the database. */
static void
write_comment(FILE *out, const char *text)
{
    (void)fputs("--   ", out);
    for (; *text != '\0'; text++)
        (void)fputc(*text == '\n' || *text == '\r' ? ' ' : *text, out);
    (void)fputc('\n', out);
}

static void
write_head(FILE *out, const json_t *report)
{
    json_t *item;
    size_t i;

    (void)fputs(
        "-- Written by `bulkhead adopt`.  Read all of it before you run it, on a copy first:\n"
        "--   psql -X -f adopt.sql DSN\n"
        "-- It may be run again from the top after an error: what is done is skipped.\n",
        out);
    if (json_array_size(json_object_get(report, "problems")) > 0)
        (void)fputs("-- It will not reach its end before a person has decided this:\n", out);
    json_array_foreach(json_object_get(report, "problems"), i, item)
    {
        write_comment(out, bh_json_text(item, "object"));
        write_comment(out, bh_json_text(item, "problem"));
        write_comment(out, bh_json_text(item, "fix"));
    }
    (void)fputc('\n', out);
}

/* Never over a file that is there.  A file that could not be written whole is removed. */
static enum bh_code
write_script(const char *path, const json_t *report, const PGresult *lines, struct bh_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    int failed;

    if (fd < 0 && errno == EEXIST) {
        bh_fail(err, BH_E_CONFLICT, "%s exists, and nothing is written over it", path);
        return bh_hint(err, "name another file with --out, or remove this one");
    }
    if (out == NULL) {
        bh_fail(err, BH_E_CONFIG, "cannot write %s: %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return err->code;
    }
    write_head(out, report);
    for (int i = 0; i < PQntuples(lines); i++)
        (void)fprintf(out, "%s\n", PQgetvalue(lines, i, 0));
    failed = ferror(out) || fflush(out) != 0 ? errno : 0;
    if (fclose(out) != 0 && failed == 0)
        failed = errno;
    if (failed == 0)
        return BH_OK;
    (void)unlink(path);
    return bh_fail(err, BH_E_CONFIG, "cannot write %s: %s", path, strerror(failed));
}

/* ---- the command ---- */

static enum bh_code
make_script(
    PGconn *conn, const char *path, const json_t *report, const char *column, struct bh_error *err)
{
    bool row = strcmp(bh_json_text(report, "mode"), "row") == 0;
    PGresult *lines;
    enum bh_code code;

    BH_TRY(
        bh_sql_exec(conn, row ? bh_sql_adopt_row : bh_sql_adopt_schema, 1, &column, &lines, err));
    code = write_script(path, report, lines, err);
    PQclear(lines);
    return code;
}

static enum bh_code
scan(PGconn *conn, const struct bh_cli *cli, json_t **ret_report, struct bh_error *err)
{
    const char *column = cli->options[BH_OPT_TENANT_COLUMN];
    const char *path = cli->options[BH_OPT_OUT];
    enum bh_code code;
    json_t *report;

    /* One snapshot for the report and the script. */
    BH_TRY(
        bh_sql_exec(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", 0, NULL, NULL, err));
    BH_TRY(bh_database_json(conn, bh_sql_adopt_report, 1, &column, &report, err));
    if (column != NULL && bh_json_text(report, "tenant_column") == NULL)
        code = bh_fail(err, BH_E_NOT_FOUND, "no table has a column \"%s\"", column);
    else
        code = path == NULL ? BH_OK : make_script(conn, path, report, column, err);
    if (code != BH_OK) {
        json_decref(report);
        return code;
    }
    (void)json_object_set_new(report, "script", path == NULL ? json_null() : json_string(path));
    *ret_report = report;
    return BH_OK;
}

int
bh_cmd_adopt(struct bh_cli *cli)
{
    const char *path = cli->options[BH_OPT_OUT];
    const char *dsn;
    struct bh_error err;
    PGconn *conn = NULL;
    json_t *report = NULL;
    bool blocked;
    int code = bh_database_dsn(cli, false, &dsn);

    if (code != 0)
        return code;
    if (bh_database_read(dsn, &conn, &err) != BH_OK || scan(conn, cli, &report, &err) != BH_OK) {
        PQfinish(conn);
        return bh_cli_report(&err);
    }
    PQfinish(conn);
    blocked = json_array_size(json_object_get(report, "problems")) > 0;
    code = bh_cli_json(cli) ? bh_out_json(json_incref(report)) : print_report(cli, report);
    if (path != NULL)
        bh_out_message(stderr, "wrote %s; read it, then on a copy: psql -X -f %s", path, path);
    else
        bh_out_message(stderr, "next: bulkhead adopt --database DSN --out adopt.sql");
    json_decref(report);
    return code != BH_EXIT_OK ? code : blocked ? BH_EXIT_NEGATIVE : BH_EXIT_OK;
}
