#include "cli/state.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/str.h"

#define TEXT_MAX ((size_t)1 << 20)

const struct bh_port_row bh_port_rows[BH_PORT_COUNT] = {
    [BH_PORT_EDGE] = {BH_OPT_EDGE_PORT, "edge_port", 7080},
    [BH_PORT_CONTROL] = {BH_OPT_CONTROL_PORT, "control_port", 7070},
    [BH_PORT_POSTGRES] = {BH_OPT_POSTGRES_PORT, "postgres_port", 7432},
    [BH_PORT_PGBOUNCER] = {BH_OPT_PGBOUNCER_PORT, "pgbouncer_port", 7433},
    [BH_PORT_APP] = {BH_OPT_APP_PORT, "app_port", 7090},
    [BH_PORT_AGENT] = {BH_OPT_AGENT_PORT, "agent_port", 7081},
    [BH_PORT_EDGE_TLS] = {BH_OPT_EDGE_TLS_PORT, "edge_tls_port", 0},
    [BH_PORT_REDIS] = {BH_OPT_REDIS_PORT, "redis_port", 7379},
};

static const char *
variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : NULL;
}

/* Writes the path as people gave it, or the default of who asks. */
static int
name_directory(const struct bh_cli *cli, char path[PATH_MAX])
{
    const char *given = cli->options[BH_OPT_STATE];
    const char *home = variable("HOME");
    const char *xdg = variable("XDG_STATE_HOME");

    if (given == NULL)
        given = variable("BULKHEAD_STATE");
    if (given != NULL)
        return snprintf(path, PATH_MAX, "%s", given);
    if (geteuid() == 0)
        return snprintf(path, PATH_MAX, "/var/lib/bulkhead");
    if (xdg != NULL && xdg[0] == '/')
        return snprintf(path, PATH_MAX, "%s/bulkhead", xdg);
    return home == NULL ? -1 : snprintf(path, PATH_MAX, "%s/.local/state/bulkhead", home);
}

static enum bh_code
make_absolute(char path[PATH_MAX], struct bh_error *err)
{
    char here[PATH_MAX];
    char given[PATH_MAX];
    size_t len;

    if (path[0] != '/') {
        memcpy(given, path, PATH_MAX);
        if (getcwd(here, sizeof(here)) == NULL ||
            snprintf(path, PATH_MAX, "%s/%s", here, given) >= PATH_MAX)
            return bh_fail(err, BH_E_CONFIG, "cannot make the state path %s absolute", given);
    }
    if (realpath(path, here) != NULL) /* one spelling, where it exists */
        memcpy(path, here, PATH_MAX);
    for (len = strlen(path); len > 1 && path[len - 1] == '/'; len--)
        path[len - 1] = '\0';
    return BH_OK;
}

enum bh_code
bh_state_read(const struct bh_state *state, const char *name, struct bh_arena *arena,
    char **ret_text, struct bh_error *err)
{
    char path[PATH_MAX + 64];
    struct stat st;
    char *text;
    ssize_t got;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", state->path, name);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return bh_fail(err, BH_E_NOT_PERMITTED, "cannot read %s: %s", path, strerror(errno));
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size > TEXT_MAX) {
        if (fd >= 0)
            (void)close(fd);
        return bh_fail(err, BH_E_NOT_FOUND, "there is no %s", path);
    }
    text = bh_arena_alloc(arena, (size_t)st.st_size + 1);
    got = text == NULL ? -1 : read(fd, text, (size_t)st.st_size);
    (void)close(fd);
    if (text == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory while reading %s", path);
    if (got < 0)
        return bh_fail(err, BH_E_NOT_FOUND, "cannot read %s: %s", path, strerror(errno));
    text[got] = '\0';
    *ret_text = text;
    return BH_OK;
}

static enum bh_code
read_settings(const struct bh_cli *cli, struct bh_state *state, struct bh_error *err)
{
    char *text;
    json_t *settings;
    const char *domain;
    enum bh_code code = bh_state_read(state, "etc/settings.json", cli->arena, &text, err);

    if (code == BH_E_NOT_FOUND)
        return BH_OK;
    BH_TRY(code);
    settings = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(settings)) {
        json_decref(settings);
        (void)bh_fail(err, BH_E_CONFIG, "%s/etc/settings.json is broken", state->path);
        return bh_hint(err, "write it anew with: bulkhead up");
    }
    state->exists = true;
    domain = json_string_value(json_object_get(settings, "base_domain"));
    (void)snprintf(
        state->base_domain, sizeof(state->base_domain), "%s", domain == NULL ? "" : domain);
    for (int i = 0; i < BH_PORT_COUNT; i++) {
        json_int_t port = json_integer_value(json_object_get(settings, bh_port_rows[i].setting));
        if (port > 0 && port < 65536)
            state->ports[i] = (long)port;
    }
    json_decref(settings);
    return BH_OK;
}

/* The port that the environment names, or the default. */
static enum bh_code
read_port(const struct bh_port_row *row, long *ret_port, struct bh_error *err)
{
    const char *name = bh_option_rows[row->option].variable;
    const char *text = variable(name);
    uint64_t port = (uint64_t)row->fallback;

    if (text != NULL &&
        (!bh_str_uint(bh_str_of(text), 65535, &port) || (port == 0 && row->fallback != 0)))
        return bh_fail(err, BH_E_CONFIG,
            "the environment variable %s must be a whole number from 1 to 65535", name);
    *ret_port = (long)port;
    return BH_OK;
}

enum bh_code
bh_state_find(const struct bh_cli *cli, struct bh_state *ret_state, struct bh_error *err)
{
    int len = name_directory(cli, ret_state->path);

    if (len <= 0 || len >= PATH_MAX) {
        (void)bh_fail(err, BH_E_CONFIG, "no state directory can be named: HOME is not set");
        return bh_hint(err, "give one with --state DIR");
    }
    BH_TRY(make_absolute(ret_state->path, err));
    ret_state->exists = false;
    ret_state->base_domain[0] = '\0';
    for (int i = 0; i < BH_PORT_COUNT; i++)
        BH_TRY(read_port(&bh_port_rows[i], &ret_state->ports[i], err));
    return read_settings(cli, ret_state, err);
}

enum bh_code
bh_state_tool(const char *name, char ret_path[PATH_MAX], struct bh_error *err)
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (len <= 0)
        return bh_fail(
            err, BH_E_INTERNAL, "cannot find out where this program is: %s", strerror(errno));
    self[len] = '\0';
    for (int up = 0; up < 2; up++) { /* bin/bulkhead → prefix */
        char *slash = strrchr(self, '/');
        if (slash != NULL)
            *slash = '\0';
    }
    if (snprintf(ret_path, PATH_MAX, "%s/%s", self, name) >= PATH_MAX)
        return bh_fail(err, BH_E_INTERNAL, "the path of %s is too long", name);
    return BH_OK;
}
