#include "agent/site.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"

const struct bh_port_kind bh_port_kinds[BH_PORT_COUNT] = {
    [BH_PORT_EDGE] = {"edge", "edge_port", "--edge-port", "BULKHEAD_EDGE_PORT", 7080},
    [BH_PORT_CONTROL] = {"control", "control_port", "--control-port", "BULKHEAD_CONTROL_PORT",
        7070},
    [BH_PORT_POSTGRES] = {"postgres", "postgres_port", "--postgres-port", "BULKHEAD_POSTGRES_PORT",
        7432},
    [BH_PORT_PGBOUNCER] = {"pgbouncer", "pgbouncer_port", "--pgbouncer-port",
        "BULKHEAD_PGBOUNCER_PORT", 7433},
    [BH_PORT_APP] = {"app", "app_port", "--app-port", "BULKHEAD_APP_PORT", 7090},
    [BH_PORT_AGENT] = {"agent", "agent_port", "--agent-port", "BULKHEAD_AGENT_PORT", 7081},
    [BH_PORT_EDGE_TLS] = {"edge-tls", "edge_tls_port", "--edge-tls-port", "BULKHEAD_EDGE_TLS_PORT",
        0},
    [BH_PORT_REDIS] = {"redis", "redis_port", "--redis-port", "BULKHEAD_REDIS_PORT", 7379},
};

const char bh_superuser_conninfo[] = "host=127.0.0.1 port=${postgres_port} user=postgres "
                                     "passfile=${state}/keys/control.pgpass";
const char bh_pool_conninfo[] = "host=127.0.0.1 port=${pgbouncer_port} user=bulkhead_pool "
                                "dbname=${database} passfile=${state}/keys/app.pgpass "
                                "connect_timeout=2 sslmode=disable";

/* Parts of paths that could mean another path than they show. */
static bool
path_plain(const char *path)
{
    return !strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../") && strlen(path) > 1;
}

static enum bh_code
usual_state(char ret_path[PATH_MAX], struct bh_error *err)
{
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int len;
    if (geteuid() == 0)
        len = snprintf(ret_path, PATH_MAX, "/var/lib/bulkhead");
    else if (xdg && xdg[0] == '/')
        len = snprintf(ret_path, PATH_MAX, "%s/bulkhead", xdg);
    else if (home && home[0] == '/')
        len = snprintf(ret_path, PATH_MAX, "%s/.local/state/bulkhead", home);
    else
        return bh_fail(err, BH_E_CONFIG, "HOME is not set, so there is no place for state");
    return len < PATH_MAX ? BH_OK : bh_fail(err, BH_E_CONFIG, "HOME is too long");
}

static enum bh_code
find_state(const char *state, char ret_path[PATH_MAX], struct bh_error *err)
{
    char cwd[PATH_MAX];
    if (!state || !state[0])
        state = getenv("BULKHEAD_STATE");
    if (!state || !state[0])
        return usual_state(ret_path, err);
    bool absolute = state[0] == '/';
    if (!absolute && !getcwd(cwd, sizeof(cwd)))
        return bh_fail(err, BH_E_CONFIG, "cannot find the current directory: %s", strerror(errno));
    int len =
        snprintf(ret_path, PATH_MAX, "%s%s%s", absolute ? "" : cwd, absolute ? "" : "/", state);
    if (len >= PATH_MAX - 64)
        return bh_fail(err, BH_E_CONFIG, "the path of the state directory is too long");
    while (len > 1 && ret_path[len - 1] == '/')
        ret_path[--len] = '\0';
    return BH_OK;
}

/* Where two state directories must differ and a path is too long or not allowed. */
static void
name_shm(struct bh_site *site)
{
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    struct bh_buf buf;
    (void)EVP_Digest(site->state, strlen(site->state), digest, NULL, EVP_sha256(), NULL);
    bh_buf_init(&buf, site->shm, sizeof(site->shm));
    bh_buf_puts(&buf, "/dev/shm/bulkhead-");
    bh_buf_hex(&buf, digest, 8);
}

enum bh_code
bh_site_init(struct bh_site *site, const char *state, const char *base_domain, struct bh_error *err)
{
    memset(site, 0, sizeof(*site));
    bh_chunks_init(&site->chunks);
    BH_TRY(find_state(state, site->state, err));
    if (!bh_render_value_valid(site->state) || !path_plain(site->state)) {
        bh_fail(err, BH_E_CONFIG,
            "the state path %s holds something that configuration files cannot hold", site->state);
        bh_hint(err, "use letters, digits and ._/-+ only: --state <directory>");
        return BH_E_CONFIG;
    }
    site->base_domain = base_domain ? base_domain : "localhost";
    if (!bh_render_value_valid(site->base_domain))
        return bh_fail(err, BH_E_CONFIG, "the base domain is not a domain name");
    snprintf(site->lib, sizeof(site->lib), "%.*s/lib", PATH_MAX - 8, site->state);
    name_shm(site);
    for (int i = 0; i < BH_PORT_COUNT; i++)
        site->ports[i] = bh_port_kinds[i].standard;
    bh_site_vars(site);
    return BH_OK;
}

static void
add_var(struct bh_site *site, const char *name, const char *value)
{
    if (site->var_count < BH_VARS_MAX)
        site->vars[site->var_count++] = (struct bh_var){name, value};
}

void
bh_site_vars(struct bh_site *site)
{
    site->var_count = 0;
    add_var(site, "state", site->state);
    add_var(site, "lib", site->lib);
    add_var(site, "shm", site->shm);
    add_var(site, "base_domain", site->base_domain);
    add_var(site, "agent_id", BH_AGENT_ID);
    add_var(site, "cell", BH_CELL);
    add_var(site, "server", BH_SERVER);
    add_var(site, "database", BH_SHARED_DATABASE);
    add_var(site, "pg_bin", BH_PG_BIN);
    for (int i = 0; i < BH_PORT_COUNT; i++) {
        snprintf(site->port_texts[i], sizeof(site->port_texts[i]), "%u", site->ports[i]);
        add_var(site, bh_port_kinds[i].variable, site->port_texts[i]);
    }
}

enum bh_code
bh_site_text(const struct bh_site *site, const char *template, struct bh_arena *arena,
    const char **ret_text, struct bh_error *err)
{
    struct bh_buf buf;
    bh_buf_init_arena(&buf, arena, 8192);
    BH_TRY(bh_render(bh_str_of(template), site->vars, site->var_count, &buf, err));
    bh_buf_puts(&buf, "");
    *ret_text = buf.data ? buf.data : "";
    return BH_OK;
}

void
bh_site_path(const struct bh_site *site, const char *name, char ret_path[PATH_MAX])
{
    int len = snprintf(ret_path, PATH_MAX, "%s/%s", site->state, name);
    if (len >= PATH_MAX)
        abort(); /* state was checked to leave room for every name of ours */
}
