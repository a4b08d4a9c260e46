#include "agent/component.h"

#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>

#include "agent/file.h"
#include "agent/probe.h"
#include "agent/launch.h"
#include "bh_config.h"
#include "core/buf.h"

#define CONTENT_MAX 65536

const struct bh_component bh_components[BH_COMPONENT_COUNT] = {
    [BH_POSTGRES] =
        {
            .name = "postgres",
            .port = BH_PORT_POSTGRES,
            .argv = {BH_PG_BIN "/postgres", "-D", "${state}/postgres", "-c",
                "config_file=${state}/etc/postgresql.conf"},
            .cwd = "${state}",
            .pid_file = "${state}/postgres/postmaster.pid",
            .config = {"${state}/etc/postgresql.conf", "${state}/etc/pg_hba.conf",
                "${lib}/bulkhead.so"},
            .version = {BH_PG_BIN "/postgres", "--version"},
            .stop_signal = SIGINT,   /* fast: ends sessions, writes a checkpoint */
            .hurry_signal = SIGQUIT, /* immediate: recovery at the next start */
            .stop_ms = 15000,
            .probe = bh_probe_postgres,
            .prepare = bh_prepare_postgres,
        },
    [BH_PGBOUNCER] =
        {
            .name = "pgbouncer",
            .port = BH_PORT_PGBOUNCER,
            .argv = {"/usr/sbin/pgbouncer", "${state}/etc/pgbouncer.ini"},
            .cwd = "${state}",
            .pid_file = "${state}/run/pgbouncer.pid",
            .config = {"${state}/etc/pgbouncer.ini", "${state}/etc/pgbouncer.users"},
            .version = {"/usr/sbin/pgbouncer", "--version"},
            .needs = 1u << BH_POSTGRES,
            .stop_signal = SIGTERM,
            .hurry_signal = SIGQUIT,
            .stop_ms = 3000,
            .probe = bh_probe_pgbouncer,
        },
    [BH_CONTROL] =
        {
            .name = "control",
            .port = BH_PORT_CONTROL,
            .argv = {"${lib}/bulkheadd", "--listen", "127.0.0.1:${control_port}", "--registry",
                "host=127.0.0.1 port=${postgres_port} user=bulkhead_registry dbname=bulkhead",
                "--server", "host=127.0.0.1 port=${postgres_port} user=postgres", "--master-key",
                "${state}/keys/master.key", "--principals", "${state}/keys/principals",
                "--app-migrations", "${lib}/examples/shop/migrations", "--endpoints",
                "127.0.0.1:${app_port}", "--edge-url", "http://127.0.0.1:${edge_port}",
                "--base-domain", "${base_domain}", "--cell", "${cell}", "--state", "${state}"},
            .env = {"PGPASSFILE=${state}/keys/control.pgpass"},
            .passes_on = {"BULKHEAD_FAILPOINT", "BULKHEAD_FAILPOINT_DELAY_MS",
                "BULKHEAD_FAILPOINT_LEASE_MS"},
            .cwd = "${state}",
            .config = {"${state}/keys/principals", "${state}/keys/control.pgpass",
                "${lib}/examples/shop/migrations"},
            .needs = 1u << BH_POSTGRES,
            .stop_signal = SIGTERM,
            .hurry_signal = SIGKILL,
            .stop_ms = 10000,
            .probe = bh_probe_control,
        },
    [BH_EDGE] =
        {
            .name = "edge",
            .port = BH_PORT_EDGE,
            .argv = {"/usr/sbin/nginx", "-p", "${state}/nginx/", "-e", "stderr", "-c",
                "${state}/etc/nginx.conf"},
            .cwd = "${state}",
            .config = {"${state}/etc/nginx.conf", "${state}/etc/nginx-tls.conf",
                "${state}/keys/edge-tls.crt", "${state}/keys/edge-tls.key",
                "${lib}/ngx_http_bulkhead_module.so"},
            .version = {"/usr/sbin/nginx", "-v"},
            .stop_signal = SIGQUIT, /* graceful: answers what it has */
            .hurry_signal = SIGTERM,
            .stop_ms = 5000,
            .probe = bh_probe_edge,
        },
    [BH_APP] =
        {
            .name = "app",
            .port = BH_PORT_APP,
            .argv = {"${lib}/bulkhead-shop", "--listen", "127.0.0.1:${app_port}", "--database",
                "host=127.0.0.1 port=${pgbouncer_port} user=bulkhead_pool"},
            .env = {"PGPASSFILE=${state}/keys/app.pgpass"},
            .cwd = "${state}",
            .config = {"${state}/keys/app.pgpass"},
            .stop_signal = SIGTERM,
            .hurry_signal = SIGKILL,
            .stop_ms = 3000,
            .probe = bh_probe_app,
        },
};

/* Who asks goes before who answers. */
const enum bh_component_id bh_stop_order[BH_COMPONENT_COUNT] = {
    BH_APP, BH_EDGE, BH_CONTROL, BH_PGBOUNCER, BH_POSTGRES};

/* The environment of every child; the rest of ours is nobody's business. */
static const char *const common_env[] = {
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=${state}"};
static const char *const passed_on[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TZ"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static enum bh_code
fill(const struct bh_site *site, const char *const *templates, size_t count, struct bh_arena *arena,
    const char **ret_texts, struct bh_error *err)
{
    for (size_t i = 0; i < count; i++)
        BH_TRY(bh_site_text(site, templates[i], arena, &ret_texts[i], err));
    return BH_OK;
}

static size_t
count_of(const char *const *list, size_t most)
{
    size_t count = 0;
    while (count < most && list[count])
        count++;
    return count;
}

static size_t
pass_on(const char *name, const char **env, size_t count, struct bh_arena *arena)
{
    const char *value = name ? getenv(name) : NULL;
    const char *text = value && value[0] ? bh_arena_printf(arena, "%s=%s", name, value) : NULL;
    if (text)
        env[count++] = text;
    return count;
}

enum bh_code
bh_component_argv(const struct bh_site *site, const struct bh_component *component,
    struct bh_arena *arena, const char *const **ret_argv, const char *const **ret_env,
    struct bh_error *err)
{
    size_t argc = count_of(component->argv, BH_ARGV_MAX);
    size_t envc = count_of(component->env, COUNT(component->env));
    const char **argv = bh_arena_zalloc(arena, (argc + 1) * sizeof(*argv));
    const char **env = bh_arena_zalloc(
        arena, (COUNT(common_env) + envc + COUNT(component->passes_on) + COUNT(passed_on) + 1) *
                   sizeof(*env));
    if (!argv || !env)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a command line");
    BH_TRY(fill(site, component->argv, argc, arena, argv, err));
    BH_TRY(fill(site, common_env, COUNT(common_env), arena, env, err));
    BH_TRY(fill(site, component->env, envc, arena, env + COUNT(common_env), err));
    size_t count = COUNT(common_env) + envc;
    for (size_t i = 0; i < COUNT(component->passes_on); i++)
        count = pass_on(component->passes_on[i], env, count, arena);
    for (size_t i = 0; i < COUNT(passed_on); i++)
        count = pass_on(passed_on[i], env, count, arena);
    *ret_argv = argv;
    *ret_env = env;
    return BH_OK;
}

static void hash_path(EVP_MD_CTX *md, const char *path, unsigned depth);

static void
hash_text(EVP_MD_CTX *md, struct bh_str text)
{
    uint64_t len = text.len;
    (void)EVP_DigestUpdate(md, &len, sizeof(len));
    (void)EVP_DigestUpdate(md, text.data, text.len);
}

static void
hash_directory(EVP_MD_CTX *md, const char *path, unsigned depth)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char below[PATH_MAX];
        if (entries[i]->d_name[0] != '.' && depth < 4 &&
            (size_t)snprintf(below, sizeof(below), "%s/%s", path, entries[i]->d_name) <
                sizeof(below))
            hash_path(md, below, depth + 1);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

/* Small files by content, programs by size and time: those are replaced only when they differ. */
static void
hash_path(EVP_MD_CTX *md, const char *path, unsigned depth)
{
    struct stat st;
    hash_text(md, bh_str_of(path));
    if (stat(path, &st) != 0)
        return;
    if (S_ISDIR(st.st_mode)) {
        hash_directory(md, path, depth);
        return;
    }
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_str text;
    if (st.st_size <= CONTENT_MAX &&
        bh_file_read(path, CONTENT_MAX, &chunks.arena, &text, NULL) == BH_OK) {
        hash_text(md, text);
    } else {
        hash_text(md, (struct bh_str){(const char *)&st.st_size, sizeof(st.st_size)});
        hash_text(md, (struct bh_str){(const char *)&st.st_mtim, sizeof(st.st_mtim)});
    }
    bh_chunks_fini(&chunks);
}

static enum bh_code
hash_all(const struct bh_site *site, const struct bh_component *component, EVP_MD_CTX *md,
    struct bh_arena *arena, struct bh_error *err)
{
    const char *const *argv, *const *env;
    BH_TRY(bh_component_argv(site, component, arena, &argv, &env, err));
    for (size_t i = 0; argv[i]; i++) {
        hash_text(md, bh_str_of(argv[i]));
        if (i == 0)
            hash_path(md, argv[0], 0); /* the program */
    }
    for (size_t i = 0; env[i]; i++)
        hash_text(md, bh_str_of(env[i]));
    for (size_t i = 0; i < BH_FILES_MAX && component->config[i]; i++) {
        const char *path;
        BH_TRY(bh_site_text(site, component->config[i], arena, &path, err));
        hash_path(md, path, 0);
    }
    return BH_OK;
}

enum bh_code
bh_component_hash(const struct bh_site *site, const struct bh_component *component,
    char ret_hash[BH_CONFIG_HASH], struct bh_error *err)
{
    struct bh_chunks chunks;
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bh_chunks_init(&chunks);
    enum bh_code code = BH_OK;
    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        code = bh_fail(err, BH_E_NO_MEMORY, "no memory for a digest");
    if (code == BH_OK)
        code = hash_all(site, component, md, &chunks.arena, err);
    if (code == BH_OK && EVP_DigestFinal_ex(md, digest, NULL) != 1)
        code = bh_fail(err, BH_E_INTERNAL, "cannot make a digest");
    EVP_MD_CTX_free(md);
    bh_chunks_fini(&chunks);
    BH_TRY(code);
    struct bh_buf buf;
    bh_buf_init(&buf, ret_hash, BH_CONFIG_HASH);
    bh_buf_hex(&buf, digest, 32);
    return BH_OK;
}

void
bh_component_version(const struct bh_component *component, char *ret_version, size_t size)
{
    char text[256];
    snprintf(ret_version, size, "%s", component->version[0] ? "" : BH_VERSION);
    if (!component->version[0] || bh_spawn_read(component->version, text, sizeof(text), NULL))
        return;
    /* "postgres (PostgreSQL) 15.20 (Debian …)", "nginx version: nginx/1.22.1", "PgBouncer 1.18.0 …"
     */
    const char *start = text + strcspn(text, "0123456789");
    snprintf(ret_version, size, "%.*s", (int)strspn(start, "0123456789."), start);
}
