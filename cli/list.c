#include "cli/list.h"

#include <string.h>

#include "cli/out.h"
#include "core/buf.h"

#define PATH_BYTES_MAX 8192

/* Appends the items of one page to ${items}; ${ret_next} is the token of the next, or NULL. */
static enum bh_code
read_page(struct bh_client *client, const char *path, const char *token, json_t *items,
    const char **ret_next, struct bh_error *err)
{
    struct bh_request request = {.method = "GET", .path = path};
    struct bh_answer answer;
    const char *next;
    enum bh_code code;

    if (token != NULL)
        request.path =
            bh_client_path(client, "%s&page_token=%s", path, bh_client_escape(client, token));
    code = bh_client_call(client, &request, &answer, err);
    if (code == BH_OK) {
        (void)json_array_extend(items, json_object_get(answer.body, "items"));
        next = bh_json_text(answer.body, "next_page_token");
        *ret_next = next == NULL ? NULL : bh_arena_strdup(client->arena, next);
    }
    json_decref(answer.body);
    return code;
}

enum bh_code
bh_list_read(struct bh_client *client, const char *path, json_t **ret_items, struct bh_error *err)
{
    json_t *items = json_array();
    const char *token = NULL;

    do {
        enum bh_code code = read_page(client, path, token, items, &token, err);
        if (code != BH_OK) {
            json_decref(items);
            return code;
        }
    } while (token != NULL);
    *ret_items = items;
    return BH_OK;
}

int
bh_list_all(struct bh_cli *cli, const char *path, bh_list_printer print)
{
    struct bh_client client;
    struct bh_error err;
    json_t *items;
    enum bh_code failed;
    int code;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    failed = bh_list_read(&client, path, &items, &err);
    bh_client_close(&client);
    if (failed != BH_OK)
        return bh_cli_report(&err);
    if (!bh_cli_json(cli)) {
        code = print(cli, items);
        json_decref(items);
        return code;
    }
    return bh_out_json(json_pack("{s:o, s:n}", "items", items, "next_page_token"));
}

int
bh_list_page(struct bh_cli *cli, const char *path, bh_list_printer print)
{
    struct bh_request request = {.method = "GET", .path = path};
    struct bh_client client;
    struct bh_answer answer;
    struct bh_error err;
    enum bh_code failed;
    int code;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    failed = bh_client_call(&client, &request, &answer, &err);
    bh_client_close(&client);
    if (failed != BH_OK)
        code = bh_cli_report(&err);
    else if (bh_cli_json(cli))
        code = bh_out_json(json_incref(answer.body));
    else
        code = print(cli, json_object_get(answer.body, "items"));
    json_decref(answer.body);
    return code;
}

/* ${text} with all but unreserved characters escaped: no client is open yet. */
static void
add_escaped(struct bh_buf *buf, const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *text))
            bh_buf_putc(buf, *text);
        else
            bh_buf_printf(buf, "%%%02X", (unsigned char)*text);
    }
}

int
bh_list_path(struct bh_cli *cli, const char *path, uint64_t options, const char **ret_path)
{
    struct bh_buf buf;
    long limit = 500;
    int code = 0;

    if ((options & BH_OPT_BIT(LIMIT)) != 0)
        code = bh_cli_number(cli, BH_OPT_LIMIT, 1, 500, 50, &limit);
    if (code != 0)
        return code;
    bh_buf_init_arena(&buf, cli->arena, PATH_BYTES_MAX);
    bh_buf_printf(&buf, "%s?limit=%ld", path, limit);
    for (unsigned option = 0; option < BH_OPT_COUNT; option++) {
        if ((options & UINT64_C(1) << option) == 0 || option == BH_OPT_LIMIT ||
            cli->options[option] == NULL)
            continue;
        bh_buf_printf(&buf, "&%s=", bh_option_rows[option].word);
        add_escaped(&buf, cli->options[option]);
    }
    if (!bh_buf_ok(&buf))
        return bh_cli_usage(cli, "an option's value is too long");
    *ret_path = buf.data;
    return 0;
}

const char *
bh_json_decimal(struct bh_arena *arena, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_integer(value)
               ? bh_arena_printf(arena, "%" JSON_INTEGER_FORMAT, json_integer_value(value))
               : NULL;
}
