/*
 * bulkhead explain access: who decides on a tenant's statement.
 *
 * The statement runs as the tenant, with a tenant token, in a read-only
 * transaction that is rolled back.  What it touches is read from the locks that
 * it holds: nothing of the tenant's is ever parsed or run as superuser.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/database.h"
#include "cli/http.h"
#include "cli/out.h"
#include "cli/sql.h"
#include "cli/token.h"
#include "engine/postgres/sql.h"

#define TIMEOUT_S 10
#define TOKEN_S 60

struct look {
    const struct bh_cli *cli;
    const char *dsn;
    PGconn *admin;
    json_t *tenant; /* of access_tenant.sql */
    const char *token;
};

/* How the statement ended. */
struct outcome {
    const char *sqlstate; /* NULL: it ran */
    const char *message;
    const char *hint;
    bool bound; /* enter() went well */
    long long rows;
};

/* Who speaks by a SQLSTATE, and what helps where the server has no hint. */
static const struct {
    const char *sqlstate;
    const char *by;
    const char *remedy;
} voices[] = {
    {"TN002", "token", "ask for a new token; its database and tenant must be these"},
    {"TN003", "tenant", "the tenant's state is not active: bulkhead tenant get <id>"},
    {"TN004", "tenant", "the tenant has moved: ask in its new database"},
    {"TN", "guard", "it would reach beyond the tenant or its transaction"},
    {"42501", "privilege", "the tenant's role has only the rights that were granted to it"},
    {"25006", "nobody", "it writes, so it was not run here; the rights below are those that count"},
    {"42P01", "name", "the tenant's search_path has its own schema only"},
    {"3F000", "name", "the tenant's search_path has its own schema only"},
    {"57014", "limit", "it ran longer than the tenant's statement_timeout"},
};

static void
note(const struct look *look, const PGconn *conn, const PGresult *result, struct outcome *outcome)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

    outcome->sqlstate = bh_arena_strdup(look->cli->arena, state != NULL ? state : "08006");
    outcome->message =
        bh_arena_strdup(look->cli->arena, message != NULL ? message : PQerrorMessage(conn));
    outcome->hint = hint == NULL ? NULL : bh_arena_strdup(look->cli->arena, hint);
}

/* Is ${result}, which is freed, a success?  Notes in ${outcome} what it says else. */
static bool
succeeded(const struct look *look, PGconn *conn, PGresult *result, struct outcome *outcome)
{
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;

    if (!ok)
        note(look, conn, result, outcome);
    PQclear(result);
    return ok;
}

/* Becomes the tenant in a read-only transaction. */
static bool
bind(const struct look *look, PGconn *conn, struct outcome *outcome)
{
    outcome->bound =
        succeeded(look, conn, PQexec(conn, "BEGIN READ ONLY"), outcome) &&
        succeeded(look, conn,
            PQexecParams(conn, "SELECT bulkhead.enter($1)", 1, NULL, &look->token, NULL, NULL, 0),
            outcome);
    return outcome->bound;
}

/* Counts what the unnamed statement returns, and keeps none of it. */
static void
run(const struct look *look, PGconn *conn, struct outcome *outcome)
{
    PGresult *result;

    if (!PQsendQueryPrepared(conn, "", 0, NULL, NULL, NULL, 0) || !PQsetSingleRowMode(conn)) {
        note(look, conn, NULL, outcome);
        return;
    }
    while ((result = PQgetResult(conn)) != NULL) {
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_SINGLE_TUPLE)
            outcome->rows++;
        else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            note(look, conn, result, outcome);
        PQclear(result);
        if (status == PGRES_COPY_OUT || status == PGRES_COPY_IN)
            break;
    }
}

/* What ${conn} has locked so far replaces ${tables}. */
static enum bh_code
read_tables(const struct look *look, PGconn *conn, json_t **tables, struct bh_error *err)
{
    const char *params[] = {bh_arena_printf(look->cli->arena, "%d", PQbackendPID(conn)),
        bh_json_text(look->tenant, "role"), bh_json_text(look->tenant, "schema")};
    json_t *found;

    BH_TRY(bh_database_json(look->admin, bh_sql_access_tables, 3, params, &found, err));
    json_decref(*tables);
    *tables = found;
    return BH_OK;
}

static enum bh_code
try_statement(const struct look *look, PGconn *conn, struct outcome *outcome, json_t **tables,
    struct bh_error *err)
{
    const char *sql = look->cli->args[0];

    if (!bind(look, conn, outcome))
        return BH_OK;
    /* Parsing already locks the tables that it names; a refusal of what comes after lets them go.
     */
    if (!succeeded(look, conn, PQprepare(conn, "", sql, 0, NULL), outcome))
        return BH_OK;
    BH_TRY(read_tables(look, conn, tables, err));
    run(look, conn, outcome);
    if (outcome->sqlstate == NULL)
        BH_TRY(read_tables(look, conn, tables, err));
    return BH_OK;
}

/* ---- counting ---- */

static json_t *
count(PGconn *conn, const char *sql, const char *table)
{
    PGresult *result = PQexecParams(conn, sql, table != NULL, NULL, &table, NULL, NULL, 0);
    json_t *number = json_null();

    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        number = json_integer(strtoll(PQgetvalue(result, 0, 0), NULL, 10));
    PQclear(result);
    return number;
}

static bool
has(const json_t *list, const char *word)
{
    size_t i;
    json_t *item;

    json_array_foreach(list, i, item) if (strcmp(json_string_value(item), word) == 0) return true;
    return false;
}

/*
 * Views, indexes and constraints hold the tenant's code: a view is counted as the tenant
 * only, and all rows of a table with its owner's rights.
 */
static void
count_rows(const struct look *look, PGconn *conn, json_t *table)
{
    const char *name = bh_json_text(table, "table"); /* quoted by the server */
    const char *sql = bh_arena_printf(look->cli->arena, "SELECT count(*) FROM %s", name);
    bool readable = has(json_object_get(table, "privileges"), "SELECT");
    struct outcome ignored = {.rows = 0};
    json_t *visible = json_null();
    json_t *total = json_null();

    if (sql != NULL && readable && bind(look, conn, &ignored))
        visible = count(conn, sql, NULL);
    PQclear(PQexec(conn, "ROLLBACK"));
    if (sql != NULL && strcmp(bh_json_text(table, "kind"), "table") == 0)
        total = count(look->admin, "SELECT bulkhead.count_rows($1::regclass)", name);
    (void)json_object_set_new(table, "rows_visible", visible);
    (void)json_object_set_new(table, "rows_total", total);
}

/* ---- saying why ---- */

static const char *
because(const struct look *look, const json_t *table)
{
    const json_t *policy = json_array_get(json_object_get(table, "policies"), 0);
    const char *security = bh_json_text(table, "row_security");
    bool row = strcmp(bh_json_text(look->tenant, "mode"), "row") == 0;

    if (!has(json_object_get(table, "privileges"), "SELECT"))
        return bh_arena_printf(look->cli->arena, "role %s has no right to read it",
            bh_json_text(look->tenant, "role"));
    if (json_is_true(json_object_get(table, "shared")))
        return "it is labelled as shared: every tenant reads all of it";
    if (strcmp(security, "off") != 0 && policy == NULL)
        return "row level security is on, and there is no policy: nobody sees a row";
    if (strcmp(security, "off") != 0)
        return bh_arena_printf(look->cli->arena, "policy %s: %s", bh_json_text(policy, "name"),
            bh_json_text(policy, "using") != NULL ? bh_json_text(policy, "using") : "no USING");
    if (strcmp(bh_json_text(table, "kind"), "view") == 0)
        return "what the tables behind it show";
    if (!row && json_is_true(json_object_get(table, "own_schema")))
        return "the schema is the tenant's own, and so is every row";
    return "nothing parts its rows by tenant: bulkhead lint says more";
}

/* Are rows of ${tables} hidden from the tenant? */
static bool
hides(const json_t *tables)
{
    size_t i;
    json_t *table;

    json_array_foreach(tables, i, table)
    {
        json_int_t visible = json_integer_value(json_object_get(table, "rows_visible"));
        json_int_t total = json_integer_value(json_object_get(table, "rows_total"));
        if (visible < total)
            return true;
    }
    return false;
}

static const char *
voice(const struct outcome *outcome, const json_t *tables, const char **ret_remedy)
{
    *ret_remedy = NULL;
    if (outcome->sqlstate == NULL)
        return hides(tables) ? "policy" : "nobody: all rows of these tables are the tenant's";
    for (size_t i = 0; i < sizeof(voices) / sizeof(voices[0]); i++) {
        if (strncmp(outcome->sqlstate, voices[i].sqlstate, strlen(voices[i].sqlstate)) == 0) {
            *ret_remedy = voices[i].remedy;
            return voices[i].by;
        }
    }
    return "statement";
}

static json_t *
make_report(const struct look *look, const struct outcome *outcome, json_t *tables)
{
    const char *remedy;
    const char *by = voice(outcome, tables, &remedy);

    return json_pack("{s:O, s:{s:b, s:o, s:s?, s:s?, s:s?}, s:s, s:s?, s:o}", "tenant",
        look->tenant, "statement", "ran", outcome->sqlstate == NULL, "rows",
        outcome->sqlstate == NULL ? json_integer(outcome->rows) : json_null(), "sqlstate",
        outcome->sqlstate, "message", outcome->message, "hint", outcome->hint, "decided_by", by,
        "remedy", remedy, "items", tables);
}

/* ---- printing ---- */

static const char *
join(const struct bh_cli *cli, const json_t *words)
{
    const char *text = "";
    size_t i;
    json_t *word;

    json_array_foreach(words, i, word) text =
        bh_arena_printf(cli->arena, "%s%s%s", text, i == 0 ? "" : " ", json_string_value(word));
    return *text == '\0' ? NULL : text;
}

static const char *
number(const struct bh_cli *cli, const json_t *value)
{
    if (!json_is_integer(value))
        return NULL;
    return bh_arena_printf(cli->arena, "%lld", (long long)json_integer_value(value));
}

static int
print_tables(const struct bh_cli *cli, const json_t *tables)
{
    struct bh_table *table = bh_table_new("TABLE|KIND|RIGHTS|ROW SECURITY|>VISIBLE|>TOTAL|BECAUSE");
    size_t i;
    json_t *item;

    json_array_foreach(tables, i, item)
    {
        const char *cells[] = {bh_json_text(item, "table"), bh_json_text(item, "kind"),
            join(cli, json_object_get(item, "privileges")), bh_json_text(item, "row_security"),
            number(cli, json_object_get(item, "rows_visible")),
            number(cli, json_object_get(item, "rows_total")), bh_json_text(item, "because")};
        bh_table_row(table, cells, 7);
    }
    return bh_table_print(table);
}

static int
print_report(const struct bh_cli *cli, const json_t *report)
{
    const json_t *tenant = json_object_get(report, "tenant");
    const json_t *statement = json_object_get(report, "statement");
    const json_t *tables = json_object_get(report, "items");
    const char *remedy = bh_json_text(report, "remedy");

    bh_out_message(stdout, "tenant:     %s, number %lld, %s; mode %s, role %s, schema %s",
        bh_json_text(tenant, "id"), (long long)json_integer_value(json_object_get(tenant, "no")),
        bh_json_text(tenant, "state"), bh_json_text(tenant, "mode"), bh_json_text(tenant, "role"),
        bh_json_text(tenant, "schema"));
    if (json_is_true(json_object_get(statement, "ran")))
        bh_out_message(stdout, "statement:  %lld rows",
            (long long)json_integer_value(json_object_get(statement, "rows")));
    else
        bh_out_message(stdout, "statement:  %s: %s", bh_json_text(statement, "sqlstate"),
            bh_json_text(statement, "message"));
    bh_out_message(stdout, "decided by: %s", bh_json_text(report, "decided_by"));
    if (bh_json_text(statement, "hint") != NULL)
        bh_out_message(stdout, "hint:       %s", bh_json_text(statement, "hint"));
    else if (remedy != NULL)
        bh_out_message(stdout, "remedy:     %s", remedy);
    if (json_array_size(tables) == 0)
        return BH_EXIT_OK;
    (void)putchar('\n');
    return print_tables(cli, tables);
}

/* ---- the command ---- */

/* BULKHEAD_TENANT_TOKEN, else one from the control plane; in the arena. */
static enum bh_code
find_token(struct look *look, struct bh_error *err)
{
    struct bh_client client;
    json_t *answer;
    enum bh_code code;

    look->token = getenv("BULKHEAD_TENANT_TOKEN");
    if (look->token != NULL && *look->token != '\0')
        return BH_OK;
    BH_TRY(bh_client_open(look->cli, &client, err));
    code =
        bh_token_ask(&client, bh_json_text(look->tenant, "id"), NULL, true, TOKEN_S, &answer, err);
    bh_client_close(&client);
    if (code != BH_OK)
        return code;
    look->token = bh_arena_strdup(look->cli->arena, bh_json_text(answer, "token"));
    json_decref(answer);
    return look->token == NULL ? bh_fail(err, BH_E_NO_MEMORY, "out of memory") : BH_OK;
}

static enum bh_code
find_tenant(struct look *look, struct bh_error *err)
{
    const char *id = look->cli->options[BH_OPT_TENANT];
    enum bh_code code;

    /* The operator's counts are of all rows; where this role cannot, it says so. */
    BH_TRY(bh_sql_exec(look->admin, "SET row_security = off", 0, NULL, NULL, err));
    code = bh_database_json(look->admin, bh_sql_access_tenant, 1, &id, &look->tenant, err);
    if (code == BH_E_NOT_FOUND)
        bh_fail(err, code, "there is no tenant \"%s\" in this database", id);
    return code;
}

static enum bh_code
look_at(struct look *look, json_t **ret_report, bool *ret_refused, struct bh_error *err)
{
    struct outcome outcome = {.rows = 0};
    json_t *tables;
    json_t *table;
    PGconn *conn;
    enum bh_code code;
    size_t i;

    BH_TRY(find_tenant(look, err));
    BH_TRY(find_token(look, err));
    BH_TRY(bh_sql_open(look->dsn, NULL, TIMEOUT_S, &conn, err));
    tables = json_array();
    code = try_statement(look, conn, &outcome, &tables, err);
    PQreset(conn); /* whatever the statement left */
    json_array_foreach(tables, i, table)
    {
        count_rows(look, conn, table);
        (void)json_object_set_new(table, "because", json_string(because(look, table)));
    }
    PQfinish(conn);
    *ret_refused = outcome.sqlstate != NULL;
    *ret_report = make_report(look, &outcome, tables);
    return code;
}

int
bh_cmd_explain_access(struct bh_cli *cli)
{
    struct look look = {.cli = cli};
    struct bh_error err;
    json_t *report = NULL;
    bool refused = false;
    int code;

    if (cli->options[BH_OPT_TENANT] == NULL)
        return bh_cli_usage(cli, "\"explain access\" needs --tenant ID");
    code = bh_database_dsn(cli, true, &look.dsn);
    if (code != 0)
        return code;
    if (bh_database_read(look.dsn, &look.admin, &err) != BH_OK ||
        look_at(&look, &report, &refused, &err) != BH_OK)
        code = bh_cli_report(&err);
    else
        code = bh_cli_json(cli) ? bh_out_json(json_incref(report)) : print_report(cli, report);
    json_decref(report);
    json_decref(look.tenant);
    PQfinish(look.admin);
    return code != BH_EXIT_OK ? code : refused ? BH_EXIT_NEGATIVE : BH_EXIT_OK;
}
