#include "agent/probe.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "agent/file.h"
#include "agent/http.h"
#include "agent/setup.h"
#include "core/buf.h"
#include "core/codec.h"
#include "engine/postgres/cluster.h"
#include "engine/postgres/sql.h"

#define PROBE_MS 2000

/* ---- HTTP ---- */

static enum bh_code
probe_http(uint16_t port, const char *path, bool need_200, struct bh_error *err)
{
    char url[64];
    struct bh_http *http;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
    BH_TRY(bh_http_new(url, NULL, &http, err));
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_http_call call = {
        .method = "GET", .path = path, .timeout_ms = PROBE_MS, .arena = &chunks.arena};
    enum bh_code code = bh_http_send(http, &call, err);
    if (code == BH_OK && need_200 && call.status != 200)
        code = bh_fail(err, BH_E_UNAVAILABLE, "%s%s answered %ld: %.*s", url, path, call.status,
            (int)(call.answer.len < 300 ? call.answer.len : 300),
            call.answer.len ? call.answer.data : "");
    bh_chunks_fini(&chunks);
    bh_http_free(http);
    return code;
}

enum bh_code
bh_probe_control(const struct bh_site *site, struct bh_error *err)
{
    return probe_http(site->ports[BH_PORT_CONTROL], "/readyz", true, err);
}

enum bh_code
bh_probe_edge(const struct bh_site *site, struct bh_error *err)
{
    return probe_http(site->ports[BH_PORT_EDGE], "/", false, err);
}

enum bh_code
bh_probe_app(const struct bh_site *site, struct bh_error *err)
{
    return probe_http(site->ports[BH_PORT_APP], "/healthz", false, err);
}

/* ---- PostgreSQL ---- */

enum bh_code
bh_probe_postgres(const struct bh_site *site, struct bh_error *err)
{
    struct bh_chunks chunks;
    const char *conninfo;
    PGconn *conn;
    bh_chunks_init(&chunks);
    enum bh_code code = bh_site_text(site, bh_superuser_conninfo, &chunks.arena, &conninfo, err);
    if (code == BH_OK)
        code = bh_sql_connect(conninfo, "postgres", 2, &conn, err);
    if (code == BH_OK)
        PQfinish(conn);
    bh_chunks_fini(&chunks);
    return code;
}

/* As the application does it: the pool role through the pooler. */
enum bh_code
bh_probe_pgbouncer(const struct bh_site *site, struct bh_error *err)
{
    struct bh_chunks chunks;
    const char *conninfo;
    bh_chunks_init(&chunks);
    enum bh_code code = bh_site_text(site, bh_pool_conninfo, &chunks.arena, &conninfo, err);
    if (code == BH_OK) {
        PGconn *conn = PQconnectdb(conninfo);
        PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, "SELECT 1") : NULL;
        if (PQresultStatus(result) != PGRES_TUPLES_OK) {
            const char *message = PQerrorMessage(conn);
            code = bh_fail(
                err, BH_E_UNAVAILABLE, "PgBouncer: %.*s", (int)strcspn(message, "\n"), message);
        }
        PQclear(result);
        PQfinish(conn);
    }
    bh_chunks_fini(&chunks);
    return code;
}

static enum bh_code
prepare(struct bh_site *site, struct bh_arena *arena, bool *ret_changed, struct bh_error *err)
{
    const char *conninfo;
    char secret[BH_SCRAM_MAX], path[PATH_MAX];
    struct bh_passwords passwords;
    struct bh_buf users;
    BH_TRY(bh_site_text(site, bh_superuser_conninfo, arena, &conninfo, err));
    BH_TRY(bh_passwords_read(site, arena, &passwords, err));
    struct bh_cluster_plan plan = {
        .conninfo = conninfo,
        .registry_password = passwords.registry,
        .pool_password = passwords.pool,
        .shared_database = BH_SHARED_DATABASE,
    };
    enum bh_code code = bh_cluster_ensure(&plan, secret, err);
    bh_passwords_wipe(&passwords);
    BH_TRY(code);
    bh_buf_init_arena(&users, arena, 1024);
    bh_buf_printf(&users, "\"bulkhead_pool\" \"%s\"\n", secret);
    bh_wipe(secret, sizeof(secret));
    if (!bh_buf_ok(&users))
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for PgBouncer's users");
    bh_site_path(site, "etc/pgbouncer.users", path);
    return bh_file_put(path, bh_buf_str(&users), 0400, ret_changed, err);
}

enum bh_code
bh_prepare_postgres(struct bh_site *site, bool *ret_changed, struct bh_error *err)
{
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    *ret_changed = false;
    enum bh_code code = prepare(site, &chunks.arena, ret_changed, err);
    bh_chunks_fini(&chunks);
    return code;
}
