#include "control/registry/migrate.h"

#include <stdio.h>

#include "control/db.h"
#include "engine/postgres/sql.h"

/* The lock dies with its transaction; every daemon asks again under it what is still missing. */
static const char lock_and_prepare[] =
    "SELECT pg_advisory_xact_lock(7470, 1);"
    "CREATE TABLE IF NOT EXISTS schema_version (version int PRIMARY KEY, name text NOT NULL,"
    " applied_at timestamptz NOT NULL DEFAULT now())";

static enum bh_code
current_version(struct bh_db *db, int64_t *ret_version, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err, "SELECT coalesce(max(version), 0) FROM schema_version"));
    *ret_version = bh_db_int(result, 0, 0);
    PQclear(result);
    return BH_OK;
}

static enum bh_code
apply(struct bh_db *db, const struct bh_sql_file *file, struct bh_error *err)
{
    int64_t version;
    char number[16];
    BH_TRY(bh_sql_script(bh_db_conn(db), lock_and_prepare, err));
    BH_TRY(current_version(db, &version, err));
    if (version >= file->version)
        return BH_OK;
    BH_TRY(bh_sql_script(bh_db_conn(db), file->text, err));
    snprintf(number, sizeof(number), "%d", file->version);
    return bh_db_run(db, NULL, err, "INSERT INTO schema_version (version, name) VALUES ($1, $2)",
        number, file->name);
}

static enum bh_code
apply_in_transaction(struct bh_db *db, const struct bh_sql_file *file, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = apply(db, file, err);
    if (code == BH_OK)
        return bh_db_commit(db, err);
    bh_db_rollback(db);
    return code;
}

enum bh_code
bh_db_migrate(struct bh_db *db, struct bh_error *err)
{
    int newest = 0;
    int64_t version;
    for (const struct bh_sql_file *file = bh_registry_sql; file->name; file++) {
        BH_TRY(apply_in_transaction(db, file, err));
        newest = file->version;
    }
    BH_TRY(current_version(db, &version, err));
    if (version > newest) {
        bh_fail(err, BH_E_CONFIG, "the registry has schema %lld, this program knows %d",
            (long long)version, newest);
        return bh_hint(err, "run the newer bulkheadd");
    }
    return BH_OK;
}
