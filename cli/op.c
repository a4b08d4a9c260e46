#include <string.h>

#include "cli/follow.h"
#include "cli/http.h"
#include "cli/list.h"
#include "cli/out.h"

/* One request about an operation; ${ret_body} is owned by the caller. */
static enum bh_code
request_operation(struct bh_client *client, const char *method, const char *id, const char *verb,
    json_t **ret_body, struct bh_error *err)
{
    struct bh_request request = {.method = method};
    struct bh_answer answer;
    enum bh_code code;

    request.path =
        bh_client_path(client, "/v1/operations/%s%s", bh_client_escape(client, id), verb);
    code = bh_client_call(client, &request, &answer, err);
    if (code == BH_OK && !json_is_object(answer.body))
        code = bh_fail(err, BH_E_UNAVAILABLE, "the answer holds no operation");
    if (code != BH_OK)
        json_decref(answer.body);
    else
        *ret_body = answer.body;
    return code;
}

static int
print_list(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("ID|KIND|TENANT|>GENERATION|*STATE|CREATED|FINISHED");
    size_t i;
    json_t *op;

    json_array_foreach(items, i, op)
    {
        const char *cells[] = {bh_json_text(op, "id"), bh_json_text(op, "kind"),
            bh_json_text(op, "tenant"), bh_json_decimal(cli->arena, op, "generation"),
            bh_json_text(op, "state"), bh_json_text(op, "created_at"),
            bh_json_text(op, "finished_at")};
        bh_table_row(table, cells, 7);
    }
    return bh_table_print(table);
}

int
bh_cmd_op_list(struct bh_cli *cli)
{
    const char *path;
    int code = bh_list_path(cli, "/v1/operations", BH_OPT_BIT(TENANT) | BH_OPT_BIT(LIMIT), &path);

    return code != 0 ? code : bh_list_page(cli, path, print_list);
}

static int
print_operation(struct bh_cli *cli, const json_t *op)
{
    static const char *const members[] = {
        "id", "kind", "tenant", "state", "created_at", "finished_at"};
    const char *error = bh_json_text(json_object_get(op, "error"), "detail");
    struct bh_table *table = bh_table_new("STEP|*STATE|>ATTEMPT|STARTED|FINISHED|ERROR");
    size_t i;
    json_t *step;

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const char *text = bh_json_text(op, members[i]);
        bh_out_message(stdout, "%-12s %s", members[i], text == NULL ? "-" : text);
    }
    if (error != NULL)
        bh_out_message(stdout, "%-12s %s", "error", error);
    (void)fputc('\n', stdout);
    json_array_foreach(json_object_get(op, "steps"), i, step)
    {
        const char *cells[] = {bh_json_text(step, "name"), bh_json_text(step, "state"),
            bh_json_decimal(cli->arena, step, "attempt"), bh_json_text(step, "started_at"),
            bh_json_text(step, "finished_at"),
            bh_json_text(json_object_get(step, "error"), "detail")};
        bh_table_row(table, cells, 6);
    }
    return bh_table_print(table);
}

static int
print(struct bh_cli *cli, const json_t *op)
{
    return bh_cli_json(cli) ? bh_out_json(json_incref((json_t *)op)) : print_operation(cli, op);
}

int
bh_cmd_op_get(struct bh_cli *cli)
{
    struct bh_client client;
    struct bh_error err;
    json_t *op = NULL;
    int code;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    if (request_operation(&client, "GET", cli->args[0], "", &op, &err) != BH_OK)
        code = bh_cli_report(&err);
    else
        code = print(cli, op);
    json_decref(op);
    bh_client_close(&client);
    return code;
}

/* Sends ${method}, then follows the operation that the answer holds. */
static int
follow(struct bh_cli *cli, const char *method, const char *verb)
{
    struct bh_followed item = {0};
    struct bh_client client;
    struct bh_error err;
    json_t *op = NULL;
    long timeout_s;
    int code = bh_follow_timeout(cli, &timeout_s);

    if (code != 0)
        return code;
    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    if (request_operation(&client, method, cli->args[0], verb, &op, &err) != BH_OK) {
        bh_client_close(&client);
        return bh_cli_report(&err);
    }
    item.id = bh_json_text(op, "id");
    item.tenant = bh_json_text(op, "tenant");
    if (item.id == NULL)
        item.id = cli->args[0];
    if (item.tenant == NULL)
        item.tenant = item.id;
    code = bh_follow(&client, &item, 1, timeout_s);
    if (item.operation != NULL) {
        int printed = print(cli, item.operation);
        code = code != 0 ? code : printed;
    }
    bh_follow_end(&item, 1);
    json_decref(op);
    bh_client_close(&client);
    return code;
}

int
bh_cmd_op_watch(struct bh_cli *cli)
{
    return follow(cli, "GET", "");
}

int
bh_cmd_op_resume(struct bh_cli *cli)
{
    return follow(cli, "POST", "/resume");
}
