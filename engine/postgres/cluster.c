#include "engine/postgres/cluster.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "core/codec.h"
#include "engine/postgres/sql.h"

#define SQL_MAX 1024
#define SHA256_BYTES 32

static enum bh_code
exec_buf(PGconn *conn, struct bh_buf *sql, struct bh_error *err)
{
    if (!bh_buf_ok(sql))
        return bh_fail(err, BH_E_INTERNAL, "a statement of the set-up is too long");
    enum bh_code code = bh_sql_exec(conn, sql->data, 0, NULL, NULL, err);
    bh_wipe(sql->data, sql->len);
    return code;
}

/* The first column of the only row, or "" where there is no row or NULL. */
static enum bh_code
one_text(PGconn *conn, const char *sql, const char *param, char *ret_text, size_t size,
    struct bh_error *err)
{
    PGresult *result;
    const char *params[] = {param};
    BH_TRY(bh_sql_exec(conn, sql, 1, params, &result, err));
    int len = snprintf(ret_text, size, "%s", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return (size_t)len < size ? BH_OK : bh_fail(err, BH_E_ENGINE, "an answer is too long");
}

/* ---- roles ---- */

/* Cut "SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>" at the next ${sep}. */
static bool
next_part(struct bh_str *rest, char sep, struct bh_str *ret_part)
{
    struct bh_str tail;
    if (!bh_str_cut(*rest, sep, ret_part, &tail))
        return false;
    *rest = tail;
    return true;
}

static size_t
base64_decode(struct bh_str text, unsigned char ret_data[64])
{
    if (text.len == 0 || text.len % 4 != 0 || text.len > 80)
        return 0;
    int len = EVP_DecodeBlock(ret_data, (const unsigned char *)text.data, (int)text.len);
    size_t pad =
        (text.data[text.len - 1] == '=' ? 1u : 0u) + (text.data[text.len - 2] == '=' ? 1u : 0u);
    return len < 0 ? 0 : (size_t)len - pad;
}

/* RFC 5802: StoredKey = H(HMAC(PBKDF2(password), "Client Key")). */
static bool
scram_matches(const char *secret, const char *password)
{
    struct bh_str rest = bh_str_of(secret), method, iterations, salt, stored;
    unsigned char salt_bytes[64], stored_bytes[64];
    unsigned char salted[SHA256_BYTES], client[SHA256_BYTES], digest[SHA256_BYTES];
    uint64_t count;
    if (!next_part(&rest, '$', &method) || !bh_str_is(method, "SCRAM-SHA-256") ||
        !next_part(&rest, ':', &iterations) || !bh_str_uint(iterations, 1000000, &count) ||
        count == 0 || !next_part(&rest, '$', &salt) || !next_part(&rest, ':', &stored))
        return false;
    size_t salt_len = base64_decode(salt, salt_bytes);
    if (!salt_len || base64_decode(stored, stored_bytes) != SHA256_BYTES)
        return false;
    unsigned len = SHA256_BYTES;
    bool ok = PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt_bytes, (int)salt_len,
                  (int)count, EVP_sha256(), SHA256_BYTES, salted) == 1 &&
              HMAC(EVP_sha256(), salted, SHA256_BYTES, (const unsigned char *)"Client Key", 10,
                  client, &len) &&
              EVP_Digest(client, SHA256_BYTES, digest, NULL, EVP_sha256(), NULL) == 1 &&
              bh_equal_ct(digest, stored_bytes, SHA256_BYTES);
    bh_wipe(salted, sizeof(salted));
    bh_wipe(client, sizeof(client));
    return ok;
}

static enum bh_code
set_password(PGconn *conn, const char *role, const char *password, struct bh_error *err)
{
    char sql[SQL_MAX];
    struct bh_buf buf;
    char *secret = PQencryptPasswordConn(conn, password, role, "scram-sha-256");
    if (!secret)
        return bh_fail(err, BH_E_ENGINE, "cannot make the SCRAM secret of %s", role);
    bh_buf_init(&buf, sql, sizeof(sql));
    bh_buf_puts(&buf, "ALTER ROLE ");
    bh_sql_name(&buf, role);
    bh_buf_puts(&buf, " PASSWORD ");
    bh_sql_literal(&buf, secret);
    bh_wipe(secret, strlen(secret));
    PQfreemem(secret);
    return exec_buf(conn, &buf, err);
}

static const char role_secret[] =
    "SELECT coalesce(rolpassword, '-') FROM pg_authid WHERE rolname = $1";

static enum bh_code
ensure_role(PGconn *conn, const char *role, const char *password, char ret_secret[BH_SCRAM_MAX],
    struct bh_error *err)
{
    char sql[SQL_MAX];
    struct bh_buf buf;
    BH_TRY(one_text(conn, role_secret, role, ret_secret, BH_SCRAM_MAX, err));
    bool is_new = ret_secret[0] == '\0';
    if (!is_new && scram_matches(ret_secret, password))
        return BH_OK;
    if (is_new) {
        bh_buf_init(&buf, sql, sizeof(sql));
        bh_buf_puts(&buf, "CREATE ROLE ");
        bh_sql_name(&buf, role);
        bh_buf_puts(&buf, " LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION");
        BH_TRY(exec_buf(conn, &buf, err));
    }
    BH_TRY(set_password(conn, role, password, err));
    return one_text(conn, role_secret, role, ret_secret, BH_SCRAM_MAX, err);
}

/* ---- databases ---- */

static enum bh_code
ensure_database(PGconn *conn, const char *name, const char *owner, struct bh_error *err)
{
    char sql[SQL_MAX], found[8];
    struct bh_buf buf;
    BH_TRY(one_text(
        conn, "SELECT 'yes' FROM pg_database WHERE datname = $1", name, found, sizeof(found), err));
    if (found[0])
        return BH_OK;
    bh_buf_init(&buf, sql, sizeof(sql));
    bh_buf_puts(&buf, "CREATE DATABASE ");
    bh_sql_name(&buf, name);
    bh_buf_puts(&buf, " TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8' OWNER ");
    bh_sql_name(&buf, owner);
    return exec_buf(conn, &buf, err);
}

static enum bh_code
close_database(PGconn *conn, const char *name, struct bh_error *err)
{
    char sql[SQL_MAX];
    struct bh_buf buf;
    bh_buf_init(&buf, sql, sizeof(sql));
    bh_buf_puts(&buf, "REVOKE ALL ON DATABASE ");
    bh_sql_name(&buf, name);
    bh_buf_puts(&buf, " FROM PUBLIC");
    return exec_buf(conn, &buf, err);
}

/* PostgreSQL lets everybody connect everywhere unless told otherwise, and so do databases made by
 * hand. */
static enum bh_code
close_databases(PGconn *conn, struct bh_error *err)
{
    PGresult *open;
    BH_TRY(bh_sql_exec(conn,
        "SELECT datname FROM pg_database WHERE datacl IS NULL "
        "OR EXISTS (SELECT FROM aclexplode(datacl) WHERE grantee = 0)",
        0, NULL, &open, err));
    enum bh_code code = BH_OK;
    for (int i = 0; i < PQntuples(open) && code == BH_OK; i++)
        code = close_database(conn, PQgetvalue(open, i, 0), err);
    PQclear(open);
    return code;
}

static enum bh_code
let_in(PGconn *conn, const char *database, const char *role, struct bh_error *err)
{
    char sql[SQL_MAX];
    struct bh_buf buf;
    bh_buf_init(&buf, sql, sizeof(sql));
    bh_buf_puts(&buf, "GRANT CONNECT ON DATABASE ");
    bh_sql_name(&buf, database);
    bh_buf_puts(&buf, " TO ");
    bh_sql_name(&buf, role);
    return exec_buf(conn, &buf, err);
}

static enum bh_code
ensure_inside(const char *conninfo, const char *database, const char *script, struct bh_error *err)
{
    PGconn *conn;
    BH_TRY(bh_sql_connect(conninfo, database, 10, &conn, err));
    enum bh_code code = bh_sql_script(conn, script, err);
    PQfinish(conn);
    return code;
}

/* What enter() would set in each transaction (data/limit.c) where the connection has no such limit.
 */
static const char pool_limits_sql[] =
    "ALTER ROLE bulkhead_pool SET statement_timeout = '60s';"
    "ALTER ROLE bulkhead_pool SET lock_timeout = '30s';"
    "ALTER ROLE bulkhead_pool SET idle_in_transaction_session_timeout = '60s'";

static const char shared_sql[] = "REVOKE ALL ON SCHEMA public FROM PUBLIC;"
                                 "CREATE EXTENSION IF NOT EXISTS bulkhead;"
                                 "ALTER EXTENSION bulkhead UPDATE";

static enum bh_code
ensure_server(PGconn *conn, const struct bh_cluster_plan *plan, char ret_pool_secret[BH_SCRAM_MAX],
    struct bh_error *err)
{
    char secret[BH_SCRAM_MAX];
    enum bh_code code =
        ensure_role(conn, "bulkhead_registry", plan->registry_password, secret, err);
    bh_wipe(secret, sizeof(secret));
    BH_TRY(code);
    BH_TRY(ensure_role(conn, "bulkhead_pool", plan->pool_password, ret_pool_secret, err));
    BH_TRY(bh_sql_script(conn, pool_limits_sql, err));
    BH_TRY(ensure_database(conn, "bulkhead", "bulkhead_registry", err));
    BH_TRY(ensure_database(conn, plan->shared_database, "postgres", err));
    BH_TRY(close_databases(conn, err));
    return let_in(conn, plan->shared_database, "bulkhead_pool", err);
}

enum bh_code
bh_cluster_ensure(
    const struct bh_cluster_plan *plan, char ret_pool_secret[BH_SCRAM_MAX], struct bh_error *err)
{
    PGconn *conn;
    BH_TRY(bh_sql_connect(plan->conninfo, "postgres", 10, &conn, err));
    enum bh_code code = ensure_server(conn, plan, ret_pool_secret, err);
    PQfinish(conn);
    BH_TRY(code);
    /* Our roles inherit nothing, so owning the database alone does not open its schema. */
    static const char registry_only[] = "REVOKE ALL ON SCHEMA public FROM PUBLIC;"
                                        "GRANT USAGE, CREATE ON SCHEMA public TO bulkhead_registry";
    BH_TRY(ensure_inside(plan->conninfo, "bulkhead", registry_only, err));
    return ensure_inside(plan->conninfo, plan->shared_database, shared_sql, err);
}

/* Nobody may connect before the extension guards it. */
static enum bh_code
make_shared(PGconn *conn, const char *conninfo, const char *name, struct bh_error *err)
{
    BH_TRY(ensure_database(conn, name, "postgres", err));
    BH_TRY(close_database(conn, name, err));
    BH_TRY(ensure_inside(conninfo, name, shared_sql, err));
    return let_in(conn, name, "bulkhead_pool", err);
}

enum bh_code
bh_cluster_shared(const char *conninfo, const char *name, struct bh_error *err)
{
    PGconn *conn;
    BH_TRY(bh_sql_connect(conninfo, "postgres", 10, &conn, err));
    enum bh_code code = make_shared(conn, conninfo, name, err);
    PQfinish(conn);
    return code;
}
