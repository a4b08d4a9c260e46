#include "cli/database.h"

#include <string.h>

#include "cli/out.h"
#include "cli/state.h"
#include "cli/status.h"
#include "engine/postgres/sql.h"

#define TIMEOUT_S 10

static int
refuse_password(const struct bh_cli *cli)
{
    int code = bh_cli_usage(cli, "--database must not hold a password: everybody on this machine "
                                 "can read a command line");

    bh_out_message(stderr, "  hint: put it into ~/.pgpass or the file that PGPASSFILE names, or "
                           "into a service (service=NAME)");
    return code;
}

/* Says nothing of ${dsn} itself: it may hold a secret that we failed to find. */
static int
check_dsn(const struct bh_cli *cli, const char *dsn)
{
    bool name = strchr(dsn, '=') == NULL && strstr(dsn, "://") == NULL;
    PQconninfoOption *options = name ? NULL : PQconninfoParse(dsn, NULL);
    bool secret = false;

    if (*dsn == '\0' || (!name && options == NULL))
        return bh_cli_usage(cli, "--database takes a database's name, a libpq URI or a list of "
                                 "keyword=value");
    for (PQconninfoOption *it = options; it != NULL && it->keyword != NULL; it++)
        if (it->val != NULL && strstr(it->keyword, "password") != NULL)
            secret = true;
    PQconninfoFree(options);
    return secret ? refuse_password(cli) : 0;
}

int
bh_database_dsn(const struct bh_cli *cli, bool local, const char **ret_dsn)
{
    struct bh_state state;
    struct bh_error err;

    if (cli->options[BH_OPT_DATABASE] != NULL) {
        *ret_dsn = cli->options[BH_OPT_DATABASE];
        return check_dsn(cli, *ret_dsn);
    }
    if (!local)
        return bh_cli_usage(cli, "\"%s\" needs --database DSN", cli->command->path);
    if (bh_state_find(cli, &state, &err) != BH_OK)
        return bh_cli_report(&err);
    if (!state.exists)
        return bh_cli_usage(cli, "\"%s\" needs --database DSN: nothing is set up in %s",
            cli->command->path, state.path);
    *ret_dsn = bh_status_admin_url(&state, cli->arena);
    return *ret_dsn == NULL ? bh_cli_no_memory() : 0;
}

enum bh_code
bh_database_read(const char *dsn, PGconn **ret_conn, struct bh_error *err)
{
    static const char settings[] =
        "SET default_transaction_read_only = on; SET statement_timeout = '60s';"
        "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s'; SET jit = off; SET enable_nestloop = off";
    PGconn *conn;

    BH_TRY(bh_sql_connect(dsn, NULL, TIMEOUT_S, &conn, err));
    if (bh_sql_script(conn, settings, err) != BH_OK) {
        PQfinish(conn);
        return err->code;
    }
    *ret_conn = conn;
    return BH_OK;
}

enum bh_code
bh_database_json(PGconn *conn, const char *sql, int count, const char *const *params,
    json_t **ret_value, struct bh_error *err)
{
    json_t *value = NULL;
    PGresult *result;

    BH_TRY(bh_sql_exec(conn, sql, count, params, &result, err));
    if (PQntuples(result) > 0)
        value = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
    else
        bh_fail(err, BH_E_NOT_FOUND, "the database has no such row");
    if (value == NULL && PQntuples(result) > 0)
        bh_fail(err, BH_E_ENGINE, "the database's answer cannot be read");
    PQclear(result);
    if (value == NULL)
        return err->code;
    *ret_value = value;
    return BH_OK;
}
