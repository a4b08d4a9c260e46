#include "control/flow/work.h"

/* The least filled shared database of the cell; who chooses waits for who chose before. */
static const char choose_sql[] =
    "SELECT d.server, d.name FROM shared_database d JOIN server s ON s.name = d.server,"
    " LATERAL (SELECT count(*) AS tenants FROM tenant t WHERE t.server = d.server"
    "  AND t.database = d.name AND t.state <> 'gone') filled"
    " WHERE s.cell = $1 AND filled.tenants < d.max_tenants"
    " ORDER BY filled.tenants, d.name LIMIT 1";

static enum bh_code
choose_place(struct bh_work *work, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(work->db, NULL, err, "SELECT pg_advisory_xact_lock(7470, 3)"));
    BH_TRY(bh_db_run(work->db, &r, err, choose_sql, work->tenant.cell));
    enum bh_code code = BH_OK;
    if (PQntuples(r) == 0) {
        code = bh_fail(
            err, BH_E_ENGINE, "every shared database of cell %s is full", work->tenant.cell);
        bh_hint(err, "raise shared_database.max_tenants in the registry, then resume");
    } else {
        code = bh_db_run(work->db, NULL, err,
            "UPDATE tenant SET server = $2, database = $3 WHERE no = $1",
            bh_number(work->lease.no).text, PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
    }
    PQclear(r);
    return code;
}

/* Written before the first effect: whatever happens then is known to be there and nowhere else. */
static enum bh_code
place(struct bh_work *work, struct bh_error *err)
{
    BH_TRY(bh_work_tenant(work, err));
    if (work->tenant.database)
        return BH_OK;
    BH_TRY(bh_work_begin(work, err));
    BH_TRY(bh_work_end(work, choose_place(work, err), err));
    return bh_work_tenant(work, err);
}

static struct bh_resource
describe(const struct bh_work *work)
{
    return (struct bh_resource){
        .no = work->lease.no,
        .id = work->tenant.id,
        .epoch = work->tenant.epoch,
        .place = work->tenant.database,
        .operation = work->lease.id,
        .migrations = work->worker->flow->migrations,
        .migration_count = work->worker->flow->migration_count,
    };
}

enum bh_code
bh_step_database_ensure(struct bh_work *work, struct bh_error *err)
{
    BH_TRY(place(work, err));
    struct bh_resource resource = describe(work);
    return bh_driver_schema.ensure(&work->worker->postgres, &resource, work->lease.attempt, err);
}

enum bh_code
bh_step_database_remove(struct bh_work *work, struct bh_error *err)
{
    BH_TRY(bh_work_tenant(work, err));
    if (!work->tenant.database)
        return BH_OK;
    struct bh_resource resource = describe(work);
    return bh_driver_schema.remove(&work->worker->postgres, &resource, work->lease.attempt, err);
}
