/* `api-key …`: credentials of machines. */
#include <string.h>

#include "cli/list.h"
#include "cli/out.h"
#include "core/str.h"

#define TTL_MAX_S 315360000

static int
print_list(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("ID|NAME|KEY|SUBJECT|SCOPE|ROLES|EXPIRES");
    size_t i, j;
    json_t *item, *role;

    json_array_foreach(items, i, item)
    {
        const char *roles = NULL;
        json_array_foreach(json_object_get(item, "roles"), j, role) roles = bh_arena_printf(
            cli->arena, "%s%s%s", j == 0 ? "" : roles, j == 0 ? "" : ",", json_string_value(role));
        const char *scope = bh_json_text(item, "scope");
        const char *prefix = bh_json_text(item, "prefix");
        const char *cells[] = {bh_json_text(item, "id"), bh_json_text(item, "name"),
            prefix == NULL ? NULL : bh_arena_printf(cli->arena, "%s_...", prefix),
            bh_json_text(item, "sub"), scope == NULL || scope[0] == '\0' ? NULL : scope, roles,
            bh_json_text(item, "expires_at")};
        bh_table_row(table, cells, 7);
    }
    return bh_table_print(table);
}

int
bh_cmd_api_key_list(struct bh_cli *cli)
{
    struct bh_client client;
    struct bh_error err;
    int code;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    code = bh_list_all(cli,
        bh_client_path(
            &client, "/v1/tenants/%s/api-keys?limit=500", bh_client_escape(&client, cli->args[0])),
        print_list);
    bh_client_close(&client);
    return code;
}

/* ${words} parted by commas, as an array. */
static json_t *
array_of(const char *words)
{
    json_t *array = json_array();
    struct bh_str word, rest = bh_str_of(words);
    while (bh_str_cut(rest, ',', &word, &rest))
        (void)json_array_append_new(array, json_stringn(word.data, word.len));
    (void)json_array_append_new(array, json_stringn(rest.data, rest.len));
    return array;
}

static json_t *
body_of(const struct bh_cli *cli, long ttl_s)
{
    static const struct {
        enum bh_option option;
        const char *member;
    } texts[] = {{BH_OPT_NAME, "name"}, {BH_OPT_USER, "sub"}, {BH_OPT_SCOPE, "scope"}};
    json_t *body = json_object();
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (cli->options[texts[i].option] != NULL)
            (void)json_object_set_new(
                body, texts[i].member, json_string(cli->options[texts[i].option]));
    if (cli->options[BH_OPT_ROLES] != NULL)
        (void)json_object_set_new(body, "roles", array_of(cli->options[BH_OPT_ROLES]));
    if (ttl_s > 0)
        (void)json_object_set_new(body, "ttl_seconds", json_integer(ttl_s));
    return body;
}

int
bh_cmd_api_key_create(struct bh_cli *cli)
{
    struct bh_client client;
    struct bh_error err;
    struct bh_answer answer;
    long ttl_s;
    int code = bh_cli_number(cli, BH_OPT_TTL, 60, TTL_MAX_S, 0, &ttl_s);

    if (code != 0)
        return code;
    if (cli->options[BH_OPT_NAME] == NULL)
        return bh_cli_usage(cli, "\"api-key create\" needs --name TEXT");
    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    struct bh_request request = {.method = "POST",
        .path = bh_client_path(
            &client, "/v1/tenants/%s/api-keys", bh_client_escape(&client, cli->args[0])),
        .body = body_of(cli, ttl_s)};
    if (bh_client_call(&client, &request, &answer, &err) != BH_OK)
        code = bh_cli_report(&err);
    else if (bh_cli_json(cli))
        code = bh_out_json(json_incref(answer.body));
    else
        (void)puts(
            bh_json_text(answer.body, "key") == NULL ? "" : bh_json_text(answer.body, "key"));
    if (code == 0 && !bh_cli_json(cli))
        bh_out_message(stderr, "%s; the key is shown this once", bh_json_text(answer.body, "id"));
    json_decref(answer.body);
    json_decref(request.body);
    bh_client_close(&client);
    return code;
}

int
bh_cmd_api_key_delete(struct bh_cli *cli)
{
    struct bh_client client;
    struct bh_error err;
    struct bh_answer answer;
    int code = 0;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    struct bh_request request = {.method = "DELETE",
        .path = bh_client_path(&client, "/v1/tenants/%s/api-keys/%s",
            bh_client_escape(&client, cli->args[0]), bh_client_escape(&client, cli->args[1]))};
    if (bh_client_call(&client, &request, &answer, &err) != BH_OK)
        code = bh_cli_report(&err);
    json_decref(answer.body);
    bh_client_close(&client);
    return code;
}
