/* `certificate put|list|get|delete`: TLS certificates of tenants' custom domains. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/http.h"
#include "cli/list.h"
#include "cli/out.h"
#include "core/codec.h"
#include "core/time.h"

#define PEM_MAX 65536
#define DAY_S 86400
#define WARN_DAYS 14

/* ---- how long it lasts ---- */

/* Whole days from now on; negative once it has ended. */
static long
days_left(const json_t *certificate)
{
    const char *text = bh_json_text(certificate, "not_after");
    int64_t end_us;
    if (text == NULL || !bh_time_parse(bh_str_of(text), &end_us))
        return 0;
    int64_t left_s = end_us / 1000000 - (int64_t)time(NULL);
    return (long)(left_s < 0 ? (left_s - DAY_S + 1) / DAY_S : left_s / DAY_S);
}

static const char *
state_of(const json_t *certificate)
{
    long days = days_left(certificate);
    if (!json_is_true(json_object_get(certificate, "served")))
        return "unused";
    return days < 0 ? "expired" : days < WARN_DAYS ? "expiring" : "active";
}

static void
warn(const json_t *certificate)
{
    const char *domain = bh_json_text(certificate, "domain");
    long days = days_left(certificate);
    if (days < 0)
        bh_out_message(stderr, "%s: the certificate has expired; put a new one", domain);
    else if (days < WARN_DAYS)
        bh_out_message(
            stderr, "%s: the certificate expires in %ld days; put a new one", domain, days);
    if (!json_is_true(json_object_get(certificate, "served")))
        bh_out_message(
            stderr, "%s: the tenant has no such domain (any more): not shown to anybody", domain);
}

/* ---- one ---- */

static int
print_one(struct bh_cli *cli, json_t *certificate)
{
    static const char *const members[] = {"tenant", "domain", "not_before", "not_after", "key_type",
        "issuer", "fingerprint", "updated_at"};
    if (bh_cli_json(cli))
        return bh_out_json(certificate);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const char *text = bh_json_text(certificate, members[i]);
        bh_out_message(stdout, "%-12s %s", members[i], text == NULL ? "-" : text);
    }
    warn(certificate);
    json_decref(certificate);
    return BH_EXIT_OK;
}

/* What is wrong in a file is told at that file. */
static int
report(struct bh_cli *cli, const struct bh_error *err)
{
    static const struct {
        const char *pointer;
        enum bh_option option;
    } places[] = {{"/chain", BH_OPT_CHAIN}, {"/key", BH_OPT_KEY}};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (strcmp(err->pointer, places[i].pointer) == 0 &&
            cli->options[places[i].option] != NULL) {
            bh_out_message(stderr, "bulkhead: %s: %s", cli->options[places[i].option], err->detail);
            return bh_code_exit(err->code);
        }
    return bh_cli_report(err);
}

static int
call(struct bh_cli *cli, const char *method, json_t *body)
{
    struct bh_request request = {.method = method, .body = body};
    struct bh_client client;
    struct bh_answer answer;
    struct bh_error err;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    request.path = bh_client_path(&client, "/v1/tenants/%s/certificates/%s",
        bh_client_escape(&client, cli->args[0]), bh_client_escape(&client, cli->args[1]));
    enum bh_code code = bh_client_call(&client, &request, &answer, &err);
    bh_client_close(&client);
    if (code != BH_OK) {
        json_decref(answer.body);
        return report(cli, &err);
    }
    if (strcmp(method, "DELETE") != 0 || bh_cli_json(cli))
        return print_one(cli, answer.body);
    bh_out_message(stdout, "certificate for %s deleted", cli->args[1]);
    json_decref(answer.body);
    return BH_EXIT_OK;
}

int
bh_cmd_certificate_get(struct bh_cli *cli)
{
    return call(cli, "GET", NULL);
}

int
bh_cmd_certificate_delete(struct bh_cli *cli)
{
    return call(cli, "DELETE", NULL);
}

/* ---- put ---- */

/* ${text} has room for PEM_MAX bytes and their end. */
static bool
read_file(const char *path, char *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && len <= PEM_MAX) {
        got = read(fd, text + len, PEM_MAX + 1 - len);
        len += got > 0 ? (size_t)got : 0;
    }
    const char *problem = got < 0         ? strerror(errno)
                          : len > PEM_MAX ? "is larger than 64 KiB"
                                          : NULL;
    if (fd >= 0)
        close(fd);
    text[problem == NULL ? len : 0] = '\0';
    if (problem == NULL && strlen(text) != len)
        problem = "is no text";
    if (problem != NULL)
        bh_out_message(stderr, "bulkhead: %s: %s", path, problem);
    return problem == NULL;
}

int
bh_cmd_certificate_put(struct bh_cli *cli)
{
    const char *chain_path = cli->options[BH_OPT_CHAIN];
    const char *key_path = cli->options[BH_OPT_KEY];
    static char chain[PEM_MAX + 2], key[PEM_MAX + 2];

    if (chain_path == NULL || key_path == NULL)
        return bh_cli_usage(cli, "\"certificate put\" needs --chain FILE and --key FILE");
    if (!read_file(chain_path, chain) || !read_file(key_path, key)) {
        bh_wipe(key, sizeof(key));
        return bh_code_exit(BH_E_INVALID);
    }
    json_t *body = json_pack("{s:s, s:s}", "chain", chain, "key", key);
    bh_wipe(key, sizeof(key));
    if (body == NULL) {
        bh_out_message(stderr, "bulkhead: %s and %s must be text", chain_path, key_path);
        return bh_code_exit(BH_E_INVALID);
    }
    int code = call(cli, "PUT", body);
    json_t *secret = json_object_get(body, "key");
    bh_wipe((void *)(uintptr_t)json_string_value(secret), json_string_length(secret));
    json_decref(body);
    return code;
}

/* ---- list ---- */

static int
print_list(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("DOMAIN|*STATE|EXPIRES|>DAYS|KEY|ISSUER");
    size_t i;
    json_t *item;

    json_array_foreach(items, i, item)
    {
        const char *cells[] = {bh_json_text(item, "domain"), state_of(item),
            bh_json_text(item, "not_after"), bh_arena_printf(cli->arena, "%ld", days_left(item)),
            bh_json_text(item, "key_type"), bh_json_text(item, "issuer")};
        bh_table_row(table, cells, 6);
    }
    int code = bh_table_print(table);
    json_array_foreach(items, i, item) warn(item);
    return code;
}

int
bh_cmd_certificate_list(struct bh_cli *cli)
{
    struct bh_client client;
    struct bh_error err;

    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    const char *path = bh_client_path(
        &client, "/v1/tenants/%s/certificates?limit=500", bh_client_escape(&client, cli->args[0]));
    bh_client_close(&client);
    return bh_list_all(cli, path, print_list);
}
