/* The inner half of set-up: keys, passfiles, configurations, the cluster. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/file.h"
#include "agent/secret.h"
#include "agent/selfsigned.h"
#include "agent/setup.h"
#include "agent/launch.h"
#include "core/codec.h"

#define TEMPLATE_MAX ((size_t)256 << 10)

static bool
exists(const struct bh_site *site, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    bh_site_path(site, name, path);
    return lstat(path, &st) == 0;
}

static enum bh_code
put_secret(const struct bh_site *site, const char *name, struct bh_buf *buf, mode_t mode,
    struct bh_error *err)
{
    char path[PATH_MAX];
    bh_site_path(site, name, path);
    if (!bh_buf_ok(buf))
        return bh_fail(err, BH_E_INTERNAL, "%s is too long", name);
    enum bh_code code = bh_file_put(path, bh_buf_str(buf), mode, NULL, err);
    bh_wipe(buf->data, buf->len);
    return code;
}

/* Every key of this installation is derived from it: it is made once and never replaced. */
static enum bh_code
make_master_key(const struct bh_site *site, struct bh_error *err)
{
    char secret[BH_SECRET_TEXT];
    char line[BH_SECRET_TEXT + 1];
    struct bh_buf buf;
    if (exists(site, "keys/master.key"))
        return BH_OK;
    if (exists(site, "postgres/PG_VERSION")) {
        bh_fail(err, BH_E_CONFIG, "%s/keys/master.key is missing, but the database exists",
            site->state);
        bh_hint(err, "restore it, or begin anew in another place: --state <directory>");
        return BH_E_CONFIG;
    }
    BH_TRY(bh_secret_make(secret, err));
    bh_buf_init(&buf, line, sizeof(line));
    bh_buf_printf(&buf, "%s\n", secret);
    enum bh_code code = put_secret(site, "keys/master.key", &buf, 0400, err);
    bh_wipe(secret, sizeof(secret));
    bh_wipe(line, sizeof(line));
    return code;
}

static void
add_principal(
    struct bh_buf *buf, const char *id, const char *kind, const char *cell, const char *token)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (EVP_Digest(token, strlen(token), digest, NULL, EVP_sha256(), NULL) != 1) {
        buf->failed = true;
        return;
    }
    bh_buf_printf(buf, "%s %s %s ", id, kind, cell);
    bh_buf_hex(buf, digest, 32);
    bh_buf_putc(buf, '\n');
}

static enum bh_code
make_keys(const struct bh_site *site, const struct bh_secrets *secrets, struct bh_error *err)
{
    char text[1024];
    struct bh_buf buf;
    uint16_t port = site->ports[BH_PORT_POSTGRES];
    BH_TRY(make_master_key(site, err));
    bh_buf_init(&buf, text, sizeof(text));
    add_principal(&buf, "operator", "operator", "-", secrets->operator_token);
    add_principal(&buf, BH_AGENT_ID, "agent", BH_CELL, secrets->agent_token);
    BH_TRY(put_secret(site, "keys/principals", &buf, 0400, err));
    bh_buf_reset(&buf);
    bh_passfile_add(&buf, port, "postgres", secrets->passwords.superuser);
    bh_passfile_add(&buf, port, "bulkhead_registry", secrets->passwords.registry);
    BH_TRY(put_secret(site, "keys/control.pgpass", &buf, 0600, err));
    bh_buf_reset(&buf);
    bh_passfile_add(&buf, site->ports[BH_PORT_PGBOUNCER], "bulkhead_pool", secrets->passwords.pool);
    return put_secret(site, "keys/app.pgpass", &buf, 0600, err);
}

/* ---- configurations ---- */

static enum bh_code
render_one(
    const struct bh_site *site, const char *name, struct bh_arena *arena, struct bh_error *err)
{
    char from[PATH_MAX], to[PATH_MAX + 16];
    struct bh_str template;
    struct bh_buf out;
    struct bh_error inner;
    snprintf(from, sizeof(from), "%.*s/local/%s", PATH_MAX - 64, site->lib, name);
    snprintf(to, sizeof(to), "%s/etc/%s", site->state, name);
    BH_TRY(bh_file_read(from, TEMPLATE_MAX, arena, &template, err));
    bh_buf_init_arena(&out, arena, 2 * TEMPLATE_MAX);
    enum bh_code code = bh_render(template, site->vars, site->var_count, &out, &inner);
    if (code != BH_OK)
        return bh_fail(err, code, "%s: %s", from, inner.detail);
    return bh_file_put(to, bh_buf_str(&out), 0640, NULL, err);
}

static enum bh_code
render_all(const struct bh_site *site, struct bh_error *err)
{
    static const char *const names[] = {
        "postgresql.conf", "pg_hba.conf", "pgbouncer.ini", "nginx.conf"};
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    enum bh_code code = BH_OK;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && code == BH_OK; i++)
        code = render_one(site, names[i], &chunks.arena, err);
    bh_chunks_fini(&chunks);
    return code;
}

/* The edge includes it where it is there. */
static enum bh_code
render_tls(const struct bh_site *site, struct bh_error *err)
{
    char path[PATH_MAX];
    struct bh_chunks chunks;
    if (site->ports[BH_PORT_EDGE_TLS] == 0) {
        bh_site_path(site, "etc/nginx-tls.conf", path);
        return unlink(path) == 0 || errno == ENOENT
                   ? BH_OK
                   : bh_fail(err, BH_E_CONFIG, "cannot remove %s: %s", path, strerror(errno));
    }
    BH_TRY(bh_selfsigned_ensure(site, err));
    bh_chunks_init(&chunks);
    enum bh_code code = render_one(site, "nginx-tls.conf", &chunks.arena, err);
    bh_chunks_fini(&chunks);
    return code;
}

/* For `bulkhead status` and `down`: where the last `up` put things. */
static enum bh_code
write_settings(const struct bh_site *site, struct bh_error *err)
{
    char path[PATH_MAX], text[1024];
    struct bh_buf buf;
    bh_buf_init(&buf, text, sizeof(text));
    bh_buf_puts(&buf, "{");
    for (int i = 0; i < BH_PORT_COUNT; i++)
        bh_buf_printf(&buf, "\"%s\":%u,", bh_port_kinds[i].variable, site->ports[i]);
    bh_buf_puts(&buf, "\"base_domain\":");
    bh_buf_json(&buf, bh_str_of(site->base_domain));
    bh_buf_puts(&buf, "}\n");
    bh_site_path(site, "etc/settings.json", path);
    return bh_file_put(path, bh_buf_str(&buf), 0644, NULL, err);
}

/* A new installation numbers its tenants from 1: what an earlier one counted is not theirs. */
static enum bh_code
forget_counters(const struct bh_site *site, struct bh_error *err)
{
    char path[PATH_MAX + 16];
    if (exists(site, "postgres/PG_VERSION"))
        return BH_OK;
    snprintf(path, sizeof(path), "%s/counters", site->shm);
    if (unlink(path) != 0 && errno != ENOENT)
        return bh_fail(err, BH_E_CONFIG, "cannot remove %s: %s", path, strerror(errno));
    return BH_OK;
}

/* /dev/shm is everybody's: what we use there must be ours and closed to others. */
static enum bh_code
make_shm(const struct bh_site *site, struct bh_error *err)
{
    struct stat st;
    if (mkdir(site->shm, 0700) != 0 && errno != EEXIST)
        return bh_fail(err, BH_E_CONFIG, "cannot make %s: %s", site->shm, strerror(errno));
    if (lstat(site->shm, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
        (st.st_mode & 077) != 0) {
        bh_fail(err, BH_E_CONFIG, "%s is not a private directory of ours", site->shm);
        bh_hint(err, "remove it: rm -r %s", site->shm);
        return BH_E_CONFIG;
    }
    return forget_counters(site, err);
}

enum bh_code
bh_setup_inner(struct bh_site *site, const struct bh_secrets *secrets, struct bh_error *err)
{
    bh_site_vars(site);
    BH_TRY(make_keys(site, secrets, err));
    BH_TRY(render_all(site, err));
    BH_TRY(render_tls(site, err));
    BH_TRY(write_settings(site, err));
    return make_shm(site, err);
}

/* ---- the cluster ---- */

static enum bh_code
run_initdb(const char *target, const char *password_file, struct bh_error *err)
{
    char data[PATH_MAX + 16], file[PATH_MAX + 16], text[2048];
    snprintf(data, sizeof(data), "--pgdata=%s", target);
    snprintf(file, sizeof(file), "--pwfile=%s", password_file);
    const char *const argv[] = {BH_PG_BIN "/initdb", data, file, "--username=postgres",
        "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8",
        "--no-instructions", NULL};
    return bh_spawn_read(argv, text, sizeof(text), err);
}

static enum bh_code
check_version(const struct bh_site *site, struct bh_error *err)
{
    char path[PATH_MAX];
    struct bh_chunks chunks;
    struct bh_str text;
    bh_chunks_init(&chunks);
    bh_site_path(site, "postgres/PG_VERSION", path);
    enum bh_code code = bh_file_read(path, 64, &chunks.arena, &text, err);
    if (code == BH_OK && !bh_str_is(text, BH_PG_MAJOR "\n"))
        code = bh_fail(err, BH_E_CONFIG, "%s/postgres was made by PostgreSQL %.*s, not by %s",
            site->state, (int)strcspn(text.data, "\n"), text.data, BH_PG_MAJOR);
    bh_chunks_fini(&chunks);
    return code;
}

static void
empty_directory(const char *path)
{
    const char *const argv[] = {"/usr/bin/find", path, "-mindepth", "1", "-delete", NULL};
    char text[256];
    (void)!bh_spawn_read(argv, text, sizeof(text), NULL);
}

static enum bh_code
make_cluster(const struct bh_site *site, const char *data, struct bh_error *err)
{
    char file[PATH_MAX];
    struct bh_passwords passwords;
    struct bh_chunks chunks;
    bh_site_path(site, "keys/initdb", file);
    bh_chunks_init(&chunks);
    enum bh_code code = bh_passwords_read(site, &chunks.arena, &passwords, err);
    bh_chunks_fini(&chunks);
    BH_TRY(code);
    code = bh_file_put(file, bh_str_of(passwords.superuser), 0600, NULL, err);
    bh_passwords_wipe(&passwords);
    if (code == BH_OK)
        code = run_initdb(data, file, err);
    (void)unlink(file);
    return code;
}

enum bh_code
bh_setup_cluster(const struct bh_site *site, bool *ret_made, struct bh_error *err)
{
    char data[PATH_MAX], mark[PATH_MAX];
    *ret_made = false;
    bh_site_path(site, "postgres", data);
    bh_site_path(site, "run/initdb", mark);
    /* The mark says that initdb began and did not end: only then is something thrown away. */
    bool half = exists(site, "run/initdb");
    if (!half && exists(site, "postgres/PG_VERSION"))
        return check_version(site, err);
    BH_TRY(bh_file_put(mark, BH_STR("initdb runs\n"), 0600, NULL, err));
    if (half)
        empty_directory(data);
    BH_TRY(make_cluster(site, data, err));
    if (unlink(mark) != 0)
        return bh_fail(err, BH_E_CONFIG, "cannot remove %s: %s", mark, strerror(errno));
    *ret_made = true;
    return BH_OK;
}
