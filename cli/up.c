#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/agent.h"
#include "cli/apply.h"
#include "cli/out.h"
#include "cli/status.h"
#include "cli/tenant.h"
#include "cli/token.h"

#define EXAMPLES_APPLIED "examples.applied"
#define EXAMPLES_TIMEOUT_S 120

/* What the first `up` applies, so that there is something to see. */
static const char *const examples[] = {"acme", "globex", "umbrella"};
#define EXAMPLES (sizeof(examples) / sizeof(examples[0]))

/* ---- the example tenants, once ---- */

static void
marker_path(const struct bh_state *state, char path[PATH_MAX + 32])
{
    (void)snprintf(path, PATH_MAX + 32, "%s/%s", state->path, EXAMPLES_APPLIED);
}

static int
write_marker(const struct bh_state *state)
{
    char path[PATH_MAX + 32];
    int fd;

    marker_path(state, path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0 || close(fd) != 0) {
        bh_out_message(stderr, "bulkhead: cannot write %s: %s", path, strerror(errno));
        return BH_EXIT_FAILED;
    }
    return 0;
}

static bool
has_marker(const struct bh_state *state)
{
    char path[PATH_MAX + 32];

    marker_path(state, path);
    return access(path, F_OK) == 0;
}

static int
apply_examples(struct bh_cli *cli, struct bh_client *client)
{
    struct bh_files files = {0};
    struct bh_applied *applied = NULL;
    struct bh_error err;
    char base[PATH_MAX];
    int code;

    if (bh_state_tool("share/bulkhead/examples/tenants", base, &err) != BH_OK)
        return bh_cli_report(&err);
    cli->file_count = EXAMPLES;
    for (size_t i = 0; i < EXAMPLES; i++) {
        cli->files[i] = bh_arena_printf(cli->arena, "%s/%s/tenant.yaml", base, examples[i]);
        if (cli->files[i] == NULL)
            return bh_cli_no_memory();
    }
    code = bh_files_read(cli, &files);
    if (code == 0)
        code = bh_apply(client, &files, EXAMPLES_TIMEOUT_S, &applied);
    bh_apply_end(applied, files.count);
    return code;
}

/* Has the agent run a tenant's seed.sql as that tenant; it does so once. */
static enum bh_code
seed(struct bh_client *client, struct bh_client *agent, const char *tenant, struct bh_error *err)
{
    struct bh_request request = {.method = "POST", .path = "/seed"};
    struct bh_answer answer = {0};
    json_t *token = NULL;
    enum bh_code code;

    BH_TRY(bh_token_ask(client, tenant, NULL, true, 300, &token, err));
    request.body = json_pack("{s:s, s:s}", "tenant", tenant, "token", bh_json_text(token, "token"));
    code = bh_client_call(agent, &request, &answer, err);
    json_decref(request.body);
    json_decref(answer.body);
    json_decref(token);
    return code;
}

static int
seed_examples(const struct bh_cli *cli, const struct bh_state *state, struct bh_client *client)
{
    struct bh_client agent;
    struct bh_error err;
    enum bh_code code = bh_client_agent(cli, state, &agent, &err);

    for (size_t i = 0; code == BH_OK && i < EXAMPLES; i++) {
        code = seed(client, &agent, examples[i], &err);
        if (code == BH_OK)
            bh_out_message(stderr, "%s: rows of the example are in", examples[i]);
    }
    bh_client_close(&agent);
    return code == BH_OK ? 0 : bh_cli_report(&err);
}

static int
add_examples(struct bh_cli *cli, const struct bh_state *state, struct bh_client *client)
{
    int code = apply_examples(cli, client);

    if (code == 0)
        code = seed_examples(cli, state, client);
    return code == 0 ? write_marker(state) : code;
}

/* ---- what to see ---- */

static void
print_next(const struct bh_cli *cli, const struct bh_state *state, const json_t *items)
{
    const char *program = strchr(cli->program, '/') == NULL ? "bulkhead" : cli->program;
    bool named = cli->options[BH_OPT_STATE] != NULL;
    size_t i;
    json_t *tenant;

    json_array_foreach(items, i, tenant)
    {
        const char *url = bh_json_text(tenant, "url");
        const char *id = bh_json_text(tenant, "id");
        const char *is = bh_json_text(tenant, "state");
        if (url == NULL || id == NULL || is == NULL || strcmp(is, "active") != 0)
            continue;
        bh_out_message(stderr,
            "next: curl -s %sorders -H \"Authorization: Bearer $(%s token %s --user u1%s%s)\"", url,
            program, id, named ? " --state " : "", named ? state->path : "");
        return;
    }
    bh_out_message(stderr, "next: %s apply -f examples/tenants/acme/tenant.yaml", program);
}

static int
print_tenants(struct bh_cli *cli, const struct bh_state *state, struct bh_client *client)
{
    struct bh_table *table;
    struct bh_error err;
    json_t *items;
    size_t i;
    json_t *tenant;
    int code;

    if (bh_tenants_read(client, NULL, &items, &err) != BH_OK)
        return bh_cli_report(&err);
    table = bh_table_new("TENANT|*STATE|URL");
    json_array_foreach(items, i, tenant)
    {
        const char *cells[] = {
            bh_json_text(tenant, "id"), bh_json_text(tenant, "state"), bh_json_text(tenant, "url")};
        bh_table_row(table, cells, 3);
    }
    code = bh_table_print(table);
    (void)fflush(stdout);
    print_next(cli, state, items);
    json_decref(items);
    return code;
}

static int
print_status(const struct bh_cli *cli, const struct bh_state *state)
{
    return bh_out_json(bh_status_read(cli, state));
}

/* After all runs: examples where there were none yet, then what there is. */
static int
show(struct bh_cli *cli)
{
    struct bh_state state;
    struct bh_client client;
    struct bh_error err;
    int code = 0;

    if (bh_state_find(cli, &state, &err) != BH_OK ||
        bh_client_local(cli, &state, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    if (!has_marker(&state))
        code = add_examples(cli, &state, &client);
    if (code == 0)
        code = bh_cli_json(cli) ? print_status(cli, &state) : print_tenants(cli, &state, &client);
    bh_client_close(&client);
    return code;
}

int
bh_cmd_up(struct bh_cli *cli)
{
    struct bh_state state;
    struct bh_error err;
    int code = 0;

    if (bh_state_find(cli, &state, &err) != BH_OK)
        return bh_cli_report(&err);
    for (int i = 0; code == 0 && i < BH_PORT_COUNT; i++) /* asked for, else as last time */
        code = bh_cli_number(cli, bh_port_rows[i].option, bh_port_rows[i].fallback == 0 ? 0 : 1,
            65535, state.ports[i], &state.ports[i]);
    if (code == 0)
        code = bh_agent_start(cli, &state);
    return code == 0 ? show(cli) : code;
}

int
bh_cmd_down(struct bh_cli *cli)
{
    struct bh_state state;
    struct bh_error err;
    struct stat st;
    int code = 0;

    if (bh_state_find(cli, &state, &err) != BH_OK)
        return bh_cli_report(&err);
    if (stat(state.path, &st) != 0 && errno == ENOENT) {
        bh_out_message(stderr, "nothing runs: there is no %s", state.path);
    } else {
        bh_out_message(stderr, "stopping what runs for %s", state.path);
        code = bh_agent_stop(&state);
        if (code == 0)
            bh_out_message(stderr, "all is stopped; the state stays");
    }
    if (bh_cli_json(cli)) {
        int printed = print_status(cli, &state);
        code = code != 0 ? code : printed;
    }
    return code;
}
