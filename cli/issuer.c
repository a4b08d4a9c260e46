/* `issuer …`: who vouches for the people of tenants. */
#include <errno.h>
#include <string.h>

#include "cli/list.h"
#include "cli/out.h"

static const char *
path_of(struct bh_client *client, const char *name, const char *rest)
{
    return bh_client_path(client, "/v1/issuers/%s%s", bh_client_escape(client, name), rest);
}

/* How it stands, in a word. */
static const char *
state_of(const json_t *issuer)
{
    const json_t *status = json_object_get(issuer, "status");
    bool keys = json_array_size(json_object_get(status, "keys")) > 0;
    if (bh_json_text(status, "error") != NULL)
        return keys ? "stale" : "failed";
    return keys ? "ready" : "pending";
}

static int
print_list(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("NAME|*STATE|ISSUER|>KEYS|FETCHED|ERROR");
    size_t i;
    json_t *item;

    json_array_foreach(items, i, item)
    {
        const json_t *status = json_object_get(item, "status");
        const char *cells[] = {bh_json_text(item, "name"), state_of(item),
            bh_json_text(item, "issuer"),
            bh_arena_printf(cli->arena, "%zu", json_array_size(json_object_get(status, "keys"))),
            bh_json_text(status, "fetched_at"), bh_json_text(status, "error")};
        bh_table_row(table, cells, 6);
    }
    return bh_table_print(table);
}

/* One call about the issuer that the first argument names; what it answers is shown. */
static int
ask(struct bh_cli *cli, const char *method, const char *rest, json_t *body)
{
    struct bh_client client;
    struct bh_error err;
    struct bh_answer answer;
    int code = 0;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    struct bh_request request = {
        .method = method, .path = path_of(&client, cli->args[0], rest), .body = body};
    if (bh_client_call(&client, &request, &answer, &err) != BH_OK) {
        code = bh_cli_report(&err);
    } else if (answer.body != NULL && bh_cli_json(cli)) {
        code = bh_out_json(json_incref(answer.body));
    } else if (json_object_get(answer.body, "status") != NULL) {
        json_t *items = json_pack("[O]", answer.body);
        code = print_list(cli, items);
        json_decref(items);
    }
    json_decref(answer.body);
    bh_client_close(&client);
    return code;
}

int
bh_cmd_issuer_list(struct bh_cli *cli)
{
    return bh_list_all(cli, "/v1/issuers?limit=500", print_list);
}

int
bh_cmd_issuer_get(struct bh_cli *cli)
{
    return ask(cli, "GET", "", NULL);
}

int
bh_cmd_issuer_put(struct bh_cli *cli)
{
    json_error_t where;
    json_t *body;
    int code;

    if (cli->file_count != 1)
        return bh_cli_usage(cli, "\"issuer put\" needs one -f FILE");
    body = strcmp(cli->files[0], "-") == 0
               ? json_loadf(stdin, JSON_REJECT_DUPLICATES, &where)
               : json_load_file(cli->files[0], JSON_REJECT_DUPLICATES, &where);
    if (body == NULL && json_error_code(&where) == json_error_cannot_open_file) {
        bh_out_message(stderr, "bulkhead: cannot read %s: %s", cli->files[0], strerror(errno));
        return BH_EXIT_NOT_FOUND;
    }
    if (body == NULL) {
        bh_out_message(stderr, "%s:%d:%d: %s", cli->files[0], where.line, where.column, where.text);
        return BH_EXIT_INPUT;
    }
    code = ask(cli, "PUT", "", body);
    json_decref(body);
    return code;
}

int
bh_cmd_issuer_delete(struct bh_cli *cli)
{
    return ask(cli, "DELETE", "", NULL);
}

int
bh_cmd_issuer_refresh(struct bh_cli *cli)
{
    return ask(cli, "POST", "/refresh", NULL);
}
