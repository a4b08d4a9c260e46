#include "engine/postgres/postgres.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tenant.h"
#include "engine/postgres/sql.h"

#define SCRIPT_MAX 8192

/* What the tenant is called in the server. */
struct names {
    char number[16];
    char attempt[24];
    char owner[BH_PGNAME];
    char user[BH_PGNAME];
    char schema[BH_PGNAME];
};

/* What the server holds of the tenant, seen under the lock of its row. */
struct found {
    bool made; /* the row says that schema and roles are there */
    bool schema;
    bool owner;
    bool user;
    bool ours; /* the schema bears our mark */
};

static struct names
make_names(const struct bh_resource *resource, int64_t attempt)
{
    struct names names = {.number = ""};
    snprintf(names.number, sizeof(names.number), "%d", resource->no);
    snprintf(names.attempt, sizeof(names.attempt), "%lld", (long long)attempt);
    bh_tenant_owner_role(resource->no, names.owner);
    bh_tenant_user_role(resource->no, names.user);
    bh_tenant_schema(resource->no, names.schema);
    return names;
}

/*
 * Run a script made of ${format}: %o owner role, %u user role, %s schema (all
 * quoted), %m the mark as a literal.  One place quotes, and every statement
 * below can be read as SQL.
 */
static enum bh_code
run(PGconn *conn, const struct names *names, const char *operation, const char *format,
    struct bh_error *err)
{
    char storage[SCRIPT_MAX];
    char mark[128];
    struct bh_buf script;
    snprintf(mark, sizeof(mark), "bulkhead: made by %s", operation);
    bh_buf_init(&script, storage, sizeof(storage));
    for (const char *c = format; *c; c++) {
        if (*c != '%') {
            bh_buf_putc(&script, *c);
            continue;
        }
        c++;
        if (*c == 'm')
            bh_sql_literal(&script, mark);
        else
            bh_sql_name(
                &script, *c == 'o' ? names->owner : (*c == 'u' ? names->user : names->schema));
    }
    if (!bh_buf_ok(&script))
        return bh_fail(err, BH_E_INTERNAL, "a script for tenant %s is too long", names->number);
    return bh_sql_script(conn, storage, err);
}

/* ---- the row that fences ---- */

/* Also where nothing is made: whoever comes later with an older attempt must find a row. */
static const char claim_sql[] =
    "INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state, epoch)"
    " VALUES ($1, $2, 'schema', $3, $4, 'gone', $5) ON CONFLICT (no) DO NOTHING";

static const char lock_sql[] =
    "SELECT t.fence_attempt > $2::bigint, t.state <> 'gone',"
    " n.oid IS NOT NULL, to_regrole($3) IS NOT NULL, to_regrole($4) IS NOT NULL,"
    " coalesce(obj_description(n.oid, 'pg_namespace') LIKE 'bulkhead: %', false)"
    " FROM bulkhead.tenant t LEFT JOIN pg_namespace n ON n.nspname = t.schema"
    " WHERE t.no = $1 FOR UPDATE OF t";

static enum bh_code
lock_row(PGconn *conn, const struct bh_resource *resource, const struct names *names,
    struct found *ret_found, struct bh_error *err)
{
    char epoch[24];
    PGresult *r;
    snprintf(epoch, sizeof(epoch), "%lld", (long long)resource->epoch);
    const char *claim[] = {names->number, resource->id, names->user, names->schema, epoch};
    BH_TRY(bh_sql_exec(conn, claim_sql, 5, claim, NULL, err));
    const char *lock[] = {names->number, names->attempt, names->owner, names->user};
    BH_TRY(bh_sql_exec(conn, lock_sql, 4, lock, &r, err));
    bool fenced = PQntuples(r) != 1 || PQgetvalue(r, 0, 0)[0] == 't';
    if (!fenced)
        *ret_found = (struct found){
            .made = PQgetvalue(r, 0, 1)[0] == 't',
            .schema = PQgetvalue(r, 0, 2)[0] == 't',
            .owner = PQgetvalue(r, 0, 3)[0] == 't',
            .user = PQgetvalue(r, 0, 4)[0] == 't',
            .ours = PQgetvalue(r, 0, 5)[0] == 't',
        };
    PQclear(r);
    if (fenced)
        return bh_fail(err, BH_E_FENCED, "a newer attempt than %s has changed tenant number %s",
            names->attempt, names->number);
    return BH_OK;
}

static enum bh_code
write_row(PGconn *conn, const struct bh_resource *resource, const struct names *names,
    const char *state, struct bh_error *err)
{
    char epoch[24];
    snprintf(epoch, sizeof(epoch), "%lld", (long long)resource->epoch);
    const char *params[] = {
        names->number, resource->id, names->user, names->schema, state, epoch, names->attempt};
    return bh_sql_exec(conn,
        "UPDATE bulkhead.tenant SET id = $2, mode = 'schema', role = $3, schema = $4,"
        " state = $5, epoch = $6, fence_attempt = $7 WHERE no = $1",
        7, params, NULL, err);
}

typedef enum bh_code change_fn(PGconn *conn, const struct bh_resource *resource,
    const struct names *names, struct bh_error *err);

static enum bh_code
commit(PGconn *conn, struct bh_error *err)
{
    if (PQtransactionStatus(conn) != PQTRANS_INTRANS)
        return bh_fail(err, BH_E_ENGINE, "the transaction ended before its end");
    return bh_sql_exec(conn, "COMMIT", 0, NULL, NULL, err);
}

/* Every effect on a tenant goes through here: one transaction, and the fence inside it. */
static enum bh_code
change(struct bh_postgres *postgres, const struct bh_resource *resource, int64_t attempt,
    change_fn *body, struct bh_error *err)
{
    struct names names = make_names(resource, attempt);
    BH_TRY(bh_postgres_use(postgres, resource->place, err));
    BH_TRY(bh_sql_exec(postgres->conn, "BEGIN", 0, NULL, NULL, err));
    enum bh_code code = body(postgres->conn, resource, &names, err);
    if (code == BH_OK)
        code = commit(postgres->conn, err);
    /* What a refused COMMIT left behind is unknown: the next use starts on a fresh connection. */
    if (code != BH_OK)
        bh_postgres_close(postgres);
    return code;
}

/* ---- ensure ---- */

/*
 * Migrations run inside a function of the owner's that the owner's rights
 * bound: there COMMIT, RESET ROLE and SET SESSION AUTHORIZATION are refused, so
 * a file cannot leave the transaction or become the superuser.  Deferred
 * triggers fire before it returns, for the same reason.
 */
static const char make_sql[] =
    "CREATE ROLE %o NOLOGIN; CREATE ROLE %u NOLOGIN;"
    "COMMENT ON ROLE %o IS %m; COMMENT ON ROLE %u IS %m;"
    "CREATE SCHEMA %s AUTHORIZATION %o; COMMENT ON SCHEMA %s IS %m;"
    "GRANT USAGE ON SCHEMA %s TO %u;"
    "ALTER DEFAULT PRIVILEGES FOR ROLE %o REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;"
    "ALTER DEFAULT PRIVILEGES FOR ROLE %o REVOKE USAGE ON TYPES FROM PUBLIC;"
    "ALTER DEFAULT PRIVILEGES FOR ROLE %o IN SCHEMA %s"
    " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %u;"
    "ALTER DEFAULT PRIVILEGES FOR ROLE %o IN SCHEMA %s GRANT USAGE ON SEQUENCES TO %u;"
    "ALTER DEFAULT PRIVILEGES FOR ROLE %o IN SCHEMA %s GRANT EXECUTE ON FUNCTIONS TO %u;"
    "ALTER DEFAULT PRIVILEGES FOR ROLE %o IN SCHEMA %s GRANT USAGE ON TYPES TO %u;"
    "CREATE FUNCTION %s.bulkhead_migrate(script text) RETURNS void LANGUAGE plpgsql"
    " SECURITY DEFINER SET search_path = %s, pg_temp"
    " AS 'BEGIN EXECUTE script; SET CONSTRAINTS ALL IMMEDIATE; END';"
    "ALTER FUNCTION %s.bulkhead_migrate(text) OWNER TO %o";

static enum bh_code
migrate(PGconn *conn, const struct names *names, const struct bh_migration *migration,
    struct bh_error *err)
{
    struct bh_error cause;
    char sql[BH_PGNAME + 64];
    snprintf(sql, sizeof(sql), "SELECT \"%s\".bulkhead_migrate($1)", names->schema);
    const char *params[] = {migration->sql};
    enum bh_code code = bh_sql_exec(conn, sql, 1, params, NULL, &cause);
    if (code != BH_OK)
        bh_fail(err, code, "migration %s: %.400s", migration->name, cause.detail);
    return code;
}

static enum bh_code
refuse_stranger(const struct names *names, struct bh_error *err)
{
    bh_fail(err, BH_E_ENGINE, "schema %s or role %s or %s exists and was not made by Bulkhead",
        names->schema, names->owner, names->user);
    return bh_hint(err, "rename or drop it in the server, then resume the operation");
}

static enum bh_code
make(PGconn *conn, const struct bh_resource *resource, const struct names *names,
    struct bh_error *err)
{
    BH_TRY(run(conn, names, resource->operation, make_sql, err));
    for (size_t i = 0; i < resource->migration_count; i++)
        BH_TRY(migrate(conn, names, &resource->migrations[i], err));
    return run(conn, names, resource->operation, "DROP FUNCTION %s.bulkhead_migrate(text)", err);
}

static enum bh_code
ensure_locked(PGconn *conn, const struct bh_resource *resource, const struct names *names,
    struct bh_error *err)
{
    struct found found;
    BH_TRY(lock_row(conn, resource, names, &found, err));
    if (!found.made && (found.schema || found.owner || found.user))
        return refuse_stranger(names, err);
    if (!found.made)
        BH_TRY(make(conn, resource, names, err));
    return write_row(conn, resource, names, "active", err);
}

static enum bh_code
ensure(void *engine, const struct bh_resource *resource, int64_t attempt, struct bh_error *err)
{
    return change(engine, resource, attempt, ensure_locked, err);
}

/* ---- observe ---- */

static enum bh_code
observe(void *engine, const struct bh_resource *resource, int64_t attempt,
    enum bh_presence *ret_presence, struct bh_error *err)
{
    struct bh_postgres *postgres = engine;
    struct names names = make_names(resource, attempt);
    PGresult *r;
    BH_TRY(bh_postgres_use(postgres, resource->place, err));
    const char *params[] = {names.number};
    BH_TRY(bh_sql_exec(postgres->conn,
        "SELECT FROM bulkhead.tenant t JOIN pg_namespace n ON n.nspname = t.schema"
        " WHERE t.no = $1 AND t.state <> 'gone'",
        1, params, &r, err));
    *ret_presence = PQntuples(r) > 0 ? BH_PRESENCE_PRESENT : BH_PRESENCE_ABSENT;
    PQclear(r);
    return BH_OK;
}

/* ---- remove ---- */

/* From its commit on enter() refuses the tenant, so that nobody new comes to hold its tables. */
static enum bh_code
close_locked(PGconn *conn, const struct bh_resource *resource, const struct names *names,
    struct bh_error *err)
{
    struct found found;
    BH_TRY(lock_row(conn, resource, names, &found, err));
    return write_row(conn, resource, names, found.made ? "offboarding" : "gone", err);
}

static enum bh_code
drop_locked(PGconn *conn, const struct bh_resource *resource, const struct names *names,
    struct bh_error *err)
{
    struct found found;
    BH_TRY(lock_row(conn, resource, names, &found, err));
    if (found.made && found.schema && !found.ours)
        return refuse_stranger(names, err);
    if (found.made && found.schema)
        BH_TRY(run(conn, names, resource->operation, "DROP SCHEMA %s CASCADE", err));
    if (found.made && found.user)
        BH_TRY(
            run(conn, names, resource->operation, "DROP OWNED BY %u CASCADE; DROP ROLE %u", err));
    if (found.made && found.owner)
        BH_TRY(
            run(conn, names, resource->operation, "DROP OWNED BY %o CASCADE; DROP ROLE %o", err));
    return write_row(conn, resource, names, "gone", err);
}

/* Transactions that began before the tenant was closed and still hold its tables are ended. */
static enum bh_code
end_holders(struct bh_postgres *postgres, const struct bh_resource *resource, struct bh_error *err)
{
    struct names names = make_names(resource, 0);
    BH_TRY(bh_postgres_use(postgres, resource->place, err));
    const char *params[] = {names.schema};
    return bh_sql_exec(postgres->conn,
        "SELECT pg_terminate_backend(pid, 1000) FROM (SELECT DISTINCT l.pid FROM pg_locks l"
        " JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_stat_activity a ON a.pid = l.pid AND a.datname = current_database()"
        " WHERE n.nspname = $1 AND l.granted AND l.pid <> pg_backend_pid()"
        " AND a.xact_start < now() - interval '2 s') holders",
        1, params, NULL, err);
}

static enum bh_code
remove_schema(
    void *engine, const struct bh_resource *resource, int64_t attempt, struct bh_error *err)
{
    struct bh_error ignored;
    BH_TRY(change(engine, resource, attempt, close_locked, err));
    enum bh_code code = change(engine, resource, attempt, drop_locked, err);
    if (code == BH_E_CONFLICT && end_holders(engine, resource, &ignored) != BH_OK)
        bh_postgres_close(engine);
    return code;
}

const struct bh_driver bh_driver_schema = {
    .kind = "database",
    .name = "schema",
    .ensure = ensure,
    .observe = observe,
    .remove = remove_schema,
};
