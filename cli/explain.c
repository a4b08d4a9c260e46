/* `explain policy|route|limit`: what the edges do for a tenant, by the policy that they have. */
#include <string.h>

#include "cli/http.h"
#include "cli/list.h"
#include "cli/out.h"
#include "core/buf.h"

/* Asks the control plane; ${ret_report} is owned by the caller.  Returns 0 or the exit code. */
static int
ask(struct bh_cli *cli, const char *method, const char *path, json_t **ret_report)
{
    struct bh_request request = {.method = "GET"};
    struct bh_client client;
    struct bh_answer answer;
    struct bh_error err;
    enum bh_code code;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    const char *tenant = bh_client_escape(&client, cli->args[0]);
    request.path = path == NULL
                       ? bh_client_path(&client, "/v1/tenants/%s/edge", tenant)
                       : bh_client_path(&client, "/v1/tenants/%s/edge?method=%s&path=%s", tenant,
                             bh_client_escape(&client, method), bh_client_escape(&client, path));
    code = bh_client_call(&client, &request, &answer, &err);
    bh_client_close(&client);
    if (code != BH_OK) {
        json_decref(answer.body);
        return bh_cli_report(&err);
    }
    *ret_report = answer.body;
    return 0;
}

static const char *
text(const json_t *object, const char *name)
{
    const char *value = bh_json_text(object, name);
    return value == NULL ? "-" : value;
}

static void
print_head(const json_t *report)
{
    bh_out_message(stdout, "tenant %s, tier %s, policy %s", text(report, "tenant"),
        text(report, "tier"), text(report, "policy"));
}

/* ---- policy ---- */

static int
print_policy(const json_t *report)
{
    size_t i;
    json_t *member;

    print_head(report);
    json_array_foreach(json_object_get(report, "members"), i, member)
    {
        (void)printf("  %-20s %-8s ", text(member, "name"), text(member, "from"));
        bh_out_value(stdout, json_object_get(member, "value"));
        (void)fputc('\n', stdout);
    }
    return BH_EXIT_OK;
}

int
bh_cmd_explain_policy(struct bh_cli *cli)
{
    json_t *report = NULL;
    int code = ask(cli, NULL, NULL, &report);

    if (code != 0)
        return code;
    if (bh_cli_json(cli))
        return bh_out_json(report);
    code = print_policy(report);
    json_decref(report);
    return code;
}

/* ---- limits ---- */

static const char *
figures(struct bh_arena *arena, const json_t *limit)
{
    json_int_t rate = json_integer_value(json_object_get(limit, "requests_per_second"));
    json_int_t amount = json_integer_value(json_object_get(limit, "quota"));

    if (rate > 0)
        return bh_arena_printf(arena, "%lld/s, burst %lld", (long long)rate,
            (long long)json_integer_value(json_object_get(limit, "burst")));
    if (amount > 0)
        return bh_arena_printf(
            arena, "%lld %s a %s", (long long)amount, text(limit, "unit"), text(limit, "window"));
    return bh_arena_printf(
        arena, "%lld at once", (long long)json_integer_value(json_object_get(limit, "concurrent")));
}

/* The requests that it counts for. */
static const char *
scope(struct bh_arena *arena, const json_t *limit)
{
    struct bh_buf out;
    size_t i;
    json_t *route;

    if (json_is_true(json_object_get(limit, "every_request")))
        return "every request";
    bh_buf_init_arena(&out, arena, 8192);
    json_array_foreach(json_object_get(limit, "routes"), i, route)
        bh_buf_printf(&out, "%s%s", i == 0 ? "" : ", ", json_string_value(route));
    return out.len == 0 ? "nothing" : bh_buf_ok(&out) ? out.data : "many routes";
}

static int
print_limits(struct bh_arena *arena, const json_t *report, bool counting_only)
{
    struct bh_table *table = bh_table_new("LIMIT|FROM|PER|FIGURES|>USED|>LEASED|COUNTS FOR");
    size_t i;
    json_t *limit;

    json_array_foreach(json_object_get(report, "limits"), i, limit)
    {
        const char *cells[] = {bh_json_text(limit, "name"), bh_json_text(limit, "from"),
            bh_json_text(limit, "per"), figures(arena, limit),
            bh_json_decimal(arena, limit, "used"), bh_json_decimal(arena, limit, "granted"),
            scope(arena, limit)};
        if (!counting_only || json_is_true(json_object_get(limit, "counts")))
            bh_table_row(table, cells, 7);
    }
    return bh_table_print(table);
}

int
bh_cmd_explain_limit(struct bh_cli *cli)
{
    bool asked = cli->arg_count > 1;
    json_t *report = NULL;
    int code;

    if (cli->arg_count == 2)
        return bh_cli_usage(cli, "a method needs a path, and a path a method");
    code = ask(cli, asked ? cli->args[1] : NULL, asked ? cli->args[2] : NULL, &report);
    if (code != 0)
        return code;
    if (bh_cli_json(cli))
        return bh_out_json(report);
    print_head(report);
    code = print_limits(cli->arena, report, asked);
    json_decref(report);
    return code;
}

/* ---- one request ---- */

/* "needs" and its words, where there are any. */
static void
print_words(const char *what, const json_t *words)
{
    size_t i;
    json_t *word;

    if (json_array_size(words) == 0)
        return;
    (void)printf("  %s", what);
    json_array_foreach(words, i, word)
    {
        (void)fputs(i == 0 ? " " : ", ", stdout);
        bh_out_text(stdout, (struct bh_str){json_string_value(word), json_string_length(word)});
    }
    (void)fputc('\n', stdout);
}

static void
print_number(const char *what, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    if (json_is_integer(value))
        (void)printf("  %s %" JSON_INTEGER_FORMAT "\n", what, json_integer_value(value));
}

static void
print_credentials(const json_t *credentials)
{
    if (json_is_true(json_object_get(credentials, "user_tokens")))
        (void)puts("  takes tokens of the platform");
    if (json_is_true(json_object_get(credentials, "api_keys")))
        (void)puts("  takes API keys");
    print_words("takes tokens of the issuers", json_object_get(credentials, "issuers"));
}

static void
print_routes(const json_t *request)
{
    const json_t *route = json_object_get(request, "route");
    size_t i;
    json_t *passed;

    if (json_is_object(route))
        bh_out_message(stdout, "  route %lld \"%s\" (%s), stated by the %s",
            (long long)json_integer_value(json_object_get(route, "index")), text(route, "name"),
            text(route, "path"), text(route, "from"));
    else
        (void)puts("  no route matches");
    json_array_foreach(json_object_get(request, "passed_over"), i, passed)
        bh_out_message(stdout, "  not route %lld \"%s\" (%s): %s",
            (long long)json_integer_value(json_object_get(passed, "index")), text(passed, "name"),
            text(passed, "path"), text(passed, "because"));
}

static int
print_request(struct bh_arena *arena, const json_t *report)
{
    const json_t *request = json_object_get(report, "request");
    const json_t *status = json_object_get(request, "status");
    bool refused = strcmp(text(request, "decision"), "refused") == 0;

    print_head(report);
    if (refused)
        bh_out_message(stdout, "%s %s: refused, %lld %s: %s", text(request, "method"),
            text(request, "path"), (long long)json_integer_value(status), text(request, "code"),
            text(request, "because"));
    else
        bh_out_message(stdout, "%s %s: %s: %s", text(request, "method"), text(request, "path"),
            strcmp(text(request, "decision"), "allowed") == 0 ? "allowed" : "with a credential",
            text(request, "because"));
    print_routes(request);
    if (refused)
        return BH_EXIT_OK;
    print_credentials(json_object_get(request, "credentials"));
    print_words("needs all of the scopes", json_object_get(request, "scopes"));
    print_words("needs one of the roles", json_object_get(request, "roles"));
    print_number("body, bytes, at most", request, "max_body_bytes");
    print_number("answer within, ms,", request, "timeout_ms");
    return print_limits(arena, report, true);
}

int
bh_cmd_explain_route(struct bh_cli *cli)
{
    json_t *report = NULL;
    int code = ask(cli, cli->args[1], cli->args[2], &report);

    if (code != 0)
        return code;
    bool refused = strcmp(text(json_object_get(report, "request"), "decision"), "refused") == 0;
    code = bh_cli_json(cli) ? bh_out_json(json_incref(report)) : print_request(cli->arena, report);
    json_decref(report);
    return code != BH_EXIT_OK ? code : refused ? BH_EXIT_NEGATIVE : BH_EXIT_OK;
}
