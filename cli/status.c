#include "cli/status.h"

#include <stdlib.h>
#include <string.h>

#include "cli/http.h"
#include "cli/list.h"
#include "cli/out.h"
#include "cli/tenant.h"
#include "core/buf.h"

#define AGENT_TIMEOUT_MS 3000

static const struct {
    const char *name;
    enum bh_port port;
} components[] = {
    {"agent", BH_PORT_AGENT},
    {"control", BH_PORT_CONTROL},
    {"edge", BH_PORT_EDGE},
    {"postgres", BH_PORT_POSTGRES},
    {"pgbouncer", BH_PORT_PGBOUNCER},
    {"app", BH_PORT_APP},
};
#define COMPONENTS (sizeof(components) / sizeof(components[0]))

static const json_t *
find_component(const json_t *list, const char *name)
{
    size_t i;
    json_t *entry;

    json_array_foreach(list, i, entry)
    {
        const char *is = bh_json_text(entry, "name");
        if (is != NULL && strcmp(is, name) == 0)
            return entry;
    }
    return NULL;
}

static bool
is_component_up(const json_t *status, const char *name)
{
    const json_t *list = json_object_get(status, "components");
    const char *state = bh_json_text(find_component(list, name), "state");

    return state != NULL && strcmp(state, "up") == 0;
}

bool
bh_status_up(const json_t *status)
{
    for (size_t i = 0; i < COMPONENTS; i++)
        if (!is_component_up(status, components[i].name))
            return false;
    return true;
}

/* ---- where the agent is silent ---- */

/* Start time of a process in clock ticks (field 22 of its stat), -1 where it does not run. */
static json_int_t
start_of(json_int_t pid)
{
    char path[64];
    char text[1024];
    FILE *file;
    size_t len;
    char *at;

    (void)snprintf(path, sizeof(path), "/proc/%" JSON_INTEGER_FORMAT "/stat", pid);
    file = fopen(path, "re");
    if (file == NULL)
        return -1;
    len = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    at = strrchr(text, ')'); /* the name may hold anything */
    if (at == NULL || at[1] == '\0' || at[2] == 'Z')
        return -1;
    for (int field = 2; field < 22 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? -1 : strtoll(at + 1, NULL, 10);
}

/* What the agent wrote down last: an array, or NULL.  Owned by the caller. */
static json_t *
read_written(const struct bh_cli *cli, const struct bh_state *state)
{
    struct bh_error err;
    json_t *value;
    json_t *list;
    char *text;

    if (bh_state_read(state, "run/components.json", cli->arena, &text, &err) != BH_OK)
        return NULL;
    value = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    list = json_is_object(value) ? json_object_get(value, "components") : value;
    json_incref(list);
    json_decref(value);
    return list;
}

static json_t *
observe(const json_t *entry, size_t which, const struct bh_state *state)
{
    const json_t *pid = json_object_get(entry, "pid");
    const json_t *started = json_object_get(entry, "started");
    const json_t *port = json_object_get(entry, "port");
    const char *is = bh_json_text(entry, "state");
    const char *version = bh_json_text(entry, "version");
    bool alive = json_is_integer(pid) && json_is_integer(started) &&
                 start_of(json_integer_value(pid)) == json_integer_value(started);
    bool agent = strcmp(components[which].name, "agent") == 0;

    if (!alive || is == NULL)
        is = "down";
    else if (agent && strcmp(is, "up") == 0)
        is = "failed"; /* it runs and does not answer */
    return json_pack("{s:s, s:s, s:o, s:I, s:s?}", "name", components[which].name, "state", is,
        "pid", alive ? json_integer(json_integer_value(pid)) : json_null(), "port",
        alive && json_is_integer(port) ? json_integer_value(port)
                                       : (json_int_t)state->ports[components[which].port],
        "version", version);
}

/* How many tenants are in each state, asked of the control plane; {} where it is silent too. */
static json_t *
count_tenants(const struct bh_cli *cli, const struct bh_state *state)
{
    json_t *counts = json_object();
    struct bh_client client;
    struct bh_error err;
    json_t *items = NULL;
    size_t i;
    json_t *tenant;

    if (bh_client_local(cli, state, &client, &err) != BH_OK)
        return counts;
    client.timeout_ms = AGENT_TIMEOUT_MS;
    if (bh_tenants_read(&client, NULL, &items, &err) == BH_OK)
        json_array_foreach(items, i, tenant)
        {
            const char *is = bh_json_text(tenant, "state");
            if (is != NULL)
                (void)json_object_set_new(
                    counts, is, json_integer(1 + json_integer_value(json_object_get(counts, is))));
        }
    json_decref(items);
    bh_client_close(&client);
    return counts;
}

static json_t *
look_around(const struct bh_cli *cli, const struct bh_state *state, const json_t *written)
{
    json_t *list = json_array();

    for (size_t i = 0; i < COMPONENTS; i++)
        (void)json_array_append_new(
            list, observe(find_component(written, components[i].name), i, state));
    return json_pack("{s:o, s:{s:n, s:n, s:n}, s:o}", "components", list, "snapshot", "incarnation",
        "seq", "age_ms", "tenants", state->exists ? count_tenants(cli, state) : json_object());
}

/* ---- the agent ---- */

/* Is what answers the agent that wrote ${written}, and not another state directory's? */
static bool
is_ours(const json_t *status, const json_t *written)
{
    const json_t *theirs =
        json_object_get(find_component(json_object_get(status, "components"), "agent"), "pid");
    const json_t *ours = json_object_get(find_component(written, "agent"), "pid");

    return json_is_integer(theirs) && (!json_is_integer(ours) || json_equal(theirs, ours));
}

static json_t *
ask_agent(const struct bh_cli *cli, const struct bh_state *state)
{
    struct bh_request request = {.method = "GET", .path = "/status"};
    struct bh_client client;
    struct bh_answer answer;
    struct bh_error err;
    enum bh_code code;

    if (bh_client_agent(cli, state, &client, &err) != BH_OK)
        return NULL;
    client.token = NULL; /* it is open to all: no need to show one */
    client.timeout_ms = AGENT_TIMEOUT_MS;
    code = bh_client_call(&client, &request, &answer, &err);
    bh_client_close(&client);
    if (code == BH_OK && json_is_array(json_object_get(answer.body, "components")))
        return answer.body;
    json_decref(answer.body);
    return NULL;
}

json_t *
bh_status_read(const struct bh_cli *cli, const struct bh_state *state)
{
    json_t *written = read_written(cli, state);
    json_t *status = state->exists ? ask_agent(cli, state) : NULL;

    if (status != NULL && !is_ours(status, written)) {
        json_decref(status);
        status = NULL;
    }
    if (status == NULL)
        status = look_around(cli, state, written);
    json_decref(written);
    return status;
}

/* ---- printing ---- */

static void
print_numbers(struct bh_buf *buf, const json_t *tenants)
{
    const char *state;
    json_t *count;

    json_object_foreach((json_t *)tenants, state, count)
        bh_buf_printf(buf, "%s%" JSON_INTEGER_FORMAT " %s", buf->len > 0 ? ", " : "",
            json_integer_value(count), state);
}

/* What drifted in the databases, where the control plane can tell; it looks by itself, so this only
 * reads. */
static void
print_findings(const struct bh_cli *cli, const struct bh_state *state)
{
    struct bh_client client;
    struct bh_error err;
    json_t *items = NULL;

    if (bh_client_local(cli, state, &client, &err) != BH_OK)
        return;
    client.timeout_ms = AGENT_TIMEOUT_MS;
    if (bh_list_read(&client, "/v1/selfcheck?limit=500", &items, &err) == BH_OK &&
        json_array_size(items) > 0)
        (void)printf(
            "selfcheck: %zu findings; see: %s selfcheck\n", json_array_size(items), cli->program);
    json_decref(items);
    bh_client_close(&client);
}

static int
print_table(const struct bh_cli *cli, const struct bh_state *state, const json_t *status)
{
    struct bh_table *table = bh_table_new("COMPONENT|*STATE|>PID|>PORT|VERSION");
    const json_t *snapshot = json_object_get(status, "snapshot");
    const json_t *age = json_object_get(snapshot, "age_ms");
    char numbers[256];
    struct bh_buf buf;
    size_t i;
    json_t *entry;

    json_array_foreach(json_object_get(status, "components"), i, entry)
    {
        const json_t *pid = json_object_get(entry, "pid");
        const json_t *port = json_object_get(entry, "port");
        const char *cells[] = {bh_json_text(entry, "name"), bh_json_text(entry, "state"),
            json_is_integer(pid)
                ? bh_arena_printf(cli->arena, "%lld", (long long)json_integer_value(pid))
                : NULL,
            json_is_integer(port)
                ? bh_arena_printf(cli->arena, "%lld", (long long)json_integer_value(port))
                : NULL,
            bh_json_text(entry, "version")};
        bh_table_row(table, cells, 5);
    }
    int code = bh_table_print(table);
    bh_buf_init(&buf, numbers, sizeof(numbers));
    print_numbers(&buf, json_object_get(status, "tenants"));
    if (json_is_integer(age))
        (void)printf("\nsnapshot: seq %lld, %.1f s old\n",
            (long long)json_integer_value(json_object_get(snapshot, "seq")),
            (double)json_integer_value(age) / 1000);
    if (buf.len > 0)
        (void)printf("tenants: %s\n", numbers);
    if (is_component_up(status, "control"))
        print_findings(cli, state);
    return code;
}

/* NAME='value', as any POSIX shell reads it. */
static void
print_variable(const char *name, const char *value)
{
    (void)printf("%s='", name);
    for (; *value != '\0'; value++) {
        if (*value == '\'')
            (void)fputs("'\\''", stdout);
        else
            (void)fputc(*value, stdout);
    }
    (void)fputs("'\n", stdout);
}

/* ${text} as part of a URI: all but unreserved characters and '/' escaped. */
static const char *
escape(struct bh_arena *arena, const char *text)
{
    struct bh_buf buf;

    bh_buf_init_arena(&buf, arena, 4 * PATH_MAX);
    for (; *text != '\0'; text++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/", *text))
            bh_buf_putc(&buf, *text);
        else
            bh_buf_printf(&buf, "%%%02X", (unsigned char)*text);
    }
    return bh_buf_ok(&buf) ? bh_buf_str(&buf).data : NULL;
}

/* ${user}'s libpq URI of the first shared database at ${port}; NULL: out of memory. */
static const char *
database_url(const struct bh_state *state, struct bh_arena *arena, const char *user, long port)
{
    const char *path = escape(arena, state->path);

    if (path == NULL)
        return NULL;
    return bh_arena_printf(
        arena, "postgresql://%s@127.0.0.1:%ld/shared1?passfile=%s/pgpass", user, port, path);
}

const char *
bh_status_admin_url(const struct bh_state *state, struct bh_arena *arena)
{
    return database_url(state, arena, "postgres", state->ports[BH_PORT_POSTGRES]);
}

static int
print_env(const struct bh_cli *cli, const struct bh_state *state)
{
    const long *ports = state->ports;
    const char *pool = database_url(state, cli->arena, "bulkhead_pool", ports[BH_PORT_PGBOUNCER]);
    const char *admin = bh_status_admin_url(state, cli->arena);
    char text[64];

    if (pool == NULL || admin == NULL)
        return bh_cli_no_memory();
    (void)snprintf(text, sizeof(text), "http://127.0.0.1:%ld", ports[BH_PORT_CONTROL]);
    print_variable("BULKHEAD_URL", text);
    (void)snprintf(text, sizeof(text), "http://127.0.0.1:%ld", ports[BH_PORT_EDGE]);
    print_variable("BULKHEAD_EDGE_URL", text);
    print_variable("BULKHEAD_STATE", state->path);
    print_variable("DATABASE_URL", pool);
    print_variable("ADMIN_DATABASE_URL", admin);
    return BH_EXIT_OK;
}

int
bh_cmd_status(struct bh_cli *cli)
{
    const char *format = cli->options[BH_OPT_OUTPUT];
    struct bh_state state;
    struct bh_error err;
    json_t *status;
    bool up;
    int code;

    if (bh_state_find(cli, &state, &err) != BH_OK)
        return bh_cli_report(&err);
    status = bh_status_read(cli, &state);
    up = bh_status_up(status);
    if (format != NULL && strcmp(format, "env") == 0)
        code = print_env(cli, &state);
    else if (bh_cli_json(cli))
        code = bh_out_json(json_incref(status));
    else
        code = print_table(cli, &state, status);
    json_decref(status);
    if (!up && !bh_cli_json(cli))
        bh_out_message(stderr, "not all is up in %s; start it with: bulkhead up", state.path);
    return code != BH_EXIT_OK ? code : up ? BH_EXIT_OK : BH_EXIT_NEGATIVE;
}
