#include "agent/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/file.h"
#include "agent/secret.h"
#include "agent/launch.h"
#include "core/codec.h"

#define ENGINE_USER "bulkhead"

/* ---- the engine user ---- */

static enum bh_code
make_user(struct bh_error *err)
{
    static const char *const adduser[] = {"/usr/sbin/adduser", "--quiet", "--system", "--group",
        "--no-create-home", "--home", "/nonexistent", ENGINE_USER, NULL};
    static const char *const useradd[] = {"/usr/sbin/useradd", "--system", "--user-group",
        "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin",
        ENGINE_USER, NULL};
    char text[256];
    return bh_spawn_read(
        access(adduser[0], X_OK) == 0 ? adduser : useradd, text, sizeof(text), err);
}

static enum bh_code
find_user(struct bh_site *site, struct bh_error *err)
{
    site->uid = geteuid();
    site->gid = getegid();
    if (site->uid != 0)
        return BH_OK;
    struct passwd *user = getpwnam(ENGINE_USER);
    if (!user) {
        BH_TRY(make_user(err));
        user = getpwnam(ENGINE_USER);
    }
    if (!user || user->pw_uid == 0)
        return bh_fail(err, BH_E_CONFIG, "the system user %s cannot be found or made", ENGINE_USER);
    site->uid = user->pw_uid;
    site->gid = user->pw_gid;
    return BH_OK;
}

/* ---- directories ---- */

static bool
can_pass(const struct stat *st, uid_t uid, gid_t gid)
{
    if (uid == 0)
        return true;
    mode_t bit = st->st_uid == uid ? S_IXUSR : st->st_gid == gid ? S_IXGRP : S_IXOTH;
    return (st->st_mode & bit) != 0;
}

/* Make what is missing above the state directory, and see that the engine user can get there. */
static enum bh_code
walk_parents(const struct bh_site *site, struct bh_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s", site->state);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        struct stat st;
        *slash = '\0';
        if (mkdir(path, 0755) != 0 && errno != EEXIST)
            return bh_fail(err, BH_E_CONFIG, "cannot make directory %s: %s", path, strerror(errno));
        if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
            return bh_fail(err, BH_E_CONFIG, "%s is not a directory", path);
        if (!can_pass(&st, site->uid, site->gid)) {
            bh_fail(err, BH_E_CONFIG,
                "user %s, which the engines run as, cannot pass through directory %s",
                geteuid() == 0 ? ENGINE_USER : "(you)", path);
            bh_hint(err, "run: chmod o+x %s, or choose another place: --state <directory>", path);
            return BH_E_CONFIG;
        }
        *slash = '/';
    }
    return BH_OK;
}

static enum bh_code
make_state(const struct bh_site *site, struct bh_error *err)
{
    struct stat st;
    if (lstat(site->state, &st) == 0 && (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())) {
        bh_fail(err, BH_E_CONFIG, "%s is not a directory of yours", site->state);
        bh_hint(err, "run as its owner, or choose another place: --state <directory>");
        return BH_E_CONFIG;
    }
    return bh_dir_make(
        site->state, geteuid() == site->uid ? 0700 : 0711, geteuid(), getegid(), err);
}

static enum bh_code
make_directories(const struct bh_site *site, struct bh_error *err)
{
    static const struct {
        const char *name;
        mode_t mode;
        bool of_engine;
    } rows[] = {
        {"lib", 0755, false},
        {"keys", 0700, true},
        {"etc", 0755, true},
        {"postgres", 0700, true},
        {"snapshot", 0700, true},
        {"nginx", 0700, true},
        {"log", 0755, true},
        {"run", 0755, true},
        {"failpoints", 0700, true},
    };
    char path[PATH_MAX];
    BH_TRY(make_state(site, err));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool of_engine = rows[i].of_engine;
        bh_site_path(site, rows[i].name, path);
        BH_TRY(bh_dir_make(path, rows[i].mode, of_engine ? site->uid : geteuid(),
            of_engine ? site->gid : getegid(), err));
    }
    return BH_OK;
}

/* ---- credentials for people ---- */

static bool
exists(const struct bh_site *site, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    bh_site_path(site, name, path);
    return lstat(path, &st) == 0;
}

/* Passwords live in pgpass; without it a server that exists cannot be reached any more. */
static enum bh_code
read_passwords(const struct bh_site *site, struct bh_passwords *passwords, struct bh_error *err)
{
    char path[PATH_MAX];
    struct bh_chunks chunks;
    struct bh_str text;
    bh_site_path(site, "pgpass", path);
    bh_chunks_init(&chunks);
    enum bh_code code = bh_file_read(path, 4096, &chunks.arena, &text, err);
    if (code == BH_OK) {
        if (!bh_passfile_find(text, "postgres", passwords->superuser) ||
            !bh_passfile_find(text, "bulkhead_registry", passwords->registry) ||
            !bh_passfile_find(text, "bulkhead_pool", passwords->pool))
            code = bh_fail(err, BH_E_CONFIG, "%s is damaged", path);
        bh_wipe((void *)(uintptr_t)text.data, text.len);
    } else if (code == BH_E_NOT_FOUND && exists(site, "postgres/PG_VERSION")) {
        code = bh_fail(err, BH_E_CONFIG, "%s is missing, but the database exists", path);
    } else if (code == BH_E_NOT_FOUND) {
        code = bh_secret_make(passwords->superuser, err);
        code = code ? code : bh_secret_make(passwords->registry, err);
        code = code ? code : bh_secret_make(passwords->pool, err);
    }
    if (code == BH_E_CONFIG)
        bh_hint(err, "restore it, or begin anew in another place: --state <directory>");
    bh_chunks_fini(&chunks);
    return code;
}

static enum bh_code
write_pgpass(const struct bh_site *site, const struct bh_passwords *passwords, struct bh_error *err)
{
    char path[PATH_MAX], text[1024];
    struct bh_buf buf;
    bh_site_path(site, "pgpass", path);
    bh_buf_init(&buf, text, sizeof(text));
    uint16_t port = site->ports[BH_PORT_POSTGRES];
    bh_passfile_add(&buf, port, "postgres", passwords->superuser);
    bh_passfile_add(&buf, port, "bulkhead_registry", passwords->registry);
    bh_passfile_add(&buf, site->ports[BH_PORT_PGBOUNCER], "bulkhead_pool", passwords->pool);
    enum bh_code code = bh_file_put(path, bh_buf_str(&buf), 0600, NULL, err);
    bh_wipe(text, sizeof(text));
    return code;
}

static enum bh_code
make_credentials(const struct bh_site *site, struct bh_secrets *secrets, struct bh_error *err)
{
    char path[PATH_MAX];
    bh_site_path(site, "operator.token", path);
    BH_TRY(bh_token_ensure(
        path, "bho_", secrets->operator_token, sizeof(secrets->operator_token), err));
    bh_site_path(site, "agent.token", path);
    BH_TRY(bh_token_ensure(path, "bha_", secrets->agent_token, sizeof(secrets->agent_token), err));
    BH_TRY(read_passwords(site, &secrets->passwords, err));
    return write_pgpass(site, &secrets->passwords, err);
}

/* ---- our own files ---- */

static enum bh_code
find_prefix(char ret_prefix[PATH_MAX], struct bh_error *err)
{
    ssize_t len = readlink("/proc/self/exe", ret_prefix, PATH_MAX - 1);
    if (len <= 0)
        return bh_fail(err, BH_E_INTERNAL, "cannot find this program's own path");
    ret_prefix[len] = '\0';
    for (int i = 0; i < 2; i++) { /* <prefix>/bin/bulkhead-agent */
        char *slash = strrchr(ret_prefix, '/');
        if (!slash)
            return bh_fail(err, BH_E_CONFIG, "this program is not in a bin directory");
        *slash = '\0';
    }
    return BH_OK;
}

/* A rebuilt program must be able to replace one that runs: copies are replaced by rename. */
static enum bh_code
copy_ours(const struct bh_site *site, struct bh_error *err)
{
    static const struct {
        const char *from;
        const char *to;
        mode_t mode; /* 0: a directory */
    } rows[] = {
        {"bin/bulkheadd", "bulkheadd", 0755},
        {"bin/bulkhead-shop", "bulkhead-shop", 0755},
        {"lib/bulkhead/ngx_http_bulkhead_module.so", "ngx_http_bulkhead_module.so", 0644},
        {"lib/bulkhead/postgresql/bulkhead.so", "bulkhead.so", 0644},
        {"share/bulkhead/postgresql/extension", BH_PG_SHARE "/extension", 0},
        {"share/bulkhead/deploy/local", "local", 0},
        {"share/bulkhead/examples", "examples", 0},
    };
    static const char *const parents[] = {"usr", "usr/share", "usr/share/postgresql", BH_PG_SHARE};
    char prefix[PATH_MAX], from[PATH_MAX + 64], to[PATH_MAX + 64];
    BH_TRY(find_prefix(prefix, err));
    for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++) {
        snprintf(to, sizeof(to), "%s/%s", site->lib, parents[i]);
        BH_TRY(bh_dir_make(to, 0755, geteuid(), getegid(), err));
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(from, sizeof(from), "%s/%s", prefix, rows[i].from);
        snprintf(to, sizeof(to), "%s/%s", site->lib, rows[i].to);
        enum bh_code code =
            rows[i].mode ? bh_file_copy(from, to, rows[i].mode, err) : bh_tree_copy(from, to, err);
        if (code == BH_E_NOT_FOUND) {
            bh_fail(err, BH_E_CONFIG, "%s is missing: Bulkhead is not installed whole", from);
            bh_hint(err, "build it: tools/build %s", prefix);
            return BH_E_CONFIG;
        }
        BH_TRY(code);
    }
    return BH_OK;
}

enum bh_code
bh_setup_outer(struct bh_site *site, struct bh_secrets *ret_secrets, struct bh_error *err)
{
    umask(022);
    BH_TRY(find_user(site, err));
    BH_TRY(walk_parents(site, err));
    BH_TRY(make_directories(site, err));
    BH_TRY(make_credentials(site, ret_secrets, err));
    return copy_ours(site, err);
}

enum bh_code
bh_setup_drop(const struct bh_site *site, struct bh_error *err)
{
    umask(077);
    if (geteuid() != site->uid &&
        (setgroups(0, NULL) != 0 || setresgid(site->gid, site->gid, site->gid) != 0 ||
            setresuid(site->uid, site->uid, site->uid) != 0))
        return bh_fail(err, BH_E_CONFIG, "cannot become user %s: %s", ENGINE_USER, strerror(errno));
    /* Keys and tokens pass through our memory: no core dump, no debugger. */
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        return bh_fail(err, BH_E_INTERNAL, "cannot forbid core dumps: %s", strerror(errno));
    return BH_OK;
}
