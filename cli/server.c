/* `server list`: how the database servers are.  `selfcheck`: what drifted in their databases. */
#include <string.h>
#include <time.h>

#include "cli/follow.h"
#include "cli/list.h"
#include "cli/out.h"

#define POLL_MS 300

static json_int_t
count_findings(const json_t *server)
{
    json_int_t count = 0;
    size_t i;
    json_t *database;

    json_array_foreach(json_object_get(server, "databases"), i, database) count +=
        json_integer_value(json_object_get(database, "findings"));
    return count;
}

static int
print_servers(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("NAME|CELL|*STATE|EXTENSION|READ|>FINDINGS|MESSAGE");
    size_t i;
    json_t *item;

    json_array_foreach(items, i, item)
    {
        const char *cells[] = {bh_json_text(item, "name"), bh_json_text(item, "cell"),
            bh_json_text(item, "state"), bh_json_text(item, "extension"),
            bh_json_text(item, "read_at"),
            bh_arena_printf(cli->arena, "%" JSON_INTEGER_FORMAT, count_findings(item)),
            bh_json_text(item, "message")};
        bh_table_row(table, cells, 7);
    }
    return bh_table_print(table);
}

int
bh_cmd_server_list(struct bh_cli *cli)
{
    return bh_list_all(cli, "/v1/servers?limit=500", print_servers);
}

/* ---- selfcheck ---- */

static int
print_findings(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("SERVER|DATABASE|OBJECT|PROBLEM|FIX");
    size_t i;
    json_t *item;

    (void)cli;
    json_array_foreach(items, i, item)
    {
        const char *cells[] = {bh_json_text(item, "server"), bh_json_text(item, "database"),
            bh_json_text(item, "object"), bh_json_text(item, "problem"), bh_json_text(item, "fix")};
        bh_table_row(table, cells, 5);
    }
    return bh_table_print(table);
}

/* Was the database looked at, since ${since} (NULL: ever)? */
static bool
is_checked(const json_t *database, const char *since)
{
    const char *checked = bh_json_text(database, "checked_at");

    return checked != NULL && (since == NULL || strcmp(checked, since) >= 0);
}

/* How many databases are still to be looked at; those of servers that nobody can read are
 * ${ret_lost}. */
static size_t
count_waiting(const json_t *servers, const char *since, size_t *ret_lost)
{
    size_t waiting = 0;
    size_t i;
    json_t *server;

    *ret_lost = 0;
    json_array_foreach(servers, i, server)
    {
        const char *state = bh_json_text(server, "state");
        bool lost = state == NULL || strcmp(state, "down") == 0 || strcmp(state, "unknown") == 0;
        size_t j;
        json_t *database;
        json_array_foreach(json_object_get(server, "databases"), j, database)
        {
            if (is_checked(database, since))
                continue;
            waiting += !lost;
            *ret_lost += lost;
        }
    }
    return waiting;
}

/* Until every database that can be reached was looked at. */
static enum bh_code
wait_for_checks(struct bh_client *client, const char *since, long timeout_s, size_t *ret_lost,
    struct bh_error *err)
{
    const struct timespec pause = {0, POLL_MS * 1000000L};
    size_t waiting;

    for (long left_ms = since == NULL ? 0 : timeout_s * 1000;; left_ms -= POLL_MS) {
        json_t *servers;
        BH_TRY(bh_list_read(client, "/v1/servers?limit=500", &servers, err));
        waiting = count_waiting(servers, since, ret_lost);
        json_decref(servers);
        if (waiting == 0)
            return BH_OK;
        if (left_ms <= 0)
            break;
        (void)nanosleep(&pause, NULL);
    }
    if (since != NULL)
        return bh_fail(err, BH_E_TIMEOUT, "%zu databases are still to be looked at", waiting);
    *ret_lost += waiting;
    return BH_OK;
}

/* Ask for a look at everything; ${ret_since} is when. */
static enum bh_code
ask_for_checks(struct bh_client *client, const char **ret_since, struct bh_error *err)
{
    struct bh_request request = {.method = "POST", .path = "/v1/selfcheck"};
    struct bh_answer answer;
    enum bh_code code = bh_client_call(client, &request, &answer, err);
    const char *since = code == BH_OK ? bh_json_text(answer.body, "asked_at") : NULL;

    *ret_since = since == NULL ? NULL : bh_arena_strdup(client->arena, since);
    json_decref(answer.body);
    if (code == BH_OK && *ret_since == NULL)
        return bh_fail(err, BH_E_UNAVAILABLE, "the answer holds no asked_at");
    return code;
}

static enum bh_code
read_findings(
    struct bh_cli *cli, long timeout_s, json_t **ret_items, size_t *ret_lost, struct bh_error *err)
{
    struct bh_client client;
    const char *since = NULL;
    enum bh_code code;

    BH_TRY(bh_client_open(cli, &client, err));
    code = cli->options[BH_OPT_NOW] == NULL ? BH_OK : ask_for_checks(&client, &since, err);
    if (code == BH_OK)
        code = wait_for_checks(&client, since, timeout_s, ret_lost, err);
    if (code == BH_OK)
        code = bh_list_read(&client, "/v1/selfcheck?limit=500", ret_items, err);
    bh_client_close(&client);
    return code;
}

/* A database that nobody could look at is no good news either. */
int
bh_cmd_selfcheck(struct bh_cli *cli)
{
    struct bh_error err;
    json_t *items;
    size_t lost = 0;
    size_t count;
    long timeout_s;
    int code = bh_follow_timeout(cli, &timeout_s);

    if (code != 0)
        return code;
    if (read_findings(cli, timeout_s, &items, &lost, &err) != BH_OK)
        return bh_cli_report(&err);
    count = json_array_size(items);
    if (bh_cli_json(cli)) {
        code = bh_out_json(json_pack("{s:o, s:n}", "items", items, "next_page_token"));
    } else {
        code = print_findings(cli, items);
        json_decref(items);
    }
    if (lost > 0)
        bh_out_message(stderr, "%zu databases could not be looked at; see: %s server list", lost,
            cli->program);
    else if (count == 0)
        bh_out_message(stderr, "all is as it should be");
    return code != 0 ? code : count > 0 || lost > 0 ? BH_EXIT_NEGATIVE : BH_EXIT_OK;
}
