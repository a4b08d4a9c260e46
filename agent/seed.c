#include "agent/seed.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/file.h"
#include "core/codec.h"
#include "core/token.h"
#include "engine/postgres/sql.h"

#define SEED_MAX ((size_t)1 << 20)

static enum bh_code
connect_pool(const struct bh_site *site, const char *database, struct bh_arena *arena,
    PGconn **ret_conn, struct bh_error *err)
{
    const char *conninfo;
    BH_TRY(bh_site_text(site, bh_pool_conninfo, arena, &conninfo, err));
    const char *keys[] = {"dbname", "dbname", NULL};
    const char *values[] = {conninfo, database, NULL};
    PGconn *conn = PQconnectdbParams(keys, values, 1);
    if (PQstatus(conn) != CONNECTION_OK) {
        const char *message = PQerrorMessage(conn);
        bh_fail(err, BH_E_UNAVAILABLE, "cannot reach the pooler: %.*s", (int)strcspn(message, "\n"),
            message);
        PQfinish(conn);
        return BH_E_UNAVAILABLE;
    }
    *ret_conn = conn;
    return BH_OK;
}

/* All of it or nothing; the tenant's own rows say whether it was done. */
static enum bh_code
seed_in(PGconn *conn, const char *token, const char *script, bool *ret_seeded, struct bh_error *err)
{
    const char *params[] = {token};
    PGresult *rows;
    BH_TRY(bh_sql_exec(conn, "BEGIN", 0, NULL, NULL, err));
    BH_TRY(bh_sql_exec(conn, "SELECT bulkhead.enter($1)", 1, params, NULL, err));
    BH_TRY(bh_sql_exec(conn, "SELECT 1 FROM products LIMIT 1", 0, NULL, &rows, err));
    bool empty = PQntuples(rows) == 0;
    PQclear(rows);
    if (empty)
        BH_TRY(bh_sql_script(conn, script, err));
    BH_TRY(bh_sql_exec(conn, "COMMIT", 0, NULL, NULL, err));
    *ret_seeded = empty;
    return BH_OK;
}

struct job {
    char token[BH_TOKEN_MAX + 1];
    char database[BH_PGNAME];
    char mark[PATH_MAX]; /* file that says: done */
    char script[PATH_MAX];
};

/* The server verifies the token; here it only tells where to go, and for whom it is. */
static enum bh_code
read_job(const struct bh_site *site, struct bh_str tenant, struct bh_str token, struct job *job,
    struct bh_error *err)
{
    struct bh_token_parts parts;
    char name[96];
    BH_TRY(bh_tenant_id_check(tenant, err));
    BH_TRY(bh_token_parse(token, &parts, err));
    const struct bh_token *claims = &parts.claims;
    if (!bh_str_eq(claims->tenant, tenant) || claims->database.len >= sizeof(job->database))
        return bh_fail(err, BH_E_TOKEN_INVALID, "the token is not of tenant %.*s", (int)tenant.len,
            tenant.data);
    snprintf(job->token, sizeof(job->token), "%.*s", (int)token.len, token.data);
    snprintf(job->database, sizeof(job->database), "%.*s", (int)claims->database.len,
        claims->database.data);
    snprintf(name, sizeof(name), "run/seeded/%d", claims->no);
    bh_site_path(site, name, job->mark);
    snprintf(
        name, sizeof(name), "lib/examples/tenants/%.*s/seed.sql", (int)tenant.len, tenant.data);
    bh_site_path(site, name, job->script);
    return BH_OK;
}

static enum bh_code
run_job(const struct bh_site *site, const struct job *job, struct bh_arena *arena, bool *ret_seeded,
    struct bh_error *err)
{
    struct bh_str script;
    PGconn *conn;
    struct stat st;
    char directory[PATH_MAX];
    if (bh_file_read(job->script, SEED_MAX, arena, &script, err) != BH_OK)
        return bh_fail(err, BH_E_NOT_FOUND, "there are no example rows: %s", job->script);
    if (stat(job->mark, &st) == 0)
        return BH_OK;
    bh_site_path(site, "run/seeded", directory);
    BH_TRY(bh_dir_make(directory, 0700, geteuid(), getegid(), err));
    BH_TRY(connect_pool(site, job->database, arena, &conn, err));
    enum bh_code code = seed_in(conn, job->token, script.data, ret_seeded, err);
    PQfinish(conn);
    BH_TRY(code);
    return bh_file_put(job->mark, BH_STR("done\n"), 0600, NULL, err);
}

enum bh_code
bh_seed_run(const struct bh_site *site, struct bh_str tenant, struct bh_str token, bool *ret_seeded,
    struct bh_error *err)
{
    struct job job;
    struct bh_chunks chunks;
    *ret_seeded = false;
    BH_TRY(read_job(site, tenant, token, &job, err));
    bh_chunks_init(&chunks);
    enum bh_code code = run_job(site, &job, &chunks.arena, ret_seeded, err);
    bh_chunks_fini(&chunks);
    bh_wipe(&job, sizeof(job));
    return code;
}
