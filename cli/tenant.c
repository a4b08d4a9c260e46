#include <string.h>

#include "cli/follow.h"
#include "cli/http.h"
#include "cli/list.h"
#include "cli/out.h"
#include "cli/tenant.h"

enum bh_code
bh_tenants_read(
    struct bh_client *client, const char *search, json_t **ret_items, struct bh_error *err)
{
    return bh_list_read(client,
        bh_client_path(client, "/v1/tenants?limit=500%s%s",
            search == NULL ? "" : "&q=", search == NULL ? "" : bh_client_escape(client, search)),
        ret_items, err);
}

int
bh_tenants_print(struct bh_arena *arena, const json_t *items)
{
    struct bh_table *table = bh_table_new("ID|NAME|TIER|*STATE|>RATE|>BURST|URL");
    size_t i;
    json_t *tenant;

    json_array_foreach(items, i, tenant)
    {
        const json_t *limits = json_object_get(tenant, "limits");
        const char *cells[] = {bh_json_text(tenant, "id"), bh_json_text(tenant, "name"),
            bh_json_text(tenant, "tier"), bh_json_text(tenant, "state"),
            bh_json_decimal(arena, limits, "requests_per_second"),
            bh_json_decimal(arena, limits, "burst"), bh_json_text(tenant, "url")};
        bh_table_row(table, cells, 7);
    }
    return bh_table_print(table);
}

static int
list(struct bh_cli *cli)
{
    struct bh_client client;
    struct bh_error err;
    json_t *items;
    int code;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    if (bh_tenants_read(&client, cli->options[BH_OPT_SEARCH], &items, &err) != BH_OK) {
        bh_client_close(&client);
        return bh_cli_report(&err);
    }
    bh_client_close(&client);
    if (bh_cli_json(cli))
        return bh_out_json(json_pack("{s:o, s:n}", "items", items, "next_page_token"));
    code = bh_tenants_print(cli->arena, items);
    if (json_array_size(items) == 0)
        bh_out_message(stderr, "no tenants");
    json_decref(items);
    return code;
}

static void
print_member(const char *name, const json_t *value)
{
    (void)printf("%-27s ", name);
    if (json_is_string(value))
        bh_out_text(stdout, (struct bh_str){json_string_value(value), json_string_length(value)});
    else if (json_is_integer(value))
        (void)printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_null(value))
        (void)fputs("-", stdout);
    else
        bh_out_value(stdout, value);
    (void)fputc('\n', stdout);
}

static void
print_condition(const json_t *condition)
{
    const char *type = bh_json_text(condition, "type");
    const char *status = bh_json_text(condition, "status");
    const char *message = bh_json_text(condition, "message");

    bh_out_message(stdout, "%-27s %s%s%s", type == NULL ? "?" : type,
        status == NULL ? json_is_true(json_object_get(condition, "status")) ? "true" : "?" : status,
        message == NULL || *message == '\0' ? "" : ": ", message == NULL ? "" : message);
}

void
bh_members_print(const json_t *object)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)object, name, value)
    {
        const char *inner;
        json_t *part;
        size_t i;
        if (strcmp(name, "conditions") == 0)
            json_array_foreach(value, i, part) print_condition(part);
        else if (json_object_size(value) > 0)
            json_object_foreach(value, inner, part)
            {
                char path[128];
                (void)snprintf(path, sizeof(path), "%s.%s", name, inner);
                print_member(path, part);
            }
        else
            print_member(name, value);
    }
}

int
bh_object_get(struct bh_cli *cli, const char *collection, const char *name)
{
    struct bh_request request = {.method = "GET"};
    struct bh_client client;
    struct bh_answer answer;
    struct bh_error err;
    enum bh_code code;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    request.path =
        bh_client_path(&client, "/v1/%s/%s", collection, bh_client_escape(&client, name));
    code = bh_client_call(&client, &request, &answer, &err);
    bh_client_close(&client);
    if (code != BH_OK) {
        json_decref(answer.body);
        return bh_cli_report(&err);
    }
    if (bh_cli_json(cli))
        return bh_out_json(answer.body);
    bh_members_print(answer.body);
    json_decref(answer.body);
    return BH_EXIT_OK;
}

int
bh_cmd_tenant_list(struct bh_cli *cli)
{
    return list(cli);
}

int
bh_cmd_tenant_get(struct bh_cli *cli)
{
    return bh_object_get(cli, "tenants", cli->args[0]);
}

int
bh_cmd_get_tenants(struct bh_cli *cli)
{
    if (cli->arg_count > 0 && cli->options[BH_OPT_SEARCH] != NULL)
        return bh_cli_usage(cli, "an id and --search exclude each other");
    return cli->arg_count > 0 ? bh_object_get(cli, "tenants", cli->args[0]) : list(cli);
}

/* Sends the DELETE; ${ret_operation} is in the arena. */
static enum bh_code
begin_delete(
    struct bh_client *client, const char *id, const char **ret_operation, struct bh_error *err)
{
    struct bh_request request = {.method = "DELETE"};
    struct bh_answer answer;
    const char *operation;
    enum bh_code code;

    request.path = bh_client_path(client, "/v1/tenants/%s?now=true", bh_client_escape(client, id));
    code = bh_client_call(client, &request, &answer, err);
    if (code == BH_OK) {
        operation = bh_json_text(answer.body, "operation");
        *ret_operation = operation == NULL ? NULL : bh_arena_strdup(client->arena, operation);
        if (*ret_operation == NULL)
            code = bh_fail(err, BH_E_INTERNAL, "the answer names no operation");
    }
    json_decref(answer.body);
    return code;
}

int
bh_cmd_tenant_delete(struct bh_cli *cli)
{
    struct bh_followed item = {.tenant = cli->args[0]};
    struct bh_client client;
    struct bh_error err;
    long timeout_s;
    int code = bh_follow_timeout(cli, &timeout_s);

    if (code != 0)
        return code;
    if (cli->options[BH_OPT_NOW] == NULL)
        return bh_cli_usage(
            cli, "deleting %s removes its data for good; say so with --now", cli->args[0]);
    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    if (begin_delete(&client, cli->args[0], &item.id, &err) != BH_OK) {
        bh_client_close(&client);
        return bh_cli_report(&err);
    }
    code = bh_follow(&client, &item, 1, timeout_s);
    if (bh_cli_json(cli) && item.operation != NULL)
        (void)bh_out_json(json_incref(item.operation));
    else if (code == 0)
        bh_out_message(stdout, "%s deleted", cli->args[0]);
    bh_follow_end(&item, 1);
    bh_client_close(&client);
    return code;
}
