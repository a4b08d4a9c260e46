#include "cli/token.h"

#include <string.h>

#include "cli/out.h"
#include "core/token.h"
#include "core/usertoken.h"

enum bh_code
bh_token_ask(struct bh_client *client, const char *tenant, const char *user, bool job, long ttl_s,
    json_t **ret_answer, struct bh_error *err)
{
    json_t *body = json_pack("{s:s}", "tenant", tenant);
    struct bh_request request = {.method = "POST", .path = "/v1/tokens", .body = body};
    struct bh_answer answer;
    enum bh_code code;

    if (body == NULL)
        return bh_fail(err, BH_E_INVALID, "a tenant's id is text in UTF-8");
    if (user != NULL)
        (void)json_object_set_new(body, "sub", json_string(user));
    if (job)
        (void)json_object_set_new(body, "use", json_string("job"));
    if (ttl_s > 0)
        (void)json_object_set_new(body, "ttl_seconds", json_integer(ttl_s));
    code = bh_client_call(client, &request, &answer, err);
    json_decref(body);
    if (code == BH_OK && bh_json_text(answer.body, "token") == NULL)
        code = bh_fail(err, BH_E_UNAVAILABLE, "the answer holds no token");
    if (code == BH_E_INVALID && strcmp(err->pointer, "/tenant") == 0) {
        (void)bh_fail(err, BH_E_NOT_FOUND, "there is no tenant \"%s\"", tenant);
        code = bh_hint(err, "which there are: bulkhead tenant list");
    }
    if (code != BH_OK)
        json_decref(answer.body);
    else
        *ret_answer = answer.body;
    return code;
}

int
bh_cmd_token(struct bh_cli *cli)
{
    const char *user = cli->options[BH_OPT_USER];
    bool job = cli->options[BH_OPT_JOB] != NULL;
    struct bh_client client;
    struct bh_error err;
    json_t *answer = NULL;
    long ttl_s;
    int code;

    if (user == NULL && !job)
        return bh_cli_usage(cli, "\"token\" needs --user SUB or --job");
    if (user != NULL && !bh_token_word_valid(bh_str_of(user)))
        return bh_cli_usage(cli, "--user must have 1 to 255 characters of ASCII without space, "
                                 "double quote and backslash");
    code = bh_cli_number(
        cli, BH_OPT_TTL, 1, job ? BH_TOKEN_JOB_LIFE_S : BH_USERTOKEN_LIFE_MAX_S, 0, &ttl_s);
    if (code != 0)
        return code;
    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    if (bh_token_ask(&client, cli->args[0], user, job, ttl_s, &answer, &err) != BH_OK)
        code = bh_cli_report(&err);
    else if (bh_cli_json(cli))
        code = bh_out_json(json_incref(answer));
    else
        (void)puts(bh_json_text(answer, "token"));
    json_decref(answer);
    bh_client_close(&client);
    return code;
}
