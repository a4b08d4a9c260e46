#include "control/flow/work.h"
#include "engine/postgres/cluster.h"

/*
 * The least filled shared database of the cell; who chooses waits for who chose
 * before.  The driver connects as --server says, so servers with a connection of
 * their own hold no shared schemas yet.
 */
static const char choose_sql[] =
    "SELECT d.server, d.name FROM shared_database d JOIN server s ON s.name = d.server,"
    " LATERAL (SELECT count(*) AS tenants FROM tenant t WHERE t.server = d.server"
    "  AND t.database = d.name AND t.state <> 'gone') filled"
    " WHERE s.cell = $1 AND s.conninfo IS NULL AND filled.tenants < d.max_tenants"
    " ORDER BY filled.tenants, d.name LIMIT 1";

/* Where all are full: the next number, as large as the newest, on that one's server. */
static const char next_sql[] =
    "SELECT d.server, 'shared' || 1 + (SELECT max(substr(name, 7)::int) FROM shared_database"
    "   WHERE name ~ '^shared[0-9]{1,8}$'), d.max_tenants"
    " FROM shared_database d JOIN server s ON s.name = d.server"
    " WHERE s.cell = $1 AND s.conninfo IS NULL AND d.name ~ '^shared[0-9]{1,8}$'"
    " ORDER BY substr(d.name, 7)::int DESC LIMIT 1";

/* Made first and then written down: until it is there nobody is placed in it. */
static enum bh_code
make_next(struct bh_work *work, const PGresult *next, struct bh_error *err)
{
    if (PQntuples(next) == 0)
        return bh_fail(err, BH_E_ENGINE, "cell %s has no shared database", work->tenant.cell);
    const char *name = PQgetvalue(next, 0, 1);
    BH_TRY(bh_cluster_shared(work->config->server_conninfo, name, err));
    bh_flow_log(work->worker->flow, "shared database %s was made: the others are full", name);
    return bh_db_run(work->db, NULL, err,
        "INSERT INTO shared_database (name, server, max_tenants) VALUES ($1, $2, $3)", name,
        PQgetvalue(next, 0, 0), PQgetvalue(next, 0, 2));
}

static enum bh_code
add_database(struct bh_work *work, struct bh_error *err)
{
    PGresult *next;
    BH_TRY(bh_db_run(work->db, &next, err, next_sql, work->tenant.cell));
    enum bh_code code = make_next(work, next, err);
    PQclear(next);
    return code;
}

static enum bh_code
choose(struct bh_work *work, bool *ret_chosen, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(work->db, &r, err, choose_sql, work->tenant.cell));
    enum bh_code code = BH_OK;
    *ret_chosen = PQntuples(r) == 1;
    if (*ret_chosen)
        code = bh_db_run(work->db, NULL, err,
            "UPDATE tenant SET server = $2, database = $3 WHERE no = $1",
            bh_number(work->lease.no).text, PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
    PQclear(r);
    return code;
}

static enum bh_code
choose_place(struct bh_work *work, struct bh_error *err)
{
    bool chosen;
    BH_TRY(bh_db_run(work->db, NULL, err, "SELECT pg_advisory_xact_lock(7470, 3)"));
    BH_TRY(choose(work, &chosen, err));
    if (chosen)
        return BH_OK;
    BH_TRY(add_database(work, err));
    BH_TRY(choose(work, &chosen, err));
    if (chosen)
        return BH_OK;
    bh_fail(err, BH_E_ENGINE, "every shared database of cell %s is full", work->tenant.cell);
    return bh_hint(err, "raise shared_database.max_tenants in the registry, then resume");
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
